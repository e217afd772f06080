# SPDX-License-Identifier: Apache-2.0
"""Where things stand in a Corefile's text: tokens with their offsets, and the server blocks of the file itself.

Strategy: the lexer says line and column of each token; this turns them into offsets, so that an edit touches the
octets of one token and nothing else. The outline walks keys and braces as the parser does, but follows no import: what
it finds is a guess that the editor tries and the parser judges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..corefile.environment import replace_env
from ..corefile.lexer import SPACE, Token, tokenize


@dataclass(frozen=True)
class Place:
    """A token of the file. `start` and `end`: offsets into the text; quotes belong to it, a glued comment does not."""

    token: Token
    start: int
    end: int


@dataclass(frozen=True)
class Outline:
    """A server block of the file: its opening brace (None: it has none, and runs to the end of the file), and the first
    token behind that."""

    opens: Place | None
    first: Place | None
    last_key: Place


class Text:
    """A Corefile's text, octets that are not UTF-8 included, and its tokens."""

    def __init__(self, body: bytes) -> None:
        # As many characters as in the lexer's decoding: one for each octet that is not UTF-8.
        self.text = body.decode("utf-8", "surrogateescape")
        self.starts = [1 if self.text.startswith("\ufeff") else 0]
        self.starts += [at + 1 for at, ch in enumerate(self.text) if ch == "\n"]
        self.places = [self._place(token) for token in tokenize(body)]
        self._by_start = {(place.token.line, place.token.column): place for place in self.places}

    def _place(self, token: Token) -> Place:
        start = self.starts[token.line - 1] + token.column - 1
        return Place(token, start, self._end(start))

    def _end(self, at: int) -> int:
        text, end = self.text, len(self.text)
        if text[at] == '"':
            at += 1
            while at < end and text[at] != '"':
                at += 2 if text[at] == "\\" else 1
            return min(at + 1, end)
        start = at
        while at < end and text[at] != "#" and (text[at] == "\r" or text[at] not in SPACE):
            at += 1
        while at > start and text[at - 1] == "\r":
            at -= 1
        return at

    def find(self, token: Token) -> Place:
        """The place of a token that the parser took from this file."""
        return self._by_start[token.line, token.column]

    def line_start(self, at: int) -> int:
        """Where the line of offset `at` begins."""
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at: int) -> int:
        """Where the line of offset `at` ends: its line break, or the end of the text."""
        newline = self.text.find("\n", at)
        return len(self.text) if newline < 0 else newline

    def indent(self, at: int) -> str:
        """The white space that the line of offset `at` begins with."""
        start = at = self.line_start(at)
        while at < len(self.text) and self.text[at] in " \t":
            at += 1
        return self.text[start:at]

    def newline(self, at: int) -> str:
        """The line break that is usual there."""
        end = self.line_end(at)
        before = self.line_start(at) - 1
        near = end if end < len(self.text) else before
        return "\r\n" if near > 0 and self.text[near - 1] == "\r" else "\n"


def _begins_line(places: Sequence[Place], at: int) -> bool:
    if at == 0:
        return True
    last = places[at - 1].token
    return last.line + last.text.count("\n") < places[at].token.line


def outline(text: Text, environ: Mapping[str, str]) -> list[Outline]:
    """The server blocks of the file, in order."""
    places, found, at = text.places, [], 0
    while at < len(places):
        keys, at = _keys(places, at, environ)
        if not keys:
            if at < len(places) and places[at].token.text == "{":
                at = _behind(places, at)
            continue
        braces = at < len(places) and places[at].token.text == "{"
        if not _is_snippet(keys):
            behind = at + 1 if braces else at
            first = places[behind] if behind < len(places) else None
            found.append(Outline(places[at] if braces else None, first, keys[-1]))
        at = _behind(places, at) if braces else len(places)
    return found


def _is_snippet(keys: Sequence[Place]) -> bool:
    text = keys[0].token.text
    return len(keys) == 1 and text.startswith("(") and text.endswith(")")


def _keys(places: Sequence[Place], at: int, environ: Mapping[str, str]) -> tuple[list[Place], int]:
    keys: list[Place] = []
    expecting = False
    while at < len(places):
        key = replace_env(places[at].token.text, environ)
        if key == "import" and _begins_line(places, at):
            at += 1
            while at < len(places) and not _begins_line(places, at):
                at += 1
            if not keys:
                return [], at
            continue
        if key == "{":
            break
        if key:
            expecting = key.endswith(",")
            keys.append(places[at])
        at += 1
        if at < len(places) and not expecting and _begins_line(places, at):
            break
    return keys, at


def _behind(places: Sequence[Place], at: int) -> int:
    """The index behind the block whose brace opens at `at`."""
    depth = 0
    while at < len(places):
        word = places[at].token.text
        depth += (word == "{") - (word == "}")
        at += 1
        if depth == 0:
            break
    return at
