# SPDX-License-Identifier: Apache-2.0
"""An expression that is ready to be evaluated.

Strategy: parse, check, fold, and make closures of what is left: all of it once, when the Corefile is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .checker import Checker
from .errors import ExpressionError
from .evaluator import Evaluator
from .folder import Folder
from .frame import Frame
from .nodes import Node
from .parser import Parser
from .signatures import BUILTINS
from .types import Type


class Expression:
    """`text` as it was written, `result` the type of its value (a `Type`; unknown where only a query can tell), `tree`
    for who compiles it further."""

    __slots__ = ("_code", "_variables", "result", "text", "tree")

    def __init__(self, text: str, tree: Node, result: Type) -> None:
        self.text = text
        self.tree = tree
        self.result = result
        evaluator = Evaluator(text)
        self._code = evaluator.code(tree)
        self._variables = evaluator.variables

    def evaluate(self, env: Mapping[str, Any]) -> Any:
        """The value for an environment: `env` has a value or a callable under each name that the expression may use.
        Raises ExpressionError."""
        try:
            return self._code(Frame(env, self._variables))
        except ExpressionError:
            raise
        except Exception as error:
            raise ExpressionError(str(error) or type(error).__name__, self.text) from None


def compile_expression(text: str, functions: Mapping[str, Type]) -> Expression:
    """Raises ExpressionError, worded and placed as expr-lang does. `functions`: the type of whatever the environment
    has by a name."""
    tree = Parser(text, BUILTINS, frozenset(functions)).parse()
    result = Checker(text, functions).check(tree)
    return Expression(text, Folder(text).fold(tree), result)
