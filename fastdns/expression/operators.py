# SPDX-License-Identifier: Apache-2.0
"""What operators make of two types.

Strategy: tables and rules of expr-lang's checker; None says that an operator does not take the types, and a mistake
that has words of its own is raised at once.
"""

from __future__ import annotations

from collections.abc import Callable

from ..corefile.regexes import compile_regex
from .errors import ExpressionError
from .nodes import Binary, Constant, Node
from .types import (
    ANY,
    BOOL,
    BYTES,
    DURATION,
    FLOAT,
    INT,
    STRING,
    TIME,
    UNKNOWN,
    Type,
    array_of,
    assignable,
    comparable,
    either,
)

LOGIC = {"and": "and", "&&": "and", "or": "or", "||": "or"}

Mistake = Callable[[Node, str], ExpressionError]


def spine(node: Binary) -> list[Node]:
    """The operands of `a and b and c`, in order: however many there are, they make the tree no higher."""
    kind, out = LOGIC[node.operator], [node.right]
    left = node.left
    while isinstance(left, Binary) and LOGIC.get(left.operator) == kind:
        out.append(left.right)
        left = left.left
    return [left, *reversed(out)]


def operation(node: Binary, left: Type, right: Type, error: Mistake) -> Type | None:
    """What an operator makes of two types; None: it does not take them."""
    operator, pair = node.operator, (left.kind, right.kind)
    numbers = left.number and right.number
    promoted = FLOAT if "float" in pair else INT
    if operator in ("==", "!="):
        return BOOL if comparable(left, right) else None
    if operator in ("<", ">", "<=", ">="):
        same = left.kind == right.kind and left.kind in ("string", "time", "duration")
        known = either(left, right, "int", "float", "string", "time", "duration")
        return BOOL if numbers or same or known else None
    if operator in ("+", "-", "*"):
        return promoted if numbers else arithmetic(operator, left, right)
    if operator in ("/", "**", "^"):
        return FLOAT if numbers or either(left, right, "int", "float") else None
    if operator == "%":
        return INT if pair == ("int", "int") or either(left, right, "int") else None
    if operator == "..":
        return array_of(INT) if pair == ("int", "int") or either(left, right, "int") else None
    if operator == "in":
        return membership(node, left, right, error)
    if operator == "??":
        return coalesce(left, right)
    if operator == "matches":
        regex(node, error)
        if left.go == BYTES.go and right.kind == "string":
            return BOOL
    return BOOL if pair == ("string", "string") or either(left, right, "string") else None


def arithmetic(operator: str, left: Type, right: Type) -> Type | None:
    """+, -, * of what is not two numbers."""
    pair = (left.kind, right.kind)
    exact: dict[tuple[str, str, str], Type] = {
        ("+", "string", "string"): STRING, ("+", "time", "duration"): TIME, ("+", "duration", "time"): TIME,
        ("+", "duration", "duration"): DURATION, ("-", "time", "time"): DURATION,
        ("-", "time", "duration"): TIME, ("-", "duration", "duration"): DURATION,
        ("*", "duration", "duration"): DURATION,
    }  # fmt: skip
    if (operator, *pair) in exact:
        return exact[(operator, *pair)]
    if operator == "*" and ((left.number and pair[1] == "duration") or (pair[0] == "duration" and right.number)):
        return DURATION
    kinds = {"+": ("string", "time"), "-": ("time",), "*": ()}[operator]
    return UNKNOWN if either(left, right, "int", "float", "duration", *kinds) else None


def membership(node: Binary, left: Type, right: Type, error: Mistake) -> Type | None:
    """`in`."""
    if right.kind == "map":
        key = right.key or ANY
        if not left.unknown and not assignable(left, key):
            raise error(node, f"cannot use {left} as type {key} in map key")
        return BOOL
    if right.kind == "array":
        element = right.element or ANY
        if not comparable(left, element):
            raise error(node, f"cannot use {left} as type {element} in array")
        return BOOL
    if right.kind == "time" and (left.kind == "string" or left.unknown):
        return BOOL         # a struct to Go, of which no field can be seen
    return BOOL if right.unknown or (left.unknown and right.kind == "string") else None


def coalesce(left: Type, right: Type) -> Type:
    """`??`."""
    if left.kind == "nil":
        return right
    if right.kind == "nil" or assignable(right, left):
        return left
    return UNKNOWN


def regex(node: Binary, error: Mistake) -> None:
    """A literal behind `matches` must be a regular expression."""
    if isinstance(node.right, Constant) and isinstance(node.right.value, str):
        try:
            compile_regex(node.right.value)
        except ValueError as cause:
            raise error(node, str(cause)) from None
