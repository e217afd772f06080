# SPDX-License-Identifier: Apache-2.0
"""What a template reads of its data: for who wants to know what its text depends on.

Strategy: every chain of fields in the trees, whatever its base, because a variable, a `with` or a call may carry the
data anywhere: so it may name too much, never too little. The data as a whole (a bare dot or `$` outside with and range)
is an empty chain, but where it is only handed to another template, whose chains are listed too.
"""

from __future__ import annotations

from typing import NamedTuple

from .nodes import (
    BranchNode,
    CommandNode,
    DotNode,
    FieldNode,
    ListNode,
    Node,
    PipeNode,
    StringNode,
    TemplateNode,
    VariableNode,
)


class Use(NamedTuple):
    """A chain of fields, and the constant that is its method's one argument (None: none, or not a constant)."""

    names: tuple[str, ...]
    argument: str | None = None


def uses(trees: dict[str, ListNode]) -> set[Use]:
    """All chains of some trees."""
    found: set[Use] = set()
    for tree in trees.values():
        _visit(tree, True, found)
    return found


def _visit(node: Node | None, at_root: bool, found: set[Use]) -> None:
    if isinstance(node, ListNode):
        for each in node.nodes:
            _visit(each, at_root, found)
    elif isinstance(node, BranchNode):
        _visit(node.pipe, at_root, found)
        _visit(node.body, at_root and node.word == "if", found)
        _visit(node.otherwise, at_root, found)
    elif isinstance(node, TemplateNode):
        if node.pipe is not None and not _handed(node.pipe):
            _visit(node.pipe, at_root, found)
    elif isinstance(node, PipeNode):
        for command in node.commands:
            _command(command, at_root, found)
    elif isinstance(node, DotNode):
        if at_root:
            found.add(Use(()))
    elif isinstance(node, FieldNode):
        found.add(Use(tuple(node.names)))
    elif isinstance(node, VariableNode):
        if len(node.names) > 1 or node.names[0] == "$":
            found.add(Use(tuple(node.names[1:])))
    elif node is not None:
        for value in vars(node).values():
            if isinstance(value, Node):
                _visit(value, at_root, found)
            elif isinstance(value, list) and value and not isinstance(value[0], str):
                # A chain's own names, behind what it is a chain of, read what that has.
                for each in value:
                    _visit(each, at_root, found)


def _handed(pipe: PipeNode) -> bool:
    """Whether a pipeline is the data itself and nothing else."""
    if len(pipe.commands) != 1 or len(pipe.commands[0].args) != 1:
        return False
    operand = pipe.commands[0].args[0]
    return isinstance(operand, DotNode) or (isinstance(operand, VariableNode) and operand.names == ["$"])


def _command(command: CommandNode, at_root: bool, found: set[Use]) -> None:
    first, rest = command.args[0], command.args[1:]
    if isinstance(first, FieldNode | VariableNode) and len(rest) == 1 and isinstance(rest[0], StringNode):
        names = first.names if isinstance(first, FieldNode) else first.names[1:]
        found.add(Use(tuple(names), rest[0].text))
        return
    for arg in command.args:
        _visit(arg, at_root, found)
