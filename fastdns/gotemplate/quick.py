# SPDX-License-Identifier: Apache-2.0
"""The short ways to what most templates read: `.Name`, `.Group.host`, `index .Match 1`.

Strategy: where the dot is of a known class, its fields are attributes, and it may offer a method for the keys of a map
or the elements of a list that would have to be made first (`keys`, `elements`). Whatever is not there goes the long
way, which knows Go's errors.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from .nodes import CommandNode, FieldNode, IdentifierNode, NumberNode
from .values import MISSING, Struct

Value = Callable[[Any, Any], Any]


def quick(command: CommandNode, root: type[Struct] | None) -> Callable[[Value], Value] | None:
    """Makes the short way out of the long one, where there is one."""
    if root is None:
        return None
    first = command.args[0]
    if isinstance(first, FieldNode) and len(command.args) == 1 and first.names[0] in root.fields:
        if len(first.names) == 1:
            return _attribute(root.fields[first.names[0]])
        if len(first.names) == 2 and first.names[0] in root.keys:
            return _key(root.keys[first.names[0]], first.names[1])
    if isinstance(first, IdentifierNode) and first.name == "index" and len(command.args) == 3:
        item, at = command.args[1:]
        plain = isinstance(item, FieldNode) and len(item.names) == 1 and item.names[0] in root.elements
        if plain and isinstance(at, NumberNode) and type(at.ideal) is int and at.ideal >= 0:
            return _element(root.elements[str(item)[1:]], at.ideal)
    return None


def _attribute(name: str) -> Callable[[Value], Value]:
    get = attrgetter(name)

    def make(slow: Value) -> Value:
        def run(state: Any, dot: Any) -> Any:
            found = get(dot)
            return MISSING if found is None else found

        return run

    return make


def _key(attribute: str, key: str) -> Callable[[Value], Value]:
    get = attrgetter(attribute)

    def make(slow: Value) -> Value:
        def run(state: Any, dot: Any) -> Any:
            found = get(dot)(key)
            return slow(state, dot) if found is None else found

        return run

    return make


def _element(attribute: str, at: int) -> Callable[[Value], Value]:
    get = attrgetter(attribute)

    def make(slow: Value) -> Value:
        def run(state: Any, dot: Any) -> Any:
            items = get(dot)
            return items[at] if at < len(items) else slow(state, dot)

        return run

    return make
