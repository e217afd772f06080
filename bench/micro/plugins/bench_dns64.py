# SPDX-License-Identifier: Apache-2.0
"""dns64: what every other query pays for its being there. The copying of the reply by the kit is in it."""

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.dns64._dns64 import stage

from ..kept import QUERY, reply

TURNS = 200_000


def bench_pass(repeated):
    bench = Bench(stage(bytes(12), False, True, [1]), stats=Stats.create(4))
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
