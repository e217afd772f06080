# SPDX-License-Identifier: Apache-2.0
"""The functions of a template.

Strategy: a function says the types of its parameters, because Go checks them and reads constants by them: "string" and
"int" are these, "any" takes everything, "value" also what is missing. `and` and `or` are the compiler's, for they stop
early. `call` is refused: there is no function among the data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

from ..corefile.units import quote
from . import strings, verbs
from .values import MISSING, StringMap, Strings, Struct, Uint8, Uint64, kind, sprint, text_of, truth, type_name


class FunctionError(Exception):
    """A function failed; the execution ends."""


class Function(NamedTuple):
    """A function: `call` gets the arguments, checked against `fixed` and, for those behind, `rest`."""

    call: Callable[..., Any]
    fixed: tuple[str, ...] = ()
    rest: str | None = None


def _not(value: Any) -> bool:
    return not truth(value)


# ---- comparison

BAD_TYPE = "invalid type for comparison"
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def _valid(value: Any) -> bool:
    return value is not None and value is not MISSING


def equal(first: Any, *others: Any) -> bool:
    """eq: whether the first is equal to one of the others."""
    if not others:
        raise FunctionError("missing argument for comparison")
    left = kind(first)
    for other in others:
        right = kind(other)
        if left != right:
            if {left, right} == {"int", "uint"}:
                if int(first) == int(other):
                    return True
            elif _valid(first) and _valid(other):
                raise FunctionError(
                    f"incompatible types for comparison: {type_name(first)} and {type_name(other)}")
        elif left:
            if first == other:
                return True
        elif _equal_values(first, other):
            return True
    return False


def _equal_values(first: Any, other: Any) -> bool:
    if not _valid(first) or not _valid(other):
        # A nil is equal to a nil, and an empty list or map that exists is none.
        return _valid(first) == _valid(other)
    if _shape(first) != _shape(other):
        raise FunctionError(f"non-comparable types {text_of(first)}: {type_name(first)}, "
                            f"{type_name(other)}: {text_of(other)}")
    if isinstance(other, list | dict):
        raise FunctionError(f"non-comparable type {text_of(other)}: {type_name(other)}")
    return bool(first is other or first == other)


def _shape(value: Any) -> str:
    for one, name in ((list, "slice"), (dict, "map"), (Struct, "struct")):
        if isinstance(value, one):
            return name
    return type(value).__name__


def not_equal(first: Any, other: Any) -> bool:
    """ne."""
    return not equal(first, other)


def less(first: Any, other: Any) -> bool:
    """lt."""
    left, right = kind(first), kind(other)
    if not left or not right:
        raise FunctionError(BAD_TYPE)
    if left != right:
        if {left, right} == {"int", "uint"}:
            return int(first) < int(other)
        raise FunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(other)}")
    if left == "bool":
        raise FunctionError(BAD_TYPE)
    if left == "string":
        return strings.octets(first) < strings.octets(other)
    return bool(first < other)


def less_or_equal(first: Any, other: Any) -> bool:
    """le."""
    return less(first, other) or equal(first, other)


def greater(first: Any, other: Any) -> bool:
    """gt."""
    return not less_or_equal(first, other)


def greater_or_equal(first: Any, other: Any) -> bool:
    """ge."""
    return not less(first, other)


# ---- parts


def _position(index: Any, most: int) -> int:
    if not isinstance(index, int) or isinstance(index, bool):
        what = "nil" if not _valid(index) else f"type {type_name(index)}"
        raise FunctionError(f"cannot index slice/array with {what}")
    if not 0 <= index <= most:
        raise FunctionError(f"index out of range: {int(index)}")
    return int(index)


def _outside(at: int, what: str, item: Any) -> FunctionError:
    # Go's own bound lets one position too many through, where its reflection panics.
    return FunctionError(f"reflect: {what} index out of range")


def index(item: Any, *keys: Any) -> Any:
    """index: `index x 1 "k"` is x[1]["k"]."""
    if not _valid(item):
        raise FunctionError("index of untyped nil")
    for key in keys:
        if item is None or item is MISSING:
            raise FunctionError("index of nil pointer")
        if isinstance(item, list):
            at = _position(key, len(item))
            if at == len(item):
                raise _outside(at, "slice", item)
            item = item[at]
        elif isinstance(item, str):
            data = strings.octets(item)
            at = _position(key, len(data))
            if at == len(data):
                raise _outside(at, "string", item)
            item = Uint8(data[at])
        elif isinstance(item, dict):
            if not isinstance(key, str):
                what = "nil" if not _valid(key) else type_name(key)
                raise FunctionError("value is nil; should be of type string" if what == "nil"
                                    else f"value has type {what}; should be string")
            item = item.get(key, "" if isinstance(item, StringMap) else MISSING)
        else:
            raise FunctionError(f"can't index item of type {type_name(item).lstrip('*')}")
    return item


def part(item: Any, *bounds: Any) -> Any:
    """slice: `slice x 1 2` is x[1:2]."""
    if not _valid(item):
        raise FunctionError("slice of untyped nil")
    if len(bounds) > 3:
        raise FunctionError(f"too many slice indexes: {len(bounds)}")
    if isinstance(item, str) and len(bounds) == 3:
        raise FunctionError("cannot 3-index slice a string")
    if not isinstance(item, list | str):
        raise FunctionError(f"can't slice item of type {type_name(item).lstrip('*')}")
    data: Any = strings.octets(item) if isinstance(item, str) else item
    at = [0, len(data)]
    for place, bound in enumerate(bounds):
        at[place : place + 1] = [_position(bound, len(data))]
    for low, high in pairwise(at):
        if low > high:
            raise FunctionError(f"invalid slice index: {low} > {high}")
    cut = data[at[0] : at[1]]
    if isinstance(item, str):
        return strings.from_octets(cut)
    return Strings(cut) if isinstance(item, Strings) else cut


def length(item: Any) -> int:
    """len."""
    if isinstance(item, str):
        return strings.length(item)
    if isinstance(item, list | dict):
        return len(item)
    if item is MISSING:
        raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    if item is None:
        raise FunctionError("len of nil pointer")
    raise FunctionError(f"len of type {type_name(item).lstrip('*')}")


# ---- texts


def _print(*values: Any) -> str:
    return sprint(list(values))


def _println(*values: Any) -> str:
    return " ".join(map(text_of, values)) + "\n"


def _printf(form: str, *values: Any) -> str:
    return verbs.sprintf(form, list(values))


def _escaper(escape: Callable[[str], str]) -> Function:
    def call(*values: Any) -> str:
        return escape(sprint(["<no value>" if v is None else v for v in values]))

    return Function(call, (), "any")


def parse_int(text: str, base: int, bits: int) -> Uint64:
    """CoreDNS's parseInt: strconv.ParseUint, with its complaints."""
    if base in (10, 16) and len(text) < 17 and text.isalnum() and text.isascii():
        with suppress(ValueError):
            value = int(text, base)
            if 0 < bits <= 64 and value >> bits == 0:
                return Uint64(value)
    failed = f"strconv.ParseUint: parsing {quote(text)}: "
    if not text:
        raise FunctionError(failed + "invalid syntax")
    if base != 0 and not 2 <= base <= 36:
        raise FunctionError(f"{failed}invalid base {base}")
    if not 0 <= bits <= 64:
        raise FunctionError(f"{failed}invalid bit size {bits}")
    found = _digits(text, base)
    if found is None:
        raise FunctionError(failed + "invalid syntax")
    if found >= 1 << (bits or 64):
        raise FunctionError(failed + "value out of range")
    return Uint64(found)


def _digits(text: str, base: int) -> int | None:
    body = text.lower() if text.isascii() else "?"
    if base == 0:
        base = {"0b": 2, "0o": 8, "0x": 16}.get(body[:2], 8 if body[0] == "0" and len(body) > 1 else 10)
        body = body[2:] if body[:2] in ("0b", "0o", "0x") else body[1:] if base == 8 else body
        if not _underscores(text):
            return None
        body = body.replace("_", "")
    if not body or any(ch not in DIGITS[:base] for ch in body):
        return None
    # More digits than 64 bits can need are out of range at any base; int() would take its time for them.
    digits = body.lstrip("0") or "0"
    return int(digits, base) if len(digits) <= 64 else 1 << 64


def _underscores(text: str) -> bool:
    """Whether underscores stand between digits alone, as in Go's literals."""
    body = text.lower()
    has_base = body[:2] in ("0b", "0o", "0x")
    before = "0" if has_base or body[:1] == "0" else "^"
    for ch in body[2:] if has_base else body:
        if ch == "_" and before != "0":
            return False
        before = "_" if ch == "_" else "0"
    return before == "0"


VALUE, ANY, STRING, INT = "value", "any", "string", "int"

BUILTINS: dict[str, Function] = {
    "and": Function(lambda *values: values, (VALUE,), VALUE),
    "or": Function(lambda *values: values, (VALUE,), VALUE),
    "not": Function(_not, (VALUE,)),
    "eq": Function(equal, (VALUE,), VALUE),
    "ne": Function(not_equal, (VALUE, VALUE)),
    "lt": Function(less, (VALUE, VALUE)),
    "le": Function(less_or_equal, (VALUE, VALUE)),
    "gt": Function(greater, (VALUE, VALUE)),
    "ge": Function(greater_or_equal, (VALUE, VALUE)),
    "index": Function(index, (VALUE,), VALUE),
    "slice": Function(part, (VALUE,), VALUE),
    "len": Function(length, (VALUE,)),
    "print": Function(_print, (), ANY),
    "println": Function(_println, (), ANY),
    "printf": Function(_printf, (STRING,), ANY),
    "html": _escaper(strings.html),
    "js": _escaper(strings.javascript),
    "urlquery": _escaper(strings.url_query),
}
