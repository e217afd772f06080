# SPDX-License-Identifier: Apache-2.0
"""top: what a query pays where each is counted, and where few are. The copying of the reply by the kit is in it."""

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.top._top import Table, stage

from ..kept import QUERY, reply

TURNS = 200_000


@pytest.mark.parametrize(("budget", "family"), [(1 << 62, 1), (1 << 62, 2), (64, 1)],
                         ids=["counted", "counted-ipv6", "passed-over"])  # fmt: skip
def bench_query(repeated, budget, family):
    stats = Stats.create(4)
    table = Table(stats, entries=256, window=10**10, budget=budget, prefixes=(32, 64), depth=4, slots=(2, 3))
    bench = Bench(stage(table), stats, 1)
    done = repeated(bench.run, QUERY, reply=reply(1), family=family, repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))


def bench_nxdomain(repeated):
    stats = Stats.create(4)
    table = Table(stats, entries=256, window=10**10, budget=1 << 62, prefixes=(32, 64), depth=4, slots=(2, 3))
    bench = Bench(stage(table), stats, 1)
    done = repeated(bench.run, QUERY, reply=reply(0), rcode=3, repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 3, reply(0))
