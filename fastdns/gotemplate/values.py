# SPDX-License-Identifier: Apache-2.0
"""The values of a template, with the types that Go's rules ask for.

Strategy: Go's string, bool, int, float64 are Python's str, bool, int, float. An unsigned integer is an `int` of a class
that says which; `[]string` and `map[string]string` are classes of list and dict, plain ones hold anything. MISSING is
Go's invalid value (no such key), None a nil. A struct says itself what its fields are.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .strings import octets


class _Missing:
    """No value at all: a key that a map does not have."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no value>"


MISSING = _Missing()


class Unsigned(int):
    """An unsigned integer; `bits` of its type."""

    bits: ClassVar[int] = 64


class Uint8(Unsigned):
    """uint8, also an octet of a string."""

    bits = 8


class Uint16(Unsigned):
    """uint16."""

    bits = 16


class Uint32(Unsigned):
    """uint32."""

    bits = 32


class Uint64(Unsigned):
    """uint64."""


class Strings(list[str]):
    """[]string."""


class StringMap(dict[str, str]):
    """map[string]string."""


class Struct:
    """A struct or a pointer to one.

    `type_name` is Go's. `fields` says which attribute is which of Go's fields, `methods` has Go's methods, each a
    `Function` that takes the struct first. `keys` and `elements` are short ways to parts of a field (quick.py): the
    attribute that gives the value of a key or None, and the one that is a sequence. `shown` is how fmt prints it; None:
    it is not printed here.
    """

    __slots__ = ()
    type_name: ClassVar[str] = "struct"
    fields: ClassVar[dict[str, str]] = {}
    methods: ClassVar[dict[str, Any]] = {}
    keys: ClassVar[dict[str, str]] = {}
    elements: ClassVar[dict[str, str]] = {}

    def shown(self) -> str | None:
        """Its text."""
        return None


def named(value: Any) -> bool:
    """Whether it is a number with a text of its own (Go's Stringer), as a duration or a month of an expression."""
    return isinstance(value, int) and type(value).__str__ is not int.__str__ and not isinstance(value, bool)


def type_name(value: Any) -> str:
    """The name of a value's type in Go."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Unsigned):
        return f"uint{value.bits}"
    if isinstance(value, Struct):
        return value.type_name
    if named(value):
        return f"time.{type(value).__name__}"
    for kind, name in NAMES:
        if isinstance(value, kind):
            return name
    return "<nil>" if value is None else type(value).__name__


NAMES: tuple[tuple[type, str], ...] = (
    (str, "string"),
    (int, "int"),
    (float, "float64"),
    (Strings, "[]string"),
    (StringMap, "map[string]string"),
    (list, "[]interface {}"),
    (dict, "map[string]interface {}"),
)


def kind(value: Any) -> str:
    """The basic kind that comparisons go by; "" for one that has none."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Unsigned):
        return "uint"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else ""


def truth(value: Any) -> bool:
    """Whether a value is true for if, and, or, not."""
    return True if isinstance(value, Struct) else bool(value)


def float_text(value: float, form: str = "g", precision: int | None = None, threshold: int = 6) -> str:
    """A float as Go's strconv writes it. Without a precision, the shortest digits that say the same number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    lower = form.lower()
    if lower in "ef" and precision is not None:
        text = f"{value:.{precision}{lower}}"
    elif precision is not None:
        text = f"{value:.{precision or 1}g}"
        if "e" not in text and abs(value) >= 10 ** max(precision, 1):
            text = f"{value:.{max(precision, 1) - 1}e}"
    else:
        text = _shortest(value, lower, threshold)
    return text.upper() if form.isupper() else text


def _shortest(value: float, form: str, threshold: int) -> str:
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.lstrip("-").partition(".")
    digits = (whole + part).lstrip("0")
    power = int(exponent or 0) + len(whole) - 1
    if not digits:
        return {"e": f"{sign}0e+00"}.get(form, f"{sign}0")
    if whole == "0":
        power -= len(part) - len(part.lstrip("0")) + 1
    digits = digits.rstrip("0") or "0"
    if form == "e" or (form == "g" and (power < -4 or power >= threshold)):
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    if len(digits) <= power + 1:
        return sign + digits.ljust(power + 1, "0")
    return f"{sign}{digits[: power + 1]}.{digits[power + 1 :]}"


def text_of(value: Any) -> str:
    """A value as fmt's %v writes it."""
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if named(value) else str(int(value))
    if isinstance(value, float):
        return float_text(value)
    if value is None or value is MISSING:
        return "<nil>"
    if isinstance(value, list):
        return f"[{' '.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{text_of(key)}:{text_of(value[key])}' for key in sorted_keys(value))}]"
    if isinstance(value, Struct):
        return value.shown() or value.type_name
    return str(value)


def sorted_keys(value: dict[Any, Any]) -> list[Any]:
    """The keys of a map in Go's order."""
    return sorted(value, key=lambda key: octets(key) if isinstance(key, str) else octets(str(key)))


def printable(value: Any) -> bool:
    """Whether `text_of` has a text for it."""
    return not isinstance(value, Struct) or value.shown() is not None


def sprint(values: list[Any]) -> str:
    """fmt.Sprint: a blank between two operands when neither is a string."""
    out: list[str] = []
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out.append(" ")
        out.append(text_of(value))
    return "".join(out)
