# SPDX-License-Identifier: Apache-2.0
"""cache: what its settings come to, and every rule of its behaviour on the real runner. Its grammar and error texts:
tests/unit/test_corefile_options_cache.py.

Strategy: a `ChainBench` runs the compiled stage with clocks that the test sets and a last stage that the test plays, so
that each case says when a query came, what the upstream answered and what the client got, without waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._cache import Look, Segment
from fastdns._drive_chain import ChainBench
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import BlockContext
from fastdns.plugins.cache import Cache
from fastdns.plugins.cache.config import CACHE, capacity, ttls
from fastdns.testing import Server

SECOND = 10**9
SRV = 33
SOA = "example.net. 300 IN SOA ns. hostmaster. 1 7200 3600 1209600 60"
SERVERS = ("dns://:53", "dns://:54")


# ---- grammar


def parse(text: str):
    return CACHE.parse(Dispenser("Corefile", tokenize(text), ("dns://example.org.:53",), "cache"))


def test_defaults():
    (found,) = parse("cache")
    assert found.zones == ("example.org.",)
    assert (found.success_capacity, found.denial_capacity) == (10000, 10000)
    assert ttls(found) == ((3600, 5), (1800, 5))
    assert (found.amount, found.duration, found.percentage) == (0, 60.0, 10)
    assert (found.stale_for, found.verify, found.recheck, found.serve_stale_policy) == (0.0, False, 0.0, None)
    assert (found.servfail, found.keepttl, found.disable_success, found.disable_denial) == (5.0, False, (), ())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cache 30", ((30, 5), (30, 5))),
        ("cache 30 {\n success 100\n}", ((30, 5), (30, 5))),
        ("cache 30 {\n success 100 3600\n denial 1 20 1\n}", ((3600, 5), (20, 1))),
        ("cache {\n success 1 99999999999 3000000000\n}", ((0x7FFFFFFF, 0x7FFFFFFF), (1800, 5))),
    ],
)
def test_ttl_of_the_line_and_of_the_kinds(text, expected):
    assert ttls(parse(text)[0]) == expected


@pytest.mark.parametrize(
    ("written", "held"),
    [(-5, 1024), (0, 1024), (1279, 1024), (1280, 1280), (10000, 9984), (100000, 99840), (10**12, 1 << 26)],
)
def test_capacity(written, held):
    assert capacity(written) == held


def test_the_last_disable_of_a_kind_counts():
    (found,) = parse("cache {\n disable success A.test b.test.\n disable denial x\n disable denial\n}")
    assert (found.disable_success, found.disable_denial) == (("a.test.", "b.test."), (".",))


# ---- behaviour


class Kit:
    """A block with one `cache`, and what its clients and its upstream say."""

    def __init__(self, options: str = "", line: str = "cache") -> None:
        text = f"{line} {{\n{options}\n}}" if options else line
        (config,) = CACHE.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "cache"))
        self.stats = Stats.create(8)
        self.segment = Segment.create([(1, 1024, 1024, 2 if config.amount else 0)])
        block = BlockContext(
            index=0, block_id=1, zones=(".",), keys=(), servers=SERVERS, listeners=(0,), chain=("cache", "script"),
            stats=self.stats, segment=self.segment,
        )  # fmt: skip
        self.plugin = Cache(config, block)
        self.bench = ChainBench([self.plugin.compiled()], self.stats, self.segment)

    def close(self) -> None:
        os.close(self.segment.fd)
        os.close(self.stats.fd)

    def wait(self, seconds: float) -> None:
        self.bench.boot_ns += int(seconds * SECOND)
        self.bench.now_ns += int(seconds * SECOND)

    def ask(self, name="www.example.net", qtype="A", *, flags=dns.flags.RD, do=False, id=7, opcode=0, qclass="IN",
            options=None, token=0):  # fmt: skip
        """The reply that a query gets at once, or None."""
        wire = question(name, qtype, flags, do, id, opcode, qclass, options)
        return one(self.bench.ask(wire, proto=qtype == "AXFR", token=token))

    def answer(self, *records, number=0, rcode=0, authority=(), additional=(), flags=dns.flags.RA, mangle=None,
               has_opt=False, set_do=False):  # fmt: skip
        """The upstream answers the query that waits; what its client gets."""
        query = dns.message.from_wire(self.bench.waiting[number][1])
        reply = dns.message.make_response(query)
        reply.use_edns(-1)
        reply.flags |= flags
        reply.set_rcode(rcode)
        for section, texts in ((reply.answer, records), (reply.authority, authority), (reply.additional, additional)):
            for text in texts:
                owner, ttl, rclass, rtype, *rest = text.split(" ", 4)
                section.append(dns.rrset.from_text(dns.name.from_text(owner), int(ttl), rclass, rtype, " ".join(rest)))
        wire = reply.to_wire()
        return one(self.bench.answer(number, mangle(wire) if mangle else wire, has_opt=has_opt, set_do=set_do))

    def fill(self, *records, name="www.example.net", qtype="A", **kw):
        """A miss that is answered."""
        assert self.ask(name, qtype) is None
        return self.answer(*records, **kw)

    def count(self, what: str) -> int:
        labels = {s.name: 0 for s in self.stats.snapshot()}
        for series in self.stats.snapshot():
            labels[series.name] += series.values[0]
            labels[f"{series.name} {dict(series.labels).get('type')}"] = series.values[0]
        return labels.get(f"coredns_cache_{what}_total", labels.get(f"coredns_cache_{what.replace(' ', '_total ')}", 0))

    @property
    def waits(self) -> int:
        return len(self.bench.waiting)

    def stream(self, *records):
        """The query that waits is answered by two messages with these records; what its client gets of the second."""
        query = dns.message.from_wire(self.bench.waiting[0][1])
        reply = dns.message.make_response(query)
        for text in records:
            owner, ttl, rclass, rtype, rest = text.split(" ", 4)
            reply.answer.append(dns.rrset.from_text(dns.name.from_text(owner), int(ttl), rclass, rtype, rest))
        for _ in range(2):
            _, sent = self.bench.stream(reply.to_wire())
        self.bench.stream_end()
        return one(sent)


def question(name, qtype="A", flags=dns.flags.RD, do=False, id=7, opcode=0, qclass="IN", options=None) -> bytes:
    message = dns.message.make_query(name, qtype, qclass, want_dnssec=do, options=options,
                                     use_edns=0 if do or options else -1)  # fmt: skip
    message.flags = flags | (opcode << 11)
    message.id = id
    return message.to_wire()


def one(sent):
    if not sent:
        return None
    assert len(sent) == 1
    _token, rcode, wire, _ulen, _has_opt = sent[0]
    return dns.message.from_wire(wire) if wire is not None else rcode


def ttls_of(reply) -> list[int]:
    return [rrset.ttl for section in (reply.answer, reply.authority, reply.additional) for rrset in section]


@pytest.fixture
def kit(request):
    options = getattr(request, "param", "")
    made = Kit(options)
    yield made
    made.close()


A = "www.example.net. 300 IN A 192.0.2.1"


def test_a_hit_is_the_stored_answer_with_the_clients_header(kit):
    first = kit.fill(A)
    assert first.id == 7
    assert not first.flags & dns.flags.AA
    kit.wait(7.9)
    reply = kit.ask("WwW.example.NET", id=99, flags=0)
    assert (reply.id, reply.rcode(), ttls_of(reply)) == (99, 0, [293])
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RA
    assert str(reply.question[0].name) == "WwW.example.NET."
    assert kit.ask(flags=dns.flags.RD | dns.flags.CD) is None  # CD is part of the key
    assert (kit.count("requests"), kit.count("misses"), kit.count("hits success")) == (3, 2, 1)


def test_records_keep_the_case_they_were_stored_with(kit):
    kit.ask("WwW.example.NET")
    kit.answer("WwW.example.NET. 300 IN CNAME a.eXample.org.", "a.eXample.org. 300 IN A 192.0.2.1",
               additional=["example.NET. 300 IN NS nS.example.NET."])  # fmt: skip
    kit.wait(100)
    for name in ("www.example.net", "WWW.example.NET", "WwW.example.NET"):
        reply = kit.ask(name, id=3)
        assert str(reply.question[0].name) == name + "."
        assert [str(rrset.name) for rrset in reply.answer + reply.additional] == [
            "WwW.example.NET.", "a.eXample.org.", "example.NET."]  # fmt: skip
        assert (str(reply.answer[0][0].target), str(reply.additional[0][0].target)) == ("a.eXample.org.",
                                                                                        "nS.example.NET.")
        assert (reply.id, set(ttls_of(reply))) == (3, {200})


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=120), st.binary(max_size=60).map(lambda tail: question("www.example.net") + tail)),
    st.lists(st.integers(0, 65535), max_size=4),
    st.sampled_from(["www.example.net", "Www.Example.NET"]),
)
def test_a_hit_on_any_octets_stays_in_bounds(wire, offsets, name):
    """What lies in the cache was checked when it was stored; were it anything else, the reply would still be one."""
    kit = HOSTILE[0] if HOSTILE else Kit()
    HOSTILE[:] = [kit]
    kit.segment.flush(1)
    stored = Look(kit.segment, 1).put(
        b"\3www\7example\3net\0", wire, stored_at=kit.bench.boot_ns, ttl=60, offsets=offsets
    )
    sent = kit.bench.ask(question(name))
    if not sent:
        kit.bench.answer(0, None, rcode=2)
    else:
        assert stored
        assert sent[0][2][:2] == b"\0\7"
        assert len(sent[0][2]) >= 12 + 17 + 4


HOSTILE: list[Kit] = []


def test_an_answer_lives_its_ttl(kit):
    kit.fill(A)
    kit.wait(299.9)
    assert ttls_of(kit.ask()) == [1]
    kit.wait(0.1)
    assert kit.ask() is None


def test_all_records_get_the_smallest_ttl_on_a_miss_and_on_a_hit(kit):
    reply = kit.fill(A, authority=["example.net. 30 IN NS ns.example.net."],
                     additional=["ns.example.net. 90 IN A 192.0.2.9"])
    assert ttls_of(reply) == [30, 30, 30]
    kit.wait(10)
    assert ttls_of(kit.ask()) == [20, 20, 20]


@pytest.mark.parametrize("kit", ["success 1024 60 20\n denial 1024 30 10"], indirect=True)
@pytest.mark.parametrize(("ttl", "given"), [(0, 20), (19, 20), (40, 40), (4000, 60), (0x80000001, 20)])
def test_bounds_of_ttls(kit, ttl, given):
    assert ttls_of(kit.fill(f"www.example.net. {min(ttl, 0x7FFFFFFF)} IN A 192.0.2.1",
                            mangle=lambda wire: wire.replace((0x7FFFFFFF).to_bytes(4, "big"), ttl.to_bytes(4, "big")),
                            )) == [given]  # fmt: skip
    assert ttls_of(kit.ask()) == [given]


@pytest.mark.parametrize("kit", ["keepttl"], indirect=True)
def test_keepttl(kit):
    kit.fill(A)
    kit.wait(200)
    assert ttls_of(kit.ask()) == [300]


@pytest.mark.parametrize(
    ("stored", "wants", "given"),
    [(True, "", False), (True, "ad", True), (True, "do", True), (False, "ad", False)],
)
def test_ad(kit, stored, wants, given):
    flags = dns.flags.RD | (dns.flags.AD if wants == "ad" else 0)
    assert kit.ask(flags=flags, do=wants == "do") is None
    assert kit.bench.waiting[0][2] & dns.flags.AD  # upstreams are always asked for it
    for reply in (kit.answer(A, flags=dns.flags.RA | (dns.flags.AD if stored else 0)),
                  kit.ask(flags=flags, do=wants == "do")):  # fmt: skip
        assert bool(reply.flags & dns.flags.AD) == given


def test_do_is_part_of_the_key(kit):
    kit.fill(A)
    assert kit.ask(do=True) is None
    kit.answer("www.example.net. 300 IN A 192.0.2.2")
    assert kit.ask(do=True).answer[0][0].address == "192.0.2.2"
    assert kit.ask().answer[0][0].address == "192.0.2.1"


@pytest.mark.parametrize(
    ("qtype", "answer", "authority", "rcode", "kind", "ttl"),
    [
        ("A", [A], [], 0, "success", 300),
        ("A", [], [SOA], 0, "denial", 300),
        ("A", [], [SOA], 3, "denial", 300),
        ("A", [], [], 3, None, None),
        ("A", [A], [SOA], 3, None, 5),
        ("A", [], [], 2, "denial", None),
        ("A", [], [SOA], 2, "denial", 5),
        ("A", [], [], 4, "denial", None),
        ("A", [], ["example.net. 300 IN NS ns."], 0, "success", 5),
        ("A", [], [], 0, "success", None),
        ("A", [], [SOA], 5, None, 5),
        ("A", [], [], 1, None, None),
        ("A", ["www.example.net. 300 IN CNAME x.example.net.", "x.example.net. 60 IN A 192.0.2.1"], [], 0, "success",
         60),
        ("A", ["www.example.net. 300 IN CNAME x.example.net."], [], 0, None, 300),
        ("A", ["www.example.net. 300 IN CNAME x.example.net."], [SOA], 0, "denial", 300),
        ("CNAME", ["www.example.net. 300 IN CNAME x.example.net."], [], 0, "success", 300),
        ("CNAME", [A], [], 0, None, 300),
        ("A", ["x.example.net. 300 IN A 192.0.2.1"], [], 0, None, 300),
        ("A", ["www.example.net. 300 IN AAAA ::1"], [], 0, None, 300),
        ("ANY", ["www.example.net. 300 IN AAAA ::1"], [], 0, "success", 300),
        ("ANY", ["x.example.net. 300 IN AAAA ::1"], [], 0, None, 300),
        ("A", ["example.net. 300 IN DNAME example.org."], [], 0, None, 300),
        ("A", ["www.example.net. 300 IN CNAME www.example.net.", A], [], 0, None, 300),
        ("A", ["www.example.net. 300 IN CNAME a.", "a. 300 IN CNAME www.example.net."], [], 0, None, 300),
        ("A", ["www.example.net. 300 IN CNAME a.", "www.example.net. 300 IN CNAME b.", "a. 300 IN A 192.0.2.1"],
         [], 0, None, 300),
        ("A", ["WWW.example.net. 300 IN CNAME A.", "a. 300 IN A 192.0.2.1"], [], 0, "success", 300),
        ("AXFR", [SOA], [], 0, None, 5),
    ],
)  # fmt: skip
def test_what_is_kept_and_how_long(kit, qtype, answer, authority, rcode, kind, ttl):
    reply = kit.fill(*answer, authority=authority, rcode=rcode, qtype=qtype)
    assert reply.rcode() == rcode
    assert set(ttls_of(reply)) == ({ttl} if ttl is not None else set())
    assert kit.segment.entries(1) == ((kind == "success") + 0, (kind == "denial") + 0)
    again = kit.ask(qtype=qtype)
    assert (again is not None) == (kind is not None)
    if kind:
        assert kit.count(f"hits {kind}") == 1
        assert again.rcode() == rcode
        assert set(ttls_of(again)) == set(ttls_of(reply))


def test_a_long_chain_of_cnames_costs_little_and_is_no_answer(kit):
    chain = [f"{'www.example.net.' if i == 0 else f'a{i}.'} 300 IN CNAME a{i + 1}." for i in range(1500)]
    kit.fill(*chain, "a1500. 300 IN A 192.0.2.1")
    assert kit.segment.entries(1) == (0, 0)
    kit.answer(*chain[:60], "a60. 300 IN A 192.0.2.1") if kit.ask() is None else None
    assert kit.segment.entries(1) == (1, 0)


@pytest.mark.parametrize("qtype", ["A", "AXFR"])
def test_a_stream_is_passed_on_as_it_is_and_not_kept(kit, qtype):
    def asked():
        return kit.bench.ask(question("www.example.net", qtype, 0, False, 7, 0, "IN", None), proto=1)

    assert asked() == []
    assert ttls_of(kit.stream("www.example.net. 77777 IN A 192.0.2.1")) == [77777]
    assert kit.segment.entries(1) == (0, 0)
    assert asked() == [] and kit.waits == 1


def test_a_truncated_reply_is_passed_on_and_not_kept(kit):
    reply = kit.fill(A, flags=dns.flags.TC)
    assert reply.flags & dns.flags.TC
    assert kit.segment.entries(1) == (0, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\3www", b"\3wwx"),
        (b"\0\0\1\0\1", b"\0\0\5\0\1"),
        (b"\0\0\1\0\1", b"\0\0\1\0\3"),
        (b"\0\7\x81", b"\0\7\x01"),
    ],
    ids=["name", "type", "class", "QR"],
)
def test_a_reply_to_another_question_is_dropped_and_counted(kit, old, new):
    kit.fill(authority=["example.net. 300 IN NS ns."], mangle=lambda wire: wire.replace(old, new, 1))
    assert kit.segment.entries(1) == (0, 0)
    assert kit.count("drops") == 1


def test_replies_that_nobody_wrote_are_not_kept(kit):
    assert kit.ask() is None
    assert kit.bench.answer(0, None, rcode=2)[0][1:3] == (2, None)
    assert kit.ask() is None
    assert kit.bench.answer(0, None, dropped=True)[0][2] is None
    assert kit.segment.entries(1) == (0, 0)


@pytest.mark.parametrize("wire", [b"", b"\0" * 11, b"\xff" * 40])
def test_a_malformed_reply_passes_untouched(kit, wire):
    kit.ask()
    assert kit.bench.answer(0, wire)[0][2] == wire
    assert kit.segment.entries(1) == (0, 0)


@pytest.mark.parametrize(("servfail", "kept"), [("0s", False), ("500ms", False), ("2s", True)])
def test_servfail(servfail, kept):
    kit = Kit(f"servfail {servfail}")
    kit.fill(rcode=2)
    assert (kit.ask() is not None) == kept
    kit.wait(2)
    if kept:
        assert kit.ask() is None
    kit.close()


def test_a_failure_gives_way_to_a_good_answer(kit):
    kit.ask(id=1)
    kit.ask(id=2)
    kit.answer(A)
    kit.wait(0.1)
    kit.answer(rcode=2)
    assert kit.segment.entries(1) == (1, 1)
    assert kit.ask().rcode() == 0


def test_any_other_denial_goes_before_an_answer(kit):
    kit.ask(id=1)
    kit.ask(id=2)
    kit.answer(A)
    kit.answer(authority=[SOA], rcode=3)
    assert kit.ask().rcode() == 3


def test_answers_to_queries_with_a_client_subnet_are_not_kept(kit):
    subnet = dns.edns.ECSOption("192.0.2.0", 24)
    assert kit.ask(options=[subnet]) is None
    kit.answer(A)
    assert kit.segment.entries(1) == (0, 0)


def test_expired_signatures_are_not_kept(kit):
    rrsig = "www.example.net. 300 IN RRSIG A 8 3 300 {} {} 1 example.net. AAAA"
    for expiration, inception, kept in (("20100101000000", "20000101000000", 0), ("20370101000000", "20100101000000",
                                                                                  1)):
        kit.segment.flush(1)
        kit.ask(do=True)
        kit.answer(A, rrsig.format(expiration, inception), has_opt=True, set_do=True)
        assert kit.segment.entries(1) == (kept, 0)
    kit.segment.flush(1)
    kit.ask()
    kit.answer(A, rrsig.format("20100101000000", "20000101000000"))  # without DO nobody cares
    assert kit.segment.entries(1) == (1, 0)


@pytest.mark.parametrize("kit", ["disable success example.net\n disable denial example.org"], indirect=True)
def test_disable(kit):
    assert ttls_of(kit.fill(A)) == [300]
    kit.fill(rcode=3, authority=[SOA], name="nope.example.net")
    kit.fill("www.example.org. 300 IN A 192.0.2.1", name="www.example.org")
    kit.fill(rcode=3, authority=[SOA], name="nope.example.org")
    assert kit.ask() is None
    assert kit.ask("nope.example.net").rcode() == 3
    assert kit.ask("www.example.org").rcode() == 0
    assert kit.ask("nope.example.org") is None


def test_names_outside_the_zones_pass_untouched():
    kit = Kit(line="cache example.org")
    assert kit.ask() is None
    assert not kit.bench.waiting[0][2] & dns.flags.AD
    reply = kit.answer(A, "www.example.net. 20 IN A 192.0.2.2")
    assert set(ttls_of(reply)) == {20}
    assert kit.ask() is None
    assert kit.count("requests") == 0
    assert kit.ask("a.example.org") is None
    assert kit.count("requests") == 1
    kit.close()


def test_a_flush_meanwhile_keeps_the_answer_out(kit):
    kit.ask()
    kit.segment.flush(1)
    kit.answer(A)
    assert kit.segment.entries(1) == (0, 0)


def test_a_notify_is_looked_up_like_a_query(kit):
    kit.fill(A)
    reply = kit.ask(opcode=4, flags=dns.flags.RD)
    assert reply.opcode() == 4
    assert not reply.flags & dns.flags.RD


def test_the_uncompressed_length_is_that_of_the_stored_message(kit):
    kit.fill(A, "www.example.net. 300 IN A 192.0.2.2")
    sent = kit.bench.ask(question("www.example.net"))
    assert sent[0][3] == 12 + 21 + 2 * (17 + 14)


# ---- prefetch


@pytest.mark.parametrize("kit", ["prefetch 3 1m 10%"], indirect=True)
def test_prefetch(kit):
    kit.fill(A)
    kit.wait(240)
    for _ in range(3):
        assert ttls_of(kit.ask()) == [60]
    assert kit.waits == 0  # too early
    kit.wait(31)
    assert ttls_of(kit.ask()) == [29]
    assert kit.waits == 1
    _, wire, flags, background, proto = kit.bench.waiting[0]
    assert (background, proto, bool(flags & dns.flags.AD)) == (True, 1, True)
    assert wire == question("www.example.net")
    assert ttls_of(kit.ask()) == [29]
    assert kit.waits == 1  # one at a time
    assert kit.answer("www.example.net. 200 IN A 192.0.2.2") is None
    assert kit.bench.in_flight == 0
    reply = kit.ask()
    assert (ttls_of(reply), reply.answer[0][0].address) == ([200], "192.0.2.2")
    assert kit.count("prefetch") == 1
    assert (kit.count("requests"), kit.count("misses"), kit.count("hits success")) == (7, 1, 6)


@pytest.mark.parametrize("kit", ["prefetch 2 10s 90%"], indirect=True)
def test_a_pause_ends_the_row_of_hits(kit):
    kit.fill(A)
    kit.wait(40)
    kit.ask()
    kit.wait(11)
    kit.ask()
    assert kit.waits == 0
    kit.wait(9)
    kit.ask()
    assert kit.waits == 1


@pytest.mark.parametrize("kit", ["prefetch 1 1m 90%"], indirect=True)
def test_a_prefetch_that_fails_may_be_repeated(kit):
    kit.fill(A)
    kit.wait(50)
    kit.ask()
    kit.bench.answer(0, None, rcode=2)
    kit.ask()
    assert kit.waits == 1
    kit.wait(20)
    kit.ask()
    assert kit.waits == 2  # the first one has said nothing for too long
    kit.answer("www.example.net. 300 IN A 192.0.2.2", number=1)
    assert kit.ask().answer[0][0].address == "192.0.2.2"


@pytest.mark.parametrize("kit", ["prefetch 1 1m 90%"], indirect=True)
def test_a_positive_refresh_removes_a_denial(kit):
    kit.fill(rcode=3, authority=[SOA])
    kit.wait(100)
    assert kit.ask().rcode() == 3
    kit.answer(A)
    assert kit.segment.entries(1) == (1, 0)
    assert kit.ask().rcode() == 0


# ---- serve_stale


@pytest.mark.parametrize("kit", ["serve_stale 1h"], indirect=True)
def test_stale_at_once(kit):
    kit.fill(A)
    kit.wait(300)
    assert ttls_of(kit.ask()) == [0]
    assert kit.waits == 1
    assert kit.bench.waiting[0][3:] == (True, 1)
    assert ttls_of(kit.ask()) == [0]
    assert kit.waits == 1
    kit.answer("www.example.net. 100 IN A 192.0.2.2")
    assert ttls_of(kit.ask()) == [100]
    assert (kit.count("served_stale"), kit.count("prefetch")) == (2, 1)
    kit.wait(100 + 3599)
    assert ttls_of(kit.ask()) == [0]
    kit.wait(1)
    assert kit.ask() is None


@pytest.mark.parametrize("kit", ["serve_stale 1h"], indirect=True)
@pytest.mark.parametrize(
    ("records", "rcode", "replaced"),
    [([], 2, False), ([], 5, False), ([], 3, False), ([A.replace("2.1", "2.2")], 0, True), ([], 0, True)],
)
def test_what_replaces_a_stale_entry(kit, records, rcode, replaced):
    kit.fill(A)
    kit.wait(400)
    kit.ask()
    kit.answer(*records, rcode=rcode)
    again = kit.ask()
    assert (again.answer[0][0].address if again.answer else None) == (
        "192.0.2.1" if not replaced else "192.0.2.2" if records else None)  # fmt: skip


@pytest.mark.parametrize("kit", ["serve_stale 1h immediate 7s 30s"], indirect=True)
def test_stale_ttl_and_recheck(kit):
    kit.fill(A)
    kit.wait(300)
    assert ttls_of(kit.ask()) == [7]
    kit.bench.answer(0, None, rcode=2)
    kit.wait(29)
    assert ttls_of(kit.ask()) == [7]
    assert kit.waits == 0
    kit.wait(1.1)
    kit.ask()
    assert kit.waits == 1


@pytest.mark.parametrize(("options", "ttl"), [("keepttl\nserve_stale 1h", 300),
                                              ("keepttl\nserve_stale 1h immediate 9s", 9)])
def test_stale_ttl_with_keepttl(options, ttl):
    kit = Kit(options)
    kit.fill(A)
    kit.wait(400)
    assert ttls_of(kit.ask()) == [ttl]
    kit.close()


@pytest.mark.parametrize("kit", ["serve_stale 1h verify"], indirect=True)
def test_verify_waits_for_the_answer(kit):
    kit.fill(A)
    kit.wait(400)
    assert kit.ask(id=5) is None
    assert kit.bench.waiting[0][3:] == (False, 0)
    reply = kit.answer("www.example.net. 100 IN A 192.0.2.2")
    assert (reply.id, ttls_of(reply), reply.answer[0][0].address) == (5, [100], "192.0.2.2")
    assert not reply.flags & dns.flags.AA
    assert kit.ask().answer[0][0].address == "192.0.2.2"
    assert kit.count("served_stale") == 0


@pytest.mark.parametrize("kit", ["serve_stale 1h verify"], indirect=True)
@pytest.mark.parametrize("failure", ["servfail", "refused", "truncated", "nothing", "silence", "garbage",
                                     "other question"])
def test_verify_serves_stale_when_asking_fails(kit, failure):
    kit.fill(A)
    kit.wait(400)
    assert kit.ask(id=5) is None
    reply = {
        "servfail": lambda: kit.answer(rcode=2),
        "refused": lambda: kit.answer(rcode=5),
        "truncated": lambda: kit.answer(A, flags=dns.flags.TC),
        "nothing": lambda: one(kit.bench.answer(0, None, rcode=2)),
        "silence": lambda: one(kit.bench.answer(0, None, dropped=True)),
        "garbage": lambda: one(kit.bench.answer(0, b"\xff" * 30)),
        "other question": lambda: kit.answer(A, mangle=lambda wire: wire.replace(b"\3www", b"\3wwx", 1)),
    }[failure]()
    assert (reply.id, reply.rcode(), ttls_of(reply), reply.answer[0][0].address) == (5, 0, [0], "192.0.2.1")
    assert reply.flags & dns.flags.AA
    assert kit.count("served_stale") == 1
    assert kit.segment.entries(1) == (1, 0)
    assert kit.bench.in_flight == 0


@pytest.mark.parametrize("kit", ["serve_stale 1h verify 200ms"], indirect=True)
def test_verify_in_time(kit):
    kit.fill(A)
    kit.wait(400)
    assert kit.ask(id=5) is None
    assert kit.bench.waiting[0][3:] == (True, 0)  # on behalf of the client, by its protocol
    kit.wait(0.1)
    assert kit.bench.tick() == (kit.bench.now_ns + SECOND // 10, [])
    reply = kit.answer("www.example.net. 100 IN A 192.0.2.2")
    assert (reply.id, ttls_of(reply), reply.answer[0][0].address) == (5, [100], "192.0.2.2")
    assert reply.flags & dns.flags.AA
    assert kit.bench.in_flight == 0
    assert kit.bench.tick() == (-1, [])
    assert (kit.count("served_stale"), kit.count("prefetch")) == (0, 0)


@pytest.mark.parametrize("kit", ["serve_stale 1h verify 200ms"], indirect=True)
def test_verify_too_late(kit):
    kit.fill(A)
    kit.wait(400)
    for number in range(3):
        assert kit.ask(id=number, token=number) is None
        kit.wait(0.05)
    assert kit.waits == 3  # CoreDNS does not coalesce them either
    kit.wait(0.05)
    due, sent = kit.bench.tick()
    assert [token for token, *_ in sent] == [0]
    assert (ttls_of(one(sent)), due) == ([0], kit.bench.now_ns + SECOND // 20)
    assert kit.answer("www.example.net. 100 IN A 192.0.2.2", number=1).id == 1
    kit.wait(0.2)
    assert [token for token, *_ in kit.bench.tick()[1]] == [2]
    assert kit.answer("www.example.net. 100 IN A 192.0.2.3") is None
    assert kit.bench.in_flight == 1
    assert kit.answer("www.example.net. 100 IN A 192.0.2.4") is None
    assert kit.bench.in_flight == 0
    assert kit.ask().answer[0][0].address == "192.0.2.2"  # what was asked for before that lost
    assert kit.count("served_stale") == 2


@pytest.mark.parametrize("kit", ["serve_stale 1h verify 200ms"], indirect=True)
def test_verify_fails_in_time(kit):
    kit.fill(A)
    kit.wait(400)
    kit.ask(id=5)
    reply = one(kit.bench.answer(0, None, rcode=2))
    assert (reply.id, ttls_of(reply)) == (5, [0])
    assert kit.bench.in_flight == 0


@pytest.mark.parametrize("kit", ["serve_stale 1h verify 200ms"], indirect=True)
def test_the_middle_of_three_leaves(kit):
    kit.fill(A)
    kit.wait(400)
    for number in range(3):
        kit.ask(id=number, token=number)
    assert kit.answer("www.example.net. 0 IN A 192.0.2.2", number=1).id == 1
    kit.wait(1)
    assert [token for token, *_ in kit.bench.tick()[1]] == [0, 2]


@pytest.mark.parametrize("kit", ["serve_stale 1h verify 200ms 0s 10s", "serve_stale 1h verify 0s 0s 10s"],
                         indirect=True)
def test_verify_with_recheck(kit):
    kit.fill(A)
    kit.wait(400)
    assert kit.ask() is None
    assert ttls_of(kit.ask()) == [0]  # somebody else is asking
    assert ttls_of(one(kit.bench.answer(0, None, rcode=2))) == [0]
    kit.wait(9)
    assert ttls_of(kit.ask()) == [0]
    assert kit.waits == 0
    kit.wait(1.1)
    assert kit.ask() is None


# ---- serve_stale_policy

POSITIVE = "serve_stale 1h\nserve_stale_policy prefer_positive"


@pytest.mark.parametrize("kit", [POSITIVE], indirect=True)
def test_an_expired_answer_goes_before_a_denial(kit):
    kit.fill(A)
    kit.wait(400)
    kit.ask()
    kit.answer(rcode=3, authority=[SOA])
    assert kit.segment.entries(1) == (1, 1)
    assert kit.ask().rcode() == 0
    kit.answer("www.example.net. 300 IN A 192.0.2.2")
    assert kit.segment.entries(1) == (1, 0)
    assert ttls_of(kit.ask()) == [300]
    assert kit.count("hits denial") == 0


@pytest.mark.parametrize("kit", [POSITIVE], indirect=True)
def test_an_empty_answer_is_kept_beside_the_good_one(kit):
    kit.fill(A)
    kit.wait(400)
    kit.ask()
    kit.answer()
    assert kit.segment.entries(1) == (2, 0)
    assert kit.ask().answer[0][0].address == "192.0.2.1"
    kit.answer(A.replace("2.1", "2.2"))
    assert kit.ask().answer[0][0].address == "192.0.2.2"


@pytest.mark.parametrize("kit", [POSITIVE], indirect=True)
def test_without_a_good_answer_the_newest_counts(kit):
    kit.fill()
    assert kit.ask().answer == []
    kit.wait(3)
    kit.fill(rcode=3, authority=[SOA], name="x.example.net")
    assert kit.ask("x.example.net").rcode() == 3


@pytest.mark.parametrize("kit", ["serve_stale 1h verify\nserve_stale_policy prefer_positive"], indirect=True)
@pytest.mark.parametrize(("records", "rcode"), [([], 3), ([], 0), ([], 2)])
def test_verify_with_prefer_positive_serves_the_good_answer(kit, records, rcode):
    kit.fill(A)
    kit.wait(400)
    assert kit.ask(id=5) is None
    reply = kit.answer(*records, rcode=rcode, authority=[SOA] if rcode == 3 else ())
    assert (reply.id, reply.rcode(), ttls_of(reply)) == (5, 0, [0])
    assert kit.ask() is None
    assert ttls_of(kit.answer(A)) == [300]


# ---- counters


def test_counters_have_coredns_names_and_labels(kit):
    kit.fill(A)
    kit.ask()
    found = {s.name: dict(s.labels) for s in kit.stats.snapshot() if s.name.startswith("coredns_cache")}
    plain = {"server": "dns://:53", "zones": ".", "view": ""}
    assert found["coredns_cache_requests_total"] == plain
    assert found["coredns_cache_misses_total"] == plain
    assert found["coredns_cache_hits_total"] == {**plain, "type": "success"}


def test_evictions_are_counted():
    kit = Kit()
    for number in range(6000):
        name = f"h{number}.example.net"
        kit.fill(f"{name}. 300 IN A 192.0.2.1", name=name)
    success, denial = kit.segment.entries(1)
    assert denial == 0
    assert 1024 <= success <= 6000 - kit.count("evictions success")
    assert kit.count("evictions success") > 0
    kit.close()


# ---- on a server

SHARED = ". {\n multisocket 2\n cache {\n success 1024 600 600\n }\n whoami\n}"


def seen_port(server: Server, name: str, proto: str = "udp") -> str:
    """The client's port that `whoami` told, to whoever asked first."""
    return next(line.split()[6] for line in server.ask(name, SRV, proto).additional if " SRV " in line)


def workers(server: Server) -> set[int]:
    """Process ids of the workers that serve."""
    found = set()
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() == "fastdns:worker" and process.num_threads() > 1:
                found.add(process.pid)
    return found


def test_one_workers_miss_is_every_workers_hit():
    """Whatever socket asks, and whichever worker answers, gets what the first one got."""
    with Server(SHARED) as server:
        first = seen_port(server, "x.example.org")
        for proto in ["udp"] * 30 + ["tcp"] * 4:
            assert seen_port(server, "x.example.org", proto) == first
        assert seen_port(server, "y.example.org") != first


def test_the_cache_outlives_its_workers():
    with Server(SHARED) as server:
        first = seen_port(server, "x.example.org")
        dead = workers(server)
        assert len(dead) == 2
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while len(workers(server) - dead) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(10):
            assert seen_port(server, "x.example.org") == first


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", ("", 300.0)),
        ("snapshot /a/b", ("/a/b", 300.0)),
        ("snapshot c 30s", ("c", 30.0)),
        ("snapshot c 0", ("c", 0.0)),
    ],
)
def test_snapshot(line, found):
    (config,) = parse("cache {\n " + line + "\n}")
    assert (config["snapshot"], config["snapshot_interval"]) == found


@pytest.mark.parametrize(
    "line", ["snapshot", "snapshot a b", "snapshot a 1m c", "snapshot a -1s", "snapshot a\n snapshot b"]
)
def test_snapshot_that_is_refused(line):
    with pytest.raises(ConfigError):
        parse("cache {\n " + line + "\n}")
