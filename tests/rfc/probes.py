# SPDX-License-Identifier: Apache-2.0
"""Hostile and odd queries as data, each with the verdict that every transport must give.

Strategy: one row a probe: a name, the octets, and what must come back over UDP and over TCP. `layer` says
who decides: "wire" (admission, the same for every Corefile), "server" (class gate, transfers over UDP) or
"chain" (a plugin; `rcode` is what a block that answers every name with NOERROR gives). So the unit tests
of admission and the tests over sockets read the same table.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

NAME = b"\x03www\x07example\x03org\x00"
OPT = 41


class Verdict(NamedTuple):
    """What must come back: `rcode` None is silence; `opt`: an OPT; `question`: the question repeated."""

    admission: str
    rcode: int | None
    layer: str = "wire"
    question: bool = True
    opt: bool = False


class Probe(NamedTuple):
    """A query and its verdicts. `echoed`: option codes in the reply's OPT over UDP and over TCP."""

    name: str
    rfc: str
    wire: bytes
    udp: Verdict
    tcp: Verdict
    echoed: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def header(*, ident=0x1234, flags=0x0100, counts=(1, 0, 0, 0)):
    """Twelve octets (RFC 1035 4.1.1)."""
    return struct.pack("!6H", ident, flags, *counts)


def question(name=NAME, qtype=1, qclass=1):
    """A question: name in wire form, type, class."""
    return name + struct.pack("!HH", qtype, qclass)


def opt(*, size=1232, version=0, flags=0, rdata=b"", owner=b"\x00", rdlen=None):
    """An OPT record (RFC 6891 6.1.2); `rdlen` lies about the length of `rdata`."""
    return owner + struct.pack("!HHBBHH", OPT, size, 0, version, flags, len(rdata) if rdlen is None else rdlen) + rdata


def option(code, data=b"", length=None):
    """An EDNS option; `length` lies about `data`."""
    return struct.pack("!HH", code, len(data) if length is None else length) + data


def record(owner=b"\xc0\x0c", rtype=1, rclass=1, ttl=300, rdata=b"\x7f\x00\x00\x01"):
    """A resource record."""
    return owner + struct.pack("!HHIH", rtype, rclass, ttl, len(rdata)) + rdata


def query(*, flags=0x0100, qtype=1, qclass=1, name=NAME, extra=b"", counts=None):
    """A query; `extra` holds one record of the additional section unless `counts` says otherwise."""
    if counts is None:
        counts = (1, 0, 0, 1 if extra else 0)
    return header(flags=flags, counts=counts) + question(name, qtype, qclass) + extra


def name_of(octets):
    """A name of exactly that many octets, the root label included."""
    out, left = b"", octets - 1
    while left:
        size = min(left - 1, 63)
        if left - size - 1 == 1:  # never leave a lone octet: no label fits into it
            size -= 1
        out += bytes([size]) + b"x" * size
        left -= size + 1
    return out + b"\x00"


SILENCE = {"short": Verdict("short", None, question=False), "response": Verdict("response", None, question=False)}
BARE_FORMERR = Verdict("formerr", 1, question=False)
FORMERR = Verdict("formerr", 1)
NOTIMP = Verdict("notimp", 4, question=False)
BADVERS = Verdict("badvers", 16, opt=True)
ANSWER = Verdict("ok", 0, "chain")
ANSWER_OPT = Verdict("ok", 0, "chain", opt=True)
REFUSED = Verdict("ok", 5, "server")


def both(name, rfc, wire, verdict, echoed=()):
    """A probe with one verdict for both transports."""
    return Probe(name, rfc, wire, verdict, verdict, (echoed, echoed))


PROBES = [
    both("plain A", "1035", query(), ANSWER),
    both("empty", "1035", b"", SILENCE["short"]),
    both("11 octets", "1035", header()[:11], SILENCE["short"]),
    both("header only, QDCOUNT 0", "9619", header(counts=(0, 0, 0, 0)), BARE_FORMERR),
    both("QDCOUNT 1, no body", "1035", header(), BARE_FORMERR),
    both("QDCOUNT 2", "9619", header(counts=(2, 0, 0, 0)) + question() * 2, BARE_FORMERR),
    both("QR without question", "1035", header(flags=0x8100, counts=(0, 0, 0, 0)), SILENCE["response"]),
    both("QR with question", "1035", query(flags=0x8100), SILENCE["response"]),
    both("QR with opcode 15", "1035", query(flags=0xF900), SILENCE["response"]),
    both("opcode IQUERY", "3425", query(flags=1 << 11), NOTIMP),
    both("opcode STATUS", "1035", query(flags=2 << 11), NOTIMP),
    both("opcode UPDATE", "2136", query(flags=5 << 11), NOTIMP),
    both("opcode 15", "8906", query(flags=15 << 11), NOTIMP),
    both("opcode 15, header only", "8906", header(flags=15 << 11, counts=(0, 0, 0, 0)), NOTIMP),
    both("NOTIFY", "1996", query(flags=4 << 11, qtype=6), ANSWER),
    both(
        "NOTIFY with the SOA",
        "1996",
        query(flags=4 << 11, qtype=6, counts=(1, 1, 0, 0), extra=record(rtype=6, rdata=b"\x00\x00" + bytes(20))),
        ANSWER,
    ),
    both("Z set", "1035", query(flags=0x0140), ANSWER),
    both("AA set", "1035", query(flags=0x0500), ANSWER),
    both("TC set", "1035", query(flags=0x0300), ANSWER),
    both("AD and CD set", "6840", query(flags=0x0130), ANSWER),
    both("RCODE 9 in a query", "8906", query(flags=0x0109), ANSWER),
    both("TYPE1000", "8906", query(qtype=1000), ANSWER),
    both("class ANY", "1035", query(qclass=255), REFUSED),
    both("class HS", "1035", query(qclass=4), REFUSED),
    both("class NONE", "2136", query(qclass=254), REFUSED),
    both("class 0", "1035", query(qclass=0), REFUSED),
    both("type ANY", "8482", query(qtype=255), ANSWER),
    both("AXFR", "5936", query(qtype=252), ANSWER),
    both("QTYPE OPT", "6891", query(qtype=OPT), FORMERR),
    both("QTYPE 0", "1035", query(qtype=0), ANSWER),
    both("QTYPE 65535", "1035", query(qtype=65535), ANSWER),
    both("NXNAME", "9824", query(qtype=128), FORMERR),
    both("QNAME points to itself", "1035", query(name=b"\xc0\x0c"), BARE_FORMERR),
    both("QNAME points forward", "1035", query(name=b"\xc0\x20"), BARE_FORMERR),
    both("QNAME points into the header", "1035", query(name=b"\xc0\x04"), BARE_FORMERR),
    both("QNAME with a pointer after a label", "9267", query(name=b"\x01a\xc0\x0c"), BARE_FORMERR),
    both("label type 0x40", "6891", query(name=b"\x41" + b"a" * 65 + b"\x00"), BARE_FORMERR),
    both("label type 0x80", "1035", query(name=b"\x81" + b"a" * 129 + b"\x00"), BARE_FORMERR),
    both("name of 256 octets", "1035", query(name=name_of(256)), BARE_FORMERR),
    both("name of 255 octets", "1035", query(name=name_of(255)), ANSWER),
    both("127 labels", "1035", query(name=b"\x01a" * 127 + b"\x00"), ANSWER),
    both("128 labels", "1035", query(name=b"\x01a" * 128 + b"\x00"), BARE_FORMERR),
    both("label of 63 octets", "1035", query(name=b"\x3f" + b"a" * 63 + b"\x00"), ANSWER),
    both("root", "1035", query(name=b"\x00", qtype=2), ANSWER),
    both("name with NUL, dot and 0xFF octets", "2181", query(name=b"\x05\x00.\xff A\x00"), ANSWER),
    both("truncated QNAME", "1035", (header() + NAME)[:-3], BARE_FORMERR),
    both("QNAME without its root", "1035", header() + NAME[:-1], BARE_FORMERR),
    both("QNAME alone", "1035", header() + NAME, BARE_FORMERR),
    both("QNAME and type alone", "1035", header() + NAME + b"\x00\x01", BARE_FORMERR),
    both("10 trailing octets", "1035", query() + b"\xff" * 10, ANSWER),
    both("10 trailing octets after an OPT", "6891", query(extra=opt()) + b"\xff" * 10, ANSWER_OPT),
    both("ANCOUNT 1, no record", "1035", query(counts=(1, 1, 0, 0)), FORMERR),
    both("NSCOUNT 1, no record", "1035", query(counts=(1, 0, 1, 0)), FORMERR),
    both("ARCOUNT 1, no record", "1035", query(counts=(1, 0, 0, 1)), FORMERR),
    both("ANCOUNT 2", "1035", query(counts=(1, 2, 0, 0), extra=record() * 2), BARE_FORMERR),
    both("NSCOUNT 2", "1035", query(counts=(1, 0, 2, 0), extra=record() * 2), BARE_FORMERR),
    both("ARCOUNT 3", "1035", query(counts=(1, 0, 0, 3), extra=record() * 3), BARE_FORMERR),
    both("65,535 records claimed", "9267", query(counts=(1, 65535, 65535, 65535)), BARE_FORMERR),
    both("one record in each section", "1035", query(counts=(1, 1, 1, 2), extra=record() * 4), ANSWER),
    both("RDLENGTH beyond the end", "9267", query(counts=(1, 0, 0, 1), extra=record()[:-1]), FORMERR),
    both("A record of five octets", "1035", query(extra=record(rdata=b"12345")), FORMERR),
    both("MX without a name", "1035", query(extra=record(rtype=15, rdata=b"\x00\x0a")), FORMERR),
    both(
        "name past its RDATA",
        "9267",
        query(counts=(1, 0, 0, 2), extra=record(rtype=5, rdata=b"\x03ab") + record()),
        FORMERR,
    ),
    both("octets after the name in RDATA", "1035", query(extra=record(rtype=5, rdata=b"\x00\x00")), FORMERR),
    both("EDNS 0", "6891", query(extra=opt()), ANSWER_OPT),
    both("EDNS DO", "3225", query(extra=opt(flags=0x8000)), ANSWER_OPT),
    both("EDNS unknown option", "6891", query(extra=opt(rdata=option(100, b"abcd"))), ANSWER_OPT),
    both("EDNS unknown flags", "8906", query(extra=opt(flags=0xC0FF)), ANSWER_OPT),
    both("EDNS version 1", "6891", query(extra=opt(version=1)), BADVERS),
    both("EDNS version 100 and an option", "8906", query(extra=opt(version=100, rdata=option(100))), BADVERS),
    both("two OPT", "6891", query(counts=(1, 0, 0, 2), extra=opt() * 2), FORMERR),
    both("OPT owner is not the root", "6891", query(extra=opt(owner=NAME)), FORMERR),
    both("OPT owner is a pointer to a root", "6891", query(extra=opt(owner=b"\xc0\x18")), FORMERR),
    both("OPT RDLENGTH beyond the end", "6891", query(extra=opt(rdlen=8)), FORMERR),
    both("option beyond the OPT", "6891", query(extra=opt(rdata=option(100, b"ab", length=3))), FORMERR),
    both("option of three octets", "6891", query(extra=opt(rdata=b"\x00\x0a\x00")), FORMERR),
    both("OPT in the answer section", "6891", query(counts=(1, 1, 0, 0), extra=opt()), FORMERR),
    both("OPT in the authority section", "6891", query(counts=(1, 0, 1, 0), extra=opt()), FORMERR),
    both("EDNS size 0", "6891", query(extra=opt(size=0)), ANSWER_OPT),
    both("EDNS size 65535", "6891", query(extra=opt(size=65535)), ANSWER_OPT),
    both("cookie of 8 octets", "7873", query(extra=opt(rdata=option(10, b"12345678"))), ANSWER_OPT, (10,)),
    both("cookie of 7 octets", "7873", query(extra=opt(rdata=option(10, b"1234567"))), ANSWER_OPT, (10,)),
    both("cookie of 41 octets", "7873", query(extra=opt(rdata=option(10, b"1" * 41))), ANSWER_OPT, (10,)),
    both("ECS with an unknown family", "7871", query(extra=opt(rdata=option(8, b"\x00\x63\x08\x00\x01"))), ANSWER_OPT),
    both("300 unknown options", "6891", query(extra=opt(rdata=option(65001) * 300)), ANSWER_OPT),
    both("NSID three times", "5001", query(extra=opt(rdata=option(3) * 3)), ANSWER_OPT, (3,)),
    both("EXPIRE", "7314", query(extra=opt(rdata=option(9))), ANSWER_OPT, (9,)),
    both("padding", "7830", query(extra=opt(rdata=option(12, bytes(32)))), ANSWER_OPT, (12,)),
    Probe("keepalive", "7828", query(extra=opt(rdata=option(11))), ANSWER_OPT, ANSWER_OPT, ((), (11,))),
    both("OPT before another record", "6891", query(counts=(1, 0, 0, 2), extra=opt() + record()), ANSWER_OPT),
    both("OPT after another record", "6891", query(counts=(1, 0, 0, 2), extra=record() + opt()), ANSWER_OPT),
    both(
        "TSIG before the OPT",
        "8945",
        query(counts=(1, 0, 0, 2), extra=record(rtype=250, rclass=255, rdata=b"") + opt()),
        FORMERR,
    ),
    both(
        "TSIG in the answer section",
        "8945",
        query(counts=(1, 1, 0, 0), extra=record(rtype=250, rclass=255, rdata=b"")),
        FORMERR,
    ),
    both("two TSIG", "8945", query(counts=(1, 0, 0, 2), extra=record(rtype=250, rclass=255, rdata=b"") * 2), FORMERR),
]
