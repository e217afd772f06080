# SPDX-License-Identifier: Apache-2.0
"""The message code: admission, names, hash, scan, encoder, finisher; tables named by their RFC.

Strategy: hostile queries come from tests/rfc/probes.py, which the tests over sockets read too; what is written is read
back by dnspython; the hash is compared with an independent implementation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import _wire
from tests.rfc.probes import NAME, PROBES, Probe, header, name_of, opt, option, query, record

QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010
ADMITTED = [probe for probe in PROBES if probe.udp.admission in ("ok", "badvers")]
REFUSED = [probe for probe in PROBES if probe.udp.admission in ("formerr", "notimp", "badvers")]


@pytest.fixture(autouse=True)
def no_further_codes() -> None:
    """What a configuration of another test in this process asked for is forgotten."""
    _wire.echo_none()


def flags_of(message: bytes) -> int:
    return struct.unpack_from("!H", message, 2)[0]


def counts_of(message: bytes) -> tuple[int, ...]:
    return struct.unpack_from("!4H", message, 4)


def codes_of(options: bytes) -> Iterator[int]:
    while options:
        code, length = struct.unpack_from("!HH", options)
        yield code
        options = options[4 + length :]


# ---- admission


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
def test_probes_are_judged_as_the_table_says(probe: Probe) -> None:
    assert _wire.parse_query(probe.wire)[0] == probe.udp.admission == probe.tcp.admission


@pytest.mark.parametrize("probe", REFUSED, ids=lambda p: p.name)
def test_error_replies(probe: Probe) -> None:
    got = _wire.error_reply(probe.wire)
    asked, answered = flags_of(probe.wire), flags_of(got)
    assert got[:2] == probe.wire[:2]
    assert len(got) <= len(probe.wire)
    assert answered & (QR | AA | Z) == QR
    if probe.udp.admission == "badvers":
        message = dns.message.from_wire(got)
        assert (message.rcode(), message.edns, message.payload, message.ednsflags & 0xFFFF) == (16, 0, 0, 0)
        assert answered & (TC | RD | RA | AD | CD) == asked & (RD | CD)
    else:
        assert answered & 15 == probe.udp.rcode
        assert answered & (TC | RD | RA | AD | CD) == asked & (TC | RD | RA | AD | CD)
        assert answered >> 11 & 15 == (asked >> 11 & 15 if probe.udp.admission == "notimp" else 0)
        assert len(got) > 12 or not probe.udp.question
    if probe.udp.question:
        size = 12 + _wire.name_at(probe.wire, 12)[1] + 4
        assert got[12:size] == probe.wire[12:size]
        assert counts_of(got)[:3] == (1, 0, 0)
    else:
        assert got[4:] == bytes(8)


@pytest.mark.parametrize(
    "probe", [p for p in PROBES if p.udp.admission in ("ok", "short", "response")], ids=lambda p: p.name
)
def test_no_error_reply_to_what_is_admitted_or_ignored(probe: Probe) -> None:
    assert _wire.error_reply(probe.wire) == b""


@pytest.mark.parametrize("probe", ADMITTED, ids=lambda p: p.name)
def test_rcode_replies_repeat_the_question_in_the_clients_case(probe: Probe) -> None:
    got = _wire.rcode_reply(probe.wire, 5)
    asked = flags_of(probe.wire)
    kept = asked & (RD | CD) if asked >> 11 & 15 == 0 else 0
    assert flags_of(got) == QR | (asked & 0x7800) | kept | 5
    size = 12 + _wire.name_at(probe.wire, 12)[1] + 4
    assert got[12:] == probe.wire[12:size]
    assert counts_of(got) == (1, 0, 0, 0)


@pytest.mark.parametrize("probe", ADMITTED, ids=lambda p: p.name)
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
def test_admitted_probes_get_the_opt_of_the_table(probe: Probe, udp: bool) -> None:
    if probe.udp.admission == "badvers":
        return
    head, _ = _wire.scan(_wire.finish(probe.wire, _wire.rcode_reply(probe.wire, 0), udp=udp))
    verdict = probe.udp if udp else probe.tcp
    assert head["has_opt"] == verdict.opt
    if verdict.opt:
        fields = _wire.parse_query(probe.wire)[1]
        assert tuple(codes_of(head["options"])) == probe.echoed[0 if udp else 1]
        assert (head["opt_size"], head["opt_flags"]) == (fields["udp_size"], fields["opt_flags"] & 0x8000)


def test_parsed_fields() -> None:
    wire = query(
        name=b"\x03WwW\x07eXample\x03org\x00",
        qtype=28,
        extra=opt(size=4000, flags=0x8000, rdata=option(3) + option(10, b"12345678")),
    )
    verdict, fields = _wire.parse_query(wire)
    assert verdict == "ok"
    assert fields["qname"] == NAME
    assert (fields["qtype"], fields["qclass"], fields["labels"], fields["end"]) == (28, 1, 3, len(wire))
    assert (fields["udp_size"], fields["opt_flags"], fields["options"], fields["has_nsid"]) == (4000, 0x8000, 2, True)
    assert wire[fields["opt_off"] :][:3] == b"\x00\x00\x29"
    assert fields["opt_rdlen"] == len(wire) - fields["opt_rdata"]


def test_rfc8945_tsig_is_found_when_it_is_last() -> None:
    tsig = record(owner=b"\x03key\x00", rtype=250, rclass=255, ttl=0, rdata=bytes(16))
    wire = query(counts=(1, 0, 0, 2), extra=opt() + tsig)
    verdict, fields = _wire.parse_query(wire)
    assert verdict == "ok"
    assert fields["has_tsig"]
    assert wire[fields["tsig_off"] :] == tsig


@given(st.binary(max_size=80))
def test_any_octets_get_a_verdict(data: bytes) -> None:
    verdict, _ = _wire.parse_query(data)
    assert len(_wire.error_reply(data)) <= len(data)
    assert (verdict in ("short", "response")) == (len(data) < 12 or data[2] >= 0x80)


# ---- names


def test_rfc1035_a_name_has_at_most_255_octets() -> None:
    for octets in range(3, 256):
        name = name_of(octets)
        assert len(name) == octets
        assert _wire.name_from_text(_wire.name_to_text(name)) == name
    with pytest.raises(ValueError, match="wire-form"):
        _wire.name_to_text(name_of(256))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"\x00", "."),
        (b"\x01a\x00", "a."),
        (b"\x03WwW\x07example\x00", "WwW.example."),
        (b"\x03a.b\x00", r"a\.b."),
        (b"\x02\\a\x00", r"\\a."),
        (b"\x01 \x00", "\\ ."),
        (b"\x08'@;()\"$x\x00", r"\'\@\;\(\)\"$x."),
        (b"\x04\x00\x1f\x7f\xff\x00", r"\000\031\127\255."),
    ],
)
def test_presentation_form(name: bytes, text: str) -> None:
    assert _wire.name_to_text(name) == text
    assert _wire.name_from_text(text) == name


@pytest.mark.parametrize(
    "text", ["", "..", "a..b", ".a", "a" * 64, r"a\25", r"a\256", "a\\", r"\999", "a." * 128, "x" * 63 + "." + "y" * 64]
)
def test_texts_that_are_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        _wire.name_from_text(text)


@given(st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(lambda ls: sum(len(x) + 1 for x in ls) < 255))
def test_names_agree_with_dnspython(labels: list[bytes]) -> None:
    other = dns.name.Name([*labels, b""])
    wire = other.to_wire()
    text = _wire.name_to_text(wire)
    assert _wire.name_from_text(text) == wire
    assert dns.name.from_text(text) == other
    assert _wire.name_lower(wire) == b"".join(bytes([len(x)]) + x.lower() for x in [*labels, b""])
    for depth in range(len(labels) + 1):
        zone = dns.name.Name([*labels[depth:], b""]).to_wire()
        assert _wire.name_under(wire, zone)


def test_rfc4343_only_a_to_z_is_folded() -> None:
    for octet in range(256):
        folded = octet + 32 if 65 <= octet <= 90 else octet
        for size in (1, 5, 7, 8, 9, 16, 63):
            name = bytes([size]) + bytes([octet]) * size + b"\x00"
            assert _wire.name_lower(name) == bytes([size]) + bytes([folded]) * size + b"\x00"
            assert _wire.parse_query(query(name=name))[1]["qname"] == _wire.name_lower(name)


@pytest.mark.parametrize(
    ("name", "zone", "under"),
    [
        (NAME, b"\x00", True),
        (NAME, b"\x07example\x03org\x00", True),
        (NAME, NAME, True),
        (NAME, b"\x06xample\x03org\x00", False),
        (NAME, b"\x03org\x03org\x00", False),
        (b"\x0bwww\x07example\x03org\x00", b"\x07example\x03org\x00", False),
        (b"\x00", NAME, False),
    ],
)
def test_below_a_zone_on_label_boundaries(name: bytes, zone: bytes, under: bool) -> None:
    assert _wire.name_under(name, zone) is under


def test_rfc1035_pointers() -> None:
    message = header() + NAME + b"\x01x\xc0\x0c" + b"\xc0\x1d"
    assert _wire.name_at(message, 29) == (b"\x01x" + NAME, 4)
    assert _wire.name_at(message, 33) == (b"\x01x" + NAME, 2)
    for bad in (b"\xc0", b"\xc0\x21", b"\xc0\x22", b"\xc0\x0b", b"\x01a\xc0\x21", b"\x40a", b"\x80a", b"\x05abc"):
        with pytest.raises(ValueError, match="malformed"):
            _wire.name_at(header() + NAME + bytes(4) + bad, 33)


@pytest.mark.parametrize(("pointers", "fine"), [(1, True), (126, True), (127, False)])
def test_rfc9267_a_name_has_at_most_126_pointers(pointers: int, fine: bool) -> None:
    message = (
        header()
        + b"\x00\x00"
        + b"".join(struct.pack("!H", 0xC000 | at) for at in [12, *range(14, 12 + 2 * pointers, 2)])
    )
    at = 12 + 2 * pointers
    if fine:
        assert _wire.name_at(message, at) == (b"\x00", 2)
    else:
        with pytest.raises(ValueError, match="malformed"):
            _wire.name_at(message, at)


# ---- the keyed hash


def siphash(key: bytes, data: bytes, compressions: int, finalizations: int) -> int:
    """SipHash-c-d from its description (Aumasson and Bernstein, 2012)."""
    mask = (1 << 64) - 1

    def rotate(x: int, b: int) -> int:
        return ((x << b) | (x >> (64 - b))) & mask

    def mix(v: list[int]) -> None:
        for a, b, r, s in ((0, 1, 13, 32), (2, 3, 16, None), (0, 3, 21, None), (2, 1, 17, 32)):
            v[a] = (v[a] + v[b]) & mask
            v[b] = rotate(v[b], r) ^ v[a]
            if s:
                v[a] = rotate(v[a], s)

    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        for _ in range(compressions):
            mix(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(finalizations):
        mix(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_siphash_vectors() -> None:
    key = bytes(range(16))
    assert siphash(key, bytes(range(15)), 2, 4) == 0xA129CA6149BE45E5  # appendix A of the paper
    assert _wire.siphash13(key, b"") == 0xABAC0158050FC4DC
    for size in range(64):
        assert _wire.siphash13(key, bytes(range(size))) == siphash(key, bytes(range(size)), 1, 3)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=300))
def test_siphash_agrees_with_the_description(key: bytes, data: bytes) -> None:
    assert _wire.siphash13(key, data) == siphash(key, data, 1, 3)
