# SPDX-License-Identifier: Apache-2.0
"""dnstap: the record of a query, without its octets and with them; and what the keeper pays for a frame."""

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.dnstap._dnstap import Table
from fastdns.plugins.dnstap.feed import Line, described

from ..kept import QUERY

TURNS = 20_000  # fewer than a ring holds
FRAMES = 1000


def drained(table: Table) -> None:
    while table.drain(1000):
        continue


@pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
def bench_record(repeated, full):
    stats = Stats.create(4)
    table = Table(stats)
    bench = Bench(table.stage([], full, False), stats)
    repeated(bench.run, QUERY, repeat=TURNS, items=TURNS, unit="query", before=lambda: drained(table))
    assert table.lost() == [0]


def bench_frame(repeated):
    stats = Stats.create(4)
    table = Table(stats)
    Bench(table.stage([], True, False), stats).run(QUERY, repeat=FRAMES)
    found = table.drain(FRAMES)
    line = Line(None, True, b"identity", b"version", None, None)  # type: ignore[arg-type]

    def frames():
        return sum(len(line.frame(described(one), one[9], ())) > len(QUERY) for one in found)

    assert repeated(frames, items=FRAMES, unit="frame") == FRAMES
