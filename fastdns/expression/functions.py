# SPDX-License-Identifier: Apache-2.0
"""The language's own functions, those that take a predicate aside.

Strategy: one table of plain functions over values. Arguments were counted by the checker; what it did not know of
their types is looked at here (`argument`). None changes what it was given, because constants are shared by all queries.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import time
from collections.abc import Callable
from typing import Any

from .layouts import parse_date, parse_time
from .numeric import absolute, as_float, as_int, bits, extreme, half_away, mean, median, rounded
from .times import Location, Time, format_time, load_location, local, parse_duration
from .values import (
    ARRAY_MAX,
    Failure,
    compare,
    contains,
    go_text,
    go_type,
    to_int,
)

SPACES = (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
SPACE = "".join(map(chr, SPACES))


def argument(value: Any, kind: type, name: str) -> Any:
    """A value that must be of one Python type."""
    if type(value) is not kind:
        raise Failure(f"interface conversion: interface {{}} is {go_type(value).strip('<>')}, not {name}")
    return value


def listed(value: Any, words: str) -> list[Any]:
    """A value that must be an array."""
    if type(value) is bytes:
        return list(value)
    if type(value) is not list:
        kind = {"<nil>": "invalid", "map[string]interface {}": "map"}.get(go_type(value), go_type(value))
        raise Failure(words.format(kind))
    return value


# ---- strings


def length(value: Any) -> int:
    """Characters, elements or keys."""
    if type(value) in (str, list, dict, bytes):
        return len(value)
    raise Failure(f"invalid argument for len (type {go_type(value)})")


def octets(text: str, at: int) -> int:
    """A position as Go counts it."""
    return at if at < 0 or text.isascii() else len(text[:at].encode())


def split(text: str, separator: str, n: int = -1, keep: bool = False) -> list[str]:
    """At each separator; an empty one cuts between all characters."""
    if n == 0:
        return []
    if separator:
        parts = text.split(separator, n - 1 if n > 0 else -1)
    else:
        parts = list(text) if n < 0 or n >= len(text) else [*text[: n - 1], text[n - 1 :]]
    return [part + separator for part in parts[:-1]] + parts[-1:] if keep else parts


def replace(text: str, old: str, new: str, n: int = -1) -> str:
    """Some or all occurrences."""
    found = text.count(old) if old else len(text) + 1
    if (found if n < 0 else min(n, found)) * len(new) > ARRAY_MAX * 8:
        raise Failure("memory budget exceeded")
    return text.replace(old, new, max(n, -1))


def repeat(text: str, n: int) -> str:
    """A text n times."""
    if n < 0:
        raise Failure(f"invalid argument for repeat (expected positive integer, got {n})")
    if n * max(len(text), 1) > ARRAY_MAX * 8:
        raise Failure("memory budget exceeded")
    return text * n


def join(parts: Any, glue: str = "") -> str:
    """Texts with something between them."""
    texts = [argument(part, str, "string") for part in listed(parts, "invalid argument for join (type {})")]
    if len(glue) * len(texts) > ARRAY_MAX * 8:
        raise Failure("memory budget exceeded")
    return glue.join(texts)


def lower(text: str) -> str:
    """Each character by itself, as in Go: no final sigma."""
    return text.lower() if text.isascii() else "".join(char.lower()[:1] for char in text)


def upper(text: str) -> str:
    """Each character by itself: no character becomes two."""
    return text.upper() if text.isascii() else "".join(
        char.upper() if len(char.upper()) == 1 else char for char in text)


# ---- arrays and maps


def element(value: Any, at: int) -> Any:
    """`first`, `last`: nil where there is none."""
    return value[at] if type(value) in (list, bytes) and value else None


def get(base: Any, key: Any) -> Any:
    """`get`: nil where there is nothing."""
    if type(base) in (list, bytes):
        index = to_int(key)
        return base[index] if -len(base) <= index < len(base) else None
    if type(base) is str:
        index = to_int(key)
        raw = base.encode()
        return raw[index] if -len(raw) <= index < len(raw) else None
    return base.get(key) if type(base) is dict and type(key) not in (list, dict) else None


def take(value: Any, n: Any) -> list[Any]:
    """The first n."""
    values = listed(value, "cannot take from {}")
    if not isinstance(n, int) or isinstance(n, bool):
        raise Failure(f"cannot take {go_type(n)} elements")
    if n < 0:
        raise Failure("reflect.Value.Slice: slice index out of bounds")
    return values[:n]


def of_map(value: Any, words: str) -> dict[Any, Any]:
    """A value that must be a map."""
    if type(value) is not dict:
        kind = {"<nil>": "invalid", "[]interface {}": "slice"}.get(go_type(value), go_type(value))
        raise Failure(words.format(kind))
    return value


def from_pairs(value: Any) -> dict[Any, Any]:
    """A map of arrays of two."""
    out = {}
    for pair in listed(value, "cannot transform {} from pairs"):
        if type(pair) is not list:
            raise Failure(f"invalid pair {go_text(pair)}")
        if len(pair) != 2:
            raise Failure(f"invalid pair length {go_text(pair)}")
        if type(pair[0]) in (list, dict):
            raise Failure(f"runtime error: hash of unhashable type {go_type(pair[0])}")
        out[pair[0]] = pair[1]
    return out


def uniq(value: Any) -> list[Any]:
    """Each value once."""
    values = listed(value, "cannot uniq {}")
    if len(values) > 400:
        raise Failure("memory budget exceeded")
    out: list[Any] = []
    for each in values:
        if not contains(each, out):
            out.append(each)
    return out


def flatten(value: Any) -> list[Any]:
    """Arrays in arrays become one."""
    out: list[Any] = []
    for each in listed(value, "cannot flatten {}"):
        out.extend(flatten(each) if type(each) is list else (each,))
    return out


def ordering(left: Any, right: Any) -> int:
    """By <."""
    return -1 if compare("<", left, right) else 1 if compare("<", right, left) else 0


def ordered(values: list[Any], keys: list[Any], order: Any) -> list[Any]:
    """Values in order of their keys."""
    if order not in ("asc", "desc"):
        raise Failure(f"invalid order {go_text(order)}, expected asc or desc")
    way = functools.cmp_to_key(ordering)
    places = sorted(range(len(values)), key=lambda place: way(keys[place]), reverse=order == "desc")
    return [values[place] for place in places]


# ---- JSON, base64, time


def plain(value: Any) -> Any:
    """What JSON can say of a value."""
    if type(value) is list:
        return [plain(each) for each in value]
    if type(value) is dict:
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    if type(value) is Time:
        return format_time(value, "2006-01-02T15:04:05.999999999Z07:00")
    if type(value) is float:
        if not math.isfinite(value):
            raise Failure(f"json: unsupported value: {go_text(value)}")
        return int(value) if value == int(value) and abs(value) < 1e21 else value
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def to_json(value: Any) -> str:
    """`toJSON`: indented by two, `<`, `>` and `&` escaped, as Go does."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def from_json(text: str) -> Any:
    """`fromJSON`: every number is a float."""
    try:
        return json.loads(text, parse_int=float, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError) as error:
        raise Failure(f"invalid JSON: {error}") from None


def from_base64(text: str) -> str:
    """`fromBase64`."""
    try:
        return base64.b64decode(text.replace("\n", "").replace("\r", ""), validate=True).decode(errors="replace")
    except binascii.Error:
        raise Failure("illegal base64 data") from None


def now(zone: Location | None = None) -> Time:
    """`now`."""
    return Time(time.time_ns(), zone or local())


def date(*values: Any) -> Time:
    """`date(text)`, `date(text, layout)`, `date(text, layout, zone)`, each with a zone before it or not."""
    zone: Location | None = None
    if values and type(values[0]) is Location:
        zone, values = values[0], values[1:]
    texts = [argument(value, str, "string") for value in values]
    if not texts:
        raise Failure("runtime error: index out of range [0] with length 0")
    if len(texts) == 3:
        zone = load_location(texts[2])
    return parse_date(texts[0], zone) if len(texts) == 1 else parse_time(texts[1], texts[0], zone)


TABLE: dict[str, Callable[..., Any]] = {
    "len": length, "string": go_text, "int": as_int, "float": as_float, "abs": absolute,
    "ceil": rounded("ceil", math.ceil), "floor": rounded("floor", math.floor), "round": rounded("round", half_away),
    "trim": lambda text, chars=SPACE: text.strip(chars) if chars else text,
    "trimPrefix": lambda text, prefix=" ": text.removeprefix(prefix),
    "trimSuffix": lambda text, suffix=" ": text.removesuffix(suffix),
    "upper": upper, "lower": lower, "split": split,
    "splitAfter": lambda text, separator, n=-1: split(text, separator, n, keep=True),
    "replace": replace, "repeat": repeat, "join": join,
    "indexOf": lambda text, part: octets(text, text.find(part)),
    "lastIndexOf": lambda text, part: octets(text, text.rfind(part)),
    "hasPrefix": str.startswith, "hasSuffix": str.endswith,
    "max": extreme("max", "<"), "min": extreme("min", ">"), "mean": mean, "median": median,
    "toJSON": to_json, "fromJSON": from_json, "fromBase64": from_base64,
    "toBase64": lambda text: base64.b64encode(text.encode()).decode(),
    "now": now, "date": date, "duration": parse_duration, "timezone": load_location,
    "first": lambda value: element(value, 0), "last": lambda value: element(value, -1), "get": get, "take": take,
    "keys": lambda value: list(of_map(value, "cannot get keys from {}")),
    "values": lambda value: list(of_map(value, "cannot get values from {}").values()),
    "toPairs": lambda value: [list(pair) for pair in of_map(value, "cannot transform {} to pairs").items()],
    "fromPairs": from_pairs,
    "reverse": lambda value: listed(value, "cannot reverse {}")[::-1], "uniq": uniq, "flatten": flatten,
    "concat": lambda *values: [each for value in values for each in listed(value, "cannot concat {}")],
    "sort": lambda value, order="asc": ordered(value, value, order),
    "bitand": bits("bitand", int.__and__), "bitor": bits("bitor", int.__or__), "bitxor": bits("bitxor", int.__xor__),
    "bitnand": bits("bitnand", lambda left, right: left & ~right),
    "bitshl": bits("bitshl", lambda left, right: left << right if right < 64 else 0, shift=True),
    "bitshr": bits("bitshr", lambda left, right: left >> min(right, 64), shift=True),
    "bitushr": bits("bitushr", lambda left, right: (left & ((1 << 64) - 1)) >> right, shift=True),
    "bitnot": lambda value: ~argument(value, int, "int"),
}  # fmt: skip
