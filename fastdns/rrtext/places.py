# SPDX-License-Identifier: Apache-2.0
"""RDATA of the types whose words are not simply a row: LOC, GPOS, APL, HIP, IPSECKEY, AMTRELAY.

Strategy: a function for each, by its RFC; numbers, names and data are read as in types.py.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import socket

from .words import Words, name

SIZE = re.compile(r"([0-9]{1,8})?(?:\.([0-9]{1,2}))?m?", re.I)
EQUATOR = 1 << 31


def _number(words: Words, most: int, what: str) -> int:
    word = words.next(what)
    if not word.isascii() or not word.isdecimal() or len(word) > 10 or int(word) > most:
        raise ValueError(f"{word!r} is no {what}")
    return int(word)


def _float(word: str, what: str) -> float:
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", word, re.I) is None:
        raise ValueError(f"{word!r} is no {what}")
    return float(word)


def _angle(words: Words, most: int, signs: str) -> int:
    """Degrees, minutes, seconds and a side, in thousandths of a second."""
    total = _number(words, most, "number of degrees") * 3_600_000
    if words.peek().upper() not in tuple(signs):
        total += _number(words, 59, "number of minutes") * 60_000
        if words.peek().upper() not in tuple(signs):
            part = _float(words.next("seconds"), "number of seconds")
            if not 0 <= part < 60:
                raise ValueError(f"{part} seconds")
            total += int(part * 1000)
    side = words.next(f"{signs[0]} or {signs[1]}").upper()
    if side not in tuple(signs):
        raise ValueError(f"{side!r} is neither {signs[0]} nor {signs[1]}")
    return EQUATOR + total if side == signs[0] else EQUATOR - total


def _metres(word: str) -> int:
    found = SIZE.fullmatch(word)
    if found is None or not (found[1] or found[2]):
        raise ValueError(f"{word!r} is no length")
    metres, part = int(found[1] or 0), int((found[2] or "0").ljust(2, "0"))
    if metres > 90_000_000 or (metres == 90_000_000 and part):
        raise ValueError(f"{word!r} is too long")
    value, exponent = (metres, 2) if metres else (part, 0)
    while value >= 10:
        value //= 10
        exponent += 1
    return value << 4 | exponent


def loc(words: Words) -> bytes:
    """A place (RFC 1876)."""
    latitude, longitude = _angle(words, 90, "NS"), _angle(words, 180, "EW")
    altitude = int(_float(words.next("an altitude").rstrip("mM"), "altitude") * 100 + 10_000_000 + 0.5)
    if not 0 <= altitude < 1 << 32:
        raise ValueError("an altitude out of bounds")
    sizes = [0x12, 0x16, 0x13]
    for at in range(3):
        if not words.ended:
            sizes[at] = _metres(words.next("a size"))
    return bytes([0, *sizes]) + b"".join(v.to_bytes(4, "big") for v in (latitude, longitude, altitude))


def gpos(words: Words) -> bytes:
    """A place in decimal degrees (RFC 1712)."""
    out = b""
    for what in ("longitude", "latitude", "altitude"):
        word = words.next(what)
        _float(word, what)
        out += bytes([len(word)]) + word.encode()
    return out


def apl(words: Words) -> bytes:
    """Address prefixes (RFC 3123)."""
    out = bytearray()
    for word in words.rest("a prefix"):
        family, _, network = word.removeprefix("!").partition(":")
        try:
            net = ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"{word!r} is no prefix") from None
        if family != {4: "1", 6: "2"}[net.version] or "/" not in network:
            raise ValueError(f"{word!r} is no prefix")
        octets = net.network_address.packed.rstrip(b"\0")
        out += int(family).to_bytes(2, "big") + bytes([net.prefixlen])
        out += bytes([len(octets) | (128 if word[0] == "!" else 0)]) + octets
    return bytes(out)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is not base 64") from None


def hip(words: Words) -> bytes:
    """A host identity (RFC 8005)."""
    algorithm = _number(words, 255, "algorithm")
    try:
        tag = bytes.fromhex(words.next("a host identity tag"))
    except ValueError:
        raise ValueError("a host identity tag is hexadecimal") from None
    key = _decoded(words.next("a key"))
    if len(tag) > 255 or len(key) > 65_535:
        raise ValueError("a host identity that is too long")
    servers = b""
    while not words.ended:
        servers += name(words.next("a server"))
    return bytes([len(tag), algorithm]) + len(key).to_bytes(2, "big") + tag + key + servers


def _gateway(kind: int, word: str) -> bytes:
    if kind == 0:
        if word != ".":
            raise ValueError(f"{word!r} is a gateway, and its type is none")
        return b""
    if kind == 3:
        return name(word)
    try:
        return socket.inet_pton(socket.AF_INET if kind == 1 else socket.AF_INET6, word)
    except (OSError, ValueError):
        raise ValueError(f"{word!r} is no gateway of type {kind}") from None


def ipseckey(words: Words) -> bytes:
    """A key and its gateway (RFC 4025)."""
    precedence, kind = _number(words, 255, "precedence"), _number(words, 3, "gateway's type")
    algorithm = _number(words, 255, "algorithm")
    gateway = _gateway(kind, words.next("a gateway"))
    key = b"" if words.ended else _decoded("".join(words.rest("a key")))
    return bytes([precedence, kind, algorithm]) + gateway + key


def amtrelay(words: Words) -> bytes:
    """A relay (RFC 8777)."""
    precedence, discovery = _number(words, 255, "precedence"), _number(words, 1, "discovery bit")
    kind = _number(words, 3, "relay's type")
    return bytes([precedence, discovery << 7 | kind]) + _gateway(kind, words.next("a relay"))
