# SPDX-License-Identifier: Apache-2.0
"""From a checked tree to a function of Python that evaluates it.

Strategy: each node becomes a closure over those of its children, so an evaluation walks no tree and decides nothing
that was known before. What a query could make dear is paid for out of a fixed amount of work, elements of arrays for
the most part: whoever spends more is an error, which is false to a view. So no name costs more than about a
millisecond, whatever the expression makes of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..corefile.regexes import compile_regex
from . import functions
from .errors import ExpressionError
from .frame import WORK, Absent, Code, Frame, weight
from .loops import LOOPS, collected
from .methods import METHODS
from .nodes import (
    Array,
    Binary,
    Builtin,
    Call,
    Chain,
    Conditional,
    Constant,
    Let,
    Map,
    Member,
    Name,
    Node,
    Pointer,
    Predicate,
    Sequence,
    Slice,
    Unary,
    size,
)
from .operations import OPERATIONS, SIMPLE, matched
from .operators import LOGIC, spine
from .signatures import SIGNATURES
from .types import Type
from .values import Failure, arithmetic, boolean, cut, fetch, go_type, negate, to_int

PYTHON = {"string": str, "int": int, "float": float, "bool": bool}
HEAVY = (list, dict, str, bytes)
# Of what is dear whatever it is given.
PRICES = {"now": 20, "date": 100, "timezone": 50, "fromJSON": 20, "toJSON": 20, "duration": 10}


class Evaluator:
    """`code(tree)` is the closure; `variables` says how many `let` has made."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: list[tuple[str, int]] = []
        self.variables = 0
        self.makers: dict[type, Callable[[Any], Code]] = {
            Constant: self.constant, Name: self.name, Unary: self.unary, Binary: self.binary, Chain: self.chain,
            Member: self.member, Slice: self.slice, Call: self.call, Builtin: self.builtin, Pointer: self.pointer,
            Predicate: lambda node: self.code(node.node), Let: self.let, Sequence: self.sequence,
            Conditional: self.conditional, Array: self.array, Map: self.map,
        }  # fmt: skip

    def code(self, node: Node) -> Code:
        """The closure of a node."""
        return self.makers[type(node)](node)

    def at(self, node: Node, run: Code) -> Code:
        """The same, with the node's place in what fails."""
        text, at = self.text, node.at

        def placed(frame: Frame) -> Any:
            try:
                return run(frame)
            except (ExpressionError, Absent):
                raise
            except Exception as error:
                raise ExpressionError(str(error) or type(error).__name__, text, at) from None

        return placed

    # ---- leaves

    def constant(self, node: Constant) -> Code:
        """A literal."""
        value = node.value
        return lambda frame: value

    def name(self, node: Name) -> Code:
        """A variable, or what the environment has."""
        name = node.name
        for known, place in reversed(self.names):
            if known == name:
                return lambda frame: frame.variables[place]
        if name == "$env":
            return lambda frame: dict(frame.env)
        return lambda frame: frame.env.get(name)

    def pointer(self, node: Pointer) -> Code:
        """`#`, `#index`, `#acc`."""
        if node.name == "index":
            return lambda frame: frame.index
        if node.name == "acc":
            return lambda frame: frame.acc
        return lambda frame: frame.item

    # ---- operators

    def unary(self, node: Unary) -> Code:
        """One operand."""
        inner = self.code(node.node)
        if node.operator in ("not", "!"):
            return self.at(node, lambda frame: not boolean(inner(frame)))
        return self.at(node, lambda frame: negate(inner(frame))) if node.operator == "-" else inner

    def binary(self, node: Binary) -> Code:
        """Two operands; of a conjunction any number."""
        if node.operator in LOGIC:
            return self.logic(node)
        left, right = self.code(node.left), self.code(node.right)
        operator = node.operator
        if operator == "??":
            return lambda frame: right(frame) if (value := left(frame)) is None else value
        if operator == "in" and isinstance(node.right, Constant):
            found = self.among(left, node.right.value)
            if found is not None:
                return found
        if operator == "matches" and isinstance(node.right, Constant) and type(node.right.value) is str:
            search = compile_regex(node.right.value).search
            return self.at(node, lambda frame: matched(search, left(frame)))
        if (simple := SIMPLE.get(operator)) is not None and not (node.left.type.unknown or node.right.type.unknown):
            plain = simple
            return self.at(node, lambda frame: plain(left(frame), right(frame)))
        pay = operator in ("==", "!=", "in", "+")
        run_two = OPERATIONS[operator]

        def run(frame: Frame) -> Any:
            one, other = left(frame), right(frame)
            if pay:
                frame.spend(weight(one, frame.left) + weight(other, frame.left))
            elif operator == "..":
                frame.spend(max(to_int(other) - to_int(one) + 1, 0))
            elif operator == "matches":
                frame.spend(WORK // 10)
            return run_two(one, other)

        return self.at(node, run)

    def among(self, left: Code, values: Any) -> Code | None:
        """`in` a constant array: a set of texts, or of integers."""
        if type(values) is not list or not values:
            return None
        kinds = set(map(type, values))
        if kinds not in ({str}, {int}):
            return None
        kind, members = kinds.pop(), frozenset(values)

        def run(frame: Frame) -> bool:
            value = left(frame)
            if type(value) is kind:
                return value in members
            return kind is int and type(value) is float and value in members

        return run

    def logic(self, node: Binary) -> Code:
        """`and`, `or`: the first operand that decides; the last one is the value, whatever it is."""
        operands = [self.code(each) for each in spine(node)]
        first, last, stop = operands[:-1], operands[-1], LOGIC[node.operator] == "or"

        def run(frame: Frame) -> Any:
            for operand in first:
                if boolean(operand(frame)) is stop:
                    return stop
            return last(frame)

        return self.at(node, run)

    # ---- access

    def chain(self, node: Chain) -> Code:
        """The end of `?.`."""
        inner = self.code(node.node)

        def run(frame: Frame) -> Any:
            try:
                return inner(frame)
            except Absent:
                return None

        return run

    def member(self, node: Member) -> Code:
        """A member, an element or a method."""
        base, key, optional = self.code(node.node), self.code(node.property), node.optional

        def run(frame: Frame) -> Any:
            value = base(frame)
            if optional and value is None:
                raise Absent
            name = key(frame)
            method = METHODS.get(type(value), {}).get(name) if type(name) is str else None
            return fetch(value, name) if method is None else functools.partial(method, value)

        return self.at(node, run)

    def slice(self, node: Slice) -> Code:
        """A part."""
        base = self.code(node.node)
        start = self.code(node.start) if node.start is not None else None
        end = self.code(node.end) if node.end is not None else None

        def run(frame: Frame) -> Any:
            value = base(frame)
            low, high = (None if bound is None else bound(frame) for bound in (start, end))
            return cut(value, low, high)

        return self.at(node, run)

    # ---- calls

    def call(self, node: Call) -> Code:
        """What the environment, a variable or a value has."""
        callee = self.code(node.callee)
        wanted = node.callee.type.arguments if node.callee.type.kind == "func" else ()
        arguments = [self.checked(each, wanted[min(i, len(wanted) - 1)] if wanted else None)
                     for i, each in enumerate(node.arguments)]

        def run(frame: Frame) -> Any:
            function = callee(frame)
            if not callable(function):
                raise Failure("invalid operation: cannot call nil" if function is None else
                              f"invalid operation: cannot call non-function of type {go_type(function)}")
            return function(*[argument(frame) for argument in arguments])

        return self.at(node, run)

    def checked(self, node: Node, want: Type | None) -> Code:
        """An argument; what was not known of it is looked at."""
        inner = self.code(node)
        kind = PYTHON.get(want.kind) if want is not None else None
        if kind is None or want is None or not (node.type.unknown or node.type.kind == "nil" or kind is float):
            return inner
        name = want.go

        def run(frame: Frame) -> Any:
            value = inner(frame)
            if kind is float and type(value) is int:
                return float(value)
            return functions.argument(value, kind, name)

        return run

    def builtin(self, node: Builtin) -> Code:
        """A function of the language."""
        name = node.name
        if name in LOOPS:
            return self.loop(node)
        table = functions.TABLE[name]
        wanted: tuple[Type, ...] = ()
        if name in SIGNATURES:
            wanted = max(SIGNATURES[name], key=lambda kind: len(kind.arguments)).arguments
            if name in ("join", "sort"):
                wanted = (node.arguments[0].type, *wanted[1:])
        arguments = [self.checked(each, wanted[i] if i < len(wanted) else None)
                     for i, each in enumerate(node.arguments)]

        price = PRICES.get(name, 0)

        def run(frame: Frame) -> Any:
            values = [argument(frame) for argument in arguments]
            frame.spend(price)
            for value in values:
                if type(value) in HEAVY:
                    frame.spend(weight(value, frame.left))
            result = table(*values)
            if type(result) is list:
                frame.spend(len(result))
            return result

        return self.at(node, run)

    def loop(self, node: Builtin) -> Code:
        """A function that visits a collection."""
        collection, name = self.code(node.arguments[0]), node.name
        body = self.code(node.arguments[1]) if len(node.arguments) > 1 else (lambda frame: frame.item)
        extra = self.code(node.arguments[2]) if len(node.arguments) > 2 else None
        # A literal array is added up from its end, which lets it hold durations.
        backwards = name == "sum" and len(node.arguments) == 1 and isinstance(node.arguments[0], Array)
        cost, handle = 2 + size(node.arguments[-1] if len(node.arguments) == 2 else node), LOOPS[name]
        if len(node.arguments) == 1:
            cost = 2

        def run(frame: Frame) -> Any:
            values = collected(collection(frame))
            frame.spend(cost * len(values))
            saved = frame.item, frame.index, frame.acc
            try:
                if backwards and len(values) > 1:
                    return functools.reduce(lambda acc, value: arithmetic("+", value, acc), reversed(values))
                return handle(frame, values, body, extra)
            finally:
                frame.item, frame.index, frame.acc = saved

        return self.at(node, run)

    # ---- the rest

    def let(self, node: Let) -> Code:
        """A variable."""
        value, place = self.code(node.value), self.variables
        self.variables += 1
        self.names.append((node.name, place))
        body = self.code(node.body)
        self.names.pop()

        def run(frame: Frame) -> Any:
            frame.variables[place] = value(frame)
            return body(frame)

        return run

    def sequence(self, node: Sequence) -> Code:
        """All, and the last one's value."""
        codes = [self.code(each) for each in node.nodes]
        return lambda frame: [code(frame) for code in codes][-1]

    def conditional(self, node: Conditional) -> Code:
        """One of two."""
        condition, yes, no = self.code(node.condition), self.code(node.yes), self.code(node.no)
        return self.at(node, lambda frame: yes(frame) if boolean(condition(frame)) else no(frame))

    def array(self, node: Array) -> Code:
        """Elements."""
        codes = [self.code(each) for each in node.nodes]
        return lambda frame: [code(frame) for code in codes]

    def map(self, node: Map) -> Code:
        """Keys, which must be texts, and values."""
        pairs = [(self.code(key), self.code(value)) for key, value in node.pairs]

        def run(frame: Frame) -> Any:
            return {functions.argument(key(frame), str, "string"): value(frame) for key, value in pairs}

        return self.at(node, run)
