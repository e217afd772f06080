# SPDX-License-Identifier: Apache-2.0
"""Did you mean: the known word that a mistaken one is nearest to.

Strategy: the distance counts a swap of neighbours as one slip, because that is how words are mistyped, and grows with
the word's length up to a bound: a guess that is not near is worse than none.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

LONGEST = 64
MOST_SLIPS = 3


def distance(one: str, other: str, most: int) -> int:
    """Slips between two words (insert, delete, replace, swap neighbours); any number above `most` means too many."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, ch in enumerate(one, 1):
        row = [i]
        for j, there in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (ch != there))
            if i > 1 and j > 1 and ch == other[j - 2] and one[i - 2] == there:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return last[-1]


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was most likely meant to be, "" if none is near."""
    return _nearest(word, known if isinstance(known, frozenset) else frozenset(known))


@lru_cache(1024)
def _nearest(word: str, known: frozenset[str]) -> str:
    lower = word.lower()
    most = min(MOST_SLIPS, (len(word) + 1) // 3)
    if not word or len(word) > LONGEST:
        return ""
    best, slips = "", most + 1
    for other in sorted(known):
        if other != word and (found := distance(lower, other.lower(), most)) < slips:
            best, slips = other, found
    if not best and len(word) >= 4:
        # The beginning or the end of a longer word: `capacity` for `max_capacity`.
        parts = [other for other in sorted(known) if other != word and (
            other.startswith(lower) or other.endswith("_" + lower) or (lower.startswith(other) and len(other) > 3))]
        best = parts[0] if len(parts) == 1 else ""
    return best


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The sentence, "" where no word is near."""
    best = nearest(word, known)
    return f"did you mean '{best}'?" if best else ""
