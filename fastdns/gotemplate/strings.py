# SPDX-License-Identifier: Apache-2.0
"""Go's strings in Python: literals, octets, escapes.

Strategy: a Go string is octets, mostly UTF-8; here it is a `str` in which an octet that belongs to no character is a
lone surrogate (PEP 383), so that joining and printing need no conversion. Lengths and positions are of octets.
"""

from __future__ import annotations

import re

SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92}
ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))")
HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
JS_SPECIAL = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


class BadString(Exception):
    """A literal that Go would not take."""


def octets(text: str) -> bytes:
    """The octets of a string."""
    return text.encode("utf-8", "surrogateescape")


def from_octets(data: bytes) -> str:
    """The string of these octets."""
    return data.decode("utf-8", "surrogateescape")


def length(text: str) -> int:
    """Octets."""
    return len(text) if text.isascii() else len(octets(text))


def unquote(literal: str) -> str:
    """The value of a string or character literal. Raises BadString."""
    quote, body = literal[0], literal[1:-1]
    if quote == "`":
        return body.replace("\r", "")
    out = bytearray()
    at = 0
    while at < len(body):
        ch = body[at]
        if ch in (quote, "\n"):
            raise BadString
        if ch != "\\":
            out += octets(ch)
            at += 1
            continue
        found = ESCAPE.match(body, at)
        if found is None:
            raise BadString
        out += _escaped(found, quote)
        at = found.end()
    return from_octets(bytes(out))


def _escaped(found: re.Match[str], quote: str) -> bytes:
    simple, octal, two, four, eight = found.groups()
    if simple is not None:
        if simple in "'\"" and simple != quote:
            raise BadString
        return bytes([SIMPLE.get(simple) or ord(simple)])
    if octal is not None or two is not None:
        value = int(octal, 8) if octal is not None else int(two, 16)
        if value > 255:
            raise BadString
        return octets(chr(value)) if quote == "'" else bytes([value])
    value = int(four or eight, 16)
    if value > 0x10FFFF or 0xD800 <= value < 0xE000:
        raise BadString
    return chr(value).encode()


def html(text: str) -> str:
    """Escaped for HTML, as Go's template escapes."""
    return text.translate(HTML)


def _js(ch: str) -> str:
    if ch in JS_SPECIAL:
        return JS_SPECIAL[ch]
    if ch < " ":
        return f"\\u{ord(ch):04X}"
    if ch < "\x80" or ch.isprintable():
        return ch
    return f"\\u{0xFFFD if 0xD800 <= ord(ch) < 0xE000 else ord(ch):04X}"


def javascript(text: str) -> str:
    """Escaped for a JavaScript string, as Go's template escapes."""
    return "".join(map(_js, text))


def url_query(text: str) -> str:
    """Escaped for the query of a URL, as Go's net/url escapes."""
    return "".join(
        chr(c) if chr(c) in UNRESERVED else "+" if c == 32 else f"%{c:02X}" for c in octets(text)
    )
