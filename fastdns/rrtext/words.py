# SPDX-License-Identifier: Apache-2.0
"""The words of a record's text.

Strategy: everything is cut in one pass before anything is understood. A word keeps its escapes (`\\.`, `\\065`),
because names and strings undo them differently; a quoted one knows that it was. Parentheses join lines, `;` begins a
comment, the text ends with the first line that has a word.
"""

from __future__ import annotations

import re

from .._wire import name_from_text

PLAIN = re.compile(r'[!#-\'*-:<-\[\]-~]+[ \t][ !#-\'*-:<-\[\]-~\t]*\Z')
DIGITS = re.compile(r"[0-9]{3}")


class Words:
    """A cursor over the words. Its methods raise ValueError when there is none, or another than asked for."""

    def __init__(self, text: str) -> None:
        self.words: list[str] = []
        self.quoted: list[bool] = []
        self.glued: list[bool] = []  # whether no blank stood before it
        self.at = 0
        # Most records are plain words on one line.
        if PLAIN.match(text):
            self.words = text.split()
        else:
            _cut(text, self)

    @property
    def ended(self) -> bool:
        """Whether no word is left."""
        return self.at >= len(self.words)

    def is_quoted(self) -> bool:
        """Whether the next word is quoted."""
        return bool(self.quoted) and not self.ended and self.quoted[self.at]

    def is_glued(self) -> bool:
        """Whether no blank stands before the next word."""
        return bool(self.glued) and not self.ended and self.glued[self.at]

    def peek(self) -> str:
        """The next word, "" where there is none."""
        return "" if self.ended else self.words[self.at]

    def next(self, what: str) -> str:
        """The next word."""
        if self.ended:
            raise ValueError(f"{what} is missing")
        self.at += 1
        return self.words[self.at - 1]

    def rest(self, what: str) -> list[str]:
        """All words that are left, at least one."""
        if self.ended:
            raise ValueError(f"{what} is missing")
        found = self.words[self.at :]
        self.at = len(self.words)
        return found

    def end(self) -> None:
        """Nothing may be left."""
        if not self.ended:
            raise ValueError(f"{self.words[self.at]!r} is one word too many")

    def owner(self) -> bytes:
        """The first word, a name."""
        if self.ended:
            raise ValueError("no record")
        word = self.next("the owner")
        if word.startswith("$") or (self.quoted and self.quoted[0]):
            raise ValueError(f"{word!r} is no owner")
        return name(word)


def _cut(text: str, words: Words) -> None:
    at, end, depth = 0, len(text), 0
    glued = False
    if text[:1] in (" ", "\t"):
        raise ValueError("no owner")
    while at < end:
        ch = text[at]
        if ch == "\n":
            if depth == 0 and words.words:
                break
            glued = False
        elif ch in " \t\r":
            glued = False
        elif ch == ";":
            at = text.find("\n", at)
            if at < 0:
                break
            continue
        elif ch in "()":
            depth += 1 if ch == "(" else -1
            if depth < 0:
                raise ValueError("a closing parenthesis too many")
            glued = False
        elif ch == '"':
            close = _closing(text, at + 1)
            _add(words, text[at + 1 : close], True, glued)
            at = close
            glued = True
        else:
            start = at
            while at < end and text[at] not in ' \t\r\n;()"':
                at += 2 if text[at] == "\\" else 1
            if at > end:
                raise ValueError("an escape without character")
            _add(words, text[start:at], False, glued)
            glued = True
            continue
        at += 1
    if depth:
        raise ValueError("a parenthesis is not closed")


def _closing(text: str, at: int) -> int:
    while at < len(text):
        if text[at] == '"':
            return at
        at += 2 if text[at] == "\\" else 1
    raise ValueError("a quote is not closed")


def _add(words: Words, word: str, quoted: bool, glued: bool) -> None:
    words.words.append(word)
    words.quoted.append(quoted)
    words.glued.append(glued)


def name(word: str) -> bytes:
    """A name in wire form; `@` is the root, under which all relative names are."""
    if word == "@":
        return b"\0"
    return name_from_text(word)


def octets(word: str) -> bytes:
    """A word without its escapes."""
    if "\\" not in word:
        return word.encode("utf-8", "surrogateescape")
    out = bytearray()
    at = 0
    while at < len(word):
        if word[at] != "\\":
            out += word[at].encode("utf-8", "surrogateescape")
            at += 1
            continue
        if DIGITS.match(word, at + 1):
            value = int(word[at + 1 : at + 4])
            if value > 255:
                raise ValueError(f"{word!r} has an escape that is no octet")
            out.append(value)
            at += 4
        elif at + 1 < len(word):
            out += word[at + 1].encode("utf-8", "surrogateescape")
            at += 2
        else:
            raise ValueError("an escape without character")
    return bytes(out)
