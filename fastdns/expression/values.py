# SPDX-License-Identifier: Apache-2.0
"""What the operators do with values.

Strategy: Go's values are Python's own (nil None, []any a list, map[string]any a dict, int within 64 bits), and each
operator looks at exact types first, because Python's True is a 1 and Go's is not. What an operator does not take is a
Failure in expr-lang's words; who called it knows the place.
"""

from __future__ import annotations

import math
from typing import Any

from .times import Duration, Location, Month, Time, Weekday, wrap

ARRAY_MAX = 10000  # elements of an array, and work that one evaluation may do, see evaluator


class Failure(ValueError):
    """A value that an operator does not take."""


GO_NAMES: dict[type, str] = {
    bool: "bool", int: "int", float: "float64", str: "string", list: "[]interface {}",
    dict: "map[string]interface {}", bytes: "[]uint8", Time: "time.Time", Duration: "time.Duration",
    Location: "*time.Location", Month: "time.Month", Weekday: "time.Weekday", type(None): "<nil>",
}  # fmt: skip


def go_type(value: Any) -> str:
    """The name of a value's type in Go."""
    return GO_NAMES.get(type(value), "func")


def boolean(value: Any) -> bool:
    """A condition must be a boolean."""
    if value is True or value is False:
        return bool(value)
    raise Failure(f"interface conversion: interface {{}} is {go_type(value).strip('<>')}, not bool")


def equal(left: Any, right: Any) -> bool:
    """==."""
    kind = type(left)
    if kind is type(right):
        if kind is list:
            return len(left) == len(right) and all(map(equal, left, right))
        if kind is dict:
            return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
        return bool(left == right)
    if (kind is int or kind is float) and (type(right) is int or type(right) is float):
        return float(left) == float(right)
    return False


def ordered(left: Any, right: Any) -> bool:
    """Whether < and its kin take the two."""
    one, other = type(left), type(right)
    if one is other:
        return one in (int, float, str, Duration)
    return one in (int, float) and other in (int, float)


def compare(operator: str, left: Any, right: Any) -> bool:
    """<, >, <=, >=."""
    if type(left) is Time and type(right) is Time:
        left, right = left.ns, right.ns
    elif not ordered(left, right):
        raise Failure(f"invalid operation: {go_type(left)} {operator} {go_type(right)}")
    elif float in (type(left), type(right)):
        left, right = float(left), float(right)
    if operator == "<":
        return bool(left < right)
    if operator == ">":
        return bool(left > right)
    return bool(left <= right) if operator == "<=" else bool(left >= right)


def arithmetic(operator: str, left: Any, right: Any) -> Any:
    """+, -, *, /."""
    one, other = type(left), type(right)
    if operator == "/":
        if one in (int, float) and other in (int, float):
            return divide(float(left), float(right))
    elif one is other is int:
        return wrap(left + right if operator == "+" else left - right if operator == "-" else left * right)
    elif one in (int, float) and other in (int, float):
        return multiply(operator, float(left), float(right))
    elif one is other is str and operator == "+":
        return left + right
    else:
        out = with_time(operator, left, right)
        if out is not None:
            return out
    raise Failure(f"invalid operation: {go_type(left)} {operator} {go_type(right)}")


def multiply(operator: str, left: float, right: float) -> float:
    """Floats: Python's are Go's."""
    return left + right if operator == "+" else left - right if operator == "-" else left * right


def divide(left: float, right: float) -> float:
    """Go's division has no exception for 0."""
    if right != 0:
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1, right)


def with_time(operator: str, left: Any, right: Any) -> Any:
    """Times and durations; None: not taken."""
    one, other = type(left), type(right)
    if operator == "+":
        if one is Time and other is Duration:
            return Time(left.ns + right, left.location)
        if one is Duration and other is Time:
            return Time(right.ns + left, right.location)
    if operator == "-" and one is Time:
        if other is Time:
            return Duration(wrap(left.ns - right.ns))
        if other is Duration:
            return Time(left.ns - right, left.location)
    if one is other is Duration:
        a, b = int(left), int(right)
        return Duration(wrap(a + b if operator == "+" else a - b if operator == "-" else a * b))
    if operator == "*" and Duration in (one, other):
        number = right if one is Duration else left
        if type(number) is int:
            return Duration(wrap(int(left) * int(right)))
        if type(number) is float and math.isfinite(float(left) * float(right)):
            return Duration(wrap(int(float(left) * float(right))))
    return None


def modulo(left: Any, right: Any) -> int:
    """Go's remainder has the sign of the dividend."""
    if type(left) is not int or type(right) is not int:
        raise Failure(f"invalid operation: {go_type(left)} % {go_type(right)}")
    if right == 0:
        raise Failure("runtime error: integer divide by zero")
    out = abs(left) % abs(right)
    return -out if left < 0 else out


def power(left: Any, right: Any) -> float:
    """Go's math.Pow."""
    base, exponent = to_float(left), to_float(right)
    try:
        out = base**exponent
    except ZeroDivisionError:
        odd = exponent == int(exponent) and int(exponent) % 2
        return math.copysign(math.inf, base) if odd else math.inf
    except OverflowError:
        return -math.inf if base < 0 and int(exponent) % 2 else math.inf
    return out if isinstance(out, float) else math.nan


def negate(value: Any) -> Any:
    """- before a value."""
    if type(value) is int:
        return wrap(-value)
    if type(value) is float:
        return -value
    raise Failure(f"invalid operation: - {go_type(value)}")


def to_float(value: Any) -> float:
    """A number as a float."""
    if type(value) in (int, float):
        return float(value)
    raise Failure(f"invalid operation: float({go_type(value)})")


def to_int(value: Any) -> int:
    """A number as an int."""
    if type(value) is int:
        return value
    if type(value) is float:
        return go_int(value)
    raise Failure(f"invalid operation: int({go_type(value)})")


def go_int(value: float) -> int:
    """What amd64 makes of a float that no int can hold."""
    return int(value) if math.isfinite(value) and -(2.0**63) <= value < 2.0**63 else -(1 << 63)


def contains(needle: Any, among: Any) -> bool:
    """`in`."""
    if among is None:
        return False
    if type(among) is list:
        return any(equal(each, needle) for each in among)
    if type(among) is dict:
        if type(needle) is not str and among and all(type(key) is str for key in among):
            raise Failure(f"reflect.Value.MapIndex: value of type {go_type(needle)} is not assignable to type string")
        return type(needle) not in (list, dict) and needle in among
    if type(among) is bytes:
        return type(needle) is int and 0 <= needle < 256 and needle in among
    if type(among) is Time:
        if type(needle) is str:
            return False
        raise Failure(f"cannot use {go_type(needle)} as field name of time.Time")
    raise Failure(f'operator "in" not defined on {go_type(among)}')


def fetch(base: Any, key: Any) -> Any:
    """`base[key]`; a map gives nil for what it has not."""
    if type(base) in (list, bytes):
        index = to_int(key)
        at = index + len(base) if index < 0 else index
        if not 0 <= at < len(base):
            raise Failure(f"index out of range: {at} (array length is {len(base)})")
        return base[at]
    if type(base) is dict:
        return base.get(key) if type(key) not in (list, dict) else None
    raise Failure(f"cannot fetch {go_text(key)} from {go_type(base)}")


def cut(base: Any, start: Any, end: Any) -> Any:
    """`base[start:end]`; of a string the octets are counted, as in Go."""
    if type(base) is str and not base.isascii():
        return cut(base.encode(), start, end).decode(errors="replace")
    if type(base) not in (str, list, bytes):
        raise Failure(f"cannot slice {go_text(start)}")
    length = len(base)
    low, high = (0 if start is None else to_int(start)), (length if end is None else to_int(end))
    low, high = (max(bound + length, 0) if bound < 0 else bound for bound in (low, high))
    high = min(high, length)
    return base[min(low, high) : high]


def go_float(value: float) -> str:
    """A float as Go's %v prints it."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    digits = repr(abs(value))
    mantissa, _, exponent = digits.partition("e")
    whole, _, part = mantissa.partition(".")
    power_of = len(whole) - 1 + int(exponent or 0)
    figures = (whole + part).lstrip("0")
    if whole == "0" and figures:
        power_of = -len(part) + len(figures) - 1 + int(exponent or 0)
    figures = figures.rstrip("0") or "0"
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        return sign + "0"
    if not -4 <= power_of < 6:
        tail = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{tail}e{'-' if power_of < 0 else '+'}{abs(power_of):02}"
    if power_of < 0:
        return f"{sign}0.{'0' * (-power_of - 1)}{figures}"
    figures = figures.ljust(power_of + 1, "0")
    tail = f".{figures[power_of + 1 :]}" if len(figures) > power_of + 1 else ""
    return f"{sign}{figures[: power_of + 1]}{tail}"


def go_text(value: Any) -> str:
    """A value as Go's %v prints it."""
    if value is None:
        return "<nil>"
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is float:
        return go_float(value)
    if type(value) is list or type(value) is bytes:
        return f"[{' '.join(map(go_text, value))}]"
    if type(value) is dict:
        keys = sorted(value, key=lambda key: (isinstance(key, str), key if isinstance(key, (str, int, float)) else 0))
        return f"map[{' '.join(f'{go_text(key)}:{go_text(value[key])}' for key in keys)}]"
    return str(value)
