# SPDX-License-Identifier: Apache-2.0
"""Values: pipelines, calls, fields and variables as closures.

Strategy: variables are resolved to places of a list while compiling, because Go's scopes are lexical; functions are
looked up and their constants typed then, too. Where the dot is known to be of the class `root`, a field of it, a key of
its map or an element of its list costs one attribute (quick.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..corefile.units import quote
from .execution import ExecError, State, Value, bounded, field, method
from .functions import Function, FunctionError
from .nodes import (
    BoolNode,
    ChainNode,
    CommandNode,
    DotNode,
    FieldNode,
    IdentifierNode,
    NilNode,
    Node,
    NumberNode,
    PipeNode,
    StringNode,
    VariableNode,
)
from .quick import quick
from .values import MISSING, Struct, truth, type_name

CALL = 3  # steps of a call, and one for each 8 octets of its arguments (SHIFT) ...
VERB = 2  # ... and these for each verb of printf
SHIFT = 3


class Pipelines:
    """Compiles the values of one tree; `size` is how many places its variables need."""

    def __init__(self, name: str, source: str, functions: Mapping[str, Function], root: type[Struct] | None) -> None:
        self.name = name
        self.source = source
        self.functions = functions
        self.root = root  # what the dot is; None where it may be anything
        self.scopes: list[dict[str, int]] = [{"$": 0}]
        self.size = 1

    # ---- errors

    def failure(self, node: Node) -> Callable[[object], ExecError]:
        """Makes the exception of an execution that fails at a node."""
        source, name = self.source, self.name
        line = 1 + source.count("\n", 0, node.at)
        column = node.at - (source.rfind("\n", 0, node.at) + 1)
        head = f"template: {name}:{line}:{column}: executing {quote(name)} at <{node}>: "
        return lambda message: ExecError(f"{head}{message}")

    # ---- variables

    def declare(self, name: str) -> int:
        """A new place."""
        self.scopes[-1][name] = self.size
        self.size += 1
        return self.size - 1

    def place(self, name: str) -> int | None:
        """Where a variable is."""
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    # ---- pipelines

    def pipe(self, node: PipeNode) -> Value:
        """The value of a pipeline."""
        value: Value | None = None
        for command in node.commands:
            value = self.command(command, value)
        assert value is not None
        if not node.declares:
            return value
        name, last = node.declares[0].names[0], value
        place = self.place(name) if node.assigns else self.declare(name)
        fail = self.failure(last_of(node))

        def run(state: State, dot: Any) -> Any:
            found = last(state, dot)
            if place is None:
                raise fail(f"undefined variable: {name}")
            state.vars[place] = found
            return found

        return run

    def command(self, node: CommandNode, final: Value | None) -> Value:
        """An operand or call; `final` is the value of the command before it. A nil comes out as no value."""
        fast = quick(node, self.root) if final is None else None
        value = self._command(node, final)

        def run(state: State, dot: Any) -> Any:
            found = value(state, dot)
            return MISSING if found is None else found

        if isinstance(node.args[0], StringNode | NumberNode | BoolNode):
            return value
        return fast(run) if fast is not None else run

    def _command(self, node: CommandNode, final: Value | None) -> Value:
        word, args = node.args[0], node.args[1:]
        if isinstance(word, IdentifierNode):
            return self.call(node, word, args, final)
        if isinstance(word, FieldNode | ChainNode | VariableNode):
            return self.chain(word, args, final)
        fail = self.failure(word)
        if args or final is not None:
            return self.fails(fail, f"can't give argument to non-function {word}")
        if isinstance(word, NilNode):
            return self.fails(fail, "nil is not a command")
        return self.operand(word)

    @staticmethod
    def fails(fail: Callable[[object], ExecError], message: str) -> Value:
        """A value that is an error."""

        def run(state: State, dot: Any) -> Any:
            raise fail(message)

        return run

    def operand(self, node: Node) -> Value:
        """A value without arguments."""
        if isinstance(node, DotNode):
            return lambda state, dot: dot
        if isinstance(node, StringNode):
            text = node.text
            return lambda state, dot: text
        if isinstance(node, BoolNode):
            truth_value = node.value
            return lambda state, dot: truth_value
        if isinstance(node, NumberNode):
            number = node.ideal
            if isinstance(number, int) and number >= 1 << 63:
                return self.fails(self.failure(node), f"{node.text} overflows int")
            return lambda state, dot: number
        if isinstance(node, NilNode):
            return lambda state, dot: None
        if isinstance(node, PipeNode):
            return self.pipe(node)
        if isinstance(node, IdentifierNode):
            return self.call(node, node, [], None)
        return self.chain(node, [], None)

    # ---- fields

    def chain(self, node: Node, args: list[Node], final: Value | None) -> Value:
        """Fields of the cursor, a variable or a value; the last may be a method with arguments."""
        fail = self.failure(node)
        if isinstance(node, FieldNode):
            names, base = node.names, None
        elif isinstance(node, VariableNode):
            names, base = node.names[1:], self.variable(node)
        else:
            assert isinstance(node, ChainNode)
            if isinstance(node.node, NilNode):
                return self.fails(fail, f"indirection through explicit nil in {node}")
            names, base = node.names, self.operand(node.node)
            fail = self.failure(last_of(node.node))
        if not names:
            assert base is not None
            if args or final is not None:
                return self.fails(fail, f"can't give argument to non-function {node}")
            return base
        called = [self.argument(arg, "string") for arg in args]
        check = checker("string", self.failure(node))
        head, tail = names[:-1], names[-1]

        def run(state: State, dot: Any) -> Any:
            given = final(state, dot) if final is not None else None
            value = dot if base is None else base(state, dot)
            boxed = False
            for name in head:
                inner = field(value, name, fail, boxed)
                boxed = type(value) is dict
                value = inner
            if called or final is not None:
                arguments = [partial(get, state, dot) for get in called]
                if final is not None:
                    arguments.append(partial(check, given))
                return method(value, tail, arguments, fail)
            return field(value, tail, fail, boxed)

        return run

    def variable(self, node: VariableNode) -> Value:
        """A variable's value."""
        name = node.names[0]
        place = self.place(name)
        if place is None:
            return self.fails(self.failure(node), f"undefined variable: {name}")
        return lambda state, dot: state.vars[place]

    # ---- calls

    def call(self, node: Node, word: IdentifierNode, args: list[Node], final: Value | None) -> Value:
        """A function with its arguments."""
        name, function = word.name, self.functions[word.name]
        fail = self.failure(node)
        given, least = len(args) + (final is not None), len(function.fixed)
        if function.rest is None and given != least:
            return self.fails(self.failure(word), f"wrong number of args for {name}: want {least} got {given}")
        if given < least:
            want = f"want at least {least} got {len(args)}"
            return self.fails(self.failure(word), f"wrong number of args for {name}: {want}")
        types = [*function.fixed, *[function.rest or ""] * (given - least)]
        values = [self.argument(arg, kind) for arg, kind in zip(args, types, strict=False)]
        if name in ("and", "or"):
            return self.short(values, final, name == "or")
        act = function.call
        check = checker(types[given - 1], fail) if final is not None else None
        least_cost, formats = CALL + max(0, given - 2), name == "printf"

        def run(state: State, dot: Any) -> Any:
            # What stands before the bar is computed first, and is the last argument.
            before = final(state, dot) if final is not None else None
            arguments = [get(state, dot) for get in values]
            if check is not None:
                arguments.append(check(before))
            cost = least_cost
            for argument in arguments:
                if type(argument) is str:
                    cost += len(argument) >> SHIFT
            if formats:
                cost += VERB * arguments[0].count("%")
            try:
                state.spend(cost)
                return bounded(act(*arguments))
            except FunctionError as error:
                raise fail(f"error calling {name}: {error}") from None

        return run

    @staticmethod
    def short(values: list[Value], final: Value | None, stops_at: bool) -> Value:
        """and, or: the first value that decides, or the last one."""

        def run(state: State, dot: Any) -> Any:
            found = before = final(state, dot) if final is not None else MISSING
            for get in values:
                found = get(state, dot)
                if truth(found) == stops_at:
                    return found
            return found if final is None else before

        return run

    def argument(self, node: Node, kind: str) -> Value:
        """An argument for a parameter of a type."""
        fail = self.failure(last_of(node))
        if isinstance(node, NilNode):
            if kind in ("any", "value"):
                nothing = None if kind == "any" else MISSING
                return lambda state, dot: nothing
            return self.fails(fail, f"cannot assign nil to {kind}")
        if isinstance(node, StringNode | NumberNode | BoolNode) and kind in ("string", "int"):
            if kind == "string" and isinstance(node, StringNode):
                return self.operand(node)
            if kind == "int" and isinstance(node, NumberNode) and node.as_int is not None and node.as_int < 1 << 63:
                number = node.as_int
                return lambda state, dot: number
            return self.fails(fail, f"expected {'integer' if kind == 'int' else kind}; found {node}")
        value = self.operand(node)
        if kind == "value":
            return value
        check = checker(kind, fail)
        fast = quick(CommandNode(node.at, [node]), self.root) if kind == "string" else None
        if fast is not None:
            field_of = fast(value)

            def text(state: State, dot: Any) -> Any:
                found = field_of(state, dot)
                return found if type(found) is str else check(found)

            return text
        return lambda state, dot: check(value(state, dot))


def checker(kind: str, fail: Callable[[object], ExecError]) -> Callable[[Any], Any]:
    """Lets a value through that is of a type, as Go's calls do."""
    if kind == "value":
        return lambda found: found
    if kind == "any":
        return lambda found: None if found is MISSING else found
    wanted: type = str if kind == "string" else int

    def check(found: Any) -> Any:
        if type(found) is wanted:
            return found
        if found is MISSING:
            raise fail(f"invalid value; expected {kind}")
        what = "interface {}" if found is None else type_name(found)
        raise fail(f"wrong type for value; expected {kind}; got {what}")

    return check


def last_of(node: Node) -> Node:
    """The node that Go evaluates last below one, and where it stands when the value turns out to be wrong."""
    while isinstance(node, PipeNode):
        node = node.commands[-1]
        if isinstance(node, CommandNode):
            node = node.args[-1]
    return node
