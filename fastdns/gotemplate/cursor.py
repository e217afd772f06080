# SPDX-License-Identifier: Apache-2.0
"""The parser's cursor over tokens: the next one, complaints about it, and what a literal is worth."""

from __future__ import annotations

import re

from ..corefile.units import quote
from . import lexer as lex
from .lexer import Lexer, TemplateError, Token
from .nodes import NumberNode
from .strings import BadString, unquote

INT64, UINT64 = 1 << 63, 1 << 64
FLOAT_MARKS = re.compile(r"[.eEpP]")


class Cursor:
    """`at` is the index of the next token; `action_line` where the action began that is being read, 0 for none."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.tokens = Lexer(text).tokens()
        self.at = 0
        self.action_line = 0

    def next(self) -> Token:
        """The next token; the last one again and again."""
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def peek(self) -> Token:
        """The next token, left where it is."""
        return self.tokens[self.at]

    def next_word(self) -> Token:
        """The next token that is no blank."""
        while self.peek().kind == lex.SPACE:
            self.at += 1
        return self.next()

    def peek_word(self) -> Token:
        """The next token that is no blank, left where it is."""
        while self.peek().kind == lex.SPACE:
            self.at += 1
        return self.peek()

    def error(self, message: str, token: Token | None = None) -> TemplateError:
        """The exception, placed at a token (the last one read)."""
        token = token or self.tokens[max(self.at - 1, 0)]
        column = token.at - (self.text.rfind("\n", 0, token.at) + 1) + 1
        return TemplateError(f"template: {self.name}:{token.line}: {message}", token.line, column)

    def unexpected(self, token: Token, context: str) -> TemplateError:
        """What does not belong here, or the lexer's complaint."""
        if token.kind != lex.ERROR:
            return self.error(f"unexpected {token} in {context}", token)
        extra = ""
        if self.action_line and self.action_line != token.line:
            extra = f" in action started at {self.name}:{self.action_line}"
            if token.text.endswith(" action"):
                extra = extra[len(" in action") :]
        return self.error(f"{token}{extra}", token)

    def expect(self, kind: str, context: str) -> Token:
        """The next token, which must be of a kind."""
        token = self.next_word()
        if token.kind != kind:
            raise self.unexpected(token, context)
        return token

    # ---- literals

    def unquote(self, token: Token) -> str:
        """A string or character constant without its quotes."""
        try:
            return unquote(token.text)
        except BadString:
            raise self.error("invalid syntax", token) from None

    def number(self, token: Token) -> NumberNode:
        """A number, as an integer and as a float where it is one."""
        text = token.text
        if token.kind == lex.CHAR_CONSTANT:
            rune = self.unquote(token)
            if not rune:
                raise self.error("invalid syntax", token)
            if len(rune) != 1:
                raise self.error(f"malformed character constant: {text}", token)
            return NumberNode(token.at, text, ord(rune), float(ord(rune)), ord(rune))
        if text.endswith("i") and not text.lower().startswith(("0x", "+0x", "-0x")):
            raise self.error(f"complex number {text}: not supported", token)
        whole, broken = integer(text), floating(text)
        if whole is None and broken is not None and broken == int(broken) and abs(broken) < INT64:
            whole = int(broken)
        if whole is None and broken is None and re.fullmatch(r"[+-]?[0-9]+", text):
            raise self.error(f"integer overflow: {quote(text)}", token)
        if whole is None and broken is None:
            raise self.error(f"illegal number syntax: {quote(text)}", token)
        if whole is not None and not -INT64 <= whole < UINT64:
            raise self.error(f"integer overflow: {quote(text)}", token)
        if whole is not None and broken is None:
            broken = float(whole)
        ideal: int | float | None = whole
        marked = FLOAT_MARKS.search(text) and not re.match(r"[+-]?0[xX][^pP]*$", text)
        if marked:
            ideal = broken
        return NumberNode(token.at, text, whole, broken, ideal)


def integer(text: str) -> int | None:
    """A Go integer literal; a leading 0 means octal."""
    sign, digits = (text[0], text[1:]) if text[:1] in "+-" else ("", text)
    if re.fullmatch(r"0_?[0-7]+(_[0-7]+)*", digits):
        digits = "0o" + digits[1:].lstrip("_")
    try:
        return int(sign + digits, 0)
    except ValueError:
        return None


def floating(text: str) -> float | None:
    """A Go float literal."""
    body = text.lower()
    if re.match(r"[+-]?0x", body):
        if "p" not in body:
            return None
        try:
            return float.fromhex(body.replace("_", ""))
        except (ValueError, OverflowError):
            return None
    if not re.fullmatch(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(e[+-]?[0-9_]+)?", body) or "__" in body:
        return None
    if not FLOAT_MARKS.search(body):
        return None
    try:
        value = float(body)
    except ValueError:
        return None
    return None if value in (float("inf"), float("-inf")) else value
