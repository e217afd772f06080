# SPDX-License-Identifier: Apache-2.0
"""log: the record of a query that a rule takes, and one that no rule takes."""

import pytest

from fastdns._drive import Bench
from fastdns._log import Formatter, Rings
from fastdns._stats import Stats
from fastdns.plugins.log._log import CLASSES, stage

from ..kept import QUERY, reply

TURNS = 20_000


@pytest.mark.parametrize("scope", [b"\0", b"\3com\0"], ids=["taken", "passed"])
def bench_record(repeated, scope):
    rings = Rings.create(2)
    formatter = Formatter(rings, lambda number: "{name}", "{name}")
    stats = Stats.create(4)
    bench = Bench(stage([(scope, CLASSES["all"], 1, [])]), stats, 1, rings.handle(1, -1, stats))

    def empty() -> None:
        while formatter.collect():
            pass

    repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query", before=empty)
    assert bool(formatter.collect()) == (scope == b"\0")
