# SPDX-License-Identifier: Apache-2.0
"""Consolidation of the `errors` plugin: many equal failures become one line for each period.

Strategy: runs in the formatter, which sees the errors of all workers, so a period is counted once for the whole server.
A site is one `errors` directive; its patterns are tried in order and the first that matches counts. Regular
expressions are RE2's: the text they see comes from the network, and RE2 takes linear time.
"""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from typing import Any

from ..corefile.regexes import compile_regex
from ..corefile.units import format_duration

LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
SITES_MAX = 4096


@dataclass
class Pattern:
    """One `consolidate` line: what has been counted since the first error of the running period."""

    seconds: float
    text: str
    level: str
    show_first: bool
    regex: Any
    count: int = 0

    def summary(self) -> str:
        """The line that ends a period, empty for none."""
        count, self.count = self.count, 0
        if count == 0 or (count == 1 and self.show_first):
            return ""
        return f"{count} errors like '{self.text}' occurred in last {format_duration(self.seconds)}"


class Consolidator:
    """All sites. `write(level, text)` gets the lines that are due."""

    def __init__(self, write: Any, resolve: Any) -> None:
        self._write = write
        self._resolve = resolve
        self._sites: dict[int, list[Pattern]] = {}
        self._due: list[tuple[float, int, Pattern]] = []
        self._order = 0

    def _patterns(self, site: int) -> list[Pattern]:
        if site not in self._sites:
            text = self._resolve(site)
            rows = json.loads(text)["patterns"] if text and len(self._sites) < SITES_MAX else []
            self._sites[site] = [
                Pattern(seconds, regex, level, show_first, compile_regex(regex))
                for seconds, regex, level, show_first in rows
            ]
        return self._sites[site]

    def error(self, site: int, rcode: int, name: str, qtype: str, text: str, now: float) -> None:
        """One error of a site, at `now` in seconds."""
        level = "error"
        for pattern in self._patterns(site):
            if pattern.regex.search(text) is None:
                continue
            pattern.count += 1
            if pattern.count == 1:
                self._order += 1
                heapq.heappush(self._due, (now + pattern.seconds, self._order, pattern))
                if pattern.show_first:
                    level = pattern.level
                    break
            return
        self._say(level, f"{rcode} {name} {qtype}: {text}")

    def tick(self, now: float) -> None:
        """Ends the periods that are over."""
        while self._due and self._due[0][0] <= now:
            self._end(heapq.heappop(self._due)[2])

    def next(self) -> float | None:
        """When the next period ends."""
        return self._due[0][0] if self._due else None

    def flush(self) -> None:
        """Ends all periods: the server stops."""
        while self._due:
            self._end(heapq.heappop(self._due)[2])

    def _end(self, pattern: Pattern) -> None:
        line = pattern.summary()
        if line:
            self._say(pattern.level, line)

    def _say(self, level: str, text: str) -> None:
        # CoreDNS prints debug lines only with its debug plugin, which is not there.
        if level != "debug":
            self._write(LEVELS[level], f"plugin/errors: {text}")
