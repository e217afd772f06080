# SPDX-License-Identifier: Apache-2.0
"""A chain whose cache holds an answer: what is behind a hit, without sockets and without an upstream."""

from __future__ import annotations

import dns.message
import dns.rrset

from fastdns._cache import Segment
from fastdns._drive_chain import ChainBench
from fastdns._stage import CompiledStage
from fastdns._stats import Stats
from fastdns.plugins.cache._cache import stage as cache_stage
from fastdns.testing import question

QUERY = question("www.example.org.", 1, id=1)
NANOSECONDS = 10**9


def reply(records: int, query: bytes = QUERY) -> bytes:
    """An answer of so many addresses, its names compressed."""
    message = dns.message.make_response(dns.message.from_wire(query))
    if records:
        data = [f"192.0.2.{i}" for i in range(records)]
        message.answer.append(dns.rrset.from_text("www.example.org.", 300, "IN", "A", *data))
    return message.to_wire()


def cache(stats: Stats) -> CompiledStage:
    """The stage of a `cache` directive without options, counted in `stats`."""
    slots = [tuple(stats.intern(f"bench_cache_{i}_total") for i in range(9))]
    events = [stats.intern(f"bench_cache_event_{i}_total") for i in range(3)]
    ttls = ((3600, 5), (1800, 5))
    return cache_stage(1, None, ((), ()), ttls, 5, (0, 60 * NANOSECONDS, 10), (0, False, 0, False, 0, 0), False, slots,
                       events)


def chain(outer: list[CompiledStage], records: int = 1) -> ChainBench:
    """`outer` stages, then cache, which holds the answer to QUERY with so many records: `time` then hits it."""
    stats = Stats.create(4)
    bench = ChainBench([*outer, cache(stats)], stats, Segment.create([(1, 1024, 1024)]))
    bench.ask(QUERY)
    bench.answer(reply=reply(records))
    if not bench.ask(QUERY) or bench.waiting:
        raise RuntimeError("the answer was not kept")
    return bench
