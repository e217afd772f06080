# SPDX-License-Identifier: Apache-2.0
"""acl: which policy decides, what a client then gets, and what is counted. The tables are CoreDNS's answers."""

from __future__ import annotations

import ipaddress
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, ANY, HTTPS, MX, NOERROR, PTR, REFUSED, TXT, A
from fastdns.plugins.acl import Acl
from fastdns.plugins.acl._acl import stage
from fastdns.plugins.acl.config import ACTIONS, Policy, Rule
from fastdns.plugins.acl.tables import Decisions, stretches
from fastdns.testing import Worker, question
from tests.faults.upstream import Upstream, reply

COREFILE = """. {
prometheus 127.0.0.1:0
acl sub.blocked.test blocked.test {
    block type A net 127.0.0.0/8
    allow
}
acl filtered.test {
    filter type * net 127.0.0.1
}
acl six.test {
    block net ::/0
    filter net 10.0.0.0/8
}
acl dropped.test {
    drop type TXT MX
    block type MX
}
acl order.test {
    allow type AAAA net 127.0.0.0/8
    BLOCK net 127.0.0.1 type A AAAA
    Filter
}
acl twice.test {
    block type A type AAAA net 10.0.0.0/8 net 127.0.0.0/16
}
acl mapped.test {
    block net ::ffff:127.0.0.0/104
}
acl any.test {
    block type ANY HTTPS
}
acl first.test.
acl first.test {
    allow type A
}
acl first.test {
    block
}
acl ten.test 127.0.0.0/8 {
    drop net 127.0.0.0/8
}
whoami
}
"""
PASS, BLOCK, FILTER, DROP = "pass", "block", "filter", "drop"
CASES = [
    ("blocked.test.", A, BLOCK, "blocked.test."),
    ("x.BLOCKED.test.", A, BLOCK, "blocked.test."),
    ("a.sub.blocked.test.", A, BLOCK, "sub.blocked.test."),
    ("blocked.test.", AAAA, PASS, ""),
    ("xblocked.test.", A, PASS, ""),
    ("filtered.test.", A, FILTER, "filtered.test."),
    ("x.filtered.test.", ANY, FILTER, "filtered.test."),
    ("six.test.", A, PASS, ""),
    ("dropped.test.", TXT, DROP, "dropped.test."),
    ("dropped.test.", MX, DROP, "dropped.test."),
    ("dropped.test.", A, PASS, ""),
    ("order.test.", A, BLOCK, "order.test."),
    ("order.test.", AAAA, PASS, ""),
    ("order.test.", TXT, FILTER, "order.test."),
    ("twice.test.", A, BLOCK, "twice.test."),
    ("twice.test.", AAAA, BLOCK, "twice.test."),
    ("twice.test.", TXT, PASS, ""),
    ("mapped.test.", A, PASS, ""),
    ("any.test.", ANY, BLOCK, "any.test."),
    ("any.test.", HTTPS, BLOCK, "any.test."),
    ("any.test.", A, PASS, ""),
    ("first.test.", A, PASS, ""),
    ("first.test.", TXT, BLOCK, "first.test."),
    ("1.0.0.127.in-addr.arpa.", PTR, DROP, "127.in-addr.arpa."),
    ("ten.test.", A, DROP, "ten.test."),
    ("www.example.net.", A, PASS, ""),
]
METRICS = {BLOCK: "blocked", FILTER: "filtered", DROP: "dropped", PASS: "allowed"}
ERRORS = {BLOCK: 15, FILTER: 17}  # RFC 8914 5.2


@pytest.fixture(scope="module")
def worker():
    with Worker(COREFILE) as worker:
        yield worker


def counters(worker) -> dict[str, int]:
    return {what: worker.counter(f"coredns_acl_{name}_requests_total") for what, name in METRICS.items()}


@pytest.mark.parametrize(("name", "qtype", "what", "zone"), CASES)
def test_what_happens(worker, name, qtype, what, zone):
    before = counters(worker)
    labels = {"zone": zone} if zone else {}
    counted = worker.counter(f"coredns_acl_{METRICS[what]}_requests_total", view="", **labels)
    if what == DROP:
        with pytest.raises(TimeoutError):
            worker.ask(name, qtype, seconds=0.2)
    else:
        got = worker.ask(name, qtype)
        assert got.rcode == (REFUSED if what == BLOCK else NOERROR)
        assert ("aa" in got.flags, bool(got.additional)) == (what == PASS, what == PASS)
        assert got.answer == got.authority == []
        assert "rd" in got.flags and (got.message.edns is None) == (what == PASS)
    after = counters(worker)
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: int(kind == what) for kind in after}
    assert worker.counter(f"coredns_acl_{METRICS[what]}_requests_total", view="", **labels) == counted + 1


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(("name", "what"), [("blocked.test.", BLOCK), ("filtered.test.", FILTER)])
@pytest.mark.parametrize(
    ("asked", "size", "do"), [({}, 4096, 1), ({"bufsize": 1400}, 1400, 1), ({"bufsize": 1400, "do": True}, 1400, 1)]
)
def test_the_extended_error(worker, proto, name, what, asked, size, do):
    opt = worker.ask(name, A, proto, **asked).message.edns
    assert (opt.edns_len, opt.edns_do, [(o.code, bytes(o.data)) for o in opt.rdata]) == (
        size, do, [(15, ERRORS[what].to_bytes(2, "big"))])


def test_a_drop_is_counted_as_noerror(worker):
    labels = {"rcode": "NOERROR", "plugin": ""}
    before = worker.counter("coredns_dns_responses_total", **labels)
    with pytest.raises(TimeoutError):
        worker.ask("dropped.test.", TXT, seconds=0.2)
    assert worker.counter("coredns_dns_responses_total", **labels) == before + 1


def read(text: str) -> tuple[Rule, ...]:
    (rules,) = Acl.parse(Dispenser("Corefile", tokenize(text), ("dns://example.org.:53",), "acl"))
    return rules


def network(text: str) -> tuple[int, int, int]:
    parsed = ipaddress.ip_network(text)
    return parsed.version, int(parsed.network_address), int(parsed.broadcast_address)


TEN, ONE = network("10.0.0.0/8"), network("192.0.2.1/32")


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("acl", (Rule(("example.org.",), ()),)),
        ("acl a.test B.test. 10.0.0.0/15",
         (Rule(("a.test.", "b.test.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa."), ()),)),
        ("acl {\nallow\n}", (Rule(("example.org.",), (Policy("allow"),)),)),
        ("acl {\nBlock TYPE A AAAA Net 10.1.2.3/8 192.0.2.1\n}",
         (Rule(("example.org.",), (Policy("block", frozenset({1, 28}), (TEN, ONE)),)),)),
        ("acl {\ndrop net * 10.0.0.0/99 type A\n}", (Rule(("example.org.",), (Policy("drop", frozenset({1})),)),)),
        ("acl {\ndrop net ::1 net * type MX type * nonsense\n}", (Rule(("example.org.",), (Policy("drop"),)),)),
        ("acl {\nfilter type None\n}", (Rule(("example.org.",), (Policy("filter"),)),)),
        ("acl a {\nallow\n}\nacl b {\ndrop\n}", (Rule(("a.",), (Policy("allow"),)), Rule(("b.",), (Policy("drop"),)))),
    ],
)  # fmt: skip
def test_rules(text, rules):
    assert read(text) == rules


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("deny", "unexpected token \"deny\"; expect 'allow', 'block', 'filter' or 'drop'"),
        ("block foo", "unexpected token \"foo\"; expect 'type | net'"),
        ("block type", 'no token specified in "type" section'),
        ("block NET type A", 'no token specified in "net" section'),
        ("block type a", 'unexpected token "a"; expect legal QTYPE'),
        ("block type A TYPE65", 'unexpected token "TYPE65"; expect legal QTYPE'),
        ("block net 10.0.0.0/33", 'illegal CIDR notation "10.0.0.0/33"'),
        ("block net foo", 'illegal CIDR notation "foo/32"'),
        ("block net fe80::1%eth0", 'illegal CIDR notation "fe80::1%eth0/128"'),
    ],
)
def test_errors(line, message):
    with pytest.raises(ConfigError) as error:
        read(f"acl {{\n {line}\n}}")
    assert str(error.value) == f"plugin/acl: Corefile:2 - Error during parsing: {message}"


def test_what_it_is_about():
    rules = read("acl a.test {\nallow\n}\nacl b.test {\ndrop\n}")
    assert [Acl.concerns(rules, name) for name in ("x.a.test.", "b.test.", "c.test.")] == [True, True, False]


# ---- tables: the first policy that matches, whatever the shape of the networks

addresses = {4: st.integers(0, 2**32 - 1), 6: st.integers(0, 2**128 - 1)}


@st.composite
def networks(draw, version: int) -> tuple[int, int, int]:
    bits = 32 if version == 4 else 128
    free = draw(st.integers(0, bits))
    first = draw(st.sampled_from([0, 2**bits - 1, 0x0A000000 << (bits - 32), 0x0A010203 << (bits - 32)]))
    first = first >> free << free
    return version, first, first + (1 << free) - 1


policy = st.builds(
    Policy,
    st.sampled_from(ACTIONS),
    st.one_of(st.none(), st.frozensets(st.integers(1, 4), min_size=1)),
    st.one_of(st.none(), st.lists(st.one_of(networks(4), networks(6)), min_size=1, max_size=4).map(tuple)),
)


def decided(lines: list[Policy], version: int, address: int, qtype: int) -> str | None:
    for line in lines:
        if line.types is not None and qtype not in line.types:
            continue
        if line.networks is None or any(v == version and first <= address <= last for v, first, last in line.networks):
            return line.action
    return None


def edges(lines: list[Policy], version: int) -> set[int]:
    top = 2 ** (32 if version == 4 else 128) - 1
    found = {0, top}
    for line in lines:
        for own, first, last in line.networks or ():
            if own == version:
                found |= {max(first - 1, 0), first, last, min(last + 1, top)}
    return found


def bench(rules: list[list[Policy]], zones: list[bytes], own: list[list[int]]) -> tuple[Bench, Stats]:
    decisions, stats = Decisions(), Stats.create(4)
    tables = [[stretches(lines, version, decisions).packed() for version in (4, 6)] for lines in rules]
    slots = [stats.intern(f"slot_{i}_total") for i in range(1 + 3 * len(zones))]
    made = stage(zones, list(zip(own, *zip(*tables, strict=True), strict=True)), list(decisions.numbers),
                 [(slots[0], slots[1:])])
    return Bench(made, stats=stats), stats


VERDICTS = {None: ("next", 0), "allow": ("next", 0), "block": ("reply", 5), "filter": ("reply", 0), "drop": ("drop", 0)}


@given(st.lists(policy, max_size=8), st.sampled_from([4, 6]), st.data())
def test_the_first_policy_that_matches_decides(lines, version, data):
    driven, _ = bench([lines], [b"\0"], [[0]])
    at = edges(lines, version) | {data.draw(addresses[version])}
    for address in at:
        for qtype in (1, 3, 5):
            client = address.to_bytes(4 if version == 4 else 16, "big").ljust(16, b"\0")
            done = driven.run(question("a.test.", qtype), client=client, family=1 if version == 4 else 2)
            assert (done[0], done[2]) == VERDICTS[decided(lines, version, address, qtype)]


def test_ten_thousand_lines_of_networks():
    firsts = range(0x0A000000, 0x0A000000 + (20000 << 8), 512)
    lines = [Policy("block", None, ((4, first, first + 255),)) for first in firsts]
    table = stretches(lines, 4, Decisions())
    assert len(table.starts) == 20001
    driven, _ = bench([[*lines, Policy("drop")]], [b"\0"], [[0]])
    for i in (0, 1, 2, 9999, 10000, 19998, 19999):
        client = (0x0A000000 + (i << 8) + 7).to_bytes(4, "big").ljust(16, b"\0")
        assert driven.run(question("a.test.", A), client=client)[0] == ("drop" if i % 2 else "reply")


def test_thousands_of_zones():
    names = [b"\0"] + [b"\4z%03d\4test\0" % i for i in range(1000)]
    driven, stats = bench([[Policy("block")]], names, [list(range(1, 1001))])
    for name in ("z000.test.", "a.b.z999.test."):
        assert driven.run(question(name, A))[0] == "reply"
    for name in ("zz999.test.", "test.", "."):
        assert driven.run(question(name, A))[0] == "next"
    assert sum(s.values[0] for s in stats.snapshot()) == 5


def test_the_longest_zone_is_counted():
    names = [b"\0", b"\4test\0", b"\1a\4test\0"]
    driven, stats = bench([[Policy("drop")]], names, [[0, 1, 2]])
    for name in ("b.a.test.", "a.test.", "b.test.", "test.", "other."):
        driven.run(question(name, A))
    counted = {s.name: s.values[0] for s in stats.snapshot()}
    assert [counted[f"slot_{i}_total"] for i in (3, 6, 9)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("zones", "rules", "decisions", "slots"),
    [
        ([b"\0"], [([1], (bytes(4), bytes(4)), (bytes(16), bytes(4)))], [(0, ())], [(0, [0, 0, 0])]),
        ([b"\0"], [([0], (bytes(4), bytes(8)), (bytes(16), bytes(4)))], [(0, ())], [(0, [0, 0, 0])]),
        ([b"\0"], [([0], (bytes(4), bytes(4)), (bytes(16), bytes(4)))], [], [(0, [0, 0, 0])]),
        ([b"\0"], [([0], (bytes(4), bytes(4)),)], [(0, ())], [(0, [0, 0, 0])]),
        ([b"\0"], [], [(5, ())], [(0, [0, 0, 0])]),
        ([b"\0"], [], [], [(0, [0])]),
        ([b""], [], [], [(0, [0, 0, 0])]),
        ([b"\0"], [], [], []),
    ],
)
def test_tables_that_do_not_fit_are_refused(zones, rules, decisions, slots):
    with pytest.raises((ValueError, IndexError)):
        stage(zones, rules, decisions, slots)


def test_no_query_of_the_usual_block_needs_python():
    """Answered all the same while the thread that plugins in Python would run in stands still."""
    with Upstream(lambda asked: [reply(asked, answers=2)]) as upstream:
        rules = "acl {\nblock type TXT\nallow net 127.0.0.0/8\ndrop\n}\n"
        block = f"errors\nlog\nprometheus 127.0.0.1:0\n{rules}loadbalance\ncache\nforward . 127.0.0.1:{upstream.port}\n"
        with Worker(f". {{\n{block}}}\n") as worker:
            for position in range(7):
                with pytest.raises(KeyError):
                    worker.program.python_stage(0, position)
            stands, goes = threading.Event(), threading.Event()
            worker.loop.call_soon_threadsafe(lambda: (stands.set(), goes.wait(30)))
            assert stands.wait(5)
            try:
                for _ in range(3):
                    assert len(worker.ask("www.example.org.", A).answer) == 2
                    assert worker.ask("www.example.org.", TXT).rcode == REFUSED
                    assert len(worker.ask("www.example.org.", A, "tcp").answer) == 2
            finally:
                goes.set()
            assert worker.counter("coredns_cache_hits_total") == 5
