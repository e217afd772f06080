# SPDX-License-Identifier: Apache-2.0
"""The lexer of Go templates: text to tokens with their places.

Strategy: one pass from left to right. Blanks within an action are tokens, because Go's parser needs them; the trim
markers `{{- ` and ` -}}` are worked into the texts beside them; comments leave nothing behind. A mistake is a token as
well (kind ERROR), so that the parser complains in the order in which it reads.
"""

from __future__ import annotations

from typing import NamedTuple

LEFT, RIGHT = "{{", "}}"
SPACES = " \t\r\n"

TEXT, ERROR, EOF = "text", "error", "EOF"
LEFT_DELIM, RIGHT_DELIM = "left delim", "right delim"
SPACE, ASSIGN, DECLARE, PIPE, LEFT_PAREN, RIGHT_PAREN, CHAR = "space", "=", ":=", "|", "(", ")", "char"
BOOL, CHAR_CONSTANT, NUMBER, STRING, RAW_STRING = "bool", "charconstant", "number", "string", "rawstring"
DOT, FIELD, IDENTIFIER, VARIABLE, NIL = ".", "field", "identifier", "variable", "nil"
KEYWORDS = ("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with")


class TemplateError(Exception):
    """A text that is no template. `line` and `column` count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class Token(NamedTuple):
    """A piece of a template; `at` is its offset in the text."""

    kind: str
    text: str
    at: int
    line: int

    def __str__(self) -> str:
        if self.kind in (EOF, ERROR):
            return "EOF" if self.kind == EOF else self.text
        if self.kind in KEYWORDS or self.kind in (DOT, NIL):
            return f"<{self.text}>"
        from ..corefile.units import quote

        return f"{quote(self.text[:10])}..." if len(self.text) > 10 else quote(self.text)


def alphanumeric(ch: str) -> bool:
    """Whether a character belongs to identifiers."""
    return ch == "_" or ch.isalpha() or ch.isdecimal()


class _Stop(Exception):
    """The text cannot be read further."""


class Lexer:
    """Cuts `text`; `tokens()` has all of it, ended by EOF or an ERROR."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.start = 0
        self.out: list[Token] = []
        self.parens = 0

    def tokens(self) -> list[Token]:
        """Reads everything."""
        try:
            self._all()
        except _Stop as stop:
            self.out.append(Token(ERROR, str(stop), self.start, self._line(self.start)))
        return self.out

    def _line(self, at: int) -> int:
        return 1 + self.text.count("\n", 0, at)

    def _emit(self, kind: str) -> None:
        self.out.append(Token(kind, self.text[self.start : self.at], self.start, self._line(self.start)))
        self.start = self.at

    def _all(self) -> None:
        text = self.text
        while True:
            found = text.find(LEFT, self.at)
            if found < 0:
                self.at = len(text)
                if self.at > self.start:
                    self._emit(TEXT)
                self._emit(EOF)
                return
            after = found + len(LEFT)
            trims = text[after : after + 1] == "-" and text[after + 1 : after + 2] in tuple(SPACES)
            self.at = self.start + len(text[self.start : found].rstrip(SPACES)) if trims else found
            if self.at > self.start:
                self._emit(TEXT)
            self.start, self.at = found, after
            inner = after + (2 if trims else 0)
            if text.startswith("/*", inner):
                self.start = inner
                self._comment(inner)
                continue
            self._emit(LEFT_DELIM)
            self.start = self.at = inner
            self.parens = 0
            while self._inside():
                pass

    def _comment(self, at: int) -> None:
        end = self.text.find("*/", at + 2)
        if end < 0:
            raise _Stop("unclosed comment")
        self.at = end + 2
        marker = self._right_at(self.at)
        if marker is None:
            raise _Stop("comment ends before closing delimiter")
        self._skip_right(marker)

    def _right_at(self, at: int) -> bool | None:
        """Whether an action ends here with a trim marker (True) or without one (False)."""
        if self.text[at : at + 1] in tuple(SPACES) and self.text.startswith("-" + RIGHT, at + 1):
            return True
        return False if self.text.startswith(RIGHT, at) else None

    def _skip_right(self, marker: bool) -> None:
        self.at += len(RIGHT) + (2 if marker else 0)
        if marker:
            while self.text[self.at : self.at + 1] in tuple(SPACES):
                self.at += 1
        self.start = self.at

    def _inside(self) -> bool:
        """One token of an action; False behind its end."""
        marker = self._right_at(self.at)
        if marker is not None:
            if self.parens:
                raise _Stop("unclosed left paren")
            at = self.at + (2 if marker else 0)
            self.out.append(Token(RIGHT_DELIM, RIGHT, at, self._line(at)))
            self._skip_right(marker)
            return False
        ch = self.text[self.at : self.at + 1]
        if not ch:
            raise _Stop("unclosed action")
        if ch in SPACES:
            self._spaces()
            return True
        self.at += 1
        following = self.text[self.at : self.at + 1]
        if ch == ":":
            self.at += 1
            if following != "=":
                raise _Stop("expected :=")
            self._emit(DECLARE)
        elif ch in "=|":
            self._emit(ASSIGN if ch == "=" else PIPE)
        elif ch == '"':
            self._quoted('"', STRING, "unterminated quoted string")
        elif ch == "'":
            self._quoted("'", CHAR_CONSTANT, "unterminated character constant")
        elif ch == "`":
            end = self.text.find("`", self.at)
            if end < 0:
                raise _Stop("unterminated raw quoted string")
            self.at = end + 1
            self._emit(RAW_STRING)
        elif ch == "$" or (ch == "." and following and not "0" <= following <= "9"):
            self._field(VARIABLE if ch == "$" else FIELD)
        elif ch in ".+-" or "0" <= ch <= "9":
            self.at -= 1
            self._number()
        elif alphanumeric(ch):
            self._identifier()
        elif ch in "()":
            self._paren(ch)
        elif " " < ch <= "~":
            self._emit(CHAR)
        else:
            raise _Stop(f"unrecognized character in action: {unicode_of(ch)}")
        return True

    def _spaces(self) -> None:
        while self.text[self.at : self.at + 1] in tuple(SPACES):
            self.at += 1
        # The last blank may belong to a trim marker.
        if self._right_at(self.at - 1):
            self.at -= 1
            if self.at == self.start:
                return
        self._emit(SPACE)

    def _paren(self, ch: str) -> None:
        self.parens += 1 if ch == "(" else -1
        if self.parens < 0:
            raise _Stop("unexpected right paren")
        self._emit(LEFT_PAREN if ch == "(" else RIGHT_PAREN)

    def _quoted(self, quote: str, kind: str, unterminated: str) -> None:
        while True:
            ch = self.text[self.at : self.at + 1]
            self.at += 1
            if ch == quote:
                break
            if ch == "\\":
                ch = self.text[self.at : self.at + 1]
                self.at += 1
                if ch not in ("", "\n"):
                    continue
            if ch in ("", "\n"):
                raise _Stop(unterminated)
        self._emit(kind)

    def _terminated(self) -> bool:
        ch = self.text[self.at : self.at + 1]
        return not ch or ch in SPACES or ch in ".,|:)(" or self.text.startswith(RIGHT, self.at)

    def _field(self, kind: str) -> None:
        if self._terminated():
            self._emit(VARIABLE if kind == VARIABLE else DOT)
            return
        self._word()
        self._emit(kind)

    def _word(self) -> None:
        while self.at < len(self.text) and alphanumeric(self.text[self.at]):
            self.at += 1
        if not self._terminated():
            raise _Stop(f"bad character {unicode_of(self.text[self.at])}")

    def _identifier(self) -> None:
        self._word()
        word = self.text[self.start : self.at]
        kind = word if word in KEYWORDS else BOOL if word in ("true", "false") else NIL if word == "nil" else IDENTIFIER
        self._emit(kind)

    def _number(self) -> None:
        self._scan_number()
        if self.text[self.at : self.at + 1] in ("+", "-"):
            self._scan_number()  # 1+2i
            if not self.text.startswith("i", self.at - 1):
                self._bad_number()
        self._emit(NUMBER)

    def _bad_number(self) -> None:
        from ..corefile.units import quote

        raise _Stop(f"bad number syntax: {quote(self.text[self.start : self.at])}")

    def _accept(self, chars: str) -> bool:
        if self.at < len(self.text) and self.text[self.at] in chars:
            self.at += 1
            return True
        return False

    def _scan_number(self) -> None:
        self._accept("+-")
        digits = "0123456789_"
        if self._accept("0"):
            if self._accept("xX"):
                digits = "0123456789abcdefABCDEF_"
            elif self._accept("oO"):
                digits = "01234567_"
            elif self._accept("bB"):
                digits = "01_"
        decimal, hexadecimal = len(digits) == 11, len(digits) == 23
        while self._accept(digits):
            pass
        if self._accept("."):
            while self._accept(digits):
                pass
        if (decimal and self._accept("eE")) or (hexadecimal and self._accept("pP")):
            self._accept("+-")
            while self._accept("0123456789_"):
                pass
        self._accept("i")
        if self.at < len(self.text) and alphanumeric(self.text[self.at]):
            self.at += 1
            self._bad_number()


def unicode_of(ch: str) -> str:
    """A character as fmt's %#U writes it."""
    shown = f" '{ch}'" if ch.isprintable() else ""
    return f"U+{ord(ch):04X}{shown}"
