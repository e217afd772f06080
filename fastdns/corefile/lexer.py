# SPDX-License-Identifier: Apache-2.0
"""Corefile text to tokens.

Strategy: one pass over the decoded text with an index; a token is a word between white space or a quoted
string, and keeps the place where it began. The rules are CoreDNS's, odd ones included, because the hash
that decides about a reload is computed over tokens and lines:

- a byte order mark at the start is dropped; octets that are not UTF-8 become U+FFFD, one each;
- CR outside quotes is dropped and separates nothing;
- `#` opens a comment anywhere outside quotes; glued to a word it ends at the next white space, not at
  the end of the line (`a#b c` is `a`, `c`);
- `"` quotes only at the start of a token; inside, `\\"` is a quote and every other backslash stays;
  the closing quote ends the token; an unclosed quote runs to the end of the text.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple

# Go's unicode.IsSpace; str.isspace() also takes the separators U+001C..U+001F.
SPACE = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def _one_octet(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("fastdns.corefile", _one_octet)


class Token(NamedTuple):
    """One word: `text`, the `file` it came from ("" = the Corefile itself), `line` and `column` from 1."""

    text: str
    file: str = ""
    line: int = 0
    column: int = 0


def decode(body: bytes) -> str:
    """UTF-8 text of a Corefile; each octet that is not UTF-8 becomes one U+FFFD."""
    return body.decode("utf-8", "fastdns.corefile")


def tokenize(text: str | bytes, file: str = "", opened: list[Token] | None = None) -> list[Token]:
    """All tokens of `text` in order. Never fails: any text has a reading. `opened` gets the token whose quote is never
    closed, if there is one."""
    if isinstance(text, bytes):
        text = decode(text)
    tokens: list[Token] = []
    at = 1 if text.startswith("\ufeff") else 0
    line, line_start, end = 1, at, len(text)
    while at < end:
        ch = text[at]
        if ch in SPACE:
            at += 1
            if ch == "\n":
                line, line_start = line + 1, at
        elif ch == "#":
            newline = text.find("\n", at)
            at = end if newline < 0 else newline
        else:
            place = (file, line, at - line_start + 1)
            if ch == '"':
                word, closed, at = _quoted(text, at + 1)
                breaks = word.count("\n")
                if breaks:
                    line, line_start = line + breaks, text.rindex("\n", 0, at) + 1
                if opened is not None and not closed:
                    opened.append(Token(word, *place))
                if not (closed or word):
                    continue
            else:
                word, at = _word(text, at)
            tokens.append(Token(word, *place))
    return tokens


def _quoted(text: str, at: int) -> tuple[str, bool, int]:
    """(content, closed, index behind) of the quoted string whose content starts at `at`."""
    parts: list[str] = []
    end = len(text)
    while at < end:
        ch = text[at]
        if ch == '"':
            return "".join(parts), True, at + 1
        if ch == "\\":
            at += 1
            if at >= end:
                break
            if text[at] != '"':
                parts.append("\\")
        parts.append(text[at])
        at += 1
    return "".join(parts), False, end


def _word(text: str, at: int) -> tuple[str, int]:
    """(word, index of the white space that ends it) from `at`; a glued comment is skipped."""
    parts: list[str] = []
    comment = False
    end = len(text)
    while at < end:
        ch = text[at]
        if ch in SPACE and ch != "\r":
            break
        if ch == "#":
            comment = True
        if not comment and ch != "\r":
            parts.append(ch)
        at += 1
    return "".join(parts), at
