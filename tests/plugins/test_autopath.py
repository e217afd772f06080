# SPDX-License-Identifier: Apache-2.0
"""autopath: which questions are asked for one, and what the client then reads. The tables are CoreDNS's answers."""

from __future__ import annotations

import dns.message
import dns.rrset
import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.message import Message, text
from fastdns.numbers import AAAA, NXDOMAIN, REFUSED, SERVFAIL, TXT, A
from fastdns.plugin import AutoPather
from fastdns.plugins.autopath import Autopath
from fastdns.plugins.autopath.config import Settings, search_path
from fastdns.testing import Worker
from tests.faults.upstream import Asked, Upstream

COUNTER = "coredns_autopath_success_total"
ZONE = {
    "one.first.test.": ["one.first.test. 300 A 192.0.2.10"],
    "alias.first.test.": ["alias.first.test. 300 CNAME one.first.test.", "one.first.test. 200 A 192.0.2.10"],
    "two.second.test.": ["two.second.test. 30 A 192.0.2.11", "two.second.test. 30 A 192.0.2.12"],
    "alias.second.test.": [],
    "signed.second.test.": ["signed.second.test. 30 A 192.0.2.11",
                            "signed.second.test. 30 RRSIG A 8 3 300 20300101000000 20200101000000 1 test. AAAA"],
    "chain.second.test.": ["chain.second.test. 30 CNAME two.second.test.", "two.second.test. 20 A 192.0.2.11"],
    "mx.second.test.": ["mx.second.test. 30 MX 10 two.second.test.", "mx.second.test. 30 SRV 1 2 3 two.second.test."],
    "bare.": ["bare. 60 A 192.0.2.13"],
}


def script(asked: Asked) -> list[bytes]:
    query = dns.message.from_wire(asked.wire)
    message = dns.message.make_response(query, our_payload=1410)
    name = query.question[0].name.to_text()
    if name.startswith("refused."):
        message.set_rcode(5)
    elif name.startswith("nodata."):
        pass
    elif name.lower() not in ZONE:
        message.set_rcode(3)
    for line in ZONE.get(name.lower(), ()):
        owner, ttl, kind, data = line.split(" ", 3)
        message.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", kind, data))
    return [message.to_wire()]


@pytest.fixture(scope="module")
def upstream():
    with Upstream(script) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def worker(upstream, tmp_path_factory):
    path = tmp_path_factory.mktemp("autopath") / "resolv.conf"
    path.write_text("search nowhere\nsearch First.test second.test.\noptions ndots:5\n")
    to = f"forward . 127.0.0.1:{upstream.port}"
    rules = "acl gone.first.test {\nblock\n}\nacl lost.first.test {\ndrop\n}\n"
    other = f"example.org {{\nautopath @erratic\nerratic {{\ndrop 0\n}}\n}}\nmissing {{\nautopath @pods\n{to}\n}}\n"
    with Worker(f". {{\nprometheus 127.0.0.1:0\nerrors\nautopath test {path}\n{rules}{to}\n}}\n{other}") as worker:
        yield worker


def cname(name: str, target: str, ttl: int) -> str:
    return f"{name} {ttl} IN CNAME {target}"


def address(name: str, last: int, ttl: int) -> str:
    return f"{name} {ttl} IN A 192.0.2.{last}"


CASES = [
    ("one.first.test.", [address("one.first.test.", 10, 300)]),
    ("alias.first.test.", [cname("alias.first.test.", "one.first.test.", 200),
                           cname("alias.first.test.", "one.first.test.", 300), address("one.first.test.", 10, 200)]),
    ("two.first.test.", [cname("two.first.test.", "two.second.test.", 30), address("two.second.test.", 11, 30),
                         address("two.second.test.", 12, 30)]),
    ("chain.first.test.", [cname("chain.first.test.", "chain.second.test.", 30),
                           cname("chain.second.test.", "two.second.test.", 30), address("two.second.test.", 11, 20)]),
    ("mx.first.test.", [cname("mx.first.test.", "mx.second.test.", 30), "mx.second.test. 30 IN MX 10 two.second.test.",
                        "mx.second.test. 30 IN SRV 1 2 3 two.second.test."]),
    ("bare.first.test.", [cname("bare.first.test.", "bare.", 60), address("bare.", 13, 60)]),
    ("nodata.first.test.", []),
]  # fmt: skip


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(("name", "answer"), CASES)
def test_answers(worker, proto, name, answer):
    before = worker.counter(COUNTER)
    got = worker.ask(name, A, proto, bufsize=1400)
    assert (got.rcode, got.answer) == (0, answer)
    assert str(got.message.q.qname) == name and got.message.edns.edns_len == 1400
    assert worker.counter(COUNTER) == before + 1


def test_the_question_keeps_the_clients_letters(worker):
    got = worker.ask("Two.FIRST.test.", A)
    assert str(got.message.q.qname) == "Two.FIRST.test."
    assert got.answer[0] == cname("Two.FIRST.test.", "Two.second.test.", 30)


def test_signatures_pass(worker):
    got = worker.ask("signed.first.test.", A, do=True)
    assert [line.split()[3] for line in got.answer] == ["CNAME", "A", "RRSIG"]


def test_nothing_anywhere_is_the_first_denial(worker, upstream):
    before = worker.counter(COUNTER)
    got = worker.ask("none.first.test.", A)
    assert (got.rcode, str(got.message.q.qname)) == (NXDOMAIN, "none.first.test.")
    assert [len(upstream.of(f"none.{zone}")) for zone in ("first.test.", "second.test.", "")] == [1, 1, 1]
    assert worker.counter(COUNTER) == before


@pytest.mark.parametrize(
    ("name", "rcode"),
    [
        ("refused.first.test.", REFUSED),
        ("gone.first.test.", REFUSED),
        ("first.test.", SERVFAIL),
        ("other.second.test.", NXDOMAIN),
        ("third.other.", NXDOMAIN),
        ("a.missing.", NXDOMAIN),
    ],
)
def test_what_ends_the_walk_and_what_does_not_begin_one(worker, upstream, name, rcode):
    assert worker.ask(name, A).rcode == rcode
    base = name.split(".")[0]
    assert not upstream.of(f"{base}.") and len(upstream.of(f"{base}.second.test.")) == (name == "other.second.test.")


def test_what_is_dropped_stays_dropped(worker):
    with pytest.raises(TimeoutError):
        worker.ask("lost.first.test.", A, seconds=0.2)


def test_another_plugin_says_the_path(worker):
    assert worker.ask("x.a.example.org.", A).answer == [address("x.a.example.org.", 53, 0)]
    assert worker.ask("x.a.example.org.", TXT).rcode == SERVFAIL
    assert worker.ask("x.example.org.", AAAA).answer == ["x.example.org. 0 IN AAAA 2001:db8::53"]


def test_others_are_told_of_the_clients_question_alone(worker):
    before = worker.counter("coredns_dns_requests_total", type="A")
    worker.ask("two.first.test.", A)
    assert worker.counter("coredns_dns_requests_total", type="A") == before + 1


@pytest.mark.parametrize(("asked", "octets"), [({}, 137), ({"bufsize": 1400}, 148)])
def test_the_size_that_is_reported(worker, asked, octets):
    # A CNAME and two addresses; with the OPT that the upstream's reply had.
    def seen() -> int:
        return sum(s.values[-2] for s in worker.stats.snapshot() if s.name == "coredns_dns_response_size_bytes")

    before = seen()
    worker.ask("two.first.test.", A, **asked)
    assert seen() - before == octets


def test_a_plugin_without_paths_is_refused():
    with pytest.raises(ConfigError) as error:
        Worker(". {\nautopath @whoami\nwhoami\n}\n")
    assert str(error.value) == "plugin/autopath: whoami does not implement the AutoPather interface"
    with pytest.raises(TypeError):
        AutoPather().autopath(None)


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ("", []),
        ("nameserver 1.1.1.1", []),
        ("search a b.c", ["a", "b.c"]),
        ("  search a\ndomain b c", ["b"]),
        ("domain b\nsearch", []),
        ("search a\ndomain", []),
        ("# search a\n; domain b\nsearching a", []),
    ],
)
def test_resolv_conf(lines, path):
    assert search_path(lines) == path


def parse(text: str) -> list:
    return Autopath.parse(Dispenser("Corefile", tokenize(text), ("dns://example.org.:53",), "autopath"))


def test_settings(tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("search A.test b.test.\n")
    assert parse("autopath @erratic") == [Settings(("example.org.",), (), "erratic")]
    assert parse(f"autopath A.org 10.0.0.0/8 {path}") == [
        Settings(("a.org.", "10.in-addr.arpa."), ("a.test.", "b.test.", ""))]
    assert parse(f"autopath x @k\nautopath y {path}") == [Settings(("y.",), ("a.test.", "b.test.", ""), "k")]
    assert Autopath.concerns(Settings(("y.",)), "x.y.") and not Autopath.concerns(Settings(("y.",)), "y.x.")


def test_errors(tmp_path):
    many = tmp_path / "many"
    many.write_text("search " + " ".join(f"z{i}" for i in range(65)))
    for words, message in [
        ("", "no resolv-conf specified"),
        ("/nonexistent/file", 'failed to parse "/nonexistent/file": open /nonexistent/file: no such file or directory'),
        (str(many), f'failed to parse "{many}": more than 64 zones to search'),
    ]:
        with pytest.raises(ConfigError) as error:
            parse(f"autopath {words}")
        assert str(error.value) == f"plugin/autopath: {message}"


def test_message_objects_read_signatures():
    message = dns.message.make_response(dns.message.make_query("a.", "A"))
    data = "A 8 3 300 20300101000000 20200101000000 1 Example.org. AAAA"
    message.answer.append(dns.rrset.from_text("a.", 300, "IN", "RRSIG", data))
    read = Message.parse(message.to_wire())
    assert text(read.rr[0]) == f"a. 300 IN RRSIG {data}"
    assert dns.message.from_wire(read.pack()).answer == message.answer
