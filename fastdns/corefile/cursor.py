# SPDX-License-Identifier: Apache-2.0
"""The parser's cursor: a gap buffer of tokens into which imports are spliced.

Strategy: tokens that were read stand in one list, those to come in another, in reverse; stepping moves one token
across and an import costs what it brings, however large the rest is. Lines are told apart as the dispenser does.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import CorefileError
from .dispenser import Dispenser
from .lexer import Token


class Cursor:
    """A cursor over `tokens`; it starts before the first. `filename` names tokens without a file."""

    def __init__(self, filename: str, tokens: Sequence[Token]) -> None:
        self.filename = filename
        self._before: list[Token] = []  # the last one is the current token
        self._after = list(tokens[::-1])  # the last one is the next token
        self._past = False  # an import brought nothing and nothing follows: there is no current token

    def __len__(self) -> int:
        return len(self._before) + len(self._after)

    @property
    def token(self) -> Token:
        """The current token, an empty one where there is none."""
        return Token("") if self._past or not self._before else self._before[-1]

    @property
    def val(self) -> str:
        """Text of the current token."""
        return self.token.text

    @property
    def file(self) -> str:
        """Name of the current token's file, as errors show it."""
        return self.token.file or self.filename

    @property
    def place(self) -> int:
        """How many tokens were read and kept, the current one among them."""
        return len(self._before)

    def next(self) -> bool:
        """Step to the next token; False at the end."""
        if not self._after:
            return False
        self._before.append(self._after.pop())
        self._past = False
        return True

    def back(self) -> None:
        """Undo one step."""
        if self._past:
            self._past = False
        else:
            self._after.append(self._before.pop())

    def next_arg(self) -> bool:
        """Step to the next token if it is on the same line."""
        if self._past or not self._after:
            return False
        here, there = self._before[-1], self._after[-1]
        if here.file != there.file or here.line + here.text.count("\n") != there.line:
            return False
        return self.next()

    def is_new_line(self) -> bool:
        """True if the current token is the first of its line."""
        if len(self._before) < 2:
            return True
        if self._past:
            return False
        last, here = self._before[-2], self._before[-1]
        return last.file != here.file or last.line + last.text.count("\n") < here.line

    def rewrite(self, text: str) -> Token:
        """Give the current token another text, which stays: line breaks in it count for what follows."""
        self._before[-1] = self.token._replace(text=text)
        return self._before[-1]

    def splice(self, tokens: Sequence[Token], count: int = 2) -> None:
        """Replace the last `count` tokens, of which the current one is the last, by `tokens` and step to the first."""
        del self._before[len(self._before) - count :]
        self._after.extend(reversed(tokens))
        if not self.next():
            self._past = True

    def _here(self) -> Dispenser:
        d = Dispenser(self.filename, [self.token] if self._before and not self._past else [])
        d.next()
        return d

    def err(self, message: str) -> CorefileError:
        """`FILE:LINE - Error during parsing: MESSAGE` at the current token."""
        return self._here().err(message)

    def arg_err(self) -> CorefileError:
        """An argument is missing or there is one too many."""
        return self._here().arg_err()

    def eof_err(self) -> CorefileError:
        """The text ended where more had to come."""
        return self._here().eof_err()

    def syntax_err(self, expected: str) -> CorefileError:
        """`FILE:LINE - Syntax error: Unexpected token 'TOKEN', expecting 'EXPECTED'`."""
        return self._here().syntax_err(expected)
