# SPDX-License-Identifier: Apache-2.0
"""Static types of expressions: what the checker knows of a value before a query exists.

Strategy: Go's types as far as an expression can meet one, named as Go names them, because error texts show the names.
Two types say that nothing is known: UNKNOWN (no type at all) and ANY (`interface {}`); the checker lets both pass and
the evaluator looks at the value.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Type:
    """`kind` decides what operators take; `go` is the name; `element` of arrays and maps, `key` of maps; arguments
    (the last one repeated if `variadic`) and `result` of functions."""

    kind: str
    go: str
    element: Type | None = None
    key: Type | None = None
    arguments: tuple[Type, ...] = ()
    result: Type | None = None
    variadic: bool = False

    def __str__(self) -> str:
        return self.go

    @property
    def unknown(self) -> bool:
        """Nothing is known of it."""
        return self.kind in ("unknown", "any")

    @property
    def number(self) -> bool:
        """Arithmetic takes it."""
        return self.kind in ("int", "float")


UNKNOWN = Type("unknown", "unknown")
ANY = Type("any", "interface {}")
NIL = Type("nil", "unknown")
BOOL = Type("bool", "bool")
INT = Type("int", "int")
FLOAT = Type("float", "float64")
STRING = Type("string", "string")
TIME = Type("time", "time.Time")
DURATION = Type("duration", "time.Duration")
LOCATION = Type("location", "*time.Location")
MONTH = Type("month", "time.Month")
WEEKDAY = Type("weekday", "time.Weekday")
BYTES = Type("array", "[]uint8", INT)
ARRAY = Type("array", "[]interface {}", ANY)
STRINGS = Type("array", "[]string", STRING)
MAP = Type("map", "map[string]interface {}", ANY, STRING)
ANY_MAP = Type("map", "map[interface {}]interface {}", ANY, ANY)
GROUPS = Type("map", "map[interface {}][]interface {}", ARRAY, ANY)


def array_of(element: Type) -> Type:
    """An array of which the elements' type is known."""
    return Type("array", ARRAY.go, element)


def function(arguments: tuple[Type, ...], result: Type, fails: bool = False, variadic: bool = False) -> Type:
    """The type of a function; `fails`: Go's returns an error beside its result."""
    names = [argument.go for argument in arguments]
    if variadic:
        names[-1] = "..." + names[-1]
    out = f"({result.go}, error)" if fails else result.go
    return Type("func", f"func({', '.join(names)}) {out}", None, None, arguments, result, variadic)


def assignable(value: Type, to: Type) -> bool:
    """Whether Go would assign the one to the other."""
    if value.kind == "nil":
        return to.kind in ("any", "func", "map", "array", "location")
    if value.kind == "unknown" or to.kind in ("unknown", "nil"):
        return False
    return to.kind == "any" or value.go == to.go


def comparable(left: Type, right: Type) -> bool:
    """Whether == may stand between them."""
    if left.unknown or right.unknown or "nil" in (left.kind, right.kind) or (left.number and right.number):
        return True
    return (left.kind == right.kind and left.kind in ("duration", "time", "array")) or assignable(left, right)


def either(left: Type, right: Type, *kinds: str) -> bool:
    """At least one of them is unknown, and the other is too or has one of the kinds."""
    if left.unknown:
        return right.unknown or right.kind in kinds
    return right.unknown and left.kind in kinds
