# SPDX-License-Identifier: Apache-2.0
"""The functions that visit a collection: `all`, `map`, `reduce` and their kin.

Strategy: each is a function of the frame, the elements and the predicate's closure. The frame holds the element that
the predicate looks at; who calls one of these has paid for all elements and puts the outer one back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import functions
from .frame import Code, Frame
from .values import Failure, arithmetic, boolean, go_type


def collected(value: Any) -> list[Any]:
    """What can be visited."""
    return functions.listed(value, "reflect: call of reflect.Value.Len on {} Value")


def visit(frame: Frame, values: list[Any], body: Code, start: int = 0) -> Iterator[Any]:
    """What the predicate says of each element."""
    for index in range(start, len(values)):
        frame.item, frame.index = values[index], index
        yield body(frame)


def found(frame: Frame, values: list[Any], body: Code, backwards: bool) -> int:
    """The place of the first element, or of the last one, that the predicate holds for; -1."""
    for index in range(len(values) - 1, -1, -1) if backwards else range(len(values)):
        frame.item, frame.index = values[index], index
        if boolean(body(frame)):
            return index
    return -1


def reduced(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`reduce`."""
    if extra is not None:
        frame.acc = extra(frame)
    elif values:
        frame.acc = values[0]
    else:
        raise Failure("reduce of empty array with no initial value")
    for index in range(extra is None, len(values)):
        frame.item, frame.index = values[index], index
        frame.acc = body(frame)
    return frame.acc


def grouped(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`groupBy`."""
    groups: dict[Any, list[Any]] = {}
    for key, value in zip(visit(frame, values, body), values, strict=True):
        if type(key) in (list, dict):
            raise Failure(f"runtime error: hash of unhashable type {go_type(key)}")
        groups.setdefault(key, []).append(value)
    return groups


def sorted_by(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`sortBy`."""
    order = "asc" if extra is None else extra(frame)
    if type(order) is not str:
        raise Failure("sortBy order argument must be a string")
    if order not in ("asc", "desc"):
        raise Failure("unknown order, use asc or desc")
    return functions.ordered(values, list(visit(frame, values, body)), order)


def summed(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`sum`."""
    total: Any = 0
    for value in visit(frame, values, body):
        total = arithmetic("+", value, total)
    return total


def place_or_nil(place: int) -> int | None:
    """`findIndex` of nothing is nil."""
    return None if place < 0 else place


LOOPS: dict[str, Callable[[Frame, list[Any], Code, Code | None], Any]] = {
    "all": lambda f, values, body, _: all(map(boolean, visit(f, values, body))),
    "none": lambda f, values, body, _: not any(map(boolean, visit(f, values, body))),
    "any": lambda f, values, body, _: any(map(boolean, visit(f, values, body))),
    "one": lambda f, values, body, _: sum(map(boolean, visit(f, values, body))) == 1,
    "count": lambda f, values, body, _: sum(map(boolean, visit(f, values, body))),
    "filter": lambda f, values, body, _: [
        value for value, keep in zip(values, visit(f, values, body), strict=True) if boolean(keep)],
    "map": lambda f, values, body, _: list(visit(f, values, body)),
    "find": lambda f, values, body, _: (
        None if (place := found(f, values, body, False)) < 0 else values[place]),
    "findLast": lambda f, values, body, _: (
        None if (place := found(f, values, body, True)) < 0 else values[place]),
    "findIndex": lambda f, values, body, _: place_or_nil(found(f, values, body, False)),
    "findLastIndex": lambda f, values, body, _: place_or_nil(found(f, values, body, True)),
    "groupBy": grouped, "sortBy": sorted_by, "reduce": reduced, "sum": summed,
}  # fmt: skip
