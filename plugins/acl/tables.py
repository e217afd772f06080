# SPDX-License-Identifier: Apache-2.0
"""From policies, of which the first that matches decides, to a table that is searched by address.

Strategy: networks are nested or disjoint, so their ends cut the addresses into at most twice as many stretches as there
are networks, and in each stretch the same policies apply. What these come to in their order - an action, and another
one for some types - is worked out here, once; equal results share a number, equal neighbours become one stretch. A
search is then as quick for ten thousand lines as for ten, and first-match order costs nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from .config import ACTIONS, WIDTHS, Policy

NO_ACTION = 0  # then 1 + the index in ACTIONS


@dataclass
class Decisions:
    """What the policies of a stretch come to: (the action, ((type, its own action), ...)), each numbered once."""

    numbers: dict[tuple[int, tuple[tuple[int, int], ...]], int] = field(default_factory=dict)

    def number(self, policies: Sequence[Policy]) -> int:
        """The number of what `policies` come to, the first of them first."""
        rest = NO_ACTION
        own: dict[int, int] = {}
        for policy in policies:
            action = 1 + ACTIONS.index(policy.action)
            if policy.types is None:
                rest = action
                break
            for qtype in policy.types:
                own.setdefault(qtype, action)
        others = tuple(sorted((qtype, action) for qtype, action in own.items() if action != rest))
        return self.numbers.setdefault((rest, others), len(self.numbers))


@dataclass(frozen=True)
class Stretches:
    """Stretches of addresses of one IP version: where each begins, and the number of its decision."""

    version: int
    starts: tuple[int, ...]
    decisions: tuple[int, ...]

    def packed(self) -> tuple[bytes, bytes]:
        """Both for compiled code: an IPv4 start is one word of 32 bits, an IPv6 start two of 64, the higher first."""
        if self.version == 4:
            starts = array("I", self.starts).tobytes()
        else:
            starts = array("Q", [half for at in self.starts for half in (at >> 64, at & (1 << 64) - 1)]).tobytes()
        return starts, array("I", self.decisions).tobytes()


def decisive(policies: Sequence[Policy], indices: Sequence[int]) -> tuple[int, ...]:
    """Of the policies at `indices` (in order) those that can decide: each has a type that none before it has."""
    kept: list[int] = []
    seen: set[int] = set()
    for index in indices:
        types = policies[index].types
        if types is None:
            kept.append(index)
            break
        if not types <= seen:
            seen |= types
            kept.append(index)
    return tuple(kept)


def stretches(policies: Sequence[Policy], version: int, decisions: Decisions) -> Stretches:
    """The table of one rule for one IP version."""
    top = (1 << WIDTHS[version]) - 1
    networks: dict[tuple[int, int], list[int]] = {(0, top): []}
    for index, policy in enumerate(policies):
        for own, first, last in policy.networks if policy.networks is not None else ((version, 0, top),):
            if own == version:
                networks.setdefault((first, last), []).append(index)
    marks: list[tuple[int, int]] = []
    # The networks that hold the place where the sweep is, the innermost last: (last address, policies, decision).
    around: list[tuple[int, tuple[int, ...], int]] = []

    def leave(before: int) -> None:
        while around and around[-1][0] < before:
            last = around.pop()[0]
            if around:
                marks.append((last + 1, around[-1][2]))

    for (first, last), own_policies in sorted(networks.items(), key=lambda item: (item[0][0], -item[0][1])):
        leave(first)
        outer = around[-1][1] if around else ()
        chosen = decisive(policies, sorted({*outer, *own_policies}))
        number = decisions.number([policies[index] for index in chosen])
        around.append((last, chosen, number))
        marks.append((first, number))
    leave(top)
    return _joined(version, marks)


def _joined(version: int, marks: Sequence[tuple[int, int]]) -> Stretches:
    """Marks in order of address, of several at one address the last counts; equal neighbours become one."""
    starts: list[int] = []
    numbers: list[int] = []
    for at, number in dict(marks).items():
        if not numbers or numbers[-1] != number:
            starts.append(at)
            numbers.append(number)
    return Stretches(version, tuple(starts), tuple(numbers))
