# SPDX-License-Identifier: Apache-2.0
"""SVCB and HTTPS from words (RFC 9460).

Strategy: a parameter is `key`, `key=value` or `key="value"`; each key has a reader, and a key without one takes any
octets. They are written in the order of their numbers, each once.
"""

from __future__ import annotations

import base64
import binascii
import re
import socket
from collections.abc import Callable

from .words import Words, name, octets

KEYS = {"mandatory": 0, "alpn": 1, "no-default-alpn": 2, "port": 3, "ipv4hint": 4, "ech": 5, "ipv6hint": 6,
        "dohpath": 7, "ohttp": 8}  # fmt: skip
NUMBERED = re.compile(r"key(0|[1-9][0-9]{0,4})")


def key_number(text: str) -> int:
    """The number of a key."""
    found = KEYS.get(text)
    if found is None:
        numbered = NUMBERED.fullmatch(text)
        found = int(numbered[1]) if numbered else 65_535
    if found >= 65_535:
        raise ValueError(f"{text!r} is no key of a service")
    return found


def _mandatory(value: str) -> bytes:
    keys = sorted({key_number(key) for key in value.split(",")})
    return b"".join(key.to_bytes(2, "big") for key in keys)


def _alpn(value: str) -> bytes:
    # A comma within an identifier is escaped twice: once for the list, once for the string.
    out, item = bytearray(), bytearray()
    data, at = octets(value), 0
    while at <= len(data):
        if at == len(data) or data[at] == 44:
            if not 0 < len(item) < 256:
                raise ValueError(f"alpn {value!r}: an identifier has 1 to 255 octets")
            out += bytes([len(item)]) + item
            item.clear()
        elif data[at] == 92:
            at += 1
            if at == len(data):
                raise ValueError(f"alpn {value!r}: an escape without character")
            item.append(data[at])
        else:
            item.append(data[at])
        at += 1
    return bytes(out)


def _nothing(value: str) -> bytes:
    if value:
        raise ValueError(f"{value!r}: this key takes no value")
    return b""


def _port(value: str) -> bytes:
    if not value.isdecimal() or len(value) > 5 or int(value) > 65_535:
        raise ValueError(f"{value!r} is no port")
    return int(value).to_bytes(2, "big")


def _hints(family: int) -> Callable[[str], bytes]:
    def read(value: str) -> bytes:
        try:
            return b"".join([socket.inet_pton(family, each) for each in value.split(",")])
        except (OSError, ValueError):
            raise ValueError(f"{value!r} is no list of addresses") from None

    return read


def _ech(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{value!r} is not base 64") from None


READERS: dict[int, Callable[[str], bytes]] = {
    0: _mandatory, 1: _alpn, 2: _nothing, 3: _port, 4: _hints(socket.AF_INET), 5: _ech, 6: _hints(socket.AF_INET6),
    8: _nothing,
}  # fmt: skip


def service(words: Words) -> bytes:
    """Priority, target and parameters."""
    priority = words.next("a priority")
    if not priority.isdecimal() or len(priority) > 5 or int(priority) > 65_535:
        raise ValueError(f"{priority!r} is no priority")
    target = name(words.next("a target"))
    found: dict[int, bytes] = {}
    while not words.ended:
        if words.is_quoted() or words.is_glued():
            raise ValueError(f"{words.peek()!r}: parameters are KEY=VALUE with blanks between them")
        key, equals, value = words.next("a parameter").partition("=")
        if equals and not value and words.is_quoted() and words.is_glued():
            value = words.next("a value")
        number = key_number(key)
        if number in found:
            raise ValueError(f"{key!r} stands there twice")
        data = READERS.get(number, octets)(value)
        if len(data) > 65_535:
            raise ValueError("a value has at most 65,535 octets")
        found[number] = data
    pairs = [key.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for key, data in sorted(found.items())]
    return int(priority).to_bytes(2, "big") + target + b"".join(pairs)
