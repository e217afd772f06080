# SPDX-License-Identifier: Apache-2.0
"""The message code against dnspython, an independent reader, on generated and mutated messages.

Strategy: both read the same octets. Where both accept, every field must agree. Where one refuses, the reason must
be one of the named differences below: each is a rule of ours, or a check of RDATA contents that a server
which relays octets does not make.
"""

from __future__ import annotations

import struct
from itertools import chain

import dns.edns
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastdns import _wire
from tests.rfc.probes import PROBES, header, opt, option, query, question, record

QR = 0x8000
LABEL = st.binary(min_size=1, max_size=12)
NAMES = st.lists(LABEL, max_size=5).map(lambda labels: b"".join(bytes([len(x)]) + x for x in labels) + b"\x00")
HOSTS = st.sampled_from(["example.org.", "www.example.org.", "a.b.c.example.org.", "Example.ORG.", "net.", "."])


def mutated(message: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    """The message with some octets replaced and some taken off its end."""
    octets = bytearray(message)
    for at, value in edits:
        octets[at % len(octets)] = value
    return bytes(octets[: len(octets) - cut % len(octets)] if cut else octets)


def theirs(wire: bytes) -> dns.message.Message | Exception:
    """What dnspython reads, TSIG left unverified, or why it refuses."""
    try:
        return dns.message.from_wire(wire, ignore_trailing=True, one_rr_per_rrset=True, keyring=False)
    except (dns.exception.DNSException, ValueError, IndexError, struct.error) as why:
        return why


# ---- queries


def stricter(wire: bytes) -> bool:
    """Our own rules: a query that dnspython reads and we refuse must break one of them."""
    flags, counts = struct.unpack_from("!H", wire, 2)[0], struct.unpack_from("!4H", wire, 4)
    if flags & QR or flags >> 11 & 15 not in (0, 4):
        return True
    if counts[0] != 1 or counts[1] > 1 or counts[2] > 1 or counts[3] > 2:
        return True
    at = 12
    while at < len(wire) and 0 < wire[at] < 64:
        at += wire[at] + 1
    if at >= len(wire) or wire[at] != 0:
        return True  # a pointer in the question
    return struct.unpack_from("!H", wire, at + 1)[0] in (41, 128)


QUERY_EDITS = st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=4)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(PROBES), QUERY_EDITS, st.integers(0, 6))
def test_mutated_probes(probe, edits, cut) -> None:
    assume(len(probe.wire) >= 12)
    wire = mutated(probe.wire, edits, cut)
    other, (verdict, fields) = theirs(wire), _wire.parse_query(wire)
    counts = struct.unpack_from("!4H", wire, 4) if len(wire) >= 12 else (0, 0, 0, 0)
    if verdict in ("ok", "badvers"):
        if isinstance(other, Exception):
            # Contents of options and RDATA, TSIG's included, are not read at admission.
            assert fields.get("options") or counts[1] or counts[2] or counts[3] > fields["has_opt"]
            return
        asked = other.question[0]
        assert asked.name.to_wire().lower() == _wire.name_lower(fields["qname"]) == fields["qname"]
        assert (asked.rdtype, asked.rdclass, other.id) == (fields["qtype"], fields["qclass"], fields["id"])
        assert (other.edns >= 0) == fields["has_opt"]
        if fields["has_opt"]:
            assert (other.edns, other.payload) == (fields["opt_version"], fields["udp_size"])
            assert (other.ednsflags & 0xFFFF, len(other.options)) == (fields["opt_flags"], fields["options"])
        assert fields["has_nsid"] == any(int(o.otype) == 3 for o in other.options)
    elif not isinstance(other, Exception) and len(wire) >= 12 and not stricter(wire):
        # What is left are records: shapes that only we check.
        assert verdict == "formerr"
        assert counts[1] + counts[2] + counts[3] > 0


@settings(deadline=None)
@given(
    NAMES,
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.lists(st.tuples(st.integers(100, 65000), st.binary(max_size=20)), max_size=6),
)
def test_built_queries(name, qtype, qclass, ident, options) -> None:
    rdata = b"".join(option(code, data) for code, data in options)
    for extra in (b"", opt(size=ident, flags=ident & 0x8000, rdata=rdata)):
        wire = query(name=name, qtype=qtype, qclass=qclass, extra=extra)
        verdict, fields = _wire.parse_query(wire)
        assert verdict == ("formerr" if qtype in (41, 128) else "ok")
        other = theirs(wire)
        assert isinstance(other, dns.message.Message)
        if verdict == "ok":
            assert fields["qname"] == other.question[0].name.to_wire().lower()
            assert fields["end"] == len(wire)
            assert bool(extra) == fields["has_opt"] == (other.edns == 0)


# ---- replies

TEXTS = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "NS": "{}",
    "CNAME": "{}",
    "PTR": "{}",
    "DNAME": "{}",
    "MX": "10 {}",
    "SRV": "1 2 3 {}",
    "SOA": "{} {} 1 2 3 4 5",
    "TXT": '"text"',
    "RP": "{} {}",
    "AFSDB": "1 {}",
    "NSEC": "{} A NS",
    "NAPTR": '1 2 "S" "x" "" {}',
    "RRSIG": "A 13 2 300 20300101000000 20200101000000 1 {} AAAA",
    "HTTPS": "1 {} alpn=h2 port=443",
    "KX": "1 {}",
    "PX": "1 {} {}",
    "CAA": '0 issue "x"',
    "DS": "1 13 2 " + "00" * 32,
    "TYPE65280": "\\# 3 c00c00",
}
RRS = st.tuples(HOSTS, st.sampled_from(sorted(TEXTS)), HOSTS, HOSTS, st.integers(0, 2**31 - 1))


def rrset_of(row) -> dns.rrset.RRset:
    owner, rtype, one, two, ttl = row
    return dns.rrset.from_text(owner, ttl, "IN", rtype, TEXTS[rtype].format(one, two))


def rendered(sections: list[list[tuple]], options: bool) -> bytes:
    """A reply as dnspython writes it, names compressed its way."""
    message = dns.message.make_response(dns.message.make_query("www.example.org.", "A", id=7))
    message.answer, message.authority, message.additional = ([rrset_of(row) for row in rows] for rows in sections)
    if options:
        message.use_edns(0, 0x8000, 1232, options=[dns.edns.GenericOption(10, b"12345678")])
    return message.to_wire(max_size=65535)


SECTIONS = st.lists(st.lists(RRS, max_size=6), min_size=3, max_size=3)


def agree(wire: bytes, other: dns.message.Message) -> None:
    """Every field of the scan against dnspython's."""
    head, records = _wire.scan(wire)
    assert (head["id"], head["flags"] & ~0xF) == (other.id, int(other.flags) & ~0xF)
    assert head["rcode"] == other.rcode()
    rows = [
        (number, rrset.name.to_wire(), int(rrset.rdtype), int(rrset.rdclass), rrset.ttl)
        for number, rrsets in enumerate((other.answer, other.authority, other.additional))
        for rrset in rrsets
    ]
    assert [row[:5] for row in records] == rows
    assert head["has_opt"] == (other.edns >= 0)
    assert head["has_tsig"] == other.had_tsig


def sections(message: dns.message.Message) -> list:
    return [
        [(r.name.to_wire(), r.ttl, r.rdclass, r.rdtype, [d.to_wire() for d in r]) for r in rrsets]
        for rrsets in (message.answer, message.authority, message.additional)
    ]


@settings(max_examples=300, deadline=None)
@given(SECTIONS, st.booleans(), st.integers(60, 1300))
def test_rendered_replies_survive_scan_strip_and_encoder(rows, options, limit) -> None:
    wire = rendered(rows, options)
    other = theirs(wire)
    assert isinstance(other, dns.message.Message)
    agree(wire, other)
    for out in (_wire.strip_opt(wire), _wire.compress(wire)[0]):
        again = dns.message.from_wire(out, one_rr_per_rrset=True)
        assert sections(again) == sections(other)
        assert again.edns == -1
    cut, truncated = _wire.compress(wire, limit)
    kept = dns.message.from_wire(cut, one_rr_per_rrset=True)
    flat, whole = list(chain(*sections(kept))), list(chain(*sections(other)))
    assert len(cut) <= limit
    assert flat == whole[: len(flat)]
    assert truncated == (len(flat) < len(whole)) == bool(kept.flags & 0x0200)


@settings(max_examples=200, deadline=None)
@given(SECTIONS)
def test_uncompressed_length_is_what_is_written_without_pointers(rows) -> None:
    wire = rendered(rows, True)
    other = theirs(wire)
    assert isinstance(other, dns.message.Message)
    plain = 12 + len(b"\x03www\x07example\x03org\x00") + 4
    for rrsets in (other.answer, other.authority, other.additional):
        plain += sum(len(r.name.to_wire()) + 10 + len(r[0].to_wire()) for r in rrsets)
    assert _wire.scan(wire)[0]["ulen"] == plain


@settings(max_examples=600, deadline=None)
@given(
    SECTIONS,
    st.booleans(),
    st.lists(st.tuples(st.integers(2, 400), st.integers(0, 255)), min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_mutated_replies(rows, options, edits, cut) -> None:
    wire = mutated(rendered(rows, options), edits, cut)
    assume(len(wire) >= 12)
    other = theirs(wire)
    try:
        head, _ = _wire.scan(wire)
    except ValueError:
        # dnspython may read what we refuse: what it read, written anew, is a message to us too - unless it
        # holds what we refuse in any form.
        if isinstance(other, dns.message.Message) and len(other.question) <= 1 and not other.had_tsig:
            anew = rewritten(other)
            assert anew is None or _wire.scan(anew)
        return
    out, _ = _wire.compress(wire)
    if isinstance(other, dns.message.Message):
        agree(wire, other)
        if out and head["counts"][0] == 1:
            assert sections(dns.message.from_wire(out, one_rr_per_rrset=True)) == sections(other)


def rewritten(message: dns.message.Message) -> bytes | None:
    """dnspython's own rendering of what it read; None where it cannot write, or for shapes only we check."""
    strict = {
        dns.rdatatype.SVCB,
        dns.rdatatype.HTTPS,
        dns.rdatatype.OPT,
        dns.rdatatype.TSIG,
        dns.rdatatype.A,
        dns.rdatatype.AAAA,
    }
    rrsets = [*message.answer, *message.authority, *message.additional]
    opaque = any(r.rdclass != 1 or r.rdtype in strict or not len(r) for r in rrsets)
    if opaque:
        return None
    try:
        return message.to_wire(max_size=65535)
    except (dns.exception.DNSException, ValueError, struct.error):
        return None


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=6), st.sampled_from([1, 2, 5, 6, 15, 33, 41, 46, 250, 65280]), st.binary(max_size=24)
        ),
        max_size=5,
    ),
    st.integers(0, 2),
)
def test_hostile_octets_never_break_the_encoder(rows, section) -> None:
    counts = [1, 0, 0, 0]
    counts[1 + section] = len(rows)
    wire = header(flags=QR, counts=tuple(counts)) + question()
    wire += b"".join(record(owner=owner + b"\xc0\x0c", rtype=rtype, rdata=rdata) for owner, rtype, rdata in rows)
    try:
        head, records = _wire.scan(wire)
    except ValueError:
        return
    out, cut = _wire.compress(wire)
    assert not cut
    assert [r[:5] for r in _wire.scan(out)[1]] == [r[:5] for r in records]
    assert _wire.scan(out)[0]["ulen"] == head["ulen"]
