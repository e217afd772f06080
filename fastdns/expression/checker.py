# SPDX-License-Identifier: Apache-2.0
"""Names and types of an expression, before any query exists.

Strategy: one walk that gives each node a type and raises at the first mistake, in expr-lang's words and at its places,
so that a Corefile which CoreDNS refuses is refused, and one that it takes is taken. Where a type is unknown both
let the evaluator decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

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
)
from .operators import LOGIC, operation
from .signatures import BUILTINS, CHECKS, METHODS, SIGNATURES, elements
from .types import (
    ANY,
    ARRAY,
    BOOL,
    BYTES,
    FLOAT,
    GROUPS,
    INT,
    MAP,
    NIL,
    STRING,
    UNKNOWN,
    Type,
    array_of,
    assignable,
    either,
    function,
)

HEIGHT_MAX = 150
BOOLEAN_RESULT = ("all", "none", "any", "one", "filter", "count", "find", "findIndex", "findLast", "findLastIndex")
GENERIC = function((ANY,), ANY, fails=True, variadic=True)


class Checker:
    """`check(tree)` gives the type of the whole. `own`: what the environment has."""

    def __init__(self, text: str, own: Mapping[str, Type]) -> None:
        self.text = text
        self.own = own
        self.variables: list[tuple[str, Type]] = []
        self.scopes: list[tuple[Type, dict[str, Type]]] = []
        self.height = 0
        self.visitors: dict[type, Callable[[Any], Type]] = {
            Constant: self.constant, Name: self.name, Unary: self.unary, Binary: self.binary,
            Chain: lambda node: self.check(node.node), Member: self.member, Slice: self.slice, Call: self.call,
            Builtin: self.builtin, Predicate: self.predicate, Pointer: self.pointer, Let: self.let,
            Sequence: lambda node: [self.check(each) for each in node.nodes][-1], Conditional: self.conditional,
            Array: self.array, Map: self.map,
        }  # fmt: skip

    def check(self, node: Node) -> Type:
        """The type of a node, noted in it."""
        self.height += 1
        if self.height > HEIGHT_MAX:
            raise self.error(node, f"the expression is nested more than {HEIGHT_MAX} deep")
        node.type = self.visitors[type(node)](node)
        self.height -= 1
        return node.type

    def error(self, node: Node, message: str) -> ExpressionError:
        """A mistake at a node."""
        return ExpressionError(message, self.text, node.at)

    # ---- leaves

    def constant(self, node: Constant) -> Type:
        """A literal."""
        kinds = {bool: BOOL, int: INT, float: FLOAT, str: STRING, bytes: BYTES, type(None): NIL}
        return kinds[type(node.value)]

    def name(self, node: Name) -> Type:
        """A variable, or what the environment has."""
        for name, kind in reversed(self.variables):
            if name == node.name:
                return kind
        if node.name == "$env":
            return UNKNOWN
        return self.known(node, node.name)

    def known(self, node: Node, name: str, builtins: bool = True) -> Type:
        """What the environment has by a name."""
        if name in self.own:
            return self.own[name]
        if builtins and name in BUILTINS:
            return SIGNATURES[name][0] if name in SIGNATURES else GENERIC
        raise self.error(node, f"unknown name {name}")

    def pointer(self, node: Pointer) -> Type:
        """The element, or what a predicate has beside it."""
        if not self.scopes:
            raise self.error(node, "cannot use pointer accessor outside predicate")
        collection, extra = self.scopes[-1]
        if not node.name:
            return UNKNOWN if collection.unknown else collection.element or ANY
        if node.name not in extra:
            raise self.error(node, f"unknown pointer #{node.name}")
        return extra[node.name]

    # ---- operators

    def unary(self, node: Unary) -> Type:
        """One operand."""
        kind = self.check(node.node)
        if node.operator in ("not", "!"):
            if kind.kind == "bool" or kind.unknown:
                return BOOL
        elif kind.number:
            return kind
        elif kind.unknown:
            return UNKNOWN
        raise self.error(node, f"invalid operation: {node.operator} (mismatched type {kind})")

    def binary(self, node: Binary) -> Type:
        """Two operands; of a conjunction any number."""
        if node.operator in LOGIC:
            return self.logic(node)
        left, right = self.check(node.left), self.check(node.right)
        kind = operation(node, left, right, self.error)
        if kind is None:
            raise self.error(node, f"invalid operation: {node.operator} (mismatched types {left} and {right})")
        return kind

    def logic(self, node: Binary) -> Type:
        """`and`, `or`: each pair along the spine, the innermost first."""
        pairs = [node]
        while isinstance(pairs[-1].left, Binary) and LOGIC.get(pairs[-1].left.operator) == LOGIC[node.operator]:
            pairs.append(pairs[-1].left)
        left = self.check(pairs[-1].left)
        for pair in reversed(pairs):
            right = self.check(pair.right)
            if not (left.kind == right.kind == "bool" or either(left, right, "bool")):
                raise self.error(pair, f"invalid operation: {pair.operator} (mismatched types {left} and {right})")
            pair.type = left = BOOL
        return BOOL

    # ---- access

    def member(self, node: Member) -> Type:
        """A member of a value."""
        name = node.property.value if isinstance(node.property, Constant) else None
        if isinstance(node.node, Name) and node.node.name == "$env":
            if not isinstance(name, str):
                return UNKNOWN
            if node.optional and name not in self.own:
                return UNKNOWN
            return self.known(node, name, builtins=False)
        base, key = self.check(node.node), self.check(node.property)
        if base.unknown:
            return UNKNOWN
        if isinstance(name, str):
            if base.kind == "nil":
                raise self.error(node, f"type nil has no field {name}")
            if name in METHODS.get(base.kind, ()):
                return METHODS[base.kind][name]
        if base.kind == "map":
            wanted = base.key or ANY
            if not assignable(key, wanted) and not key.unknown:
                raise self.error(node.property, f"cannot use {key} to get an element from {base}")
            return base.element or ANY
        if base.kind == "array":
            if key.kind != "int" and not key.unknown:
                raise self.error(
                    node.property, f"array elements can only be selected using an integer (got {key})")
            return base.element or ANY
        if isinstance(name, str):
            raise self.error(node, f"type {base} has no {'method' if node.method else 'field'} {name}")
        raise self.error(node, f"type {base}[{key}] is undefined")

    def slice(self, node: Slice) -> Type:
        """A part of a string or an array."""
        base = self.check(node.node)
        if base.unknown:
            # expr-lang leaves these unlooked at; a name in them must be known all the same.
            for bound in (node.start, node.end):
                if bound is not None:
                    self.check(bound)
            return UNKNOWN
        if base.kind not in ("string", "array"):
            raise self.error(node, f"cannot slice {base}")
        for bound in (node.start, node.end):
            if bound is not None:
                kind = self.check(bound)
                if kind.kind != "int" and not kind.unknown:
                    raise self.error(bound, f"non-integer slice index {kind}")
        return base

    # ---- calls

    def call(self, node: Call) -> Type:
        """A function of the environment, a variable's, or a method."""
        if isinstance(node.callee, Name) and node.callee.name == "$env":
            raise self.error(node, "map[string]interface {} is not callable")
        kind = self.check(node.callee)
        if kind.unknown:
            for argument in node.arguments:
                self.check(argument)
            return UNKNOWN
        name = "function"
        if isinstance(node.callee, Name):
            name = node.callee.name
        elif isinstance(node.callee, Member) and isinstance(node.callee.property, Constant):
            name = str(node.callee.property.value)
        if kind.kind == "nil":
            raise self.error(node, f"{name} is nil; cannot call nil as function")
        if kind.kind != "func":
            raise self.error(node, f"{kind} is not callable")
        out = self.applied(name, kind, node, node.arguments)
        if isinstance(out, ExpressionError):
            raise out
        return out

    def applied(self, name: str, kind: Type, node: Node, arguments: list[Node]) -> Type | ExpressionError:
        """The result of a function of a known type, or why it does not fit. What is wrong within an argument is raised,
        whether they fit or not."""
        wanted = kind.arguments
        few, many = len(arguments) < len(wanted) - kind.variadic, len(arguments) > len(wanted) and not kind.variadic
        if few or many:
            for argument in arguments:
                self.check(argument)
            return self.error(node, f"{'not enough' if few else 'too many'} arguments to call {name}")
        for i, argument in enumerate(arguments):
            have, want = self.check(argument), wanted[min(i, len(wanted) - 1)]
            if (want.kind, have.kind) == ("float", "int"):
                continue
            if have.kind == "nil" and want.kind != "any":
                return self.error(argument, f"cannot use nil as argument (type {want}) to call {name}")
            if not assignable(have, want) and have.kind != "nil" and not have.unknown:
                return self.error(argument, f"cannot use {have} as argument (type {want}) to call {name} ")
        return kind.result or ANY

    def builtin(self, node: Builtin) -> Type:
        """A function of the language."""
        if node.arguments and any(isinstance(argument, Predicate) for argument in node.arguments[1:2]):
            return self.over(node)
        if node.name in ("count", "sum"):
            return self.over(node)
        if node.name == "get":
            return self.get(node)
        if node.name in CHECKS:
            try:
                kinds = [self.check(argument) for argument in node.arguments]
                return CHECKS[node.name](kinds)
            except ExpressionError:
                raise
            except ValueError as error:
                raise self.error(node, str(error)) from None
        for kind in SIGNATURES[node.name]:
            out = self.applied(node.name, kind, node, node.arguments)
            if isinstance(out, Type):
                return out
        assert isinstance(out, ExpressionError)
        raise out

    def over(self, node: Builtin) -> Type:
        """A function that visits a collection."""
        collection = self.check(node.arguments[0])
        if collection.kind != "array" and not collection.unknown:
            raise self.error(node.arguments[0], f"builtin {node.name} takes only array (got {collection})")
        if len(node.arguments) == 1:
            return INT if node.name == "count" else collection.element or UNKNOWN
        extra = {"map": {"index": INT}, "reduce": {"index": INT, "acc": UNKNOWN}}.get(node.name, {})
        self.scopes.append((collection, extra))
        out = self.check(node.arguments[1])
        self.scopes.pop()
        if out.kind == "nil":
            inputs = "two" if node.name == "reduce" else "one"
            raise self.error(node.arguments[1], f"predicate should has {inputs} input and one output param")
        if node.name in BOOLEAN_RESULT and out.kind != "bool" and not out.unknown:
            raise self.error(node.arguments[1], f"predicate should return boolean (got {out})")
        order = self.check(node.arguments[2]) if len(node.arguments) > 2 else STRING
        if node.name == "sortBy" and order.kind != "string" and not order.unknown:
            raise self.error(node.arguments[2], f"sortBy order argument must be a string (got {order})")
        return self.result(node, collection, out)

    def result(self, node: Builtin, collection: Type, out: Type) -> Type:
        """What a function that visits a collection gives."""
        name = node.name
        if name in ("all", "none", "any", "one"):
            return BOOL
        if name == "filter":
            return ARRAY if collection.unknown else elements(collection)
        if name == "map":
            return array_of(out)
        if name in ("count", "findIndex", "findLastIndex"):
            return INT
        if name in ("find", "findLast"):
            return UNKNOWN if collection.unknown else collection.element or ANY
        if name == "groupBy":
            return GROUPS
        return collection if name == "sortBy" else out

    def get(self, node: Builtin) -> Type:
        """`get`."""
        if len(node.arguments) != 2:
            raise self.error(node, f"invalid number of arguments (expected 2, got {len(node.arguments)})")
        base, key = self.check(node.arguments[0]), self.check(node.arguments[1])
        first, second = node.arguments
        if isinstance(first, Name) and first.name == "$env":
            return self.own.get(second.value, UNKNOWN) if isinstance(second, Constant) else UNKNOWN
        if base.unknown:
            return UNKNOWN
        if base.kind == "array":
            if key.kind != "int" and not key.unknown:
                raise self.error(second, f"non-integer slice index {key}")
            return base.element or ANY
        if base.kind == "map":
            if not assignable(key, base.key or ANY) and not key.unknown:
                raise self.error(second, f"cannot use {key} to get an element from {base}")
            return base.element or ANY
        raise self.error(first, f"type {base} does not support indexing")

    # ---- the rest

    def predicate(self, node: Predicate) -> Type:
        """What it gives."""
        return self.check(node.node)

    def let(self, node: Let) -> Type:
        """A variable: its name must be new."""
        for there, what in ((node.name in self.own, ""), (node.name in BUILTINS or node.name in BOOLEAN_RESULT
                            or node.name in ("map", "sum", "groupBy", "sortBy", "reduce"), "builtin "),
                            (any(name == node.name for name, _ in self.variables), "variable ")):
            if there:
                raise self.error(node, f"cannot redeclare {what}{node.name}")
        kind = self.check(node.value)
        self.variables.append((node.name, kind))
        out = self.check(node.body)
        self.variables.pop()
        return out

    def conditional(self, node: Conditional) -> Type:
        """Both branches are looked at."""
        kind = self.check(node.condition)
        if kind.kind != "bool" and not kind.unknown:
            raise self.error(node.condition, f"non-bool expression (type {kind}) used as condition")
        yes, no = self.check(node.yes), self.check(node.no)
        if yes.kind == "nil":
            return no
        if no.kind == "nil":
            return yes
        if not assignable(yes, no):
            return UNKNOWN
        if yes.kind == no.kind == "array":
            one, other = yes.element or ANY, no.element or ANY
            if not (assignable(one, other) and assignable(other, one)):
                return ARRAY
        return yes

    def array(self, node: Array) -> Type:
        """Elements of one kind make an array of it."""
        kinds = [self.check(each) for each in node.nodes]
        same = all(one.kind == other.kind for one, other in pairwise(kinds))
        return array_of(kinds[-1] if kinds else UNKNOWN) if same else ARRAY

    def map(self, node: Map) -> Type:
        """Keys and values are looked at; what they are is not kept."""
        for key, value in node.pairs:
            self.check(key)
            self.check(value)
        return MAP
