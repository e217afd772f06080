# SPDX-License-Identifier: Apache-2.0
"""Trees to closures.

Strategy: each node becomes a function of (state, dot); here the actions, their values in pipelines.py. What Go finds
out only when it executes (a field that a type does not have, a wrong type) stays an error of the execution, with Go's
words and place. Most templates are texts and values in a row: these are gathered and joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..corefile.units import quote
from .execution import OUTPUT_MAX, Action, Budget, ExecError, State, Value, rounds
from .functions import BUILTINS, Function, FunctionError
from .lexer import TemplateError
from .nodes import (
    ActionNode,
    BranchNode,
    JumpNode,
    ListNode,
    Node,
    PipeNode,
    TemplateNode,
    TextNode,
    walk,
)
from .parser import Parser
from .pipelines import Pipelines, last_of
from .values import MISSING, StringMap, Struct, printable, text_of, truth, type_name

NODES_MAX = 2000  # of a template: what runs once is bounded by how much there is of it
DEPTH_MAX = 50  # of templates within templates
BREAK = "break"


def weight(tree: ListNode) -> int:
    """How many actions and texts a tree has."""
    return sum(isinstance(node, ActionNode | TextNode | BranchNode | TemplateNode) for node in walk(tree))


class Template:
    """A template that was compiled. `text` is Go's canonical spelling of it. Raises TemplateError."""

    def __init__(self, name: str, source: str, functions: Mapping[str, Function] | None = None,
                 root: type[Struct] | None = None) -> None:
        self.name = name
        self.source = source
        self.functions = {**BUILTINS, **(functions or {})}
        self.trees = Parser(name, source, self.functions).parse()
        nodes = sum(1 for tree in self.trees.values() for _ in walk(tree))
        if nodes > NODES_MAX:
            raise TemplateError(f"template: {name}:1: a template has at most {NODES_MAX} parts, not {nodes}", 1, 1)
        self.text = str(self.trees[name])
        self.bodies: dict[str, tuple[Action, int, int]] = {}
        for tree_name, tree in self.trees.items():
            compiler = _Compiler(self, root if tree_name == name else None)
            body = compiler.row(tree)
            self.bodies[tree_name] = body, compiler.size, 2 + weight(tree)
        self._body, self._size, _ = self.bodies[name]
        self.constant = constant(self.trees[name])
        self._pieces = _Compiler(self, root).pieces(self.trees[name])

    def execute(self, data: Any, budget: Budget | None = None) -> str:
        """The text for `data`. Raises ExecError."""
        if self.constant is not None:
            return self.constant
        state = State(budget or Budget(), self._size, data)
        if self._pieces is not None:
            return joined(self._pieces, state, data)
        try:
            self._body(state, data)
        except RecursionError:
            raise ExecError(f"template: {self.name}: nested too deeply") from None
        return "".join(state.out)


def joined(pieces: list[str | Value], state: State, data: Any) -> str:
    """The text of a template that is texts and values in a row."""
    text = "".join([piece if isinstance(piece, str) else piece(state, data) for piece in pieces])
    if len(text) > OUTPUT_MAX:
        raise ExecError("the output is too long")
    return text


def constant(tree: ListNode) -> str | None:
    """The text of a template without actions."""
    if any(not isinstance(node, TextNode) for node in tree.nodes):
        return None
    return "".join(node.text for node in tree.nodes if isinstance(node, TextNode))


class _Compiler(Pipelines):
    """Compiles one tree."""

    def __init__(self, template: Template, root: type[Struct] | None) -> None:
        super().__init__(template.name, template.source, template.functions, root)
        self.bodies = template.bodies

    def row(self, tree: ListNode) -> Action:
        """Actions in a row."""
        actions = [self.action(node) for node in tree.nodes]
        if len(actions) == 1:
            return actions[0]

        def run(state: State, dot: Any) -> str | None:
            for action in actions:
                jump = action(state, dot)
                if jump is not None:
                    return jump
            return None

        return run

    def pieces(self, tree: ListNode) -> list[str | Value] | None:
        """A tree that is texts and values in a row as such; None: it is more than that."""
        found: list[str | Value] = []
        for node in tree.nodes:
            if isinstance(node, TextNode):
                found.append(node.text)
            elif isinstance(node, ActionNode) and not any(isinstance(n, PipeNode) and n.declares for n in walk(node)):
                found.append(self.shown(node))
            else:
                return None
        return found

    def shown(self, node: ActionNode) -> Value:
        """A value as text."""
        value, fail = self.pipe(node.pipe), self.failure(node.pipe)

        def run(state: State, dot: Any) -> str:
            found = value(state, dot)
            if type(found) is str:
                return found
            if found is MISSING:
                return "<no value>"
            if printable(found):
                return text_of(found)
            raise fail(f"can't print {node.pipe} of type {type_name(found)}")

        return run

    def action(self, node: Node) -> Action:
        """One action or text."""
        if isinstance(node, TextNode):
            return self.text(node)
        if isinstance(node, ActionNode):
            return self.output(node)
        if isinstance(node, JumpNode):
            word = node.word
            return lambda state, dot: word
        if isinstance(node, TemplateNode):
            return self.invoke(node)
        assert isinstance(node, BranchNode)
        self.scopes.append({})
        branch = self.loop(node) if node.word == "range" else self.branch(node)
        self.scopes.pop()
        return branch

    def text(self, node: TextNode) -> Action:
        """A text, written as it is."""
        text, fail = node.text, self.failure(node)

        def run(state: State, dot: Any) -> None:
            try:
                state.write(text)
            except FunctionError as error:
                raise fail(error) from None

        return run

    def output(self, node: ActionNode) -> Action:
        """A value, written; nothing where it went to a variable."""
        if node.pipe.declares:
            kept = self.pipe(node.pipe)

            def keep(state: State, dot: Any) -> None:
                kept(state, dot)

            return keep
        text, fail = self.shown(node), self.failure(node.pipe)

        def run(state: State, dot: Any) -> None:
            found = text(state, dot)
            try:
                state.write(found)
            except FunctionError as error:
                raise fail(error) from None

        return run

    def invoke(self, node: TemplateNode) -> Action:
        """{{template}}: sees what it is given and nothing else."""
        bodies, name, fail = self.bodies, node.name, self.failure(node)
        value = self.pipe(node.pipe) if node.pipe is not None else None

        def run(state: State, dot: Any) -> None:
            if name not in bodies:
                raise fail(f"template {quote(name)} not defined")
            if state.depth >= DEPTH_MAX:
                raise fail(f"exceeded maximum template depth ({DEPTH_MAX})")
            given = value(state, dot) if value is not None else MISSING
            body, size, cost = bodies[name]
            outer = state.vars
            try:
                state.spend(cost)
            except FunctionError as error:
                raise fail(error) from None
            state.vars = [MISSING] * size
            state.vars[0] = given
            state.depth += 1
            body(state, given)
            state.depth -= 1
            state.vars = outer

        return run

    def branch(self, node: BranchNode) -> Action:
        """if and with."""
        value, moves = self.pipe(node.pipe), node.word == "with"
        body = self.scoped(node.body, moves)
        otherwise = self.scoped(node.otherwise) if node.otherwise is not None else None

        def run(state: State, dot: Any) -> str | None:
            found = value(state, dot)
            if truth(found):
                return body(state, found if moves else dot)
            return otherwise(state, dot) if otherwise is not None else None

        return run

    def scoped(self, tree: ListNode, moves: bool = False) -> Action:
        """A body with variables of its own; `moves`: and another dot."""
        self.scopes.append({})
        root, self.root = self.root, None if moves else self.root
        body = self.row(tree)
        self.root = root
        self.scopes.pop()
        return body

    def loop(self, node: BranchNode) -> Action:
        """range."""
        pipe, fail = node.pipe, self.failure(last_of(node.pipe))
        bare = PipeNode(pipe.at, [], False, pipe.commands)
        value = self.pipe(bare)
        if pipe.assigns:
            places = [self.place(variable.names[0]) for variable in pipe.declares]
        else:
            places = [self.declare(variable.names[0]) for variable in pipe.declares]
        undefined = next((v.names[0] for v, p in zip(pipe.declares, places, strict=True) if p is None), None)
        body = self.scoped(node.body, True)
        otherwise = self.scoped(node.otherwise) if node.otherwise is not None else None
        pair = len(places) == 2
        first, last = (places[0], places[-1]) if places else (None, None)
        cost = 1 + weight(node.body)

        def run(state: State, dot: Any) -> str | None:
            found = value(state, dot)
            try:
                pairs = rounds(found, pair)
                if pairs and undefined is not None:
                    raise FunctionError(f"undefined variable: {undefined}")
                entered = False
                for key, each in pairs:
                    entered = True
                    state.spend(cost)
                    if last is not None:
                        state.vars[last] = each
                        if pair:
                            state.vars[first] = key  # type: ignore[index]
                    if body(state, each) == BREAK:
                        break
            except FunctionError as error:
                raise fail(error) from None
            if not entered and otherwise is not None:
                return otherwise(state, dot)
            return None

        return run


__all__ = ["BUILTINS", "Budget", "ExecError", "StringMap", "Template", "constant"]
