# SPDX-License-Identifier: Apache-2.0
"""dns64: what is translated, into what, and for whom. The tables are CoreDNS's answers."""

from __future__ import annotations

import ipaddress

import dns.message
import dns.rrset
import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, CH, MX, NXDOMAIN, SERVFAIL, A
from fastdns.plugins.dns64 import Dns64
from fastdns.plugins.dns64._dns64 import stage
from fastdns.plugins.dns64.config import Settings
from fastdns.testing import Answer, Server, Worker, exchange, question
from tests.faults.upstream import Asked, Upstream

SOA = "SOA a. b. 1 2 3 4 5"
COUNTER = "coredns_dns64_requests_translated_total"


def made(asked: Asked, answer=(), authority=(), additional=(), rcode=0, flags=0) -> list[bytes]:
    """A reply; each record is `owner TTL TYPE rdata`, the owner `@` that of the question."""
    query = dns.message.from_wire(asked.wire)
    message = dns.message.make_response(query, our_payload=1410)
    message.set_rcode(rcode)
    message.flags |= flags
    sections = (message.answer, answer), (message.authority, authority), (message.additional, additional)
    for section, lines in sections:
        for line in lines:
            owner, ttl, kind, data = line.split(" ", 3)
            owner = query.question[0].name.to_text() if owner == "@" else owner
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return [message.to_wire(max_size=65535)]


def script(asked: Asked) -> list[bytes]:
    """What an upstream says, by the first label of the name."""
    kind = asked.name.split(".")[0].lower()
    v6 = asked.wire[asked.end - 4 : asked.end - 2] == b"\0\x1c"
    addresses = [f"@ 300 A 192.0.2.{i}" for i in range(60 if kind == "many" else 2)]
    if v6:
        return {
            "both": lambda: made(asked, ["@ 300 AAAA 2001:db8::1"]),
            "nxdomain": lambda: made(asked, rcode=NXDOMAIN, authority=[f"test. 9 {SOA}"]),
            "odd": lambda: made(asked, ["@ 300 CNAME t.test."], rcode=NXDOMAIN),
            "soa": lambda: made(asked, authority=[f"test. 7 {SOA}"]),
            "servfail": lambda: made(asked, rcode=SERVFAIL),
            "refused": lambda: made(asked, rcode=5),
        }.get(kind, lambda: made(asked))()
    return {
        "cname": lambda: made(asked, ["@ 300 CNAME t.test.", "t.test. 900 A 192.0.2.9"]),
        "sections": lambda: made(asked, addresses, ["test. 300 NS ns.test."], ["ns.test. 300 A 192.0.2.53"]),
        "afails": lambda: made(asked, rcode=SERVFAIL),
        "anone": lambda: made(asked, rcode=NXDOMAIN, authority=[f"test. 9 {SOA}"]),
        "mute": list,
    }.get(kind, lambda: made(asked, addresses, flags=0x0480))()


@pytest.fixture(scope="module")
def upstream():
    with Upstream(script) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def worker(upstream):
    to = f"forward . 127.0.0.1:{upstream.port}"
    every = f"all {{\ndns64 {{\nallow_ipv4\ntranslate_all\nprefix 2001:db8::/32\n}}\n{to}\n}}\n"
    deny = f"deny {{\nerrors\ndns64 {{\nallow_ipv4\n}}\nacl {{\nblock type A\n}}\n{to}\n}}\n"
    drop = f"drop {{\nerrors\ndns64 {{\nallow_ipv4\n}}\nacl {{\ndrop type A\n}}\n{to}\n}}\n"
    plain = f"plain {{\ndns64\n{to}\n}}\n"
    own = f". {{\nlog\ndns64 {{\nallow_ipv4\n}}\ncache\n{to}\n}}\n"
    with Worker(own + every + deny + drop + plain) as worker:
        yield worker


def made_of(name: str, *last: int, ttl: int = 300) -> list[str]:
    return [f"{name} {ttl} IN AAAA 64:ff9b::c000:2{i:02x}" for i in last]


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("name", "answer", "translated"),
    [
        ("plain.test.", made_of("plain.test.", 0, 1), True),
        ("soa.test.", made_of("soa.test.", 0, 1, ttl=7), True),
        ("servfail.test.", made_of("servfail.test.", 0, 1), True),
        ("refused.test.", made_of("refused.test.", 0, 1), True),
        ("odd.test.", made_of("odd.test.", 0, 1), True),
        ("cname.test.", ["cname.test. 300 IN CNAME t.test.", *made_of("t.test.", 9, ttl=600)], True),
        ("both.test.", ["both.test. 300 IN AAAA 2001:db8::1"], False),
    ],
)
def test_answers(upstream, proto, name, answer, translated):
    block = f". {{\ndns64 {{\nallow_ipv4\n}}\nforward . 127.0.0.1:{upstream.port}\n}}\n"
    with Worker(block) as worker:
        got = worker.ask(name, AAAA, proto)
        assert (got.rcode, sorted(got.answer), got.flags) == (0, sorted(answer), {"qr", "rd"})
        assert (got.authority, got.additional) == ([], [])
        assert worker.counter(COUNTER) == int(translated)


def test_nxdomain_passes(worker):
    got = worker.ask("nxdomain.test.", AAAA)
    assert (got.rcode, got.answer, len(got.authority)) == (NXDOMAIN, [], 1)


@pytest.mark.parametrize("name", ["afails.test.", "anone.test."])
def test_without_addresses_it_is_noerror(worker, name):
    got = worker.ask(name, AAAA)
    assert (got.rcode, got.answer) == (0, [])


def test_the_sections_are_those_of_the_other_reply(worker):
    got = worker.ask("sections.test.", AAAA)
    assert len(got.answer) == 2 and got.authority == ["test. 300 IN NS ns.test."]
    assert got.additional == ["ns.test. 300 IN A 192.0.2.53"]


@pytest.mark.parametrize(("qtype", "qclass"), [(A, 1), (MX, 1), (AAAA, CH)])
def test_other_questions_pass(worker, qtype, qclass):
    before = worker.counter(COUNTER)
    worker.ask("plain.test.", qtype, qclass=qclass)
    assert worker.counter(COUNTER) == before


def test_translate_all_and_a_prefix(worker):
    assert worker.ask("both.all.", AAAA).answer == [
        f"both.all. 300 IN AAAA 2001:db8:c000:20{i}::" for i in range(2)]


def test_the_question_keeps_its_letters_and_upstreams_see_small_ones(worker, upstream):
    got = worker.ask("PLAIN.Letters.test.", AAAA, rd=False, cd=True)
    assert got.message.q.qname.label[0] == b"PLAIN" and got.flags == {"qr", "cd"}
    assert {b"plain" in asked.wire for asked in upstream.of("plain.letters.test.")} == {True, False}


def test_edns(worker, upstream):
    got = worker.ask("edns.test.", AAAA, bufsize=1400, do=True, options=[(10, b"12345678")])
    edns = got.message.edns
    assert (edns.edns_len, edns.edns_do) == (1400, 1)
    assert [asked.wire.count(b"12345678") for asked in upstream.of("edns.test.")] == [1, 1]


OUTER, INNER = 24 + 2 * 34, 24 + 2 * 22  # header and question, two records


@pytest.mark.parametrize(
    ("asked", "more"), [({}, 0), ({"bufsize": 1400}, 11), ({"options": [(10, b"12345678"), (8, b"\0\1\0\0")]}, 23)]
)
def test_the_size_that_is_reported(upstream, asked, more):
    # The look-up's reply comes from the cache, without OPT; the translated one has the client's, as in CoreDNS.
    lines = f"prometheus 127.0.0.1:0\ndns64 {{\nallow_ipv4\n}}\ncache\nforward . 127.0.0.1:{upstream.port}"
    with Worker(f". {{\n{lines}\n}}\n") as worker:

        def octets() -> int:
            return sum(s.values[-2] for s in worker.stats.snapshot() if s.name == "coredns_dns_response_size_bytes")

        worker.ask("a.test.", AAAA)
        before = octets()
        worker.ask("a.test.", AAAA, **asked)
        assert octets() - before == OUTER + more + INNER


def test_a_long_answer_is_cut(worker):
    assert "tc" in worker.ask("many.cut.test.", AAAA).flags
    got = worker.ask("many.cut.test.", AAAA, "tcp")
    assert len(got.answer) == 60 and "tc" not in got.flags


def test_both_answers_are_kept(worker, upstream):
    for _ in range(3):
        assert len(worker.ask("kept.test.", AAAA).answer) == 2
    assert len(upstream.of("kept.test.")) == 2


def test_the_look_up_is_judged_as_the_clients(worker):
    got = worker.ask("plain.deny.", AAAA)
    assert (got.rcode, got.answer) == (0, [])
    assert worker.counter("coredns_acl_blocked_requests_total", zone="deny.") == 1


def test_a_look_up_without_answer_is_a_failure(worker):
    assert worker.ask("plain.drop.", AAAA).rcode == SERVFAIL


def test_clients_with_ipv4_are_not_translated_unless_asked_for(worker):
    assert worker.ask("plain.plain.", AAAA).answer == []


def test_clients_with_ipv6(upstream):
    with Server(f". {{\nbind ::1\ndns64\nforward . 127.0.0.1:{upstream.port}\n}}\n", bind=False) as server:
        for proto in ("udp", "tcp"):
            got = Answer.of(exchange(question("plain.test.", AAAA), server.port, proto, "::1"))
            assert got.answer == made_of("plain.test.", 0, 1)


ADDRESS = ipaddress.ip_address("192.0.2.33")


@pytest.mark.parametrize(
    ("prefix", "made"),
    [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ],
)
def test_embedding(prefix, made):
    # RFC 6052 2.4.
    def one(asked: Asked) -> list[bytes]:
        wire = bytearray(asked.wire[: asked.end])
        wire[2:12] = b"\x81\x80\0\1\0\0\0\0\0\0"
        if wire[-4:-2] == b"\0\1":
            wire[7] = 1
            wire += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ADDRESS.packed
        return [bytes(wire)]

    with Upstream(one) as upstream:
        lines = f"allow_ipv4\nprefix {prefix}"
        with Worker(f". {{\ndns64 {{\n{lines}\n}}\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
            (record,) = worker.ask("a.test.", AAAA).answer
    assert ipaddress.ip_address(record.split()[-1]) == ipaddress.ip_address(made)


def parse(text: str) -> list:
    return Dns64.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "dns64"))


WELL = bytes.fromhex("0064ff9b") + bytes(8)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("dns64", Settings(WELL)),
        ("dns64 2001:db8::/32", Settings(b"\x20\x01\x0d\xb8")),
        ("dns64 {\n}", Settings(WELL)),
        ("dns64 {\nprefix 2001:db8::1/32\nallow_ipv4\n}", Settings(b"\x20\x01\x0d\xb8", allow_ipv4=True)),
        ("dns64 2001:db8::/32 {\ntranslate_all\n}", Settings(b"\x20\x01\x0d\xb8")),
        ("dns64 {\nallow_ipv4\n}\ndns64 {\ntranslate_all\n}", Settings(WELL, True, True)),
    ],
)
def test_settings(text, settings):
    assert parse(text) == [settings]


PLACE = "Corefile:{line} - Error during parsing: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dns64 a b", PLACE.format(line=1) + "Wrong argument count or unexpected line ending after 'b'"),
        ("dns64 x", "invalid CIDR address: x"),
        ("dns64 10.0.0.0/8", PLACE.format(line=1) + 'invalid netmask 32 IPv6 address: "10.0.0.0/8"'),
        ("dns64 64:FF9B::/97", PLACE.format(line=1) + 'invalid prefix length "64:ff9b::/97"'),
        ("dns64 64:ff9b::/24", PLACE.format(line=1) + 'invalid prefix length "64:ff00::/24"'),
        ("dns64 64:ff9b::/50", PLACE.format(line=1) + 'invalid prefix length "64:ff9b::/50"'),
        ("dns64 {\n prefix\n}", PLACE.format(line=2) + "Wrong argument count or unexpected line ending after 'prefix'"),
        ("dns64 {\n prefix x\n}", "invalid CIDR address: x"),
        ("dns64 {\n prefix 64:ff9b::/64 x\n}", PLACE.format(line=2) + "unknown property 'x'"),
        ("dns64 {\n foo\n}", PLACE.format(line=2) + "unknown property 'foo'"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/dns64: {message}"


@pytest.mark.parametrize(("prefix", "slots"), [(bytes(3), [1]), (bytes(13), [1]), (bytes(12), [])])
def test_bounds_of_the_stage(prefix, slots):
    with pytest.raises(ValueError):
        stage(prefix, False, False, slots)
