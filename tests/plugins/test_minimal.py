# SPDX-License-Identifier: Apache-2.0
"""minimal: which replies are shortened, and which must not be. The tables are CoreDNS's answers."""

from __future__ import annotations

import time

import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.plugins.minimal import Minimal
from fastdns.plugins.minimal._minimal import stage
from fastdns.testing import Answer, Worker, question
from tests.faults.upstream import Asked, Upstream, reply

QUERY = question("www.example.org.", 1, id=1)
ADDRESS, SOA, NS, GLUE = "A 192.0.2.1", "SOA a. b. 1 2 3 4 5", "NS ns.example.org.", "A 192.0.2.53"
STAMP = "%Y%m%d%H%M%S"


def made(answer=(), authority=(), additional=(), rcode=0, opcode=0, query=QUERY) -> bytes:
    """A reply; each record is `TYPE rdata`."""
    message = dns.message.make_response(dns.message.from_wire(query))
    message.set_rcode(rcode)
    message.set_opcode(opcode)
    parts = (message.answer, answer, "www"), (message.authority, authority, ""), (message.additional, additional, "ns")
    for section, lines, host in parts:
        for line in lines:
            kind, data = line.split(" ", 1)
            section.append(dns.rrset.from_text(f"{host}.example.org.".lstrip("."), 300, "IN", kind, data))
    return message.to_wire()


def passed(wire: bytes, query: bytes = QUERY, rcode: int = 0, **more) -> bytes:
    return Bench(stage()).run(query, reply=wire, rcode=rcode, **more)[3]


@pytest.mark.parametrize(
    ("sections", "kept"),
    [
        (((ADDRESS,), (NS,), (GLUE,)), 1),
        (((ADDRESS,), (), (GLUE,)), 1),
        (((ADDRESS, "CNAME b.example.org."), (SOA,), ()), 2),
        (((), (), (GLUE,)), 0),
        (((), ("TXT x",), (GLUE,)), 0),
    ],
    ids=["all", "no-authority", "with-soa", "additional-alone", "odd-authority"],
)
def test_positive_answers_are_shortened(sections, kept):
    got = Answer.of(passed(made(*sections)))
    assert (len(got.answer), got.authority, got.additional) == (kept, [], [])


@pytest.mark.parametrize(
    ("sections", "rcode"),
    [
        (((), (SOA,), (GLUE,)), 0),
        (((), (NS,), (GLUE,)), 0),
        (((), (NS, SOA), ()), 0),
        (((), (SOA,), ()), 3),
        (((ADDRESS,), (SOA,), (GLUE,)), 3),
        (((), (NS,), (GLUE,)), 2),
        (((), (NS,), (GLUE,)), 5),
        (((ADDRESS,), (), ()), 0),
    ],
    ids=["nodata", "delegation", "both", "nxdomain", "odd-nxdomain", "servfail", "refused", "short"],
)
def test_others_pass(sections, rcode):
    wire = made(*sections, rcode=rcode)
    assert passed(wire, rcode=rcode) == wire


@pytest.mark.parametrize("opcode", [4, 5])
def test_notify_and_update_pass(opcode):
    wire = made((ADDRESS,), (NS,), (GLUE,), opcode=opcode)
    assert passed(wire) == wire


@pytest.mark.parametrize("qtype", [251, 252])
def test_transfers_pass(qtype):
    query = question("www.example.org.", qtype, id=1)
    wire = made((ADDRESS,), (NS,), (GLUE,), query=query)
    assert passed(wire, query) == wire


@pytest.mark.parametrize(("days", "short"), [(1, True), (-1, False)])
@pytest.mark.parametrize("do", [True, False])
def test_signatures_that_are_not_valid_now(days, short, do):
    now = time.time()
    start, end = (time.strftime(STAMP, time.gmtime(now + 86400 * d)) for d in (-9, days))
    wire = made((ADDRESS, f"RRSIG A 8 3 300 {end} {start} 1 example.org. AAAA"), (NS,), (GLUE,))
    got = dns.message.from_wire(passed(wire, has_opt=True, set_do=do))
    assert (not got.authority and not got.additional) is (short or not do)


def test_malformed_replies_pass():
    wire = made((ADDRESS,), (NS,), (GLUE,))[:-3]
    assert passed(wire) == wire


def opted(asked: Asked) -> list[bytes]:
    """One answer, one additional record, and an OPT with a cookie and DO."""
    plain = bytearray(reply(asked, answers=2))
    plain[6:12] = b"\0\1\0\0\0\2"
    return [bytes(plain) + b"\0\0\x29\x10\0\0\0\x80\0\0\x0c\0\x0a\0\x08" + b"12345678"]


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_the_upstreams_opt_goes_and_the_clients_stays(proto):
    with Upstream(opted) as upstream, Worker(f". {{\nminimal\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
        got = worker.ask("a.example.", 1, proto, bufsize=1400)
        assert (len(got.answer), got.additional) == (1, [])
        edns = got.message.edns
        assert (edns.edns_len, edns.edns_do, list(edns.rdata)) == (1400, 0, [])
        assert worker.ask("a.example.", 1, proto).message.edns is None


def test_an_answer_of_the_server_itself():
    with Worker(". {\nminimal\nwhoami\n}\n") as worker:
        got = worker.ask("a.example.", 1)
        assert (got.flags, got.answer, got.additional) == ({"qr", "aa", "rd"}, [], [])


def parse(text: str) -> list:
    return Minimal.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "minimal"))


def test_one_instance():
    assert parse("minimal") == parse("minimal\nminimal x") == [None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minimal x", "Wrong argument count or unexpected line ending after 'x'"),
        ("minimal {\n}", "Unexpected token '{', expecting argument"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/minimal: Corefile:1 - Error during parsing: {message}"


@given(data=st.data())
def test_a_damaged_reply_is_survived(data):
    wire = bytearray(made((ADDRESS, "CNAME b.example.org."), (NS,), (GLUE,)))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(4, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    assert len(passed(cut, has_opt=True)) <= len(cut)
