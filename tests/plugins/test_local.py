# SPDX-License-Identifier: Apache-2.0
"""local: every name and type of CoreDNS's table, and the names beside it."""

from __future__ import annotations

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, ANY, MX, NS, NXDOMAIN, PTR, SOA, A
from fastdns.plugins.local import Local
from fastdns.testing import Case, Worker

COUNTER = "coredns_local_localhost_requests_total"


def soa(owner: str) -> list[str]:
    return [f"{owner} 604800 IN SOA localhost. root.localhost. 1 0 0 0 604800"]


def of(owner: str, kind: str, value: str) -> list[str]:
    return [f"{owner} 604800 IN {kind} {value}"]


FLAGS = {"qr", "rd"}
CASES = [
    Case("localhost.", A, answer=of("localhost.", "A", "127.0.0.1")),
    Case("LocalHost.", AAAA, answer=of("LocalHost.", "AAAA", "::1")),
    Case("localhost.", SOA, answer=soa("localhost.")),
    Case("localhost.", NS, answer=of("localhost.", "NS", "localhost.")),
    Case("localhost.", MX, authority=soa("localhost.")),
    Case("localhost.", ANY, authority=soa("localhost.")),
    Case("a.b.localhost.", A, answer=of("a.b.localhost.", "A", "127.0.0.1")),
    Case("A.LOCALHOST.", AAAA, answer=of("A.LOCALHOST.", "AAAA", "::1")),
    Case("a.localhost.", SOA, authority=soa("a.localhost.")),
    Case("localhost.Example.", A, answer=of("localhost.Example.", "A", "127.0.0.1")),
    Case("localhost.example.", MX, authority=soa("localhost.example.")),
    Case("localhost.127.in-addr.arpa.", AAAA, answer=of("localhost.127.in-addr.arpa.", "AAAA", "::1")),
    Case("0.in-addr.arpa.", SOA, answer=soa("0.in-addr.arpa.")),
    Case("255.IN-addr.arpa.", NS, answer=of("255.IN-addr.arpa.", "NS", "localhost.")),
    Case("127.in-addr.arpa.", A, authority=soa("127.in-addr.arpa.")),
    Case("127.in-addr.arpa.", AAAA, authority=soa("127.in-addr.arpa.")),
    Case("127.in-addr.arpa.", PTR, authority=soa("127.in-addr.arpa.")),
    Case("1.0.0.127.in-addr.arpa.", PTR, answer=of("1.0.0.127.in-addr.arpa.", "PTR", "localhost.")),
    Case("1.0.0.127.IN-ADDR.arpa.", A, authority=soa("127.IN-ADDR.arpa.")),
    Case("2.0.0.127.in-addr.arpa.", PTR, rcode=NXDOMAIN, authority=soa("127.in-addr.arpa.")),
    Case("1.1.0.0.127.in-addr.arpa.", PTR, rcode=NXDOMAIN, authority=soa("127.in-addr.arpa.")),
    Case("x.0.in-addr.arpa.", A, rcode=NXDOMAIN, authority=soa("0.in-addr.arpa.")),
    Case("x.255.in-addr.arpa.", SOA, rcode=NXDOMAIN, authority=soa("255.in-addr.arpa.")),
]
PASSED = [
    "example.org.", "notlocalhost.", "localhost2.example.", "1.in-addr.arpa.", "in-addr.arpa.", "arpa.", ".",
    "10.in-addr.arpa.", "1270.in-addr.arpa.", "127.in-addr.arpa.example.", "x\\009localhost.", "a\\.localhost2.",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
]  # fmt: skip


@pytest.fixture(scope="module")
def worker():
    off = "off:53 localhost:53 {\nlocal {\nlocalhost_prefix off\n}\nwhoami\n}\n"
    with Worker(". {\nlocal\nwhoami\n}\n" + off) as worker:
        yield worker


@pytest.fixture(scope="module")
def alone():
    with Worker(". {\nlocal\nwhoami\n}\n") as worker:
        yield worker


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.qtype}")
def test_answers(alone, case):
    before = alone.counter(COUNTER)
    case.flags = FLAGS
    case.additional = []
    alone.check(case)
    counted = case.name.lower() not in ("localhost.",) and (
        case.name.lower().endswith(".localhost.") or case.name.lower().startswith("localhost."))
    assert alone.counter(COUNTER) == before + 2 * counted


@pytest.mark.parametrize("name", PASSED)
def test_other_names_pass(alone, name):
    before = alone.counter(COUNTER)
    got = alone.ask(name, A)
    assert "aa" in got.flags and got.additional and alone.counter(COUNTER) == before


def test_edns_comes_back(alone):
    got = alone.ask("localhost.", A, bufsize=1400, do=True)
    assert (got.message.edns.edns_len, got.message.edns.edns_do) == (1400, 1)


@pytest.mark.parametrize(("name", "qtype", "octets"), [("localhost.", A, 52), ("a.localhost.", A, 56),
                                                        ("2.127.in-addr.arpa.", PTR, 111)])  # fmt: skip
def test_the_size_that_is_reported(name, qtype, octets):
    with Worker(". {\nprometheus 127.0.0.1:0\nlocal\nwhoami\n}\n") as worker:
        worker.ask(name, qtype)
        (size,) = [s for s in worker.stats.snapshot() if s.name == "coredns_dns_response_size_bytes"]
        assert size.values[-2] == octets


def test_the_prefix_may_be_off(worker):
    assert worker.ask("localhost.off.", A).additional
    assert worker.ask("localhost.example.", A).answer == of("localhost.example.", "A", "127.0.0.1")
    assert worker.ask("a.localhost.", A).answer == of("a.localhost.", "A", "127.0.0.1")


def parse(text: str) -> list:
    return Local.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "local"))


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("local", True),
        ("local {\nlocalhost_prefix on\n}", True),
        ("local {\nlocalhost_prefix off\n}\nlocal", False),
        ("local {\nlocalhost_prefix off\nlocalhost_prefix on\n}", True),
        ("local {\n}", True),
    ],
)
def test_options(text, prefix):
    assert parse(text) == [prefix]


ARGUMENTS = "Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("local x", 1, f"{ARGUMENTS} 'x'"),
        ("local {\n localhost_prefix\n}", 2, f"{ARGUMENTS} 'localhost_prefix'"),
        ("local {\n localhost_prefix on off\n}", 2, f"{ARGUMENTS} 'off'"),
        ("local {\n localhost_prefix yes\n}", 2, "localhost_prefix expects 'on' or 'off', got \"yes\""),
        ("local {\n foo\n}", 2, "unknown property 'foo'"),
    ],
)
def test_errors(text, line, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/local: Corefile:{line} - Error during parsing: {message}"
