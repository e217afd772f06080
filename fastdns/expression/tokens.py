# SPDX-License-Identifier: Apache-2.0
"""The parser's cursor over tokens, and what a number is worth."""

from __future__ import annotations

from .errors import ExpressionError
from .lexer import END, Lexer, Token, go_quote


class Tokens:
    """`current` is the token that is looked at, `stash` the one that was put back behind it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = Lexer(text).tokens()
        self.stash: Token | None = None
        self.current = next(self.tokens)

    def error(self, message: str, token: Token | None = None) -> ExpressionError:
        """A mistake at a token, or at the current one."""
        return ExpressionError(message, self.text, (token or self.current).at)

    def unexpected(self, token: Token | None = None) -> ExpressionError:
        """Nothing in the grammar wants the token."""
        return self.error(f"unexpected token {token or self.current}", token)

    def next(self) -> Token:
        """Goes on; returns the token that was current."""
        token = self.current
        if token.kind == END:
            raise self.error("unexpected end of expression")
        self.current, self.stash = self.stash or next(self.tokens), None
        return token

    def at(self, kind: str, *values: str) -> bool:
        """Whether the current token is this."""
        return self.current.is_(kind, *values)

    def expect(self, kind: str, *values: str) -> Token:
        """The current token must be this; goes on."""
        if not self.current.is_(kind, *values):
            raise self.unexpected()
        return self.next()

    def number(self, text: str) -> int | float:
        """What a number is worth."""
        text = text.replace("_", "")
        kind = {"0x": "hex", "0b": "binary", "0o": "octal"}.get(text[:2].lower(), "integer")
        floating = kind != "hex" and ("." in text or "e" in text.lower())
        try:
            if floating:
                value = float(text)
                if value == float("inf"):
                    raise OverflowError
                return value
            number = int(text, 10 if kind == "integer" else 0)
            if number >= 1 << 63:
                raise OverflowError
            return number
        except (ValueError, OverflowError) as error:
            name, parse = ("float", "ParseFloat") if floating else (kind, "ParseInt")
            cause = "invalid syntax" if isinstance(error, ValueError) else "value out of range"
            raise self.error(f"invalid {name} literal: strconv.{parse}: parsing {go_quote(text)}: {cause}") from None
