# SPDX-License-Identifier: Apache-2.0
"""What is wrong with an expression, and where in it.

Strategy: one exception for both phases, worded and drawn as expr-lang does (`cause (1:5)`, the line, a pointer below
it), because that is what `coredns` prints and what people search for. Positions are offsets in characters.
"""

from __future__ import annotations


class ExpressionError(ValueError):
    """An expression that cannot be compiled, or that failed on a query. `line` and `column` count from 1."""

    def __init__(self, message: str, source: str = "", at: int = 0) -> None:
        before = source[:at]
        self.message = message
        self.at = at
        self.source = source
        self.line = before.count("\n") + 1
        start = before.rfind("\n") + 1
        self.column = at - start + 1
        end = source.find("\n", start)
        self.snippet = source[start : end if end >= 0 else len(source)].replace("\t", " ")
        super().__init__(message, source, at)

    def __str__(self) -> str:
        if not self.snippet:
            return self.message
        place = f"{self.message} ({self.line}:{self.column})"
        return f"{place}\n | {self.snippet}\n | {'.' * (self.column - 1)}^"
