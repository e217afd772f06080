# SPDX-License-Identifier: Apache-2.0
"""Signed queries for tests, made by dnspython, with anything in their TSIG record; and a judge of signed replies."""

from __future__ import annotations

import base64
import struct
import time
from dataclasses import dataclass
from typing import Any

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.wire
from dns.rdtypes.ANY.TSIG import TSIG

from fastdns.testing import question

ALGORITHMS = ("hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
MD5 = "hmac-md5.sig-alg.reg.int"
NAME = "key.test."
SECRET = base64.b64encode(b"a secret of thirty-two octets ..").decode()
NOTAUTH, BADSIG, BADKEY, BADTIME, BADTRUNC = 9, 16, 17, 18, 22
SIZES = dict(zip(ALGORITHMS, (20, 28, 32, 48, 64), strict=True))


@dataclass
class Signed:
    """A signed query: its octets, and what its reply is judged by."""

    wire: bytes
    key: dns.tsig.Key
    mac: bytes

    def reply(self, octets: bytes) -> dns.message.Message:
        """The reply, verified by dnspython. Raises what is wrong with it, or what it says is wrong."""
        found = dns.message.from_wire(octets, keyring={self.key.name: self.key}, request_mac=self.mac)
        assert found.had_tsig
        return found


@dataclass
class Found:
    """The TSIG record of a message."""

    owner: str
    rdata: Any


def record_of(octets: bytes) -> Found | None:
    """The TSIG record of a message as dnspython reads it, unverified; None without one. It must be the last record."""
    at = _tsig_at(octets)
    if at is None:
        return None
    parser = dns.wire.Parser(octets, at)
    owner = parser.get_name()
    kind, klass, ttl, length = parser.get_struct("!HHIH")
    assert (kind, klass, ttl) == (dns.rdatatype.TSIG, dns.rdataclass.ANY, 0)
    with parser.restrict_to(length):
        rdata = TSIG.from_wire_parser(dns.rdataclass.ANY, dns.rdatatype.TSIG, parser)
    assert parser.current == len(octets)
    return Found(owner.to_text(), rdata)


def _skip_name(parser: dns.wire.Parser) -> None:
    while 0 < (octet := parser.get_uint8()) < 64:
        parser.get_bytes(octet)
    if octet:
        parser.get_uint8()


def _tsig_at(octets: bytes) -> int | None:
    parser = dns.wire.Parser(octets)
    counts = parser.get_struct("!HHHHHH")[2:]
    for _ in range(counts[0]):
        _skip_name(parser)
        parser.get_bytes(4)
    for _ in range(sum(counts[1:])):
        at = parser.current
        _skip_name(parser)
        kind, _, _, length = parser.get_struct("!HHIH")
        parser.get_bytes(length)
        if kind == dns.rdatatype.TSIG:
            return at
    return None


def key_of(name: str = NAME, secret: str = SECRET, algorithm: str = "hmac-sha256") -> dns.tsig.Key:
    return dns.tsig.Key(dns.name.from_text(name), secret, algorithm)


def append(wire: bytes, owner: bytes, rdata: bytes, *, klass: int = 255, ttl: int = 0) -> bytes:
    """A message with a TSIG record behind it."""
    additional = struct.unpack("!H", wire[10:12])[0] + 1
    fixed = struct.pack("!HHIH", dns.rdatatype.TSIG, klass, ttl, len(rdata))
    return wire[:10] + struct.pack("!H", additional) + wire[12:] + owner + fixed + rdata


def sign(
    wire: bytes,
    *,
    name: str = NAME,
    secret: str = SECRET,
    algorithm: str = "hmac-sha256",
    at: float | None = None,
    fudge: int = 300,
    cut: int | None = None,
    original_id: int | None = None,
    other: bytes = b"",
) -> Signed:
    """Signs a query. `cut`: octets of the MAC that are left; `original_id`: the id that it was signed with."""
    key = key_of(name, secret, algorithm)
    moment = int(time.time() if at is None else at)
    ident = struct.unpack("!H", wire[:2])[0] if original_id is None else original_id
    bare = TSIG(dns.rdataclass.ANY, dns.rdatatype.TSIG, key.algorithm, moment, fudge, b"", ident, 0, other)
    rdata, _ = dns.tsig.sign(struct.pack("!H", ident) + wire[2:], key, bare, moment, b"")
    mac = rdata.mac[:cut]
    rdata = rdata.replace(mac=mac)
    return Signed(append(wire, key.name.to_wire(), rdata.to_wire()), key, mac)


def ask(qname: str, qtype: int, options: dict[str, Any] | None = None, **signing: Any) -> Signed:
    """A signed question; `options` are those of `fastdns.testing.question`."""
    return sign(question(qname, qtype, **(options or {})), **signing)
