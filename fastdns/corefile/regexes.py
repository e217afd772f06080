# SPDX-License-Identifier: Apache-2.0
"""Regular expressions of a Corefile: RE2, which is what Go's regexp package implements.

Strategy: the same language and the same linear time as CoreDNS, because an expression meets text from the network;
Python's `re` has neither. google-re2 is imported when the first expression is met, so nobody else needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GO_CAUSES = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "unexpected )": "unexpected )",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid escape sequence": "invalid escape sequence",
    "invalid character class range": "invalid character class range",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "trailing \\ at end of regexp": "trailing backslash at end of expression",
    "trailing \\": "trailing backslash at end of expression",
    "invalid UTF-8": "invalid UTF-8",
}


def compile_regex(text: str) -> Any:
    """A compiled RE2 expression. Raises ValueError with Go's text, or with advice when google-re2 is not installed."""
    try:
        import re2
    except ImportError:
        raise ValueError("a regular expression needs RE2: pip install fastdns[re2]") from None

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        cause = error.args[0] if error.args else ""
        raise ValueError(go_text(cause.decode() if isinstance(cause, bytes) else str(cause), text)) from None


def fanout(pattern: Any) -> int:
    """How many states of its program an octet may lead to, summed over all of them: what bounds the time of a search
    for groups. Repetitions of what may be empty within repetitions have many; 32,768 take half a millisecond for a name
    of 255 octets, a list of a thousand words has 5,000."""
    return sum(states << bits for bits, states in enumerate(pattern.programfanout))


def searcher(pattern: Any) -> Callable[[str], tuple[str, ...] | None]:
    """The quick way to search ASCII text: gives the groups, the whole match first, "" for a group that took no part."""
    import re2

    def search(text: str) -> tuple[str, ...] | None:
        found = pattern.search(text)
        return None if found is None else (found.group(), *(group or "" for group in found.groups()))

    match, anchor = getattr(pattern, "_regexp", None), getattr(re2, "_Anchor", None)
    if match is None or anchor is None:
        return search
    # The package's own wrapper makes a generator, an object and a table of offsets, three times the match itself.
    match, unanchored = match.Match, anchor.UNANCHORED

    def quick(text: str) -> tuple[str, ...] | None:
        spans = match(unanchored, text.encode("ascii"), 0, len(text))
        if spans[0][0] < 0:
            return None
        return tuple([text[start:end] if start >= 0 else "" for start, end in spans])

    return quick


def go_text(cause: str, pattern: str) -> str:
    """RE2's complaint in the words of Go's regexp package, where searches lead."""
    head, _, part = cause.partition(": ")
    said = GO_CAUSES.get(head, head)
    if part.startswith("(?<"):
        # Go reads it as the start of a named group.
        said, start = "invalid named capture", pattern.find(part)
        part = pattern[start : pattern.find(")", start) + 1] or pattern[start:]
    if said == "missing closing )":
        part = pattern
    if said == "trailing backslash at end of expression":
        part = ""
    return f"error parsing regexp: {said}: `{part}`"
