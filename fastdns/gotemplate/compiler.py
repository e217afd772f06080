# SPDX-License-Identifier: Apache-2.0
"""Trees to closures, and their execution within a budget.

Strategy: each node becomes a function of (state, dot). Variables are resolved to places of a list while compiling,
because Go's scopes are lexical; functions are looked up and their constants typed then, too. What Go finds out only
when it executes (a field that a type does not have, a wrong type) stays an error of the execution, with Go's words and
place. Most templates are texts and values in a row: these are gathered and joined, and where the dot is known to be of
the class `root`, a field of it, a key of its map or an element of its list costs one attribute (quick.py).

Go's types where they differ from Python's are in values.py. A state counts what may be run more often than it is
written: rounds of loops and templates by the actions in them, calls by the length of their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..corefile.units import quote
from .functions import BUILTINS, Function, FunctionError
from .lexer import TemplateError
from .nodes import (
    ActionNode,
    BoolNode,
    BranchNode,
    ChainNode,
    CommandNode,
    DotNode,
    FieldNode,
    IdentifierNode,
    JumpNode,
    ListNode,
    NilNode,
    Node,
    NumberNode,
    PipeNode,
    StringNode,
    TemplateNode,
    TextNode,
    VariableNode,
    walk,
)
from .parser import Parser
from .quick import quick
from .values import MISSING, StringMap, Struct, Unsigned, printable, sorted_keys, text_of, truth, type_name

STEPS_MAX = 1000  # of one query; each is less than a microsecond or two
NODES_MAX = 2000  # of a template: what runs once is bounded by how much there is of it
OUTPUT_MAX = 16_384
DEPTH_MAX = 50  # of templates within templates
CALL = 3  # steps of a call, and one for each 8 octets of its arguments
SHIFT = 3
BREAK, CONTINUE = "break", "continue"

Value = Callable[["State", Any], Any]
Action = Callable[["State", Any], str | None]


class ExecError(Exception):
    """An execution failed; the text is Go's."""


class Budget:
    """What all templates of one query may cost together."""

    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self.left = steps


class State:
    """One execution: its output, its variables, its budget."""

    __slots__ = ("budget", "depth", "out", "room", "vars")

    def __init__(self, budget: Budget, size: int, data: Any) -> None:
        self.budget = budget
        self.out: list[str] = []
        self.room = OUTPUT_MAX
        self.depth = 0
        self.vars: list[Any] = [MISSING] * size
        self.vars[0] = data

    def spend(self, steps: int) -> None:
        """Counts. Raises FunctionError when the budget is used up."""
        self.budget.left -= steps
        if self.budget.left < 0:
            raise FunctionError("the template costs more than a query may")

    def write(self, text: str) -> None:
        """Adds to the output."""
        self.room -= len(text)
        if self.room < 0:
            raise FunctionError("the output is too long")
        self.out.append(text)


def bounded(value: Any) -> Any:
    """What a call made, if it is no endless text."""
    if type(value) is str and len(value) > OUTPUT_MAX:
        raise FunctionError("a text is too long")
    return value


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


class _Compiler:
    """Compiles one tree; `size` is how many places its variables need."""

    def __init__(self, template: Template, root: type[Struct] | None) -> None:
        self.template = template
        self.root = root  # what the dot is; None where it may be anything
        self.scopes: list[dict[str, int]] = [{"$": 0}]
        self.size = 1

    # ---- errors

    def failure(self, node: Node) -> Callable[[object], ExecError]:
        """Makes the exception of an execution that fails at a node."""
        source, name = self.template.source, self.template.name
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

    # ---- actions

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
        bodies, name, fail = self.template.bodies, node.name, self.failure(node)
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
                pairs = _rounds(found, pair)
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
        name, function = word.name, self.template.functions[word.name]
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

        def run(state: State, dot: Any) -> Any:
            # What stands before the bar is computed first, and is the last argument.
            before = final(state, dot) if final is not None else None
            arguments = [get(state, dot) for get in values]
            if check is not None:
                arguments.append(check(before))
            cost = CALL
            for argument in arguments:
                if type(argument) is str:
                    cost += len(argument) >> SHIFT
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


# ---- fields at execution


def field(value: Any, name: str, fail: Callable[[object], ExecError], boxed: bool = False) -> Any:
    """A field, a method's result or a map's value. `boxed`: it came out of a map of anything, which errors show."""
    if isinstance(value, Struct):
        attribute = value.fields.get(name)
        if attribute is not None:
            return getattr(value, attribute)
        if name in value.methods:
            return method(value, name, [], fail)
    elif isinstance(value, dict):
        return value.get(name, MISSING)
    elif value is MISSING:
        return MISSING
    elif value is None:
        raise fail(f"nil pointer evaluating interface {{}}.{name}")
    raise fail(f"can't evaluate field {name} in type {'interface {}' if boxed else type_name(value)}")


def method(value: Any, name: str, arguments: Sequence[Callable[[], Any]], fail: Callable[[object], ExecError]) -> Any:
    """A method with its arguments, all of them strings, computed once it is known that there is one."""
    function = value.methods.get(name) if isinstance(value, Struct) else None
    if function is None:
        if value is MISSING:
            return MISSING
        if isinstance(value, dict):
            raise fail(f"{name} is not a method but has arguments")
        if isinstance(value, Struct) and name in value.fields:
            raise fail(f"{name} has arguments but cannot be invoked as function")
        raise fail(f"can't evaluate field {name} in type {type_name(value)}")
    if len(arguments) != len(function.fixed):
        raise fail(f"wrong number of args for {name}: want {len(function.fixed)} got {len(arguments)}")
    return function.call(value, *[get() for get in arguments])


def last_of(node: Node) -> Node:
    """The node that Go evaluates last below one, and where it stands when the value turns out to be wrong."""
    while isinstance(node, PipeNode):
        node = node.commands[-1]
        if isinstance(node, CommandNode):
            node = node.args[-1]
    return node


def _rounds(value: Any, pair: bool) -> Any:
    """Pairs of key and value that range goes through."""
    if isinstance(value, int) and not isinstance(value, bool):
        if pair:
            raise FunctionError(f"can't use {int(value)} to iterate over more than one variable")
        kind = type(value)
        return ((MISSING, kind(n)) for n in range(value)) if isinstance(value, Unsigned) else (
            (MISSING, n) for n in range(value))
    if isinstance(value, list):
        return enumerate(value)
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted_keys(value)]
    if value is MISSING or value is None:
        return ()
    raise FunctionError(f"range can't iterate over {text_of(value)}")


__all__ = ["BUILTINS", "Budget", "ExecError", "StringMap", "Template", "constant"]
