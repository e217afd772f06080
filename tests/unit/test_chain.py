# SPDX-License-Identifier: Apache-2.0
"""The router: which block a name belongs to (RFC 1034 4.3.2 by server block, RFC 4035 3.1.4.1 for DS); and the runner:
held answers, streams, and what is reported of a query that a stage changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import metrics
from fastdns._chain import Program
from fastdns._drive_chain import ChainBench, holder, retyper
from fastdns._stats import Stats
from fastdns._wire import build
from fastdns.plugins.loadbalance._loadbalance import stage as loadbalance
from fastdns.plugins.prometheus._prometheus import stage as prometheus

A, TXT, AAAA, DS = 1, 16, 28, 43
UDP, TCP = 0, 1
GO, WAIT, GONE, REFUSED = 0, 1, 2, 4


def wire(text: str) -> bytes:
    labels = [label for label in text.split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"


def program(*blocks: list[str]) -> Program:
    p = Program(1, max(1, len(blocks)))
    p.add_listener("dns://:53", 53, True, False, 0)
    for number, zones in enumerate(blocks):
        p.add_block(number + 1, [wire(z) for z in zones], [])
        for zone in zones:
            p.route(0, wire(zone), number)
    p.finish()
    return p


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("example.org", A, (1, 0)),
        ("www.example.org", A, (1, 0)),
        ("a.b.sub.example.org", A, (2, 1)),
        ("sub.example.org", A, (2, 1)),
        ("xsub.example.org", A, (1, 0)),
        ("other.test", A, (2, 0)),
        ("example.net", A, (0, 0)),
        ("", A, (0, 0)),
        ("org", A, (0, 0)),
        # DS belongs to the parent's side: the shortest zone that is not the root.
        ("sub.example.org", DS, (1, 0)),
        ("deep.sub.example.org", DS, (1, 0)),
        ("example.org", DS, (1, 0)),
        ("example.net", DS, (0, 0)),
    ],
)
def test_longest_zone_wins(name: str, qtype: int, expected: tuple[int, int]) -> None:
    p = program(["."], ["example.org"], ["test", "sub.example.org"])
    assert p.lookup(0, wire(name), qtype) == expected


def test_nothing_matches_without_a_root_block() -> None:
    p = program(["example.org"])
    assert p.lookup(0, wire("example.com")) is None
    assert p.lookup(0, wire("org")) is None
    assert p.lookup(0, wire("")) is None
    assert p.lookup(0, wire("example.org.example.com")) is None


labels = st.text(alphabet="ab", min_size=1, max_size=2)
names = st.lists(labels, max_size=5).map(".".join)


@given(zones=st.lists(names, min_size=1, max_size=12, unique=True), name=names)
def test_router_agrees_with_a_linear_search(zones: list[str], name: str) -> None:
    p = program(*[[z] for z in zones])
    suffixes = [".".join(name.split(".")[i:]) for i in range(len(name.split(".")) + 1)] if name else [""]
    best = next((zones.index(s) for s in suffixes if s in zones), None)
    assert p.lookup(0, wire(name)) == (None if best is None else (best, 0))


def test_hostile_sizes_are_refused() -> None:
    p = Program(1, 1)
    p.add_listener("dns://:53", 53, True, False, 0)
    with pytest.raises(ValueError, match="more listeners than announced"):
        p.add_listener("dns://:54", 54, True, False, 0)
    with pytest.raises(ValueError, match="no name in wire form"):
        p.add_block(1, [b"\x05abc\0"], [])
    with pytest.raises(ValueError, match="1 to 4,096 listeners"):
        Program(0, 1)


def asked(name: str, number: int) -> bytes:
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + wire(name) + b"\0\1\0\1"


def test_a_held_answer_outlives_those_that_pass_it() -> None:
    bench = ChainBench([holder()], Stats.create(8, 4096))
    queries = [asked(f"n{i}.test", i) for i in range(3)]
    for token, query in enumerate(queries):
        assert bench.ask(query, token=token) == []
    replies = [build(q, 0x8000, 0, [(0, None, 1, 1, 60, bytes([192, 0, 2, i]))]) for i, q in enumerate(queries)]
    for reply in replies:
        assert bench.answer(0, reply) == []
    assert bench.held == 3
    assert bench.in_flight == 3
    for token, reply in enumerate(replies):
        assert [(s[0], s[2]) for s in bench.let_go()] == [(token, reply)]
    assert bench.in_flight == 0
    with pytest.raises(IndexError, match="no answer is held"):
        bench.let_go()


def test_every_holder_of_a_chain_may_hold() -> None:
    bench = ChainBench([holder(), holder()], Stats.create(8, 4096))
    bench.ask(asked("a.test", 1))
    assert bench.answer(0, None, rcode=5) == []
    assert bench.let_go() == []
    assert bench.held == 1
    assert [(s[1], s[2]) for s in bench.let_go()] == [(5, None)]
    assert bench.in_flight == 0


# ---- streams


def counting(stats: Stats) -> object:
    return prometheus(1, 1, {(0, 0): metrics.cell(stats, "dns://:53", ".", "", "script")})


def requests(stats: Stats) -> dict[str, int]:
    """Queries counted, by type and protocol."""
    return {f"{dict(s.labels)['type']} {dict(s.labels)['proto']}": s.values[0] for s in metrics.read(stats)
            if s.name == "coredns_dns_requests_total" and s.values[0]}


def message(query: bytes, *addresses: int) -> bytes:
    return build(query, 0x8400, 0, [(0, None, 1, 1, 60, bytes([192, 0, 2, i])) for i in addresses])


def test_each_message_of_a_stream_passes_the_stages_and_the_query_is_counted_once() -> None:
    stats = Stats.create(8, 4096)
    bench = ChainBench([counting(stats), loadbalance()], stats)
    query = asked("a.test", 1)
    assert bench.ask(query, TCP, token=9) == []
    parts = []
    for _ in range(20):
        taken, sent = bench.stream(message(query, 1, 2, 3, 4))
        assert taken == GO and [(s[0], s[1], len(s[2])) for s in sent] == [(9, 0, len(message(query, 1, 2, 3, 4)))]
        parts.append(sent[0][2])
        assert requests(stats) == {}
    assert {bytes(sorted(part)) for part in parts} == {bytes(sorted(message(query, 1, 2, 3, 4)))}
    # 20 times four addresses in the order they had: once in 10^27.
    assert len(set(parts)) > 1
    ((token, rcode, summary, octets, _),) = bench.stream_end()
    assert (token, rcode, octets) == (9, 0, 20 * (12 + 12 + 4 * 22))
    assert summary[2:4] == parts[-1][2:4] and summary[4:12] == b"\0\1" + bytes(6)
    assert requests(stats) == {"A tcp": 1} and bench.in_flight == 0


def test_a_stream_waits_for_its_reader_and_hears_that_it_left() -> None:
    bench = ChainBench([], Stats.create(8, 4096))
    query = asked("a.test", 1)
    bench.ask(query, TCP)
    assert bench.reader(full=True) == (0, 0)
    assert bench.stream(message(query, 1))[0] == WAIT
    assert bench.reader(room=True) == (1, 0)
    assert bench.stream(message(query, 2))[0] == GO
    assert bench.reader(gone=True) == (1, 1)
    assert bench.stream(message(query, 3)) == (GONE, [])
    assert [s[1] for s in bench.stream_end(False, 2)] == [2] and bench.in_flight == 0


def test_udp_has_no_streams() -> None:
    bench = ChainBench([holder()], Stats.create(8, 4096))
    query = asked("a.test", 1)
    bench.ask(query, UDP)
    assert bench.stream(message(query, 1)) == (REFUSED, [])
    # Nothing was sent, so the end is the bare rcode.
    assert bench.stream_end(True, 5) == []
    assert [(s[1], s[2]) for s in bench.let_go()] == [(5, None)]


# ---- changed queries


@pytest.mark.parametrize(("types", "counted"), [([AAAA], "AAAA"), ([AAAA, TXT], "TXT"), ([TXT, AAAA], "AAAA")])
@pytest.mark.parametrize("held", [False, True])
def test_what_was_asked_last_is_what_is_counted(types: list[int], counted: str, held: bool) -> None:
    stats = Stats.create(8, 4096)
    stages = [counting(stats), *([holder()] if held else []), *map(retyper, types)]
    bench = ChainBench(stages, stats)
    query = asked("a.test", 1)
    bench.ask(query)
    (_, wire_asked, *_), = bench.waiting
    assert wire_asked == query[:-4] + types[-1].to_bytes(2, "big") + query[-2:]
    bench.answer(0, message(query, 1))
    if held:
        bench.let_go()
    assert requests(stats) == {f"{counted} udp": 1} and bench.in_flight == 0


def test_a_changed_query_leaves_nothing_to_the_next_one() -> None:
    stats = Stats.create(8, 4096)
    bench = ChainBench([counting(stats), retyper(AAAA)], stats)
    for number in range(3):
        bench.ask(asked("a.test", number))
        bench.answer(0, None, rcode=5)
    plain = ChainBench([counting(stats)], stats)
    plain.ask(asked("a.test", 1))
    plain.answer(0, None, rcode=5)
    assert requests(stats) == {"AAAA udp": 3, "A udp": 1}
