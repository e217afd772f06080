# SPDX-License-Identifier: Apache-2.0
"""What the clients of a scenario ask: names that a cache is filled with, and names that were never asked before.

Strategy: the warm names are packed once. Fresh ones are made for each turn out of one counter for the whole run, so
that no server is ever asked for one twice, whatever it remembers. All names are equally long, so that the shares of a
mixture do not also change the size of its messages.
"""

from __future__ import annotations

import itertools

from fastdns.bench._load import Questions
from fastdns.bench.questions import query

A = 1
NOERROR, NXDOMAIN = 0, 3
FRESH_LEAST = 1000


def warm_name(number: int) -> str:
    """One of the names that are asked again."""
    return f"h{number:07x}.example.org"


class Names:
    """The names of one scenario: `warm` of them asked again and again, a share `fresh` of all never before."""

    def __init__(self, warm: int, fresh: float) -> None:
        self._fresh = fresh
        self._wires = [query(warm_name(number), A) for number in range(warm)]
        self.warm = Questions(self._wires, [NOERROR] * warm) if warm else None
        self._next = 0

    @property
    def all_warm(self) -> bool:
        """Whether nothing but the warm names is asked."""
        return self._fresh == 0

    def measured(self, count: int) -> Questions:
        """What to ask in a turn: the warm names, or about `count` questions with new ones among them, evenly spread."""
        if self.warm is not None and self.all_warm:
            return self.warm
        new = self._new(max(FRESH_LEAST, round(count * self._fresh)), gone=False)
        if not self._wires:
            return Questions(new, [NOERROR] * len(new))
        old = itertools.cycle(self._wires)
        between = (1 - self._fresh) / self._fresh
        wires, due = [], 0.0
        for wire in new:
            due += between
            while due >= 1:
                wires.append(next(old))
                due -= 1
            wires.append(wire)
        return Questions(wires, [NOERROR] * len(wires))

    def flood(self, count: int, gone: bool) -> Questions:
        """So many names never asked before, below a name that has nothing below it if they are to be `gone`."""
        return Questions(self._new(count, gone), [NXDOMAIN if gone else NOERROR] * count)

    def _new(self, count: int, gone: bool) -> list[bytes]:
        numbers = range(self._next, self._next + count)
        self._next += count
        whole = query(f"f0000000.{'gone.' if gone else ''}example.org", A)
        head, tail = whole[:14], whole[21:]
        return [head + b"%07x" % number + tail for number in numbers]
