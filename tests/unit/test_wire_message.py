# SPDX-License-Identifier: Apache-2.0
"""Whole messages: the scan of a reply, the encoder, the finisher, and the builder of small replies."""

from __future__ import annotations

import struct

import dns.edns
import dns.message
import dns.rrset
import pytest

from fastdns import _wire
from tests.rfc.probes import NAME, header, name_of, opt, option, query, question, record

QR, TC, RD = 0x8000, 0x0200, 0x0100
WWW, ORG = b"\xc0\x0c", b"\xc0\x18"
LONGEST = b"\x01a" * 127 + b"\x00"


@pytest.fixture(autouse=True)
def no_further_codes() -> None:
    """What a configuration of another test in this process asked for is forgotten."""
    _wire.echo_none()


def reply(*records: bytes, counts=None, name=NAME) -> bytes:
    """A reply with its records in the answer section unless `counts` says otherwise."""
    return header(flags=QR | RD, counts=counts or (1, len(records), 0, 0)) + question(name) + b"".join(records)


def read(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire, one_rr_per_rrset=True)


def refused(wire: bytes) -> bool:
    try:
        _wire.scan(wire)
    except ValueError:
        return True
    return False


# ---- scan

MALFORMED = [
    ("1035 short header", header(flags=QR)[:11]),
    ("1035 QDCOUNT 2", header(flags=QR, counts=(2, 0, 0, 0)) + question() * 2),
    ("1035 question cut", (header(flags=QR) + question())[:-1]),
    ("9267 records claimed, none there", reply(counts=(1, 65535, 65535, 65535))),
    ("9267 one record too few", reply(record(), counts=(1, 2, 0, 0))),
    ("9267 RDLENGTH beyond the end", reply(record())[:-1]),
    ("9267 name past its RDATA", reply(record(rtype=5, rdata=b"\x05abc"), record())),
    ("9267 name ends in the next record", reply(record(rtype=5, rdata=b"\x03abc"), record())),
    ("9267 SOA too short", reply(record(rtype=6, rdata=WWW + WWW + bytes(19)))),
    ("9267 SOA too long", reply(record(rtype=6, rdata=WWW + WWW + bytes(21)))),
    ("9267 MX without a name", reply(record(rtype=15, rdata=b"\x00\x0a"))),
    ("9267 MX of one octet", reply(record(rtype=15, rdata=b"\x00"))),
    ("9267 NAPTR string past its RDATA", reply(record(rtype=35, rdata=bytes(4) + b"\x09ab"))),
    ("1035 A of 5 octets", reply(record(rdata=b"12345"))),
    ("3596 AAAA of 4 octets", reply(record(rtype=28))),
    ("1035 empty CNAME", reply(record(rtype=5, rdata=b""))),
    ("1035 pointer to itself", reply(record(owner=b"\xc0\x21"))),
    ("1035 pointer forward", reply(record(owner=b"\xc0\x23"))),
    ("1035 pointer into the header", reply(record(owner=b"\xc0\x04"))),
    ("1035 label type 0x40", reply(record(owner=b"\x40"))),
    ("1035 256 octets through a pointer", reply(record(owner=b"\x01b\xc0\x0c"), name=LONGEST)),
    ("6891 two OPT", reply(opt(), opt(), counts=(1, 0, 0, 2))),
    ("6891 OPT in the answer", reply(opt())),
    ("6891 OPT owner not the root", reply(opt(owner=NAME), counts=(1, 0, 0, 1))),
    ("6891 option beyond the OPT", reply(opt(rdata=option(10, b"ab", length=9)), counts=(1, 0, 0, 1))),
    ("8945 TSIG not last", reply(record(rtype=250, rdata=b""), record(), counts=(1, 0, 0, 2))),
    ("8945 TSIG in the answer", reply(record(rtype=250, rdata=b""))),
    ("9460 keys not ascending", reply(record(rtype=65, rdata=b"\x00\x01\x00" + b"\x00\x03\x00\x00\x00\x01\x00\x00"))),
    ("9460 a key twice", reply(record(rtype=64, rdata=b"\x00\x01\x00" + b"\x00\x01\x00\x00" * 2))),
    ("9460 value past its RDATA", reply(record(rtype=64, rdata=b"\x00\x01\x00" + b"\x00\x01\x00\x02h"))),
]


@pytest.mark.parametrize(("name", "wire"), MALFORMED, ids=[name for name, _ in MALFORMED])
def test_malformed_messages(name: str, wire: bytes) -> None:
    assert refused(wire)


def test_every_cut_of_a_message_is_refused() -> None:
    wire = reply(
        record(rtype=15, rdata=b"\x00\x0a\x04mail" + ORG),
        record(rtype=6, rdata=WWW + ORG + bytes(20)),
        opt(),
        counts=(1, 1, 1, 1),
    )
    assert not refused(wire)
    assert all(refused(wire[:size]) for size in range(len(wire)))


def test_a_label_may_not_reach_behind_the_name_that_points_to_it() -> None:
    # The pointer leads to an octet of RDATA that claims a label longer than what precedes the pointer.
    blob = record(rtype=65280, rdata=b"\x20")
    wire = reply(blob, record(owner=struct.pack("!H", 0xC000 | (33 + len(blob) - 1))))
    assert refused(wire + bytes(64))


def test_scanned_fields() -> None:
    wire = reply(
        record(ttl=7),
        record(rtype=2, rdata=b"\x02ns" + ORG),
        record(),
        opt(size=1400, flags=0x8000, rdata=option(3, b"id")),
        counts=(1, 1, 1, 2),
    )
    head, records = _wire.scan(wire + b"trailing")
    assert [(r[0], r[1], r[2], r[4]) for r in records] == [(0, NAME, 1, 7), (1, NAME, 2, 300), (2, NAME, 1, 300)]
    assert (head["end"], head["question_end"], head["counts"]) == (len(wire), 33, (1, 1, 1, 2))
    assert (head["has_opt"], head["opt_size"], head["opt_flags"], head["opt_last"], head["options"]) == (
        True,
        1400,
        0x8000,
        True,
        option(3, b"id"),
    )
    assert head["ulen"] == 33 + 3 * (len(NAME) + 10) + 4 + 4 + len(b"\x02ns\x03org\x00")


def test_rfc2181_a_ttl_with_the_top_bit_set_is_zero() -> None:
    ttls = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
    assert [r[4] for r in _wire.scan(reply(*(record(ttl=t) for t in ttls)))[1]] == [0, 1, 0x7FFFFFFF, 0, 0]


def test_rfc6891_the_extended_rcode_is_read() -> None:
    wire = reply(counts=(1, 0, 0, 1)) + b"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"
    assert _wire.scan(wire)[0]["rcode"] == 16


def test_memo_and_plain_walk_agree_on_chains() -> None:
    # Owners that build on each other: each adds a label and points to the one before, to the length limit.
    wire, at, n = reply(name=b"\x01a\x00"), 12, 0
    while not refused(
        grown := header(flags=QR, counts=(1, n + 1, 0, 0))
        + wire[12:]
        + record(owner=b"\x01b" + struct.pack("!H", 0xC000 | at))
    ):
        at, n, wire = len(wire), n + 1, grown
    records = _wire.scan(wire)[1]
    assert len(records) == 126
    assert len(records[-1][1]) == 255


# ---- questions


@pytest.mark.parametrize(
    ("wire", "loose", "exact"),
    [
        (reply(), True, True),
        (reply(name=b"\x03WWW\x07example\x03org\x00"), True, False),
        (reply(name=b"\x03www\x07exampl\xe5\x03org\x00"), False, False),
        (header(flags=QR) + question(qtype=28), False, False),
        (header(flags=QR) + question(qclass=3), False, False),
        (header(flags=QR, counts=(0, 0, 0, 0)), False, False),
        (header(flags=QR, counts=(2, 0, 0, 0)) + question() * 2, False, False),
        (reply()[:-1], False, False),
        (reply(name=b"\x03www\x07example\x03orh\x00"), False, False),
    ],
)
def test_rfc5452_question_of_a_reply(wire: bytes, loose: bool, exact: bool) -> None:
    assert _wire.question_matches(wire, query()) is loose
    assert _wire.question_matches(wire, query(), True) is exact


# ---- the encoder

TEXTS = [
    "www.example.org. 300 IN CNAME Other.Example.ORG.",
    "example.org. 300 IN SOA ns.example.org. host.example.org. 1 2 3 4 5",
    "example.org. 300 IN NS ns1.example.org.",
    "example.org. 300 IN MX 10 mail.example.org.",
    "1.example.org. 300 IN PTR www.example.org.",
    'example.org. 300 IN TXT "hello" "there"',
    "_x._tcp.example.org. 300 IN SRV 1 2 53 www.example.org.",
    'example.org. 300 IN NAPTR 1 2 "S" "SIP+D2U" "" _sip._udp.example.org.',
    "example.org. 300 IN RP me.example.org. txt.example.org.",
    "example.org. 300 IN AFSDB 1 afs.example.org.",
    "example.org. 300 IN KX 1 kx.example.org.",
    "example.org. 300 IN PX 10 a.example.org. b.example.org.",
    "d.example.org. 300 IN DNAME example.net.",
    "example.org. 300 IN NSEC www.example.org. A RRSIG NSEC",
    "example.org. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example.org. AAAA",
    "example.org. 300 IN HTTPS 1 . alpn=h2 port=443",
    "example.org. 300 IN SVCB 2 svc.example.org. mandatory=alpn alpn=h3",
    "example.org. 300 IN AAAA 2001:db8::1",
    "example.org. 300 IN TYPE65280 \\# 4 c00cc018",
]


def rrset(text: str) -> dns.rrset.RRset:
    name, ttl, rclass, rtype, rdata = text.split(" ", 4)
    return dns.rrset.from_text(name, int(ttl), rclass, rtype, rdata)


def message_of(texts: list[str], compress: bool) -> bytes:
    message = dns.message.make_response(dns.message.make_query("www.example.org.", "A"))
    message.answer = [rrset(text) for text in texts]
    if compress:
        return message.to_wire(max_size=65535)
    out = header(flags=QR | RD, counts=(1, len(texts), 0, 0)) + question()
    for item in message.answer:
        rdata = item[0].to_wire()
        out += item.name.to_wire() + struct.pack("!HHIH", item.rdtype, item.rdclass, item.ttl, len(rdata)) + rdata
    return out


def test_encoding_keeps_every_record() -> None:
    plain, packed = message_of(TEXTS, False), message_of(TEXTS, True)
    out, cut = _wire.compress(plain)
    assert not cut
    assert read(out).answer == read(plain).answer
    assert len(out) < len(plain)
    assert _wire.scan(out)[0]["ulen"] == _wire.scan(plain)[0]["ulen"] == len(plain)
    assert _wire.scan(packed)[0]["ulen"] == len(plain)
    assert read(_wire.compress(packed)[0]).answer == read(packed).answer
    assert _wire.compress(out)[0] == out


def test_rfc3597_unknown_rdata_is_opaque() -> None:
    blob = b"\xc0\x0c\x03www\xc0\xff\xff" + NAME
    out, _ = _wire.compress(reply(record(rtype=65280, rdata=blob), record(rtype=99, rdata=blob)))
    assert [r[5] for r in _wire.scan(out)[1]] == [blob, blob]


def test_rfc3597_names_of_newer_types_are_expanded_and_not_compressed() -> None:
    srv = reply(record(rtype=33, rdata=bytes(6) + WWW), record(rtype=46, rdata=bytes(18) + ORG + b"sig"))
    out, _ = _wire.compress(srv)
    assert [r[5] for r in _wire.scan(out)[1]] == [bytes(6) + NAME, bytes(18) + b"\x03org\x00sig"]


def test_letters_keep_their_case() -> None:
    upper = b"\x03WWW\x07EXAMPLE\x03ORG\x00"
    out, _ = _wire.compress(reply(record(owner=upper), record(owner=upper), record(owner=NAME)))
    assert [r[1] for r in _wire.scan(out)[1]] == [upper, upper, NAME]


# ---- another letters' case of the question

MIXED = b"\x03WwW\x07eXample\x03org\x00"
SOA = record(owner=b"\xc0\x10", rtype=6, rdata=b"\x02ns\xc0\x10\x04Host\xc0\x10" + bytes(20))
SHAPES = {
    "no record": reply(),
    "addresses": reply(*[record(rdata=bytes([192, 0, 2, i])) for i in range(4)]),
    "owner in full": reply(record(owner=NAME), record(owner=b"\xc0\x21")),
    "alias": reply(record(rtype=5, rdata=b"\x03cdn\x03net\x00"), record(owner=b"\xc0\x2d")),
    "alias in the zone": reply(record(rtype=5, rdata=b"\x01a\xc0\x10"), record(owner=b"\xc0\x2d")),
    "denial": reply(SOA, counts=(1, 0, 1, 0)),
    "suffixes, longest last": reply(record(owner=ORG), record(owner=b"\xc0\x10"), record(), record(owner=ORG)),
    "suffixes, longest first": reply(record(), record(owner=b"\xc0\x10"), record(owner=ORG)),
    "pointer to a pointer": reply(record(), record(owner=b"\xc0\x21"), record(owner=b"\x01a\xc0\x31")),
    "mail": reply(record(rtype=15, rdata=b"\0\x0a\x04mail\xc0\x10"), record(owner=b"\xc0\x2f", rdata=b"1234")),
    "service": reply(record(rtype=33, rdata=bytes(6) + b"\x01s" + WWW), record(owner=b"\xc0\x33")),
    "unknown": reply(record(rtype=65280, rdata=b"\xc0\x0c\xc0\xff"), record(rtype=15, rdata=b"\0\1" + WWW)),
}


@pytest.mark.parametrize("letters", [NAME, MIXED, NAME.upper(), b"\x03wWw" + NAME[4:], NAME[:4] + MIXED[4:]])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_keep_their_case_under_another_question(shape: str, letters: bytes) -> None:
    wire = SHAPES[shape]
    out = _wire.recase(wire, query(name=letters))
    head, records = _wire.scan(out)
    assert out[12 : 12 + len(NAME)] == letters
    assert [r[:5] for r in records] == [r[:5] for r in _wire.scan(wire)[1]]
    assert head["ulen"] == _wire.scan(wire)[0]["ulen"]
    assert _wire.compress(out)[0] == _wire.recase(wire, query(name=letters), anew=True)


LONG = b"\x01a" * 20 + b"\x00"
LEFT = {
    "octets that only look like a name": (
        NAME, record(rtype=16, rdata=b"\x04\x01a\xc0\x0c"), record(owner=b"\xc0\x2e")),
    "much has to move": (LONG, *[record(owner=bytes([0xC0, 12 + 2 * i])) for i in range(19, -1, -1)]),
    "many pointers": (NAME, *[record() for _ in range(200)]),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_to_the_encoder(what: str) -> None:
    name, *records = LEFT[what]
    wire, other = reply(*records, name=name), query(name=name.upper())
    assert _wire.recase(wire, other) == b""
    out = _wire.recase(wire, other, anew=True)
    assert out[12 : 12 + len(name)] == name.upper()
    assert [r[:5] for r in _wire.scan(out)[1]] == [r[:5] for r in _wire.scan(wire)[1]]


@pytest.mark.parametrize("limit", [33, 48, 49, 64, 65, 500, 1616, 1617, 1632, 1633, 2000])
def test_truncation_at_whole_records(limit: int) -> None:
    wire = reply(*(record(owner=NAME, rdata=bytes([10, 0, 0, i])) for i in range(100)))
    out, cut = _wire.compress(wire, limit)
    fits = min(100, (limit - 33) // 16)
    assert len(out) == 33 + 16 * fits
    assert counts_of(out) == (1, fits, 0, 0)
    assert cut == (fits < 100)
    assert bool(struct.unpack_from("!H", out, 2)[0] & TC) == cut
    assert [r[5][3] for r in _wire.scan(out)[1]] == list(range(fits))


def counts_of(message: bytes) -> tuple[int, ...]:
    return struct.unpack_from("!4H", message, 4)


def test_nothing_is_added_after_the_first_record_that_does_not_fit() -> None:
    big = record(rtype=16, rdata=b"\xff" + bytes(255) + b"\xff" + bytes(255))
    wire = reply(record(), big, record(), record(), counts=(1, 2, 1, 1))
    out, cut = _wire.compress(wire, 512)
    assert cut
    assert counts_of(out) == (1, 1, 0, 0)


def test_owners_that_point_to_the_longest_name_are_bounded() -> None:
    owners = [struct.pack("!H", 0xC000 | (12 + 2 * (i % 100))) for i in range(5438)]
    wire = reply(*(record(owner=o, rtype=16, rdata=b"") for o in owners), name=LONGEST)
    head, records = _wire.scan(wire)
    assert len(records) == 5438
    assert head["ulen"] == 12 + 259 + sum(len(r[1]) + 10 for r in records)
    out, cut = _wire.compress(wire)
    assert not cut
    assert [r[1] for r in _wire.scan(out)[1]] == [r[1] for r in records]


def test_more_names_than_the_table_holds() -> None:
    records = [
        record(owner=b"\x05" + f"{i:05}".encode() + ORG, rtype=2, rdata=b"\x05" + f"{i:05}".encode() + b"\x00")
        for i in range(2000)
    ]
    wire = reply(*records)
    out, cut = _wire.compress(wire)
    assert not cut
    assert [r[1] for r in _wire.scan(out)[1]] == [r[1] for r in _wire.scan(wire)[1]]
    assert len(out) <= len(wire)


def test_deep_chains_of_suffixes_stay_readable() -> None:
    owners = [b"\x01a" * n + b"\x00" for n in range(1, 128)]
    out, cut = _wire.compress(reply(*(record(owner=o) for o in owners)))
    assert not cut
    assert [r[1] for r in _wire.scan(out)[1]] == owners


# ---- OPT off and on


def test_strip_opt_last_first_and_with_tsig() -> None:
    tsig = record(owner=b"\x03key\x00", rtype=250, rclass=255, ttl=0, rdata=bytes(16))
    plain = reply(record(), record(rtype=2, rdata=ORG), counts=(1, 1, 0, 1))
    for extra, more in ((opt(), 1), (tsig, 1), (opt() + tsig, 2), (b"", 0)):
        wire = reply(record(), record(rtype=2, rdata=ORG) + extra, counts=(1, 1, 0, 1 + more))
        assert _wire.strip_opt(wire + b"tail") == plain
    first = reply(record(), opt(rdata=option(3, b"x")) + record(rtype=2, rdata=ORG), counts=(1, 1, 0, 2))
    assert _wire.scan(_wire.strip_opt(first)) == _wire.scan(plain)


def test_no_opt_in_no_opt_out() -> None:
    wire = reply(record())
    assert _wire.finish(query(), wire) == wire


def test_the_clients_size_and_do_go_back_and_its_other_flags_do_not() -> None:
    got = read(
        _wire.finish(query(extra=opt(size=1400, flags=0xFFFF)), reply(record(), record(), opt(), counts=(1, 1, 1, 1)))
    )
    assert (got.edns, got.payload, got.ednsflags) == (0, 1400, 0x8000)
    assert len(got.answer) == len(got.authority) == 1


def test_options_echoed_are_those_of_coredns_each_once() -> None:
    rdata = (
        option(10, b"12345678")
        + option(8, b"\x00\x01\x18\x00\x0a\x00\x00")
        + option(3)
        + option(3)
        + option(65001, b"x")
        + option(11, b"\x00\x64")
        + option(12, bytes(3))
        + option(9)
    )
    client = query(extra=opt(rdata=rdata))
    for udp, codes in ((True, [10, 3, 12, 9]), (False, [10, 3, 11, 12, 9])):
        got = read(_wire.finish(client, reply(record()), udp=udp))
        assert [int(o.otype) for o in got.options] == codes
    assert got.options[0].to_wire() == b"12345678"


def test_a_registered_code_is_echoed() -> None:
    client = query(extra=opt(rdata=option(65123, b"x") + option(65124, b"y")))
    assert not read(_wire.finish(client, reply(record()))).options
    _wire.echo_option(65123)
    assert [int(o.otype) for o in read(_wire.finish(client, reply(record()))).options] == [65123]
    _wire.echo_none()
    assert not read(_wire.finish(client, reply(record()))).options


def test_own_options_of_a_reply_win_over_the_echo() -> None:
    client = query(extra=opt(size=1400, rdata=option(10, b"12345678")))
    own = option(3, b"server-1")
    got = read(_wire.finish(client, reply(record()), options=own))
    assert [(int(o.otype), o.to_wire()) for o in got.options] == [(3, b"server-1")]
    assert got.payload == 1400
    assert read(_wire.finish(client, reply(record()), options=b"")).options == ()


def test_a_cookie_is_the_only_one_of_the_reply() -> None:
    client = query(extra=opt(size=512, rdata=option(12, b"pad") + option(10, b"12345678")))
    answer = b"12345678" + bytes(16)
    for own, wanted in (
        (None, [(12, b"pad"), (10, answer)]),
        (b"", [(10, answer)]),
        (option(3, b"me") + option(10, b"theirs--") + option(15, b"\0\3"), [(3, b"me"), (15, b"\0\3"), (10, answer)]),
        (option(10, b"theirs--") * 2, [(10, answer)]),
    ):
        got = _wire.finish(client, reply(record()), options=own, cookie=answer)
        told = [(int(o.otype), o.to_wire()) for o in read(got).options]
        assert told == wanted and _wire.finish(client, reply(record()), cookie=answer, udp=False)


def test_a_cookie_stays_where_other_options_find_no_room() -> None:
    client = query(extra=opt(size=512, rdata=option(12, bytes(480)) + option(10, b"12345678")))
    got = _wire.finish(client, reply(record()), cookie=b"12345678" + bytes(16))
    assert len(got) <= 512
    assert [(int(o.otype), len(o.to_wire())) for o in read(got).options] == [(10, 24)]
    with pytest.raises(ValueError, match="40 octets"):
        _wire.finish(client, reply(record()), cookie=bytes(41))


def test_an_opt_that_a_stage_put_in_stays_without_one_in_the_query() -> None:
    got = read(_wire.finish(query(), reply(record()), options=option(15, b"\x00\x0f"), opt_size=4096))
    assert (got.edns, got.payload, got.ednsflags, len(got.options)) == (0, 4096, 0, 1)
    assert read(_wire.finish(query(), reply(record()), options=b"", set_do=True)).ednsflags == 0x8000


def test_extended_rcodes_need_an_opt() -> None:
    assert _wire.finish(query(), reply(), rcode=23) == b""
    assert read(_wire.finish(query(extra=opt()), reply(), rcode=23)).rcode() == 23
    assert read(_wire.finish(query(), reply(), rcode=3)).rcode() == 3


LONG = reply(*(record(rdata=bytes([10, 0, i >> 8, i & 255])) for i in range(4093)))


@pytest.mark.parametrize(
    ("size", "udp", "limit"),
    [
        (None, True, 512),
        (0, True, 512),
        (511, True, 512),
        (513, True, 513),
        (1232, True, 1232),
        (4096, True, 4096),
        (65535, True, 65507),
        (None, False, 65535),
        (512, False, 65535),
    ],
)
def test_rfc6891_size_of_the_client(size: int | None, udp: bool, limit: int) -> None:
    client = query() if size is None else query(extra=opt(size=size))
    got = _wire.finish(client, LONG, udp=udp)
    head, records = _wire.scan(got)
    fits = min(4093, (limit - 33 - (0 if size is None else 11)) // 16)
    assert len(records) == fits
    assert len(got) <= limit
    assert bool(head["flags"] & TC) == (fits < 4093)
    assert head["has_opt"] == (size is not None)


@pytest.mark.parametrize(("ipv6", "octets"), [(False, 1480), (True, 1220)])
def test_long_uncompressed_datagrams_are_compressed(ipv6: bool, octets: int) -> None:
    client = query(extra=opt(size=4096))
    for room, packed in ((0, False), (1, True)):
        rdata = bytes(octets + room - 11 - 33 - 2 * (len(NAME) + 10) - 4)
        wire = reply(record(owner=NAME), record(owner=NAME, rtype=65280, rdata=rdata))
        got = _wire.finish(client, wire, ipv6=ipv6)
        assert (len(got) < len(wire) + 11) == packed
        assert len(_wire.finish(client, wire, ipv6=ipv6, udp=False)) == octets + room
        assert read(got).answer == read(wire).answer


def test_the_reserve_of_a_later_finisher() -> None:
    got = _wire.finish(query(extra=opt(size=1232)), LONG, reserve=200)
    assert 1232 - 200 - 16 < len(got) <= 1232 - 200


def test_echoed_options_never_push_the_question_out() -> None:
    client = query(name=name_of(255), extra=opt(size=512, rdata=option(12, bytes(400))))
    got = _wire.finish(client, reply(record(), name=name_of(255)))
    assert len(got) <= 512
    assert read(got).options == ()


def test_a_kept_tc_bit_stays() -> None:
    wire = header(flags=QR | TC, counts=(1, 0, 0, 0)) + question()
    assert struct.unpack_from("!H", _wire.finish(query(), wire), 2)[0] & TC


# ---- small replies


def test_built_replies() -> None:
    client = query(name=b"\x03wWw\x07example\x03org\x00", flags=0x0110)
    wire = _wire.build(
        client,
        0x0400,
        0,
        [(0, None, 1, 1, 60, b"\x7f\0\0\1"), (1, b"\x03org\x00", 2, 1, 5, NAME), (2, b"\x00", 28, 1, 0, bytes(16))],
    )
    assert counts_of(wire) == (1, 1, 1, 1)
    assert struct.unpack_from("!H", wire, 2)[0] == QR | 0x0400 | 0x0110
    assert [r[:5] for r in _wire.scan(wire)[1]] == [
        (0, b"\x03wWw\x07example\x03org\x00", 1, 1, 60),
        (1, b"\x03org\x00", 2, 1, 5),
        (2, b"\x00", 28, 1, 0),
    ]
    with pytest.raises(ValueError, match="fit"):
        _wire.build(client, 0, 0, [(0, None, 16, 1, 60, bytes(40000))] * 2)
