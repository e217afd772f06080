# SPDX-License-Identifier: Apache-2.0
"""What an expression has in it that no query can change is worked out once.

Strategy: from the leaves up. expr-lang folds some of this too, and where that shows (`x and false` is false although x
would fail; a remainder by a literal 0 is refused) this does the same. What fails here is left as it stands, to fail on
each query.
"""

from __future__ import annotations

from .errors import ExpressionError
from .evaluator import Evaluator
from .frame import OVER, Frame
from .nodes import Array, Binary, Builtin, Call, Constant, Let, Map, Name, Node, Predicate, Slice, Unary, children
from .operators import LOGIC, spine

CHANGING = ("now",)


class Folder:
    """`fold(tree)` gives a tree that means the same. Raises ExpressionError for what expr-lang refuses."""

    def __init__(self, text: str) -> None:
        self.text = text

    def fold(self, node: Node) -> Node:
        """A node of which everything below is folded."""
        if isinstance(node, Binary) and node.operator in LOGIC:
            return self.logic(node)
        self.below(node)
        if isinstance(node, (Binary, Unary, Array, Builtin, Slice)) and self.fixed(node):
            return self.value(node)
        return node

    def below(self, node: Node) -> None:
        """Folds the children in their places."""
        if isinstance(node, Constant):
            return
        if isinstance(node, Map):
            node.pairs = [(self.fold(key), self.fold(value)) for key, value in node.pairs]
            return
        for name in node.__dataclass_fields__:
            value = getattr(node, name)
            if isinstance(value, Node):
                setattr(node, name, self.fold(value))
            elif isinstance(value, list):
                setattr(node, name, [self.fold(each) for each in value])

    def logic(self, node: Binary) -> Node:
        """A conjunction without the operands that do not matter; one that decides is all that is left."""
        decides = LOGIC[node.operator] == "or"
        kept = []
        for operand in map(self.fold, spine(node)):
            if isinstance(operand, Constant) and type(operand.value) is bool:
                if operand.value is decides:
                    return self.constant(node, decides)
            else:
                kept.append(operand)
        if not kept:
            return self.constant(node, not decides)
        out = kept[0]
        if len(kept) == 1:
            out.at = node.at    # where expr-lang points to when it fails
        for operand in kept[1:]:
            both = Binary(node.at, node.operator, out, operand)
            both.type = node.type
            out = both
        return out

    def constant(self, node: Node, value: object) -> Node:
        """A literal in a node's place, of its type."""
        out = Constant(node.at, value)
        out.type = node.type
        return out

    def fixed(self, node: Node) -> bool:
        """Whether no query changes the node."""
        if isinstance(node, Binary) and node.operator == "%" and [
                type(each.value) for each in (node.left, node.right) if isinstance(each, Constant)] == [int, int]:
            assert isinstance(node.right, Constant)
            if node.right.value == 0:
                raise ExpressionError("integer divide by zero", self.text, node.at)
        if isinstance(node, Builtin) and node.name in CHANGING:
            return False
        return all(isinstance(each, Constant) or (isinstance(each, Predicate) and self.closed(each.node))
                   for each in children(node))

    def closed(self, node: Node) -> bool:
        """Whether a predicate looks at nothing but its elements."""
        left = [node]
        while left:
            each = left.pop()
            if isinstance(each, (Name, Call, Let)) or (isinstance(each, Builtin) and each.name in CHANGING):
                return False
            left.extend(children(each))
        return True

    def value(self, node: Node) -> Node:
        """What the node comes to."""
        evaluator = Evaluator(self.text)
        code = evaluator.code(node)
        try:
            return self.constant(node, code(Frame({}, evaluator.variables)))
        except ExpressionError as error:
            if error.message == OVER:
                raise
            return node
