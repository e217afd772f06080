# SPDX-License-Identifier: Apache-2.0
"""From the workers' sketches to lists: sums with their bounds, in the order of what is certain.

Strategy: of each key the sum of (count - error) is surely true, and the sum of counts - for a worker that has no
counter for it, the least of its set - is the most that can be. Ranked is by what is certain, so a flood of names that
are asked for once, which all share counters, stays below. Suffixes are read from the longest to the shortest: one is
listed if what lies below it, without what longer ones in the list explain, is a part of all that is worth a line.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Counters = tuple[dict[bytes, tuple[int, int, int]], list[int]]
Share = tuple[int, int, int, tuple[Counters, ...]]
"""What a worker counted in a window, as `Table.read` gives it."""

SUFFIX_PART = 100  # a suffix has at least the hundredth part of all names that do not exist


class Row(NamedTuple):
    """A key, and between which numbers its queries are."""

    key: bytes
    least: int
    most: int


def certain(lists: Sequence[Counters]) -> dict[bytes, int]:
    """By key what was surely counted; keys of which nothing is sure are left out."""
    found: dict[bytes, int] = {}
    for counters, _ in lists:
        for key, (count, error, _) in counters.items():
            if count > error:
                found[key] = found.get(key, 0) + count - error
    return found


def most(key: bytes, lists: Sequence[Counters]) -> int:
    """The most that can be. A worker that has the key says which set it is in, for all."""
    where = next((counters[key][2] for counters, _ in lists if key in counters), 0)
    return sum(counters[key][0] if key in counters else least[where] for counters, least in lists)


def busiest(lists: Sequence[Counters], count: int) -> list[Row]:
    """The first `count` keys."""
    found = certain(lists)
    first = sorted(found, key=lambda key: (-found[key], key))[:count]
    return [Row(key, found[key], most(key, lists)) for key in first]


def labels(suffix: bytes) -> int:
    """Labels of a name in wire form, without the root."""
    number = at = 0
    while at < len(suffix) and suffix[at]:
        at += suffix[at] + 1
        number += 1
    return number


def suffixes(lists: Sequence[Counters], denied: int, count: int) -> list[Row]:
    """The first `count` suffixes. A figure is without those of longer suffixes that are listed too, or would be."""
    found = certain(lists)
    by_labels: dict[int, set[bytes]] = {}
    for key in found:
        by_labels.setdefault(labels(key), set()).add(key)
    explained: dict[bytes, int] = {}
    rows = []
    for number in range(max(by_labels, default=0), 0, -1):
        for key in by_labels.get(number, set()):
            below = explained.get(key, 0)
            own = found.get(key, 0) - below
            if own > 0 and own * SUFFIX_PART >= denied:
                rows.append(Row(key, own, max(own, most(key, lists) - below)))
                below += own
            shorter = key[key[0] + 1 :]
            if below and number > 1:
                explained[shorter] = explained.get(shorter, 0) + below
                by_labels.setdefault(number - 1, set()).add(shorter)
    return sorted(rows, key=lambda row: (-row.least, row.key))[:count]


def client_text(key: bytes, prefixes: tuple[int, int]) -> str:
    """An address, or a network where that is what is counted."""
    address = ipaddress.ip_address(key)
    length = prefixes[address.version == 6]
    return str(address) if length == address.max_prefixlen else f"{address}/{length}"


class Figures(NamedTuple):
    """What the last windows had."""

    queries: int
    nxdomain: int
    lists: dict[str, list[Row]]


def figures(shares: Iterable[Share], kinds: Sequence[str], count: int) -> Figures:
    """Of what all workers counted, the first `count` of each list; `kinds` names the lists, suffixes last."""
    kept = list(shares)
    queries, denied = sum(share[1] for share in kept), sum(share[2] for share in kept)
    by_kind = [[share[3][number] for share in kept] for number in range(len(kinds))]
    found = {kind: busiest(lists, count) for kind, lists in zip(kinds[:-1], by_kind, strict=False)}
    found[kinds[-1]] = suffixes(by_kind[-1], denied, count)
    return Figures(queries, denied, found)
