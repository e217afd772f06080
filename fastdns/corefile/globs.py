# SPDX-License-Identifier: Apache-2.0
"""File name patterns of `import`: `*`, `?` and backslash, by Go's rules.

Strategy: Python's glob hides names that begin with a dot and knows `**`; Go does neither, and a Corefile in a
Kubernetes mount lives among such names. Directories are expanded from the root down, each sorted by name.
"""

from __future__ import annotations

import os
import re


class BadPattern(ValueError):
    """The pattern has no meaning (an open bracket, a backslash at the end)."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


def _translate(pattern: str) -> re.Pattern[str]:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        ch = pattern[at]
        if ch == "[" or (ch == "\\" and at + 1 == len(pattern)):
            raise BadPattern
        if ch == "\\":
            at += 1
            out.append(re.escape(pattern[at]))
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(ch) or re.escape(ch))
        at += 1
    return re.compile("".join(out), re.DOTALL)


def _has_meta(text: str) -> bool:
    return any(ch in text for ch in "*?[\\")


def glob(pattern: str) -> list[str]:
    """Existing paths that match, sorted within each directory. Unreadable directories match nothing."""
    _translate(pattern)
    return _glob(pattern)


def _glob(pattern: str) -> list[str]:
    if not _has_meta(pattern):
        return [pattern] if os.path.lexists(pattern) else []
    directory, name = os.path.split(pattern)
    directory = directory or "."
    folders = _glob(directory) if _has_meta(directory) and directory != pattern else [directory]
    form = _translate(name)
    found: list[str] = []
    for folder in folders:
        try:
            entries = sorted(os.listdir(folder))
        except OSError:
            continue
        found.extend(os.path.join(folder, entry) for entry in entries if form.fullmatch(entry))
    return found
