# SPDX-License-Identifier: Apache-2.0
"""Cuts an expression into tokens, each with its place.

Strategy: by hand, one pass over the text, because the tokens depend on their neighbours (`1..5`, `not in`, `# index`)
and a mistake must be reported at expr-lang's very column. Each character is looked at a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .errors import ExpressionError

IDENTIFIER, NUMBER, STRING, BYTES, OPERATOR, BRACKET, END = (
    "Identifier", "Number", "String", "Bytes", "Operator", "Bracket", "EOF",
)
WORDS = frozenset(("in", "or", "and", "matches", "contains", "startsWith", "endsWith", "let", "if", "else"))
NEGATED = frozenset(("in", "matches", "contains", "startsWith", "endsWith"))
SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}
HEX = frozenset("0123456789abcdefABCDEF")
OCTAL = frozenset("01234567")
DIGITS = {"x": HEX | {"_"}, "o": OCTAL | {"_"}, "b": frozenset("01_"), "": frozenset("0123456789_")}


class Token(NamedTuple):
    """`at` is the offset of its first character."""

    kind: str
    value: str
    at: int

    def is_(self, kind: str, *values: str) -> bool:
        """Whether it is of this kind, and one of the values if there are any."""
        return self.kind == kind and (not values or self.value in values)

    def __str__(self) -> str:
        return f"{self.kind}({go_quote(self.value)})" if self.value else self.kind


def go_quote(text: str) -> str:
    """The text as Go prints a string literal."""
    out = []
    names = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", "\\": "\\", '"': '"'}
    for char in text:
        if char in names:
            out.append("\\" + names[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 128:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 65536 else f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


def letter(char: str) -> bool:
    """Whether a name may begin with it."""
    return char != "" and (char in "_$" or char.isalpha())


def word_char(char: str) -> bool:
    """Whether a name may go on with it."""
    return letter(char) or (char != "" and char.isdecimal())


def is_identifier(text: str) -> bool:
    """Whether a text is a name."""
    return letter(text[:1]) and all(map(word_char, text))


class Lexer:
    """`tokens()` gives the tokens of a text one after the other, the last one END. Raises ExpressionError: not before
    the parser comes so far, for what it finds wrong before that is what is reported."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.out: list[Token] = []

    def tokens(self) -> Iterator[Token]:
        """The tokens."""
        text, size = self.text, len(self.text)
        while self.pos < size:
            char, start = text[self.pos], self.pos
            after = text[start + 1 : start + 2]
            if char.isspace():
                self.pos += 1
            elif char in "'\"":
                raw = self.quoted(start, char)
                self.emit(STRING, start, self.unescape(raw, start))
            elif char == "`":
                self.raw(start)
            elif char in "bB" and after != "" and after in "'\"":
                raw = self.quoted(start + 1, after)
                self.emit(BYTES, start, self.unescape(raw, start, as_bytes=True))
            elif char in "0123456789" or (char == "." and after != "" and after in "0123456789"):
                self.number(start)
            elif char == "/" and after == "/":
                end = text.find("\n", start)
                self.pos = end + 1 if end >= 0 else size
            elif char == "/" and after == "*":
                end = text.find("*/", start + 2)
                if end < 0:
                    raise self.error("unclosed comment", size)
                self.pos = end + 2
            else:
                self.other(char, after, start)
            yield from self.out
            self.out.clear()
        yield Token(END, "", max(size - 1, 0))

    def error(self, message: str, at: int) -> ExpressionError:
        """A mistake at a place."""
        return ExpressionError(message, self.text, at)

    def emit(self, kind: str, start: int, value: str | None = None, end: int | None = None) -> None:
        """One more token, up to `end` or where the lexer stands."""
        if end is not None:
            self.pos = end
        self.out.append(Token(kind, self.text[start : self.pos] if value is None else value, start))

    def other(self, char: str, after: str, start: int) -> None:
        """Operators, brackets and names."""
        if char == "#":
            self.emit(OPERATOR, start, end=start + (2 if after == "#" else 1))
            begin = self.pos
            end = self.word(begin)
            if end > begin:
                self.emit(IDENTIFIER, begin, end=end)
        elif char in "([{)]}":
            self.emit(BRACKET, start, end=start + 1)
        elif char in ",;%+-^/":
            self.emit(OPERATOR, start, end=start + 1)
        elif char in "&!=*<>?|:.":
            second = {"?": ".?", "|": "|", ":": ":", ".": "."}.get(char, "&=*")
            self.emit(OPERATOR, start, end=start + (2 if after != "" and after in second else 1))
        elif word_char(char):
            self.name(start)
        else:
            raise self.error(f"unrecognized character: U+{ord(char):04X} '{char}'", start)

    def word(self, at: int) -> int:
        """Where the name that begins at `at` ends."""
        text = self.text
        while at < len(text) and word_char(text[at]):
            at += 1
        return at

    def name(self, start: int) -> None:
        """A name, or an operator that is a word; `not` looks at the word behind it."""
        end = self.word(start)
        text = self.text[start:end]
        self.emit(OPERATOR if text in WORDS or text == "not" else IDENTIFIER, start, end=end)
        if text == "not":
            begin = end
            while self.text[begin : begin + 1] == " ":
                begin += 1
            end = self.word(begin)
            if self.text[begin:end] in NEGATED:
                self.emit(OPERATOR, begin, end=end)

    def number(self, start: int) -> None:
        """A number; what it is worth is the parser's business."""
        text, at, digits = self.text, start, DIGITS[""]
        if text[at] == ".":
            at += 1
        if text[at] == "0":
            at += 1
            base = text[at : at + 1].lower()
            if base in ("x", "o", "b"):
                digits = DIGITS[base]
                at += 1
        at = self.run(at, digits)
        if text[at : at + 1] == ".":
            if text[at + 1 : at + 2] == ".":
                self.emit(NUMBER, start, end=at)
                return
            at = self.run(at + 1, digits)
        if text[at : at + 1] in ("e", "E"):
            at += 1
            if text[at : at + 1] in ("+", "-"):
                at += 1
            at = self.run(at, digits)
        if word_char(text[at : at + 1]):
            raise self.error(f"bad number syntax: {go_quote(text[start : at + 1])}", at)
        self.emit(NUMBER, start, end=at)

    def run(self, at: int, chars: frozenset[str]) -> int:
        """Where a run of some characters ends."""
        while at < len(self.text) and self.text[at] in chars:
            at += 1
        return at

    # ---- strings

    def quoted(self, start: int, quote: str) -> str:
        """The inside of a literal in quotes; the lexer stands behind it."""
        text, at = self.text, start + 1
        while True:
            char = text[at : at + 1]
            if char in ("", "\n"):
                raise self.error("literal not terminated", at)
            at += 1
            if char == quote:
                self.pos = at
                return text[start + 1 : at - 1]
            if char == "\\":
                at = self.escape(at, quote)

    def escape(self, at: int, quote: str) -> int:
        """Where an escape ends of which the first character behind the backslash stands at `at`."""
        char = self.text[at : at + 1]
        if char and (char in SIMPLE or char == quote):
            return at + 1
        if char and char in OCTAL:
            return self.exactly(at, OCTAL, 3)
        if char == "u" and self.text[at + 1 : at + 2] == "{":
            end = self.run(at + 2, HEX)
            if not 0 < end - at - 2 <= 6 or self.text[end : end + 1] != "}":
                raise self.error("invalid char escape", min(end, at + 8) - 1)
            return end + 1
        if char and char in "xuU":
            return self.exactly(at + 1, HEX, {"x": 2, "u": 4, "U": 8}[char])
        raise self.error("invalid char escape", at)

    def exactly(self, at: int, digits: frozenset[str], n: int) -> int:
        """Behind n digits."""
        for i in range(n):
            if self.text[at + i : at + i + 1] not in digits:
                raise self.error("invalid char escape", at + i)
        return at + n

    def unescape(self, raw: str, start: int, as_bytes: bool = False) -> str:
        """What a literal stands for. Bytes come as one character for each, up to 255."""
        if "\\" not in raw:
            return raw.encode().decode("latin-1") if as_bytes else raw
        out, at = [], 0
        while at < len(raw):
            char = raw[at]
            at += 1
            if char != "\\":
                out.append(char.encode().decode("latin-1") if as_bytes else char)
                continue
            char = raw[at]
            at += 1
            if char in OCTAL:
                code, at = int(raw[at - 1 : at + 2], 8), at + 2
                if char > "3":
                    code = -1
            elif char == "u" and raw[at] == "{":
                end = raw.index("}", at)
                code, at = int(raw[at + 1 : end], 16), end + 1
            elif char in "xuU":
                n = {"x": 2, "u": 4, "U": 8}[char]
                code, at = int(raw[at : at + n], 16), at + n
            else:
                out.append(SIMPLE.get(char, char))
                continue
            if not 0 <= code <= 0x10FFFF or (as_bytes and char in "uU"):
                raise self.error("unable to unescape string", self.pos - 1)
            out.append(chr(0xFFFD if 0xD800 <= code <= 0xDFFF else code))
        return "".join(out)

    def raw(self, start: int) -> None:
        """A literal in back quotes: nothing is escaped but the quote, which is doubled."""
        text, at = self.text, start + 1
        while True:
            end = text.find("`", at)
            if end < 0:
                raise self.error("literal not terminated", len(text))
            if text[end + 1 : end + 2] != "`":
                break
            at = end + 2
        self.emit(STRING, start, text[start + 1 : end].replace("``", "`"), end + 1)
