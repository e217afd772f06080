# SPDX-License-Identifier: Apache-2.0
"""From tokens to a tree.

Strategy: a Pratt parser by hand, and no parser generator: expr-lang's own is one, its precedences are partly
accidents (`not` binds looser than `==`'s operands and tighter than `and`; `|` takes a call and nothing else; a chain
of comparisons becomes a conjunction; `??` may not stand beside another operator) that a grammar file would have to be
bent to, every mistake has to be found at the token where expr-lang finds it, and a generator's import alone costs a
start more than all of this. Depth, nodes and length are bounded, so no text makes it deep or slow.
"""

from __future__ import annotations

from .errors import ExpressionError
from .lexer import BRACKET, BYTES, END, IDENTIFIER, NUMBER, OPERATOR, STRING, Token, is_identifier
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
from .tokens import Tokens

LENGTH_MAX = 16384
NODES_MAX = 4096
DEPTH_MAX = 48  # of brackets, predicates and the like: each costs the parser a few frames of Python's stack

UNARY = {"not": 50, "!": 50, "-": 90, "+": 90}
COMPARISONS = ("<", ">", ">=", "<=")
NEGATED = ("contains", "matches", "startsWith", "endsWith", "in")
BINARY = {
    "|": 0, "or": 10, "||": 10, "and": 15, "&&": 15, "==": 20, "!=": 20, "<": 20, ">": 20, ">=": 20, "<=": 20,
    "in": 20, "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20, "..": 25, "+": 30, "-": 30, "*": 60,
    "/": 60, "%": 60, "**": 100, "^": 100, "??": 500,
}  # fmt: skip
RIGHT = ("**", "^")

# What follows the collection: p a predicate, e an expression, with ? it may be missing.
PREDICATES = {
    "all": ("p",), "none": ("p",), "any": ("p",), "one": ("p",), "filter": ("p",), "map": ("p",), "count": ("p?",),
    "sum": ("p?",), "find": ("p",), "findIndex": ("p",), "findLast": ("p",), "findLastIndex": ("p",),
    "groupBy": ("p",), "sortBy": ("p", "e?"), "reduce": ("p", "e?"),
}  # fmt: skip


class Parser(Tokens):
    """`parse()` gives the tree of a text. `builtins`: names of the language's functions; `own`: what the environment
    has, which goes before them."""

    def __init__(self, text: str, builtins: frozenset[str], own: frozenset[str]) -> None:
        if len(text) > LENGTH_MAX:
            raise ExpressionError(f"the expression has more than {LENGTH_MAX} characters", text, LENGTH_MAX)
        super().__init__(text)
        self.builtins = builtins
        self.own = own
        self.predicates = 0
        self.depth = 0
        self.nodes = 0

    def parse(self) -> Node:
        """The tree."""
        node = self.sequence()
        if not self.current.is_(END):
            raise self.unexpected()
        return node

    def made(self, node: Node) -> Node:
        """Counts a node."""
        self.nodes += 1
        if self.nodes > NODES_MAX:
            raise self.error("compilation failed: expression exceeds maximum allowed nodes")
        return node

    # ---- expressions

    def sequence(self) -> Node:
        """Expressions with semicolons between."""
        nodes = [self.expression(0)]
        while self.at(OPERATOR, ";"):
            self.next()
            if self.at(END):
                break
            nodes.append(self.expression(0))
        return nodes[0] if len(nodes) == 1 else self.made(Sequence(nodes[0].at, nodes))

    def expression(self, precedence: int) -> Node:
        """An expression of operators that bind at least so tight."""
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise self.error(f"the expression is nested more than {DEPTH_MAX} deep")
        try:
            if precedence == 0 and self.at(OPERATOR, "let"):
                return self.let()
            if precedence == 0 and self.at(OPERATOR, "if"):
                return self.condition()
            node = self.operators(self.primary(), precedence)
            return self.ternary(node) if precedence == 0 else node
        finally:
            self.depth -= 1

    def operators(self, left: Node, precedence: int) -> Node:
        """What stands to the right of a first operand."""
        previous = ""
        while self.current.kind == OPERATOR:
            token, negated = self.current, None
            if token.value == "not":
                self.next()
                negated = self.current
                if negated.value not in NEGATED:
                    raise self.unexpected()
                if BINARY[negated.value] < precedence:
                    self.current, self.stash = token, negated
                    break
                token = negated
            level = BINARY.get(token.value, -1)
            if level < precedence:
                break
            self.next()
            if token.value == "|":
                left = self.call(self.expect(IDENTIFIER), [left])
            elif previous == "??" and token.value != "??":
                raise self.error(
                    f"Operator ({token.value}) and coalesce expressions (??) cannot be mixed. "
                    "Wrap either by parentheses.", token)
            elif token.value in COMPARISONS:
                left = self.comparisons(left, token, level)
            else:
                right = self.expression(level if token.value in RIGHT else level + 1)
                left = self.made(Binary(token.at, token.value, left, right))
                if negated is not None:
                    left = self.made(Unary(negated.at, "not", left))
            previous = token.value
        return left

    def comparisons(self, left: Node, token: Token, level: int) -> Node:
        """`a < b <= c`: each pair must hold."""
        root: Node | None = None
        while True:
            right = self.expression(level + 1)
            pair = self.made(Binary(token.at, token.value, left, right))
            root = pair if root is None else self.made(Binary(token.at, "&&", root, pair))
            left, token = right, self.current
            if not token.is_(OPERATOR, *COMPARISONS):
                return root
            self.next()

    def let(self) -> Node:
        """A variable for the rest of the expression."""
        self.next()
        name = self.expect(IDENTIFIER)
        self.expect(OPERATOR, "=")
        value = self.expression(0)
        self.expect(OPERATOR, ";")
        return self.made(Let(name.at, name.value, value, self.sequence()))

    def condition(self) -> Node:
        """`if`: both branches in braces, `else if` without."""
        self.next()
        condition = self.expression(0)
        self.expect(BRACKET, "{")
        yes = self.sequence()
        self.expect(BRACKET, "}")
        self.expect(OPERATOR, "else")
        if self.at(OPERATOR, "if"):
            no = self.expression(0)
        else:
            self.expect(BRACKET, "{")
            no = self.sequence()
            self.expect(BRACKET, "}")
        return self.made(Conditional(0, condition, yes, no))

    def ternary(self, node: Node) -> Node:
        """`a ? b : c`, and `a ?: c`."""
        while self.at(OPERATOR, "?"):
            self.next()
            if self.at(OPERATOR, ":"):
                self.next()
                yes, no = node, self.expression(0)
            else:
                yes = self.expression(0)
                self.expect(OPERATOR, ":")
                no = self.expression(0)
            node = self.made(Conditional(self.current.at, node, yes, no))
        return node

    # ---- operands

    def primary(self) -> Node:
        """An operand with what is bound to it."""
        token = self.current
        if token.kind == OPERATOR and token.value in UNARY:
            self.next()
            node = self.made(Unary(token.at, token.value, self.expression(UNARY[token.value])))
            return self.postfix(node)
        if token.is_(BRACKET, "("):
            self.next()
            node = self.sequence()
            self.expect(BRACKET, ")")
            return self.postfix(node)
        if self.predicates and token.is_(OPERATOR, "#", "."):
            name = ""
            if token.value == "#":
                self.next()
                if self.at(IDENTIFIER):
                    name = self.next().value
            return self.postfix(self.made(Pointer(token.at, name)))
        if token.is_(OPERATOR, "::"):
            self.next()
            return self.postfix(self.call(self.expect(IDENTIFIER), [], overridden=False))
        return self.secondary(token)

    def secondary(self, token: Token) -> Node:
        """Literals, names and calls."""
        if token.kind == IDENTIFIER:
            self.next()
            if token.value in ("true", "false", "nil"):
                return self.made(Constant(token.at, {"true": True, "false": False, "nil": None}[token.value]))
            if self.at(BRACKET, "("):
                return self.postfix(self.call(token, []))
            return self.postfix(self.made(Name(token.at, token.value)))
        if token.kind == NUMBER:
            self.next()
            return self.made(Constant(token.at, self.number(token.value)))
        if token.kind == STRING:
            self.next()
            return self.postfix(self.made(Constant(token.at, token.value)))
        if token.kind == BYTES:
            self.next()
            return self.postfix(self.made(Constant(token.at, token.value.encode("latin-1"))))
        if token.is_(BRACKET, "["):
            return self.postfix(self.array())
        if token.is_(BRACKET, "{"):
            return self.postfix(self.map())
        raise self.unexpected()

    def call(self, token: Token, arguments: list[Node], overridden: bool = True) -> Node:
        """A call; `arguments` has what a pipe brings."""
        own = overridden and token.value in self.own
        if token.value in PREDICATES and not own:
            return self.made(Builtin(token.at, token.value, self.with_predicate(token.value, arguments)))
        if token.value in self.builtins and not own:
            return self.made(Builtin(token.at, token.value, self.arguments(arguments)))
        callee = self.made(Name(token.at, token.value))
        return self.made(Call(token.at, callee, self.arguments(arguments)))

    def with_predicate(self, name: str, arguments: list[Node]) -> list[Node]:
        """The arguments of a function that takes a predicate."""
        self.expect(BRACKET, "(")
        wanted = ("e", *PREDICATES[name])[len(arguments) :]
        for i, kind in enumerate(wanted):
            if self.at(BRACKET, ")"):
                if kind.endswith("?"):
                    break
                raise self.error(f"expected at least {len(wanted)} arguments")
            if i:
                self.expect(OPERATOR, ",")
            arguments.append(self.predicate() if kind[0] == "p" else self.expression(0))
        if self.at(OPERATOR, ","):
            self.next()
        self.expect(BRACKET, ")")
        return arguments

    def predicate(self) -> Node:
        """What is done with each element: an expression, or a sequence in braces."""
        start = self.current
        self.predicates += 1
        if self.at(BRACKET, "{"):
            self.next()
            node = self.sequence()
            self.predicates -= 1
            self.expect(BRACKET, "}")
        else:
            node = self.expression(0)
            self.predicates -= 1
            if self.at(OPERATOR, ";"):
                raise self.error("wrap predicate with brackets { and }")
        return self.made(Predicate(start.at, node))

    def arguments(self, arguments: list[Node]) -> list[Node]:
        """What stands in a call's brackets, behind what a pipe brought."""
        self.expect(BRACKET, "(")
        first = True
        while not self.at(BRACKET, ")"):
            if not first:
                self.expect(OPERATOR, ",")
                if self.at(BRACKET, ")"):
                    break
            first = False
            arguments.append(self.expression(0))
        self.next()
        return arguments

    def array(self) -> Node:
        """`[a, b]`."""
        token, nodes = self.next(), list[Node]()
        while not self.at(BRACKET, "]"):
            if nodes:
                self.expect(OPERATOR, ",")
                if self.at(BRACKET, "]"):
                    break
            nodes.append(self.expression(0))
        self.expect(BRACKET, "]")
        return self.made(Array(token.at, nodes))

    def map(self) -> Node:
        """`{a: b}`: a key is a name, a literal, or an expression in brackets."""
        token, pairs = self.next(), list[tuple[Node, Node]]()
        while not self.at(BRACKET, "}"):
            if pairs:
                self.expect(OPERATOR, ",")
                if self.at(BRACKET, "}"):
                    break
                if self.at(OPERATOR, ","):
                    raise self.unexpected()
            if self.current.kind in (NUMBER, STRING, IDENTIFIER):
                key = self.made(Constant(self.current.at, self.current.value))
                self.next()
            elif self.at(BRACKET, "("):
                key = self.expression(0)
            else:
                raise self.error("a map key must be a quoted string, a number, a identifier, or an expression "
                                 f"enclosed in parentheses (unexpected token {self.current})")
            self.expect(OPERATOR, ":")
            pairs.append((key, self.expression(0)))
            self.nodes += 1
        self.expect(BRACKET, "}")
        return self.made(Map(token.at, pairs))

    # ---- postfix

    def postfix(self, node: Node) -> Node:
        """Members, calls of methods, indices and slices behind an operand."""
        while True:
            token = self.current
            if token.is_(OPERATOR, ".", "?."):
                self.next()
                if token.value == "?." and self.at(BRACKET, "["):
                    node = self.index(node, self.current, optional=True)
                else:
                    node = self.member(node, optional=token.value == "?.")
            elif token.is_(BRACKET, "["):
                node = self.index(node, token, optional=False)
            else:
                return node

    def member(self, node: Node, optional: bool) -> Node:
        """`.name`, `?.name`, `.name(...)`."""
        token = self.current
        if token.kind == END:
            raise self.error("unexpected end of expression")
        self.next()
        if token.kind != IDENTIFIER and (token.kind != OPERATOR or not is_identifier(token.value)):
            raise self.error("expected name")
        chained = isinstance(node, Chain)
        inner = node.node if isinstance(node, Chain) else node
        name = self.made(Constant(token.at, token.value))
        out: Node = self.made(Member(token.at, inner, name, optional, self.at(BRACKET, "(")))
        if self.at(BRACKET, "("):
            out = self.made(Call(token.at, out, self.arguments([])))
        return self.made(Chain(token.at, out)) if chained or optional else out

    def index(self, node: Node, token: Token, optional: bool) -> Node:
        """`[i]`, `[i:j]`."""
        self.next()
        start = None if self.at(OPERATOR, ":") else self.expression(0)
        if not self.at(OPERATOR, ":"):
            assert start is not None
            out = self.made(Member(token.at, node, start, optional))
            if optional:
                out = self.made(Chain(token.at, out))
            self.expect(BRACKET, "]")
            return out
        self.next()
        end = None if self.at(BRACKET, "]") else self.expression(0)
        out = self.made(Slice(token.at, node, start, end))
        self.expect(BRACKET, "]")
        return out
