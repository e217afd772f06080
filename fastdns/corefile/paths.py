# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PTH100, PTH112, PTH116, PTH117, PTH118, PTH120, PTH208
"""File names of `import`: made absolute, and patterns with `*`, `?` and backslash by Go's rules.

Strategy: texts, not Path objects, because the names appear in errors and in the hash as Go's filepath would clean
them (`..` resolved in the text, links not followed). Python's glob hides names that begin with a dot and knows
`**`; Go does neither, and a Corefile in a Kubernetes mount lives among such names. A pattern with an open
bracket is refused; Go notices it only where a name is matched that far.
"""

from __future__ import annotations

import os
import re
import stat

PATH_MAX = 4096


class BadPatternError(ValueError):
    """The pattern has no meaning (an open bracket, a backslash at the end)."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


def absolute(path: str) -> str:
    """`path` from the root, cleaned as text."""
    return os.path.abspath(path)


def beside(path: str, base_file: str) -> str:
    """`path` if it is absolute, else relative to the directory of `base_file`."""
    if os.path.isabs(path):
        return path
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(base_file)), path))


def is_directory(path: str) -> bool:
    """True if `path` exists and is a directory."""
    return os.path.isdir(path)


def is_pipe(path: str) -> bool:
    """True if `path` is a pipe, which may have no writer."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def os_cause(error: OSError) -> str:
    """The reason of `error` in Go's words: `no such file or directory`."""
    return os.strerror(error.errno).lower() if error.errno else "unknown error"


def _translate(pattern: str) -> re.Pattern[str]:
    out: list[str] = []
    at = 0
    while at < len(pattern):
        ch = pattern[at]
        if ch == "[" or (ch == "\\" and at + 1 == len(pattern)):
            raise BadPatternError
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
    """Existing paths that match the absolute `pattern`, sorted within each directory.

    A directory that cannot be read matches nothing. Raises BadPatternError.
    """
    _translate(pattern)
    if "\0" in pattern or len(pattern) > PATH_MAX:
        return []
    if not _has_meta(pattern):
        return [pattern] if os.path.lexists(pattern) else []
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _has_meta(part))
    found = ["/".join(parts[:first]) or "/"]
    for part in parts[first:]:
        form = _translate(part)
        found = [os.path.join(folder, name) for folder in found for name in _names(folder) if form.fullmatch(name)]
    return found


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
