# SPDX-License-Identifier: Apache-2.0
"""rrl: what a query pays for its network's bucket. The copying of the reply by the kit is in it."""

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.rrl._rrl import stage

from ..kept import QUERY, reply

TURNS = 200_000
MANY = (1, 1_000_000)  # a token each nanosecond: nobody is limited
NONE = (0, 0)
SLOTS = [(list(range(2, 14)), [14, 15])]


@pytest.mark.parametrize(
    ("limits", "allow", "family"),
    [((MANY, NONE, NONE), [], 1), ((MANY, NONE, NONE), [], 2), ((MANY, MANY, NONE), [], 1),
     ((MANY, NONE, NONE), [(bytes(4), bytes(4))], 1)],
    ids=["queries", "queries-ipv6", "queries-and-misses", "allowed"],
)  # fmt: skip
def bench_query(repeated, limits, allow, family):
    made = stage(limits, (24, 56), 2, False, False, (allow, []), 65536, SLOTS, (16, 17))
    bench = Bench(made, Stats.create(4), 1)
    done = repeated(bench.run, QUERY, reply=reply(1), family=family, repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))


def bench_dropped(repeated):
    made = stage(((1 << 60, 1), NONE, NONE), (24, 56), 0, False, False, ([], []), 65536, SLOTS, (16, 17))
    bench = Bench(made, Stats.create(4), 1)
    bench.run(QUERY)
    assert repeated(bench.run, QUERY, repeat=TURNS, items=TURNS, unit="query")[0] == "drop"
