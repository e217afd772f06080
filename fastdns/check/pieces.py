# SPDX-License-Identifier: Apache-2.0
"""Where a directive's tokens begin and end: its occurrences, and the lines of its options.

Strategy: lines are told apart as the server's dispenser does, by file and line of neighbouring tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..corefile import Token


@dataclass
class Occurrence:
    """Tokens of one occurrence: [start, end) in the directive's tokens."""

    start: int
    end: int


def follows(last: Token, here: Token) -> bool:
    """Whether a token stands on the line on which the one before it ends."""
    return last.file == here.file and last.line + last.text.count("\n") == here.line


def occurrences(tokens: Sequence[Token]) -> list[Occurrence]:
    """Where each occurrence starts and ends: at a new line outside of braces, as the parser cuts them."""
    found: list[Occurrence] = []
    depth = 0
    for at, token in enumerate(tokens):
        if at == 0 or (depth == 0 and token.text != "{" and not follows(tokens[at - 1], token)):
            found.append(Occurrence(at, at + 1))
        found[-1].end = at + 1
        depth += (token.text == "{") - (token.text == "}")
    return found


def option_row(tokens: Sequence[Token], one: Occurrence, at: int) -> tuple[int, int] | None:
    """[start, end) of the option's line that holds `at`; None for the occurrence's first line and for its braces."""
    depth, start = 0, -1
    for i in range(one.start, one.end):
        text = tokens[i].text
        if text == "}":
            depth -= 1
            if depth == 0:
                return (start, i) if start >= 0 and start <= at < i else None
        elif depth == 1 and (start < 0 or not follows(tokens[i - 1], tokens[i])):
            if 0 <= start <= at < i:
                return start, i
            start = i
        if text == "{":
            depth += 1
    return (start, one.end) if start >= 0 and start <= at else None
