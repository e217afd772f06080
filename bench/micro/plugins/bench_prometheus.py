# SPDX-License-Identifier: Apache-2.0
"""prometheus: what every query pays for being counted. The copying of the reply by the kit is in it."""

from fastdns import metrics
from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.prometheus._prometheus import stage

from ..kept import QUERY, reply

TURNS = 200_000


def bench_count(repeated):
    stats = Stats.create(4)
    cells = {(0, 0): metrics.cell(stats, "dns://:53", ".", "", "cache")}
    bench = Bench(stage(1, 1, cells), stats, 1)
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
