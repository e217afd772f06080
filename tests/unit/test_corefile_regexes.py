# SPDX-License-Identifier: Apache-2.0
"""Regular expressions: the quick search gives what the package's own does, with and without its inner function."""

from __future__ import annotations

import pytest

from fastdns.corefile.regexes import compile_regex, fanout, searcher

CASES = [
    (".*", "abc", ("abc",)),
    ("b", "abc", ("b",)),
    ("z", "abc", None),
    ("^(?P<x>a)(b)?(q)?(.*)$", "abcd", ("abcd", "a", "b", "", "cd")),
    ("(a|ab)(c|bcd)?", "abcd", ("abcd", "a", "bcd")),
    ("^$", "", ("",)),
    ("(?i)ABC", "xabcx", ("abc",)),
    ("a*?b", "aab", ("aab",)),
]


class Plain:
    """A pattern as another version of the package may make it."""

    def __init__(self, text: str) -> None:
        self.search = compile_regex(text).search


@pytest.mark.parametrize(("pattern", "text", "groups"), CASES)
def test_search(pattern, text, groups):
    assert searcher(compile_regex(pattern))(text) == groups
    assert searcher(Plain(pattern))(text) == groups


@pytest.mark.parametrize(("pattern", "low", "high"), [
    (".*", 1, 50), ("|".join(f"w{n}[a-z]*" for n in range(1200)), 1000, 10_000), ("(.*)" * 50, 1000, 20_000),
    ("^((a|b)?){500}$", 100_000, 10_000_000), ("(.*)" * 200, 100_000, 10_000_000),
])  # fmt: skip
def test_fanout(pattern, low, high):
    assert low <= fanout(compile_regex(pattern)) <= high


def test_a_name_of_any_length_takes_linear_time():
    assert searcher(compile_regex("^(a*)*(a|aa)+$"))("a" * 250 + "b") is None
