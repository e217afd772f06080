# SPDX-License-Identifier: Apache-2.0
"""Findings as text, with the line and a caret under what is meant, and as JSON.

Strategy: lines come out of files that anybody wrote, so what a terminal would obey is shown as a mark, and a long
line is cut to what is around the place. Colour only where a terminal reads.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from ..corefile.lexer import SPACE, decode
from ..corefile.parser import MAX_FILE_OCTETS
from ..corefile.source import Source
from .findings import ERROR, NOTE, WARNING, Finding, Findings

BEFORE, AFTER = 60, 100
COLOURS = {ERROR: "1;31", WARNING: "1;33", NOTE: "1;36", "place": "1", "dim": "2"}
PLURAL = {ERROR: "mistakes", WARNING: "warnings", NOTE: "notes"}
SINGULAR = {ERROR: "mistake", WARNING: "warning", NOTE: "note"}


class Paint:
    """Colours of a terminal, or none."""

    def __init__(self, out: TextIO, when: str = "auto") -> None:
        terminal = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.on = when == "always" or (when == "auto" and terminal)

    def __call__(self, colour: str, text: str) -> str:
        """The text in a colour by name."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.on else text


class Lines:
    """The lines of a Corefile and of what it imports."""

    def __init__(self, source: Source) -> None:
        self._lines = {source.filename: _split(source.body)}

    def line(self, file: str, number: int) -> str:
        """A line by its number from 1, "" where there is none."""
        if file not in self._lines:
            try:
                with open(file, "rb") as handle:
                    self._lines[file] = _split(handle.read(MAX_FILE_OCTETS))
            except OSError:
                self._lines[file] = []
        lines = self._lines[file]
        return lines[number - 1] if 0 < number <= len(lines) else ""


def _split(body: bytes) -> list[str]:
    return decode(body).removeprefix("\ufeff").split("\n")


def extent(line: str, column: int) -> int:
    """How many characters the token at a column has on its line; 1 where there is none."""
    start = end = column - 1
    if not 0 <= start < len(line):
        return 1
    if line[start] == '"':
        end += 1
        while end < len(line) and line[end] != '"':
            end += 2 if line[end] == "\\" else 1
        return min(end + 1, len(line)) - start
    while end < len(line) and line[end] != "#" and line[end] not in SPACE:
        end += 1
    return max(end - start, 1)


def safe(text: str) -> str:
    """Text that a terminal only shows: what it would obey is a mark; tabs are blanks."""
    return "".join(ch if ch.isprintable() else " " if ch == "\t" else "\ufffd" for ch in text.replace("\t", "    "))


def width(text: str) -> int:
    """Columns that text takes on a terminal."""
    return sum(0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1 for ch in text)


def excerpt(line: str, column: int) -> tuple[str, int, int]:
    """(what to show of a line, columns before the place, columns of the place)."""
    line = line.rstrip("\r")
    end = column - 1 + extent(line, column)
    first = 0 if column <= BEFORE + 20 else column - 1 - BEFORE
    last = len(line) if len(line) <= column + AFTER else column - 1 + AFTER
    head, word = safe(line[first : column - 1]), safe(line[column - 1 : min(end, last)])
    tail = safe(line[min(end, last) : last])
    lead, trail = ("…" if first else ""), ("…" if last < len(line) else "")
    return lead + head + word + tail + trail, width(lead + head), max(width(word), 1)


def text_of(one: Finding, lines: Lines, paint: Paint) -> str:
    """A finding as some lines of text."""
    place = one.file + (f":{one.line}:{one.column}" if one.line else "")
    message = one.message.splitlines()[0] if one.message else ""
    shown = [f"{paint('place', safe(place))}: {paint(one.level, one.level)}: {safe(message)}"]
    if line := lines.line(one.file, one.line) if one.line else "":
        show, before, long = excerpt(line, max(one.column, 1))
        shown.append(f"{one.line:6} {paint('dim', '|')} {show}")
        shown.append(f"       {paint('dim', '|')} {' ' * before}{paint(one.level, '^' * long)}")
    shown += [f"       {paint('dim', '=')} {safe(hint)}" for hint in one.hints]
    return "\n".join(shown) + "\n"


def summary(findings: Findings) -> str:
    """`2 mistakes, 1 warning`, `no mistakes`."""
    parts = []
    for level in (ERROR, WARNING, NOTE):
        number = findings.count(level)
        if number:
            parts.append(f"{number} {SINGULAR[level] if number == 1 else PLURAL[level]}")
    if not findings.count(ERROR):
        parts.insert(0, "no mistakes")
    if findings.dropped:
        parts.append(f"{findings.dropped} more not shown")
    return ", ".join(parts)


def json_of(found: Iterable[Finding], lines: Lines) -> list[dict[str, Any]]:
    """Findings as plain values. `end_column` is behind the last character; `server` what the server prints."""
    return [
        {
            "level": one.level,
            "file": one.file,
            "line": one.line,
            "column": one.column,
            "end_column": one.column + extent(lines.line(one.file, one.line), one.column) if one.column else 0,
            "message": one.message,
            "server": one.server,
            "hints": list(one.hints),
            "text": lines.line(one.file, one.line) if one.line else "",
        }
        for one in found
    ]
