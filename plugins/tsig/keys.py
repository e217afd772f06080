# SPDX-License-Identifier: Apache-2.0
"""Keys as people write them: names, secrets in base 64, and files with `key` statements of named.conf.

Strategy: the file is cut into words, quoted texts, braces and semicolons, with the comments of named.conf left out; the
statements are then read from that, so it does not matter where a line ends. Semicolons and braces may be missing where
CoreDNS does not miss them. A secret never stands in an error text.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastdns._wire import name_from_text
from fastdns.corefile.names import normalize
from fastdns.corefile.units import quote

FILE_MOST = 1 << 20
SECRET_MOST = 1024
TOKEN = re.compile(
    r'(?P<comment>#[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<text>"[^"\n]*")|(?P<open>"|/\*)|(?P<mark>[{};])'
    r'|(?P<word>[^\s"{};]+)',
    re.S,
)


class Token(NamedTuple):
    """A word of a key file, without its quotes. `mark`: a brace or a semicolon."""

    text: str
    line: int
    mark: bool


def key_name(text: str) -> str:
    """A key's name in lower case with final dot. ValueError: it is none."""
    name = normalize(text)
    try:
        name_from_text(name)
    except ValueError:
        raise ValueError(f"invalid key name {quote(text)}") from None
    return name


def secret_octets(name: str, text: str) -> bytes:
    """The octets of the secret of key `name`. ValueError without them: they are not for a log."""
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the secret of key {quote(name)} is not base 64") from None
    if not 0 < len(secret) <= SECRET_MOST:
        raise ValueError(f"the secret of key {quote(name)} has {len(secret)} octets; 1 to {SECRET_MOST} are allowed")
    return secret


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a file. ValueError: a quote or a comment has no end."""
    line = 1
    at = 0
    for found in TOKEN.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        kind, word = found.lastgroup, found.group()
        if kind == "open":
            raise ValueError(f"line {line}: {word} has no end")
        if kind != "comment":
            yield Token(word.strip('"') if kind == "text" else word, line, kind == "mark")


class Statements:
    """Reads the tokens of one file."""

    def __init__(self, text: str) -> None:
        self.left = [token for token in tokens(text) if token.text != ";" or not token.mark]
        self.left.reverse()
        self.line = 1

    def take(self, what: str) -> str:
        """The next word, which is `what`."""
        if not self.left or self.left[-1].mark or not self.left[-1].text:
            raise ValueError(f"line {self.line}: expected {what}")
        token = self.left.pop()
        self.line = token.line
        return token.text

    def skip(self, mark: str) -> bool:
        """Whether the next token was this mark."""
        if self.left and self.left[-1].mark and self.left[-1].text == mark:
            self.line = self.left.pop().line
            return True
        return False

    def unexpected(self) -> ValueError:
        """The error about the next token."""
        token = self.left[-1]
        return ValueError(f"line {token.line}: unexpected token {quote(token.text)}")

    def key(self) -> tuple[str, bytes]:
        """One statement: name and secret."""
        if self.left[-1].mark or self.left[-1].text != "key":
            raise self.unexpected()
        self.line = self.left.pop().line
        name = key_name(self.take("a key's name"))
        self.skip("{")
        secret = b""
        while self.left and not self.skip("}"):
            if self.left[-1].mark or self.left[-1].text not in ("algorithm", "secret"):
                raise self.unexpected()
            word, self.line, _ = self.left.pop()
            if word == "algorithm":
                self.take("an algorithm")
            else:
                secret = secret_octets(name, self.take(f"the secret of key {quote(name)}"))
        if not secret:
            raise ValueError(f"expected secret for key {quote(name)}")
        return name, secret


def parse_keys(text: str) -> dict[str, bytes]:
    """The keys of a file's text. ValueError with what is wrong, and mostly with the line."""
    found: dict[str, bytes] = {}
    statements = Statements(text)
    while statements.left:
        name, secret = statements.key()
        if name in found:
            raise ValueError(f"key {quote(name)} redefined")
        found[name] = secret
    return found


def read_keys(path: str) -> dict[str, bytes]:
    """The keys of a file. ValueError with what is wrong, in words that name the file."""
    try:
        with Path(path).open("rb") as file:
            octets = file.read(FILE_MOST + 1)
    except OSError as error:
        raise ValueError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    if len(octets) > FILE_MOST:
        raise ValueError(f"{path}: more than {FILE_MOST:,} octets")
    try:
        return parse_keys(octets.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
