# SPDX-License-Identifier: Apache-2.0
"""Reloads: who asked, with which text, and what is logged and counted when one succeeds or fails.

Strategy: one reload at a time; a request that arrives meanwhile waits, and of several the last one counts. The lines
are CoreDNS's, because people search for them. What was served stays untouched until the new generation serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..corefile.source import Source, read_source
from ..errors import ConfigError
from .children import KEEPER
from .memory import supervisor_row

if TYPE_CHECKING:
    from .supervisor import Supervisor

SIGNAL, PLUGIN = "SIGUSR1", "plugin/reload"


class Swap:
    """`by` is who asked for the reload under way: SIGNAL or PLUGIN."""

    def __init__(self, host: Supervisor) -> None:
        self.host = host
        self.by = ""
        self.waiting: tuple[Source, str] | None = None

    def from_file(self) -> str:
        """SIGUSR1: read the Corefile again (what came by standard input is kept). Why it cannot be read, or ""."""
        source, settings = self.host.source, self.host.settings
        if settings.conf != "stdin":
            try:
                source = read_source(settings.conf, settings.port)
            except ConfigError as error:
                self.host.log("ERROR", f"SIGUSR1: loading updated Caddyfile: {error}")
                return str(error)
        self.request(source, SIGNAL)
        return ""

    def request(self, source: Source, by: str) -> None:
        """Start a generation for `source`, or remember it until the one under way has ended."""
        if self.host.current is None or self.host.next is not None:
            self.waiting = source, by
            return
        self.host.log("INFO", "Reloading")
        self.by = by
        self.host.tell(KEEPER, {"event": "restart"})
        self.host.begin(source)

    def go_on(self) -> None:
        """Start what was asked for meanwhile."""
        if self.waiting is not None:
            (source, by), self.waiting = self.waiting, None
            self.request(source, by)

    def failed(self, text: str) -> None:
        """The new generation will not serve."""
        self.host.log("ERROR", f"Restart failed: {text}")
        cause = f"starting with listener file descriptors: {text}"
        if self.by == SIGNAL:
            self.host.log("ERROR", f"SIGUSR1: {cause}")
        else:
            self.host.log("ERROR", f"plugin/reload: Corefile changed but reload failed: {cause}")
            stats = self.host.memory.stats
            stats.add(supervisor_row(stats.rows), stats.intern("coredns_reload_failed_total"))
        self.host.tell(KEEPER, {"event": "restart_failed"})
        self.go_on()

    def done(self, digest: str) -> None:
        """The new generation serves; `digest` is its Corefile's."""
        if self.by == PLUGIN:
            stats = self.host.memory.stats
            stats.clear("coredns_reload_version_info")
            slot = stats.intern("coredns_reload_version_info", (("hash", "sha512"), ("value", digest)), "gauge")
            stats.set(supervisor_row(stats.rows), slot, 1)
        self.host.log("INFO", "Reloading complete")
