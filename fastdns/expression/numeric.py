# SPDX-License-Identifier: Apache-2.0
"""The language's functions over numbers.

Strategy: as Go's: 64 bits, halves away from zero, months and weekdays are numbers too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from .times import Duration, Month, Weekday, wrap
from .values import Failure, compare, go_type, negate, to_float, to_int

INTEGER = re.compile(r"[+-]?[0-9]+")
FLOATING = re.compile(r"(?i)[+-]?([0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|\.[0-9]+(e[+-]?[0-9]+)?|inf|infinity|nan)")


def as_int(value: Any) -> int:
    """`int`."""
    if type(value) is str:
        if INTEGER.fullmatch(value) is None or not -(1 << 63) <= int(value) < 1 << 63:
            raise Failure(f"invalid operation: int({value})")
        return int(value)
    return int(value) if type(value) in (Duration, Month, Weekday) else to_int(value)


def as_float(value: Any) -> float:
    """`float`."""
    if type(value) is str:
        if FLOATING.fullmatch(value) is None or (math.isinf(float(value)) and "i" not in value.lower()):
            raise Failure(f"invalid operation: float({value})")
        return float(value)
    return to_float(value)


def absolute(value: Any) -> Any:
    """`abs`."""
    if type(value) not in (int, float):
        raise Failure(f"invalid argument for abs (type {go_type(value)})")
    return negate(value) if value < 0 else value


def rounded(name: str, how: Callable[[float], float]) -> Callable[[Any], float]:
    """`ceil`, `floor`, `round`: floats that are whole."""

    def run(value: Any) -> float:
        if type(value) not in (int, float):
            raise Failure(f"invalid argument for {name} (type {go_type(value)})")
        number = float(value)
        return math.copysign(how(number), number) if math.isfinite(number) else number

    return run


def half_away(value: float) -> float:
    """Go rounds halves away from zero."""
    whole = math.floor(abs(value))
    return math.copysign(whole + (abs(value) - whole >= 0.5), value)


def numbers(name: str, values: tuple[Any, ...]) -> list[Any]:
    """All numbers of arguments that are numbers, or arrays of such."""
    out: list[Any] = []
    for value in values:
        if type(value) is list:
            out.extend(numbers(name, tuple(value)))
        elif type(value) in (int, float, Duration, Month, Weekday):
            out.append(value)
        else:
            raise Failure(f"invalid argument for {name} (type {go_type(value)})")
    return out


def extreme(name: str, order: str) -> Callable[..., Any]:
    """`max`, `min`."""

    def run(*values: Any) -> Any:
        if len(values) == 1 and type(values[0]) not in (int, float, list):
            return values[0]
        best = None
        for value in numbers(name, values):
            if best is None or compare(order, best, value):
                best = value
        return best

    return run


def mean(*values: Any) -> float:
    """`mean`; of nothing 0."""
    found = [float(value) for value in numbers("mean", values)]
    return sum(found) / len(found) if found else 0.0


def median(*values: Any) -> float:
    """`median`; of nothing 0."""
    found = sorted(float(value) for value in numbers("median", values))
    middle = len(found) // 2
    if not found:
        return 0.0
    return found[middle] if len(found) % 2 else (found[middle - 1] + found[middle]) / 2


def bits(name: str, how: Callable[[int, int], int], shift: bool = False) -> Callable[[Any, Any], int]:
    """`bitand` and its kin."""

    def run(left: Any, right: Any) -> int:
        for value in (left, right):
            if type(value) is not int:
                raise Failure(f"cannot use {go_type(value)} as argument (type int) to call {name}")
        if shift and right < 0:
            raise Failure(f"invalid operation: negative shift count {right} (type int)")
        return wrap(how(left, right))

    return run
