# SPDX-License-Identifier: Apache-2.0
"""Names as texts: how a rule matches one, and what it makes of it.

Strategy: each function takes the words of a rule and returns a small function that is called for each query or record.
CoreDNS compares presentation forms, octet by octet and across labels, and so does this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastdns.corefile.regexes import compile_regex

Finder = Callable[[str], bool]
Mapper = Callable[[str], str | None]
Change = Callable[[str], str]

MATCHES = ("exact", "prefix", "suffix", "substring", "regex")


def finder(match: str, word: str) -> Finder:
    """Whether a name matches."""
    if match == "exact":
        return word.__eq__
    if match == "prefix":
        return lambda name: name.startswith(word)
    if match == "suffix":
        return lambda name: name.endswith(word)
    if match == "substring":
        return lambda name: word in name
    search = compile_regex(word).search
    return lambda name: search(name) is not None


def mapper(match: str, old: str, new: str) -> Mapper:
    """The new name of one that matches, None for others. A regex replaces the whole name."""
    if match == "exact":
        return lambda name: new if name == old else None
    if match == "prefix":
        return lambda name: new + name[len(old) :] if name.startswith(old) else None
    if match == "suffix":
        return lambda name: name[: len(name) - len(old)] + new if name.endswith(old) else None
    if match == "substring":
        return lambda name: name.replace(old, new) if old in name else None
    search = compile_regex(old).search

    def by_expression(name: str) -> str | None:
        found = search(name)
        return None if found is None else filled(new, found)

    return by_expression


def filled(template: str, found: Any) -> str:
    """A template with `{0}` (the match), `{1}` ... replaced one after the other, as CoreDNS does."""
    for number, text in enumerate((found.group(0), *found.groups())):
        template = template.replace(f"{{{number}}}", text or "")
    return template


def substituter(pattern: str, to: str) -> Change:
    """An expression for names of a reply; what it does not match stays."""
    rename = mapper("regex", pattern, to)

    def change(name: str) -> str:
        after = rename(name)
        return name if after is None else after

    return change


def suffix_mapper(suffix: str, to: str) -> Change:
    """Another end for the names that have it."""
    return lambda name: name[: len(name) - len(suffix)] + to if name.endswith(suffix) else name


def remapper(name: str, to: str) -> Change:
    """A name and those below it."""
    below = f".{name}"

    def change(text: str) -> str:
        if text == name:
            return to
        return text[: len(text) - len(name)] + to if text.endswith(below) else text

    return change
