# SPDX-License-Identifier: Apache-2.0
"""The tree of an expression.

Strategy: one small class for each kind of node, as expr-lang has them, so that the checker, the folder, the evaluator
and the compiler to bytecode can be held against its behaviour. `at` is the place in the text that errors point to;
`type` is what the checker found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .types import UNKNOWN, Type


@dataclass(slots=True)
class Node:
    """Any node."""

    at: int
    type: Type = field(default=UNKNOWN, init=False)


@dataclass(slots=True)
class Constant(Node):
    """A literal, or what the folder made of a subtree. Its type comes from the value."""

    value: Any


@dataclass(slots=True)
class Name(Node):
    """A variable or a function of the environment."""

    name: str


@dataclass(slots=True)
class Unary(Node):
    """`not`, `!`, `-`, `+`."""

    operator: str
    node: Node


@dataclass(slots=True)
class Binary(Node):
    """Two operands."""

    operator: str
    left: Node
    right: Node


@dataclass(slots=True)
class Chain(Node):
    """Where a chain of `?.` ends: nil anywhere in it makes all of it nil."""

    node: Node


@dataclass(slots=True)
class Member(Node):
    """`node.property`, `node[property]`."""

    node: Node
    property: Node
    optional: bool = False
    method: bool = False


@dataclass(slots=True)
class Slice(Node):
    """`node[start:end]`."""

    node: Node
    start: Node | None
    end: Node | None


@dataclass(slots=True)
class Call(Node):
    """A function of the environment, or a method."""

    callee: Node
    arguments: list[Node]


@dataclass(slots=True)
class Builtin(Node):
    """A function of the language."""

    name: str
    arguments: list[Node]


@dataclass(slots=True)
class Predicate(Node):
    """What `all`, `map` and the like do with each element."""

    node: Node


@dataclass(slots=True)
class Pointer(Node):
    """`#`, `#index`, `#acc`: of the innermost predicate."""

    name: str


@dataclass(slots=True)
class Let(Node):
    """`let name = value; body`."""

    name: str
    value: Node
    body: Node


@dataclass(slots=True)
class Sequence(Node):
    """`a; b`: the last one counts."""

    nodes: list[Node]


@dataclass(slots=True)
class Conditional(Node):
    """`condition ? yes : no`, `if condition { yes } else { no }`."""

    condition: Node
    yes: Node
    no: Node


@dataclass(slots=True)
class Array(Node):
    """`[a, b]`."""

    nodes: list[Node]


@dataclass(slots=True)
class Map(Node):
    """`{a: b}`; the keys are nodes too."""

    pairs: list[tuple[Node, Node]]


def children(node: Node) -> list[Node]:
    """The nodes directly below."""
    out: list[Node] = []
    if isinstance(node, Constant):
        return out
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        if isinstance(value, Node):
            out.append(value)
        elif isinstance(value, list):
            for each in value:
                out.extend(each if isinstance(each, tuple) else (each,))
    return out


def size(node: Node) -> int:
    """How many nodes there are, itself included."""
    count, left = 0, [node]
    while left:
        count += 1
        left.extend(children(left.pop()))
    return count
