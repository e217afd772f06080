# SPDX-License-Identifier: Apache-2.0
"""What of a query an answer may depend on: the words of a plugin's `depends`.

Strategy: a fact is a name and, for some, an argument. Block, zone, address of the listener, type, class, opcode, RD and
CD are in every key and need no word. `key` makes of a set what the compiled stage wants (`_kept`): bits, lengths of
prefixes, option codes and places of labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .labels import Labels


class Fact(NamedTuple):
    """One word. `arguments`: bits of prefixes, a code, a label."""

    name: str
    arguments: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})" if self.arguments else self.name


NAME = Fact("NAME")
"""`query.name`."""
CASE = Fact("CASE")
"""The letters of the name as the client wrote them, `query.qname`."""
FAMILY = Fact("FAMILY")
"""IPv4 or IPv6, `query.family`."""
PORT = Fact("PORT")
"""The client's port."""
PROTO = Fact("PROTO")
"""`query.proto`."""
SERVER = Fact("SERVER")
"""The address that was asked, `query.local`."""
AD = Fact("AD")
"""`query.ad`."""
DO = Fact("DO")
"""`query.do`."""
EDNS_SIZE = Fact("EDNS_SIZE")
"""Whether there is an OPT and how long a reply may be: `query.edns`, `query.bufsize`."""
RD = Fact("RD")
"""`query.rd`; in every key."""
CD = Fact("CD")
"""`query.cd`; in every key."""
DATA = Fact("DATA")
"""What the plugin publishes; in every key of a plugin that does."""


def CLIENT(ipv4: int = 32, ipv6: int = 128) -> Fact:  # noqa: N802 - written like the other words
    """The first bits of the client's address, `query.client`. ValueError."""
    if not (0 <= ipv4 <= 32 and 0 <= ipv6 <= 128):
        raise ValueError(f"prefixes have at most 32 and 128 bits, not {ipv4} and {ipv6}")
    return Fact("CLIENT", (ipv4, ipv6))


def OPTION(code: int) -> Fact:  # noqa: N802 - written like the other words
    """An option of the query's OPT, `query.option(code)`. A query with an option that no fact names is not answered
    by what is kept. ValueError."""
    if not 0 <= code <= 65535:
        raise ValueError(f"option codes have 16 bits, not {code}")
    return Fact("OPTION", (code,))


def METADATA(label: str) -> Fact:  # noqa: N802 - written like the other words
    """A label of `query.metadata`, which the plugin said that it reads (`block.labels.read`)."""
    return Fact("METADATA", (label,))


BITS: dict[str, tuple[str, ...]] = {
    "NAME": ("NAME",), "CASE": ("NAME", "CASE"), "CLIENT": ("CLIENT", "FAMILY"), "FAMILY": ("FAMILY",),
    "PORT": ("PORT",), "PROTO": ("PROTO",), "SERVER": ("SERVER",), "AD": ("AD",), "DO": ("DO",),
    "EDNS_SIZE": ("EDNS",), "OPTION": (), "METADATA": ("LABELS",), "RD": (), "CD": (), "DATA": (),
}  # fmt: skip
"""What each word lets a plugin read, by the names of `_kept.READS`."""


class Key(NamedTuple):
    """A set of facts as the compiled stage wants them."""

    bits: int
    prefixes: tuple[int, int]
    codes: tuple[int, ...]
    labels: tuple[int, ...]


def key(facts: Iterable[Fact], labels: Labels) -> Key:
    """The key of a set. ValueError for what is no fact."""
    from ._kept import READS

    bits, prefixes, codes, places = 0, (0, 0), list[int](), list[int]()
    for fact in facts:
        if not isinstance(fact, Fact) or fact.name not in BITS:
            raise ValueError(f"{fact!r} is no fact that an answer can be kept by")
        bits |= sum({READS[name] for name in BITS[fact.name]} - {bit for bit in READS.values() if bits & bit})
        if fact.name == "CLIENT":
            ipv4, ipv6 = (int(bits_of) for bits_of in fact.arguments)
            prefixes = max(prefixes[0], ipv4), max(prefixes[1], ipv6)
        elif fact.name == "OPTION":
            codes.append(int(fact.arguments[0]))
        elif fact.name == "METADATA" and labels.place(str(fact.arguments[0])) >= 0:
            places.append(labels.place(str(fact.arguments[0])))
    return Key(bits, prefixes, tuple(codes), tuple(places))


def shown(facts: Iterable[Fact]) -> str:
    """A set as text, for `fastdns explain`."""
    return ", ".join(sorted(map(str, facts))) or "nothing but type and class"
