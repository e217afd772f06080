# SPDX-License-Identifier: Apache-2.0
"""The numbers by which entries of the shared cache say which upstream their answer came from.

Strategy: an entry has twelve bits for it. A number is given once and kept in the table of counters, as a word of row 0,
so that it outlives every reload; it is never used for another upstream, and when all are given, further upstreams have
none. An upgrade to a program with other counters takes the numbers along, as it does the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastdns._stats import Stats

MOST = 0xFFF  # CACHE_UPSTREAM_MAX
NAME = "forward_number"
LAST = "forward_numbers"


def number(stats: Stats, to: str) -> int:
    """The number of an upstream, by the label of its metrics: 1 to `MOST`, 0 when all are given."""
    slot = stats.intern(NAME, (("to", to),), "word")
    found = stats.get_row(0, slot)
    if found == 0:
        last = stats.intern(LAST, (), "word")
        found = stats.get_row(0, last) + 1
        if found > MOST:
            return 0
        stats.set_shared(last, found)
        stats.set_shared(slot, found)
    return found


def names(stats: Stats) -> dict[int, str]:
    """The upstreams by their numbers."""
    return {one.values[0]: one.labels[0][1] for one in stats.snapshot(words=True) if one.name == NAME and one.values[0]}


def restore(stats: Stats, numbers: dict[int, str]) -> None:
    """Gives numbers as they were given in another table. ValueError for one that is none."""
    if not all(0 < one <= MOST for one in numbers):
        raise ValueError(f"the number of an upstream is 1 to {MOST}")
    for one, to in numbers.items():
        stats.set_shared(stats.intern(NAME, (("to", to),), "word"), one)
    last = stats.intern(LAST, (), "word")
    stats.set_shared(last, max(numbers, default=0))
