# SPDX-License-Identifier: Apache-2.0
"""The kit that measures: what it sends is answered and counted as it says, and wrong use is refused."""

from __future__ import annotations

import pytest

from bench.micro.rig import CHAIN, Rig, wires
from fastdns import _drive_micro
from fastdns._cache import Segment
from fastdns._chain import Program
from fastdns._drive_engine import EngineBench
from fastdns._stats import Stats
from fastdns._udp import Engine
from fastdns.testing import question


def cached(rig: Rig) -> tuple[int, int]:
    return rig.counter("coredns_cache_hits_total"), rig.counter("coredns_cache_misses_total")


def test_names_miss_once_and_then_hit() -> None:
    queries = wires(128)
    with Rig() as rig:
        assert rig.bench.run(queries, 2) == 128
        assert cached(rig) == (0, 128)
        assert rig.bench.run(queries, 4) == 256
        assert cached(rig) == (256, 128)
        assert rig.bench.run_stages(queries, 3) == 384
        assert cached(rig) == (640, 128) and rig.bench.in_flight == 0


@pytest.mark.parametrize("tcp", [False, True])
def test_fresh_names_always_miss(tcp: bool) -> None:
    corefile = CHAIN.replace("{upstreams}", "{upstreams} {\n  force_tcp\n }") if tcp else CHAIN
    with Rig(corefile, tcp=tcp) as rig:
        assert rig.bench.run(wires(4), 5, batch=32, fresh=True) == 160
        assert rig.bench.run(wires(4), 1, batch=1, fresh=True) == 1
        assert cached(rig) == (0, 161)


def test_each_part_by_hand() -> None:
    with Rig(". {\n whoami\n}\n", upstreams=0) as rig:
        rig.start_python()
        rig.bench.send(wires(5))
        rig.bench.turn()
        rig.engine.bridge.drain()
        assert rig.bench.collect() == 0
        rig.bench.turn(2)
        assert rig.bench.collect() == 5
        rig.bench.mark()


def test_a_reply_that_does_not_come_is_an_error() -> None:
    # The upstreams listen, but nobody serves them.
    with Rig(tcp=True) as rig, pytest.raises(RuntimeError, match="a reply is missing after 0 queries"):
        rig.bench.run(wires(1), batch=1)


def test_wrong_use_is_refused() -> None:
    with Rig() as rig:
        for batch in (0, 65):
            with pytest.raises(ValueError, match="1 to 64 queries"):
                rig.bench.run(wires(1), batch=batch)
        for queries, fresh in (([], False), ([bytes(513)], False), ([question("a.", 1)], True), ([b"\0" * 25], True)):
            with pytest.raises(ValueError, match="quer"):
                rig.bench.run(queries, fresh=fresh)
        with pytest.raises(ValueError, match="too many sockets"):
            EngineBench(rig.engine, [0] * 1025)
    program = Program(1, 1)
    with pytest.raises(RuntimeError, match="has not started"):
        EngineBench(Engine(program, Stats.create(4), None, {}), [])
    with Rig(clients=0) as rig:
        for call in (rig.bench.run, rig.bench.send):
            with pytest.raises(ValueError, match="there must be a client"):
                call(wires(1))


def test_loops_refuse_what_they_could_not_do() -> None:
    stats = Stats.create(4)
    for call, arguments in (
        (_drive_micro.lower, (bytes(257), 1)),
        (_drive_micro.name_text, (b"", 1)),
        (_drive_micro.scan, (b"short", 1)),
        (_drive_micro.compress, (b"short", 1)),
        (_drive_micro.finish, (b"short", b"short", 1)),
        (_drive_micro.count, (stats, 1, {}, b"short", 1)),
        (_drive_micro.put, (Segment.create([(1, 1024, 1024)]), 2, [b"\0"], bytes(12), [], 1)),
        (_drive_micro.put, (Segment.create([(1, 1024, 1024)]), 1, [b""], bytes(12), [], 1)),
        (_drive_micro.put, (Segment.create([(1, 1024, 1024)]), 1, [b"\0"], bytes(12), [9], 1)),
        (_drive_micro.in_flight, (0, 1)),
        (_drive_micro.in_flight, (16385, 1)),
    ):
        with pytest.raises(ValueError):
            call(*arguments)
    for row, slot in ((9, 1), (1, stats.slots)):
        with pytest.raises(IndexError):
            _drive_micro.add(stats, row, slot, 1)
        with pytest.raises(IndexError):
            _drive_micro.observe(stats, row, slot, [1, 2], 1)
