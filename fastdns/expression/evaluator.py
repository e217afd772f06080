# SPDX-License-Identifier: Apache-2.0
"""From a checked tree to a function of Python that evaluates it.

Strategy: each node becomes a closure over those of its children, so an evaluation walks no tree and decides nothing
that was known before. What a query could make dear is paid for out of a fixed amount of work, elements of arrays for
the most part: whoever spends more is an error, which is false to a view. So no name costs more than about a
millisecond, whatever the expression makes of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..corefile.regexes import compile_regex
from . import functions
from .checker import LOGIC, spine
from .errors import ExpressionError
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
from .signatures import SIGNATURES
from .types import Type
from .values import (
    Failure,
    arithmetic,
    boolean,
    compare,
    contains,
    cut,
    equal,
    fetch,
    go_type,
    modulo,
    negate,
    power,
    to_int,
)

WORK = 10000  # of an evaluation: each unit is less than 100 ns
OVER = "memory budget exceeded"
PYTHON = {"string": str, "int": int, "float": float, "bool": bool}


class Frame:
    """One evaluation: the environment, variables, the element that a predicate looks at, and the work that is left."""

    __slots__ = ("acc", "env", "index", "item", "left", "variables")

    def __init__(self, env: Mapping[str, Any], variables: int) -> None:
        self.env = env
        self.variables: list[Any] = [None] * variables
        self.item: Any = None
        self.index = 0
        self.acc: Any = None
        self.left = WORK

    def spend(self, work: int) -> None:
        """Pays for work before it is done."""
        self.left -= work
        if self.left < 0:
            raise Failure(OVER)


class Absent(Exception):
    """A nil on the way through `?.`."""


Code = Callable[[Frame], Any]


@functools.lru_cache(256)
def regex(text: str) -> Any:
    """A regular expression that was not known before."""
    return compile_regex(text)


def weight(value: Any, most: int) -> int:
    """The work of looking at all of a value; it may hold one array many times. More than `most` is not counted."""
    count, left = 0, [value]
    while left and count <= most:
        each = left.pop()
        if type(each) is list:
            count += len(each)
            left.extend(each[: most + 1])
        elif type(each) is dict:
            count += len(each)
            left.extend(each.values())
        elif type(each) is str or type(each) is bytes:
            count += 1 + len(each) // 64
    return count


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
            method = functions.METHODS.get(type(value), {}).get(name) if type(name) is str else None
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


# ---- operators


def matched(search: Any, value: Any) -> bool:
    """`matches`; nil matches nothing."""
    if value is None:
        return False
    return search(value if type(value) is bytes else functions.argument(value, str, "string")) is not None


def texts(how: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    """An operator of two texts; nil has nothing and is nowhere."""

    def run(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        return how(functions.argument(left, str, "string"), functions.argument(right, str, "string"))

    return run


def span(start: Any, end: Any) -> list[int]:
    """`..`, paid for by the caller."""
    return list(range(to_int(start), to_int(end) + 1))


def matches(value: Any, pattern: Any) -> bool:
    """`matches` with a pattern that was not known before."""
    if value is None or pattern is None:
        return False
    return matched(regex(functions.argument(pattern, str, "string")).search, value)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal, "!=": lambda left, right: not equal(left, right), "in": contains, "%": modulo, "**": power,
    "^": power, "..": span, "matches": matches,
    **{name: functools.partial(compare, name) for name in ("<", ">", "<=", ">=")},
    **{name: functools.partial(arithmetic, name) for name in "+-*/"},
    "contains": texts(lambda left, right: right in left), "startsWith": texts(str.startswith),
    "endsWith": texts(str.endswith),
}  # fmt: skip
# What costs nothing worth counting where both types are known.
SIMPLE = {name: OPERATIONS[name] for name in (
    "contains", "startsWith", "endsWith", "<", ">", "<=", ">=", "%", "-", "*", "/")}
HEAVY = (list, dict, str, bytes)
# Of what is dear whatever it is given.
PRICES = {"now": 20, "date": 100, "timezone": 50, "fromJSON": 20, "toJSON": 20, "duration": 10}


# ---- functions that visit a collection


def collected(value: Any) -> list[Any]:
    """What can be visited."""
    return functions.listed(value, "reflect: call of reflect.Value.Len on {} Value")


def visit(frame: Frame, values: list[Any], body: Code, start: int = 0) -> Iterator[Any]:
    """What the predicate says of each element."""
    for index in range(start, len(values)):
        frame.item, frame.index = values[index], index
        yield body(frame)


def found(frame: Frame, values: list[Any], body: Code, backwards: bool) -> int:
    """The place of the first element, or of the last one, that the predicate holds for; -1."""
    for index in range(len(values) - 1, -1, -1) if backwards else range(len(values)):
        frame.item, frame.index = values[index], index
        if boolean(body(frame)):
            return index
    return -1


def reduced(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`reduce`."""
    if extra is not None:
        frame.acc = extra(frame)
    elif values:
        frame.acc = values[0]
    else:
        raise Failure("reduce of empty array with no initial value")
    for index in range(extra is None, len(values)):
        frame.item, frame.index = values[index], index
        frame.acc = body(frame)
    return frame.acc


def grouped(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`groupBy`."""
    groups: dict[Any, list[Any]] = {}
    for key, value in zip(visit(frame, values, body), values, strict=True):
        if type(key) in (list, dict):
            raise Failure(f"runtime error: hash of unhashable type {go_type(key)}")
        groups.setdefault(key, []).append(value)
    return groups


def sorted_by(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`sortBy`."""
    order = "asc" if extra is None else extra(frame)
    if type(order) is not str:
        raise Failure("sortBy order argument must be a string")
    if order not in ("asc", "desc"):
        raise Failure("unknown order, use asc or desc")
    return functions.ordered(values, list(visit(frame, values, body)), order)


def summed(frame: Frame, values: list[Any], body: Code, extra: Code | None) -> Any:
    """`sum`."""
    total: Any = 0
    for value in visit(frame, values, body):
        total = arithmetic("+", value, total)
    return total


def place_or_nil(place: int) -> int | None:
    """`findIndex` of nothing is nil."""
    return None if place < 0 else place


LOOPS: dict[str, Callable[[Frame, list[Any], Code, Code | None], Any]] = {
    "all": lambda f, values, body, _: all(map(boolean, visit(f, values, body))),
    "none": lambda f, values, body, _: not any(map(boolean, visit(f, values, body))),
    "any": lambda f, values, body, _: any(map(boolean, visit(f, values, body))),
    "one": lambda f, values, body, _: sum(map(boolean, visit(f, values, body))) == 1,
    "count": lambda f, values, body, _: sum(map(boolean, visit(f, values, body))),
    "filter": lambda f, values, body, _: [
        value for value, keep in zip(values, visit(f, values, body), strict=True) if boolean(keep)],
    "map": lambda f, values, body, _: list(visit(f, values, body)),
    "find": lambda f, values, body, _: (
        None if (place := found(f, values, body, False)) < 0 else values[place]),
    "findLast": lambda f, values, body, _: (
        None if (place := found(f, values, body, True)) < 0 else values[place]),
    "findIndex": lambda f, values, body, _: place_or_nil(found(f, values, body, False)),
    "findLastIndex": lambda f, values, body, _: place_or_nil(found(f, values, body, True)),
    "groupBy": grouped, "sortBy": sorted_by, "reduce": reduced, "sum": summed,
}  # fmt: skip
