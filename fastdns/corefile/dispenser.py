# SPDX-License-Identifier: Apache-2.0
"""A cursor over the tokens of one directive in one server block: what a plugin's `parse` reads from.

    while d.next():                    # each occurrence of the directive; d.val is its name
        args = d.remaining_args()
        while d.next_block():          # each line in its braces; d.val is the option
            if d.val != "ttl":
                raise d.err(f"unknown property '{d.val}'")
            if not d.next_arg():
                raise d.arg_err()
            ttl = d.val

Strategy: lines are told apart by the tokens' file and line, as CoreDNS does, so that imported text behaves
the same. The error methods *return* the exception, with the place of the current token, so `raise`
stays visible at the call.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SYNTAX, CorefileError, OptionError
from .lexer import Token


class Dispenser:
    """Cursor over `tokens`. `filename` names tokens that carry no file of their own.

    `keys` are the server block's keys after expansion (`dns://example.org.:53`), from which an empty list of
    zones is filled; `directive` is the name that the tokens belong to.
    """

    def __init__(self, filename: str, tokens: Sequence[Token], keys: Sequence[str] = (), directive: str = "") -> None:
        self.filename = filename
        self.tokens = tuple(tokens)
        self.keys = tuple(keys)
        self.directive = directive
        self._at = -1
        self._nesting = 0

    @property
    def token(self) -> Token:
        """The current token; before the first one an empty token at line 0."""
        return self.tokens[self._at] if 0 <= self._at < len(self.tokens) else Token("")

    @property
    def val(self) -> str:
        """Text of the current token, "" where there is none."""
        return self.token.text

    @property
    def file(self) -> str:
        """Name of the file of the current token, as errors show it."""
        return self.token.file or self.filename

    @property
    def line(self) -> int:
        """Line of the current token, 0 where there is none."""
        return self.token.line

    def reset(self) -> None:
        """Back to before the first token."""
        self._at = -1
        self._nesting = 0

    def mark(self) -> int:
        """A position to `rewind` to."""
        return self._at

    def rewind(self, mark: int) -> None:
        """Back (or forward) to a position that `mark` gave, within the same block."""
        self._at = mark

    def next(self) -> bool:
        """Load the next token, on whatever line; False at the end."""
        if self._at < len(self.tokens) - 1:
            self._at += 1
            return True
        return False

    def _follows_on_line(self) -> bool:
        here, there = self.tokens[self._at], self.tokens[self._at + 1]
        return here.file == there.file and here.line + here.text.count("\n") == there.line

    def next_arg(self) -> bool:
        """Load the next token if it is on the same line (an opening brace counts as one)."""
        if self._at >= len(self.tokens) - 1 or (self._at >= 0 and not self._follows_on_line()):
            return False
        self._at += 1
        return True

    def next_block(self) -> bool:
        """Load the next token of this directive's `{ }` block; False behind its closing brace or where no
        block opens on this line. `{ }` closed at once counts as no block. Blocks do not nest."""
        if self._nesting > 0:
            if not self.next():
                return False
            if self.val == "}":
                self._nesting -= 1
                return False
            return True
        if not self.next_arg():
            return False
        if self.val != "{":
            self._at -= 1
            return False
        if not self.next() or self.val == "}":
            return False
        self._nesting += 1
        return True

    def remaining_args(self) -> list[str]:
        """Load and return what is left of the line, up to an opening brace (which is not loaded)."""
        args: list[str] = []
        while self.next_arg():
            if self.val == "{":
                self._at -= 1
                break
            args.append(self.val)
        return args

    def peek_args(self) -> list[str]:
        """What `remaining_args` would return, without loading it."""
        at = self._at
        args = self.remaining_args()
        self._at = at
        return args

    def err(self, message: str) -> CorefileError:
        """`FILE:LINE - Error during parsing: MESSAGE` at the current token."""
        token = self.token
        return CorefileError(self.file, token.line, message, token.column)

    def arg_err(self) -> CorefileError:
        """An argument is missing, or there is one too many, behind the current token."""
        if self.val == "{":
            return self.err("Unexpected token '{', expecting argument")
        return self.err(f"Wrong argument count or unexpected line ending after '{self.val}'")

    def syntax_err(self, expected: str) -> CorefileError:
        """`FILE:LINE - Syntax error: Unexpected token 'TOKEN', expecting 'EXPECTED'`."""
        message = f"Unexpected token '{self.val}', expecting '{expected}'"
        return CorefileError(self.file, self.line, message, self.token.column, SYNTAX)

    def eof_err(self) -> CorefileError:
        """The text ended where more had to come."""
        return self.err("Unexpected EOF")

    def fail(self, message: str) -> OptionError:
        """A refused value: the text is MESSAGE alone, the place is kept in the exception."""
        token = self.token
        return OptionError(message, self.file, token.line, token.column)
