# SPDX-License-Identifier: Apache-2.0
"""One evaluation's state, and what it may cost.

Strategy: work is paid for in units before it is done. A unit is an element that is looked at or made, a step of a
predicate, or 64 octets of a text; so an evaluation ends within about a millisecond, or in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .values import Failure

WORK = 10000  # of an evaluation: each unit is less than 100 ns
OVER = "memory budget exceeded"


class Frame:
    """One evaluation: the environment, variables, the element that a predicate looks at, and the work that is left."""

    __slots__ = ("acc", "env", "index", "item", "left", "variables")

    def __init__(self, env: Mapping[str, Any], variables: int) -> None:
        self.env = env
        self.variables: list[Any] = [None] * variables
        self.item: Any = None
        self.index = 0
        self.acc: Any = None
        self.left = WORK

    def spend(self, work: int) -> None:
        """Pays for work before it is done."""
        self.left -= work
        if self.left < 0:
            raise Failure(OVER)


class Absent(Exception):
    """A nil on the way through `?.`."""


Code = Callable[[Frame], Any]


def weight(value: Any, most: int) -> int:
    """The work of looking at all of a value; it may hold one array many times. More than `most` is not counted."""
    count, left = 0, [value]
    while left and count <= most:
        each = left.pop()
        if type(each) is list:
            count += len(each)
            left.extend(each[: most + 1])
        elif type(each) is dict:
            count += len(each)
            left.extend(each.values())
        elif type(each) is str or type(each) is bytes:
            count += 1 + len(each) // 64
    return count
