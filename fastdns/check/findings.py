# SPDX-License-Identifier: Apache-2.0
"""What a check found: mistakes, warnings and notes, each at its place in a file.

Strategy: a finding keeps two texts: the one that the server would print, to the letter, and the one to show beside a
place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..corefile import Token
from ..errors import ConfigError, CorefileError, SetupError

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
MOST = 10_000
"""More findings than this are counted and not kept."""


@dataclass(frozen=True)
class Finding:
    """`file` as shown to the user; `line` and `column` from 1, 0 where there is no place. `server` is what the server
    prints when it meets this mistake first ("" for what it does not say); `hints` are sentences."""

    level: str
    file: str
    line: int
    column: int
    message: str
    server: str = ""
    hints: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, int, int]:
        """File, line, column."""
        return self.file, self.line, self.column


@dataclass
class Findings:
    """A list that keeps each finding once; `filename` stands for tokens without a file of their own."""

    filename: str
    found: dict[tuple[str, int, int, str], Finding] = field(default_factory=dict)
    dropped: int = 0

    def add(self, finding: Finding) -> None:
        """Keep a finding unless the same was found there."""
        key = (*finding.place, finding.message)
        if key in self.found:
            return
        if len(self.found) >= MOST:
            self.dropped += 1
            return
        self.found[key] = finding

    def at(self, level: str, token: Token, message: str, *hints: str, server: str = "") -> None:
        """A finding at a token."""
        file = token.file or self.filename
        self.add(Finding(level, file, token.line, token.column, message, server, tuple(filter(None, hints))))

    def warn(self, token: Token, message: str, *hints: str) -> None:
        """A warning at a token."""
        self.at(WARNING, token, message, *hints)

    def refuse(self, error: ConfigError, token: Token | None = None, hints: Iterable[str] = ()) -> None:
        """A mistake, at `token` or where the error says."""
        message, server, kept = words(error), str(error), tuple(filter(None, hints))
        if token is not None:
            self.at(ERROR, token, message, *kept, server=server)
        else:
            self.add(Finding(ERROR, error.file or self.filename, error.line, error.column, message, server, kept))

    def count(self, level: str) -> int:
        """How many of a level."""
        return sum(1 for one in self.found.values() if one.level == level)

    def ordered(self) -> list[Finding]:
        """In order of the Corefile, then of the files it imports."""
        return sorted(self.found.values(), key=lambda one: (one.file != self.filename, *one.place))


def words(error: ConfigError) -> str:
    """The text of an error without its place."""
    if isinstance(error, SetupError):
        inner = error.cause
        return f"plugin/{error.plugin}: {words(inner) if isinstance(inner, ConfigError) else inner}"
    return error.message if isinstance(error, CorefileError) else str(error)
