# SPDX-License-Identifier: Apache-2.0
"""What the language's own functions take and give, as far as it is known before a query exists.

Strategy: one table. Most functions are a list of Go signatures of which one must fit; those that take several kinds of
values have a check of their own, which gives the result's type or raises ValueError with expr-lang's words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .types import (
    ANY,
    ANY_MAP,
    ARRAY,
    BOOL,
    DURATION,
    FLOAT,
    INT,
    LOCATION,
    STRING,
    STRINGS,
    TIME,
    Type,
    array_of,
    assignable,
    function,
)

Check = Callable[[list[Type]], Type]

INTS = Type("array", "[]int", INT)
FLOATS = Type("array", "[]float64", FLOAT)
# What Go counts as numbers: a duration is one beneath.
COUNTED = ("int", "float", "duration", "month", "weekday")
NUMBERS = (*COUNTED, "any", "unknown")
LISTS = ("array", "any", "unknown")
MAPS = ("map", "any", "unknown")


def exactly(arguments: list[Type], n: int) -> None:
    """So many arguments."""
    if len(arguments) != n:
        raise ValueError(f"invalid number of arguments (expected {n}, got {len(arguments)})")


def said(kind: Type) -> str:
    """A type in an error text; Go has none for nil and prints that it has none."""
    return "%!s(<nil>)" if kind.kind == "nil" else str(kind)


def one(name: str, kinds: tuple[str, ...], result: Type | None, words: str = "") -> Check:
    """One argument of some kinds. `result` None: the argument's type."""

    def check(arguments: list[Type]) -> Type:
        exactly(arguments, 1)
        if arguments[0].kind not in kinds:
            raise ValueError((words or f"invalid argument for {name} (type {{}})").format(said(arguments[0])))
        return result or arguments[0]

    return check


def element(name: str) -> Check:
    """`first`, `last`."""

    def check(arguments: list[Type]) -> Type:
        exactly(arguments, 1)
        if arguments[0].kind not in LISTS:
            raise ValueError(f"cannot get {name} element from {said(arguments[0])}")
        # Go's element type, not what the checker knows beyond it.
        return ANY if arguments[0].unknown or arguments[0].go == ARRAY.go else arguments[0].element or ANY

    return check


def aggregate(name: str) -> Check:
    """`max`, `min`, `mean`, `median`."""

    def check(arguments: list[Type]) -> Type:
        if not arguments:
            raise ValueError(f"not enough arguments to call {name}")
        for argument in arguments:
            if argument.kind in LISTS:
                return ANY
            if argument.kind not in COUNTED:
                raise ValueError(f"invalid argument for {name} (type {said(argument)})")
        return arguments[0]

    return check


def take(arguments: list[Type]) -> Type:
    """`take`."""
    exactly(arguments, 2)
    if arguments[0].kind not in LISTS:
        raise ValueError(f"cannot take from {said(arguments[0])}")
    if arguments[1].kind not in NUMBERS or arguments[1].kind == "float":
        raise ValueError(f"cannot take {said(arguments[1])} elements")
    return ANY if arguments[0].unknown else arguments[0]


def concat(arguments: list[Type]) -> Type:
    """`concat`."""
    if not arguments:
        raise ValueError("invalid number of arguments (expected at least 1, got 0)")
    for argument in arguments:
        if argument.kind not in LISTS:
            raise ValueError(f"cannot concat {said(argument)}")
    return ARRAY


def now(arguments: list[Type]) -> Type:
    """`now`."""
    if arguments and not (len(arguments) == 1 and arguments[0].kind == "location"):
        raise ValueError(f"invalid number of arguments (expected 0, got {len(arguments)})")
    return TIME


def date(arguments: list[Type]) -> Type:
    """`date`."""
    if not arguments:
        raise ValueError("invalid number of arguments (expected at least 1, got 0)")
    if assignable(arguments[0], LOCATION):
        arguments = arguments[1:]
    if len(arguments) > 3:
        raise ValueError(f"invalid number of arguments (expected at most 3, got {len(arguments)})")
    return TIME


S = STRING
SIGNATURES: dict[str, tuple[Type, ...]] = {
    "string": (function((ANY,), S),),
    "trim": (function((S,), S), function((S, S), S)),
    "trimPrefix": (function((S, S), S), function((S,), S)),
    "trimSuffix": (function((S, S), S), function((S,), S)),
    "upper": (function((S,), S),),
    "lower": (function((S,), S),),
    "split": (function((S, S), STRINGS), function((S, S, INT), STRINGS)),
    "splitAfter": (function((S, S), STRINGS), function((S, S, INT), STRINGS)),
    "replace": (function((S, S, S, INT), S), function((S, S, S), S)),
    "repeat": (function((S, INT), S),),
    "join": (
        function((STRINGS, S), S), function((ARRAY, S), S), function((ARRAY,), S), function((STRINGS, S), S),
        function((STRINGS,), S),
    ),
    "indexOf": (function((S, S), INT),),
    "lastIndexOf": (function((S, S), INT),),
    "hasPrefix": (function((S, S), BOOL),),
    "hasSuffix": (function((S, S), BOOL),),
    "toJSON": (function((ANY,), S),),
    "fromJSON": (function((S,), ANY),),
    "toBase64": (function((S,), S),),
    "fromBase64": (function((S,), S),),
    "duration": (function((S,), DURATION, fails=True),),
    "timezone": (function((S,), LOCATION, fails=True),),
    "sort": tuple(
        function((kind, S)[:n], ARRAY) for n, kinds in ((2, (ARRAY, INTS, FLOATS, STRINGS)),
                                                        (1, (ARRAY, FLOATS, STRINGS, INTS))) for kind in kinds
    ),
    **{name: (function((INT, INT), INT),) for name in (
        "bitand", "bitor", "bitxor", "bitnand", "bitshl", "bitshr", "bitushr")},
    "bitnot": (function((INT,), INT),),
}  # fmt: skip

CHECKS: dict[str, Check] = {
    "len": one("len", ("array", "map", "string", "any", "unknown"), INT),
    "abs": one("abs", NUMBERS, None),
    "ceil": one("ceil", NUMBERS, FLOAT),
    "floor": one("floor", NUMBERS, FLOAT),
    "round": one("round", NUMBERS, FLOAT),
    "int": one("int", (*NUMBERS, "string"), INT),
    "float": one("float", (*NUMBERS, "string"), FLOAT),
    "max": aggregate("max"),
    "min": aggregate("min"),
    "mean": aggregate("mean"),
    "median": aggregate("median"),
    "now": now,
    "date": date,
    "first": element("first"),
    "last": element("last"),
    "take": take,
    "keys": one("keys", MAPS, ARRAY, "cannot get keys from {}"),
    "values": one("values", MAPS, ARRAY, "cannot get values from {}"),
    "toPairs": one("toPairs", MAPS, ARRAY, "cannot transform {} to pairs"),
    "fromPairs": one("fromPairs", LISTS, ANY_MAP, "cannot transform {} from pairs"),
    "reverse": one("reverse", LISTS, ARRAY, "cannot reverse {}"),
    "uniq": one("uniq", LISTS, ARRAY, "cannot uniq {}"),
    "concat": concat,
    "flatten": one("flatten", LISTS, ARRAY, "cannot flatten {}"),
}

# `type` is no function of the language here: CoreDNS's environment has one of that name.
BUILTINS = frozenset((*SIGNATURES, *CHECKS, "get"))

METHODS: dict[str, dict[str, Type]] = {
    "time": {
        **{name: function((), INT) for name in (
            "Year", "Day", "Hour", "Minute", "Second", "Nanosecond", "YearDay", "Unix", "UnixMilli", "UnixMicro",
            "UnixNano")},
        "Month": function((), Type("month", "time.Month")),
        "Weekday": function((), Type("weekday", "time.Weekday")),
        "Format": function((S,), S),
        "String": function((), S),
        "Before": function((TIME,), BOOL),
        "After": function((TIME,), BOOL),
        "Equal": function((TIME,), BOOL),
        "Compare": function((TIME,), INT),
        "Add": function((DURATION,), TIME),
        "Sub": function((TIME,), DURATION),
        "AddDate": function((INT, INT, INT), TIME),
        "Truncate": function((DURATION,), TIME),
        "Round": function((DURATION,), TIME),
        "UTC": function((), TIME),
        "Local": function((), TIME),
        "In": function((LOCATION,), TIME),
        "Location": function((), LOCATION),
        "IsZero": function((), BOOL),
    },
    "duration": {
        **{name: function((), FLOAT) for name in ("Hours", "Minutes", "Seconds")},
        **{name: function((), INT) for name in ("Milliseconds", "Microseconds", "Nanoseconds")},
        "String": function((), S),
        "Abs": function((), DURATION),
        "Truncate": function((DURATION,), DURATION),
        "Round": function((DURATION,), DURATION),
    },
    "month": {"String": function((), S)},
    "weekday": {"String": function((), S)},
    "location": {"String": function((), S)},
}  # fmt: skip

# Go names a method's type with its receiver.
RECEIVERS = {"time": "time.Time", "duration": "time.Duration", "month": "time.Month", "weekday": "time.Weekday",
             "location": "*time.Location"}  # fmt: skip
METHODS = {
    kind: {
        name: replace(method, go=f"func({', '.join((RECEIVERS[kind], *map(str, method.arguments)))}) {method.result}")
        for name, method in methods.items()
    }
    for kind, methods in METHODS.items()
}


def elements(kind: Type) -> Type:
    """An array of what is known of a collection's elements."""
    return array_of(kind.element or ANY)
