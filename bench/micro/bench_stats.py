# SPDX-License-Identifier: Apache-2.0
"""_stats: one more in a counter, a value noted in a histogram."""

from fastdns import _drive_micro
from fastdns._stats import Stats

TURNS = 1_000_000


def bench_add(repeated):
    stats = Stats.create(4)
    slot = stats.intern("bench_total")
    assert repeated(_drive_micro.add, stats, 1, slot, TURNS, items=TURNS, unit="addition") >= TURNS


def bench_observe(repeated):
    stats = Stats.create(4)
    bounds = tuple(2**i for i in range(16))
    slot = stats.intern("bench_seconds", (), "histogram", bounds)
    assert repeated(_drive_micro.observe, stats, 1, slot, list(bounds), TURNS, items=TURNS, unit="value") >= TURNS
