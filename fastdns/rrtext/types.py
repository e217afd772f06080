# SPDX-License-Identifier: Apache-2.0
"""RDATA from words: a row of fields for each type.

Strategy: a field reads words and returns octets, so a type is its fields, joined. What is odd has a function of its own
(here, or in service.py and places.py). Types without a row are written as RFC 3597 says, `\\# LENGTH HEX`, which every
type may be; that form is read back by the message parser where the type is known, so a record of a wrong shape never
leaves.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import socket
from collections.abc import Callable

from .._log import TYPES
from ..numbers import AAAA, DNAME, HTTPS, MX, NAPTR, NS, PTR, SOA, SRV, SVCB, TXT, A
from .places import amtrelay, apl, gpos, hip, ipseckey, loc
from .service import service
from .words import Words, name, octets

Reader = Callable[[Words], bytes]

TYPE_NUMBERS = {text.upper(): number for number, text in TYPES.items()}
ALGORITHMS = {
    "RSAMD5": 1, "DH": 2, "DSA": 3, "RSASHA1": 5, "DSA-NSEC3-SHA1": 6, "RSASHA1-NSEC3-SHA1": 7, "RSASHA256": 8,
    "RSASHA512": 10, "ECC-GOST": 12, "ECDSAP256SHA256": 13, "ECDSAP384SHA384": 14, "ED25519": 15, "ED448": 16,
    "INDIRECT": 252, "PRIVATEDNS": 253, "PRIVATEOID": 254,
}  # fmt: skip
CERTIFICATES = {"PKIX": 1, "SPKI": 2, "PGP": 3, "IPIX": 4, "ISPKI": 5, "IPGP": 6, "ACPKIX": 7, "IACPKIX": 8,
                "URI": 253, "OID": 254}  # fmt: skip
NUMBER = re.compile(r"[0-9]{1,10}")


def type_number(upper: str) -> int | None:
    """The number of a type's name in capitals, TYPEnnn included; None: it is none."""
    found = TYPE_NUMBERS.get(upper)
    if found is None and upper.startswith("TYPE") and NUMBER.fullmatch(upper, 4) and int(upper[4:]) < 65_536:
        return int(upper[4:])
    return found


# ---- fields


def whole(word: str, bits: int) -> int:
    """An unsigned decimal number of so many bits."""
    if NUMBER.fullmatch(word) is None or int(word) >> bits:
        raise ValueError(f"{word!r} is no number of {bits} bits")
    return int(word)


def number(bits: int) -> Reader:
    """A field of so many bits."""
    return lambda words: whole(words.next("a number"), bits).to_bytes(bits // 8, "big")


u8, u16, u32 = number(8), number(16), number(32)


def seconds(words: Words) -> bytes:
    """A number of seconds, units allowed."""
    from . import ttl_of

    return ttl_of(words.next("a time")).to_bytes(4, "big")


def domain(words: Words) -> bytes:
    """A name."""
    return name(words.next("a name"))


def named(table: dict[str, int], bits: int) -> Reader:
    """A number or its name."""

    def read(words: Words) -> bytes:
        word = words.next("a number")
        found = table.get(word.upper())
        return (whole(word, bits) if found is None else found).to_bytes(bits // 8, "big")

    return read


algorithm = named(ALGORITHMS, 8)


def hexadecimal(words: Words) -> bytes:
    """Octets to the end."""
    return unhex("".join(words.rest("hexadecimal data")))


def unhex(text: str) -> bytes:
    """Octets of hexadecimal digits."""
    try:
        return binascii.unhexlify(text)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is not hexadecimal") from None


def unbase64(text: str) -> bytes:
    """Octets of base 64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is not base 64") from None


def base64_rest(words: Words) -> bytes:
    """Octets to the end."""
    return unbase64("".join(words.rest("data in base 64")))


def counted(data: bytes) -> bytes:
    """Octets behind their number."""
    if len(data) > 255:
        raise ValueError("more than 255 octets")
    return bytes([len(data)]) + data


def salt(words: Words) -> bytes:
    """NSEC3's salt."""
    word = words.next("a salt")
    return counted(b"" if word == "-" else unhex(word))


def hashed(words: Words) -> bytes:
    """NSEC3's next owner in base 32 with extended hexadecimal digits."""
    word = words.next("a hash").upper()
    try:
        return counted(base64.b32hexdecode(word + "=" * (-len(word) % 8)))
    except (binascii.Error, ValueError):
        raise ValueError(f"{word!r} is not base 32") from None


def covered(words: Words) -> bytes:
    """A type."""
    word = words.next("a type")
    found = type_number(word.upper())
    if found is None:
        raise ValueError(f"{word!r} is no type")
    return found.to_bytes(2, "big")


def bitmap(words: Words) -> bytes:
    """Types to the end (RFC 4034 4.1.2)."""
    windows: dict[int, bytearray] = {}
    while not words.ended:
        found = int.from_bytes(covered(words), "big")
        bits = windows.setdefault(found >> 8, bytearray())
        place = found & 255
        bits.extend(bytes(max(0, place // 8 + 1 - len(bits))))
        bits[place // 8] |= 128 >> place % 8
    return b"".join(bytes([window, len(bits)]) + bits for window, bits in sorted(windows.items()))


def moment(words: Words) -> bytes:
    """YYYYMMDDHHmmSS, or seconds since 1970."""
    word = words.next("a time")
    if len(word) == 14 and word.isdecimal():
        parts = [int(word[at : at + 2]) for at in range(4, 14, 2)]
        if 1 <= parts[0] <= 12 and 1 <= parts[1] <= 31 and parts[2] < 24 and parts[3] < 60 and parts[4] < 60:
            return (calendar.timegm((int(word[:4]), *parts)) & 0xFFFFFFFF).to_bytes(4, "big")
    return whole(word, 32).to_bytes(4, "big")


def address(family: int) -> Reader:
    """An address."""

    def read(words: Words) -> bytes:
        word = words.next("an address")
        try:
            return socket.inet_pton(family, word)
        except (OSError, ValueError):
            raise ValueError(f"{word!r} is no IPv{4 if family == socket.AF_INET else 6} address") from None

    return read


def strings(words: Words) -> bytes:
    """Strings to the end; one of more than 255 octets is split."""
    out = bytearray()
    for word in words.rest("a string"):
        data = octets(word)
        for at in range(0, len(data) or 1, 255):
            out += counted(data[at : at + 255])
    return bytes(out)


def string(words: Words) -> bytes:
    """One string."""
    return counted(octets(words.next("a string")))


def quoted(words: Words) -> bytes:
    """One string that must be quoted."""
    if not words.is_quoted():
        raise ValueError(f"{words.peek()!r} needs quotes")
    return string(words)


def last(words: Words) -> bytes:
    """One word to the end, without its length."""
    found = words.rest("a value")
    if len(found) != 1:
        raise ValueError("one value is wanted")
    return octets(found[0])


def pair(words: Words) -> bytes:
    """Two strings: the words, or what one word holds; words behind the second are part of it."""
    found = words.rest("a string")
    if len(found) == 1:
        found = found[0].split() if len(found[0].split()) > 1 else [found[0], ""]
    return counted(octets(found[0])) + counted(octets(" ".join(found[1:])))


def first_string(words: Words) -> bytes:
    """The first of some strings."""
    return counted(octets(words.rest("a string")[0]))


def hardware(size: int) -> Reader:
    """A hardware address of `size` octets joined by dashes."""

    def read(words: Words) -> bytes:
        word = words.next("an address")
        if re.fullmatch(rf"[0-9a-fA-F]{{2}}(-[0-9a-fA-F]{{2}}){{{size - 1}}}", word) is None:
            raise ValueError(f"{word!r} is no hardware address of {size} octets")
        return unhex(word.replace("-", ""))

    return read


def node(words: Words) -> bytes:
    """A node's 64 bits, in four groups joined by colons (RFC 6742)."""
    word = words.next("a node")
    if re.fullmatch(r"[0-9a-fA-F]{4}(:[0-9a-fA-F]{4}){3}", word) is None:
        raise ValueError(f"{word!r} is not 64 bits")
    return unhex(word.replace(":", ""))


def row(*fields: Reader) -> Reader:
    """RDATA made of fields."""
    if len(fields) == 1:
        return fields[0]
    return lambda words: b"".join([read(words) for read in fields])


def generic(words: Words, rtype: int) -> bytes:
    """`\\# LENGTH HEX` (RFC 3597 5). Where the type has a shape, the octets must have it."""
    words.next("RDATA")
    size = whole(words.next("a length"), 16)
    data = unhex("".join([] if words.ended else words.rest("RDATA")))
    if len(data) != size:
        raise ValueError("RDATA of another length than it says")
    if rtype in RDATA:
        from ..message import Message

        head = b"\0\0\x80\0" + b"\0\0\0\1" + bytes(4)
        Message.parse(head + b"\0" + rtype.to_bytes(2, "big") + b"\0\1" + bytes(4) + size.to_bytes(2, "big") + data)
        if not data:
            raise ValueError("a record without RDATA")
    return data


v4, v6 = address(socket.AF_INET), address(socket.AF_INET6)
host, ds, key = row(u16, domain), row(u16, algorithm, u8, hexadecimal), row(u16, u8, algorithm, base64_rest)
signature = row(covered, algorithm, u8, u32, moment, moment, u16, domain, base64_rest)
tlsa = row(u8, u8, u8, hexadecimal)

RDATA: dict[int, Reader] = {
    A: v4, NS: domain, 3: domain, 4: domain, 5: domain, 7: domain, 8: domain, 9: domain, PTR: domain, DNAME: domain,
    SOA: row(domain, domain, u32, seconds, seconds, seconds, seconds),
    13: pair, 14: row(domain, domain), MX: host, TXT: strings, 17: row(domain, domain), 18: host, 19: string, 20: pair,
    21: host, 23: domain, 24: signature, 25: key, 26: row(u16, domain, domain), 27: gpos, AAAA: v6, 29: loc,
    30: row(domain, bitmap), 31: hexadecimal, 32: hexadecimal, SRV: row(u16, u16, u16, domain),
    NAPTR: row(u16, u16, quoted, quoted, quoted, domain), 36: host, 37: row(named(CERTIFICATES, 16), u16, algorithm,
                                                                          base64_rest),
    42: apl, 43: ds, 44: row(u8, u8, hexadecimal), 45: ipseckey, 46: signature, 47: row(domain, bitmap), 48: key,
    49: base64_rest, 50: row(u8, u8, u16, salt, hashed, bitmap), 51: row(u8, u8, u16, salt), 52: tlsa, 53: tlsa,
    55: hip, 56: strings, 57: key, 58: row(domain, domain), 59: ds, 60: key, 61: base64_rest, 62: row(u32, u16, bitmap),
    63: row(u32, u8, u8, hexadecimal), SVCB: service, HTTPS: service, 99: strings, 100: first_string, 101: u32,
    102: u32, 104: row(u16, node), 105: row(u16, v4), 106: row(u16, node), 107: host, 108: hardware(6),
    109: hardware(8), 256: row(u16, u16, last), 257: row(u8, string, last), 258: strings, 260: amtrelay, 261: strings,
    32768: ds, 32769: ds,
}  # fmt: skip
