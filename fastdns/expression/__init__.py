# SPDX-License-Identifier: Apache-2.0
"""expr-lang, the language of expressions in a Corefile, as CoreDNS's `view` and `template` use it (its v1.17).

    expression = compile_expression("name() endsWith '.corp.' and do()", FUNCTIONS)
    expression.evaluate(environment(query))

`compile_expression` checks names and types as CoreDNS does at its start and raises `ExpressionError` with the place.
`functions` says what an expression may name: types, mostly of functions (`FUNCTIONS` for what every query has;
`template` adds `{"group": function((ANY,), STRING)}`, and the `result` of earlier expressions under their variables'
names). `evaluate` takes the values by the same names and raises ExpressionError too.
"""

from .compiled import Expression, compile_expression
from .environment import FUNCTIONS, environment
from .errors import ExpressionError
from .lexer import is_identifier
from .parser import PREDICATES
from .signatures import BUILTINS as PLAIN
from .types import ANY, BOOL, FLOAT, INT, STRING, Type, function

BUILTINS = PLAIN | frozenset(PREDICATES)
"""The names of the language's own functions."""

__all__ = [
    "ANY", "BOOL", "BUILTINS", "FLOAT", "FUNCTIONS", "INT", "STRING", "Expression", "ExpressionError", "Type",
    "compile_expression", "environment", "function", "is_identifier",
]  # fmt: skip
