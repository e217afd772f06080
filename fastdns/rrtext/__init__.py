# SPDX-License-Identifier: Apache-2.0
"""One resource record from its text, as a zone file has it (RFC 1035 5.1).

    record = parse_record("example.org. 60 IN MX 10 mail")     # owner, type, class, TTL, RDATA: all in wire form

Strategy: words (words.py), then the fields of the type (types.py), straight to wire form: nothing in between is kept,
because a record made for one query is only sent. The header has what CoreDNS's parser lets it have: TTL and class in
either order or not at all (3600, IN), relative names under the root, comments, parentheses. A template's record is a
single one: directives ($INCLUDE reads files there) are refused.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from .._wire import name_from_text
from ..numbers import AAAA, A
from .types import RDATA, TYPE_NUMBERS, generic, type_number
from .words import Words, name

DEFAULT_TTL = 3600
CLASSES = {"IN": 1, "CS": 2, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}
COMMON = re.compile(
    r'([^\s"();@$\\]+) ([0-9]{1,9}) IN (A|AAAA|CNAME|PTR|NS) ([^\s"();@\\]+)\Z', re.ASCII
)
COMMON_TYPES = {A: socket.AF_INET, AAAA: socket.AF_INET6}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Record(NamedTuple):
    """A record: owner and RDATA in wire form, names in it not compressed."""

    owner: bytes
    type: int
    qclass: int
    ttl: int
    rdata: bytes


def parse_record(text: str, ttl: int = DEFAULT_TTL) -> Record:
    """The first record of a text. Raises ValueError, also where there is none."""
    common = COMMON.match(text)
    if common is not None:
        # What most templates make: one line of plain words of a type that has one field.
        owner_text, age, type_text, word = common.groups()
        rtype = TYPE_NUMBERS[type_text]
        try:
            data = socket.inet_pton(COMMON_TYPES[rtype], word) if rtype in COMMON_TYPES else name_from_text(word)
        except OSError:
            raise ValueError(f"{word!r} is no address of type {type_text}") from None
        return Record(name_from_text(owner_text), rtype, 1, int(age), data)
    words = Words(text)
    owner = words.owner()
    rtype, qclass, seconds = _header(words, ttl)
    if words.ended:
        raise ValueError("a record without RDATA")
    if words.peek() == "\\#":
        rdata = generic(words, rtype)
    elif rtype in RDATA:
        rdata = RDATA[rtype](words)
    else:
        raise ValueError(f"type {rtype} has no text but that of RFC 3597")
    words.end()
    if len(rdata) > 65_535:
        raise ValueError("RDATA of more than 65,535 octets")
    return Record(owner, rtype, qclass, seconds, rdata)


def _header(words: Words, ttl: int) -> tuple[int, int, int]:
    """Type, class and TTL."""
    qclass: int | None = None
    seconds: int | None = None
    while True:
        word = words.next("a type, TTL or class")
        upper = word.upper()
        found = class_number(upper)
        if found is not None and qclass is None:
            qclass = found
            continue
        rtype = type_number(upper)
        if rtype is not None and found is None:
            return rtype, 1 if qclass is None else qclass, ttl if seconds is None else seconds
        if seconds is not None:
            raise ValueError(f"{word!r} is no type")
        seconds = ttl_of(word)


def class_number(upper: str) -> int | None:
    """The number of a class's name in capitals, CLASSnnn included; None: it is none."""
    if upper.startswith("CLASS") and upper[5:].isdecimal() and len(upper) < 11 and int(upper[5:]) < 65_536:
        return int(upper[5:])
    return CLASSES.get(upper)


def ttl_of(word: str) -> int:
    """Seconds of `3600` or `1h30m`. Raises ValueError."""
    total = number = 0
    for ch in word.lower():
        if "0" <= ch <= "9":
            number = number * 10 + ord(ch) - 48
        elif ch in UNITS:
            total += number * UNITS[ch]
            number = 0
        else:
            raise ValueError(f"{word!r} is no TTL")
        if total + number > 0xFFFFFFFF:
            raise ValueError(f"{word!r} is no TTL")
    return total + number


__all__ = ["DEFAULT_TTL", "TYPE_NUMBERS", "Record", "class_number", "name", "name_from_text", "parse_record", "ttl_of",
           "type_number"]
