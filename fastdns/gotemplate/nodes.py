# SPDX-License-Identifier: Apache-2.0
"""The tree of a template.

Strategy: small dataclasses; `str()` of one is its text in Go's canonical spelling, which error messages and the label
`template` of CoreDNS's metrics show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Node:
    """`at` is the offset in the template's text."""

    at: int


@dataclass
class ListNode(Node):
    """Texts and actions in a row."""

    nodes: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "".join(map(str, self.nodes))


@dataclass
class TextNode(Node):
    """What is written as it is."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass
class DotNode(Node):
    """The cursor."""

    def __str__(self) -> str:
        return "."


@dataclass
class NilNode(Node):
    """The word nil."""

    def __str__(self) -> str:
        return "nil"


@dataclass
class BoolNode(Node):
    """true or false."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass
class NumberNode(Node):
    """A number. `as_int` and `as_float` are its values under these types, None where it has none; `ideal` that which it
    has where no type is asked for."""

    text: str
    as_int: int | None
    as_float: float | None
    ideal: Any

    def __str__(self) -> str:
        return self.text


@dataclass
class StringNode(Node):
    """A string; `quoted` as written."""

    quoted: str
    text: str

    def __str__(self) -> str:
        return self.quoted


@dataclass
class FieldNode(Node):
    """`.X.Y` of the cursor."""

    names: list[str]

    def __str__(self) -> str:
        return "".join(f".{name}" for name in self.names)


@dataclass
class VariableNode(Node):
    """`$x.Y`; the first name has its dollar sign."""

    names: list[str]

    def __str__(self) -> str:
        return ".".join(self.names)


@dataclass
class IdentifierNode(Node):
    """A function's name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass
class ChainNode(Node):
    """Fields of a value: `(pipeline).X.Y`."""

    node: Node
    names: list[str]

    def __str__(self) -> str:
        head = f"({self.node})" if isinstance(self.node, PipeNode) else str(self.node)
        return head + "".join(f".{name}" for name in self.names)


@dataclass
class CommandNode(Node):
    """An operand, or a function or method with its arguments."""

    args: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return " ".join(f"({arg})" if isinstance(arg, PipeNode) else str(arg) for arg in self.args)


@dataclass
class PipeNode(Node):
    """Commands, each the last argument of the next; the value may be given to variables."""

    declares: list[VariableNode] = field(default_factory=list)
    assigns: bool = False
    commands: list[CommandNode] = field(default_factory=list)

    def __str__(self) -> str:
        head = ", ".join(map(str, self.declares)) + (" = " if self.assigns else " := ") if self.declares else ""
        return head + " | ".join(map(str, self.commands))


@dataclass
class ActionNode(Node):
    """`{{ pipeline }}`."""

    pipe: PipeNode

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass
class BranchNode(Node):
    """if, with or range (`word`)."""

    word: str
    pipe: PipeNode
    body: ListNode
    otherwise: ListNode | None

    def __str__(self) -> str:
        tail = f"{{{{else}}}}{self.otherwise}" if self.otherwise is not None else ""
        return f"{{{{{self.word} {self.pipe}}}}}{self.body}{tail}{{{{end}}}}"


@dataclass
class JumpNode(Node):
    """break or continue (`word`)."""

    word: str

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"


@dataclass
class TemplateNode(Node):
    """Runs a template that has a name."""

    name: str
    pipe: PipeNode | None

    def __str__(self) -> str:
        from ..corefile.units import quote

        tail = f" {self.pipe}" if self.pipe is not None else ""
        return f"{{{{template {quote(self.name)}{tail}}}}}"


def is_empty(node: Node | None) -> bool:
    """Whether a tree writes nothing but blanks: such a definition may be replaced."""
    if isinstance(node, ListNode):
        return all(map(is_empty, node.nodes))
    return node is None or (isinstance(node, TextNode) and not node.text.strip())


def walk(node: Any) -> Iterator[Node]:
    """A node and everything below it."""
    if isinstance(node, list):
        for each in node:
            yield from walk(each)
    elif isinstance(node, Node):
        yield node
        for value in vars(node).values():
            yield from walk(value)
