# SPDX-License-Identifier: Apache-2.0
"""header: what a query and its reply cost. The copying of the reply by the kit is in it."""

from fastdns._drive import Bench
from fastdns.plugins.header._header import stage

from ..kept import QUERY, reply

TURNS = 200_000


def bench_pass(repeated):
    bench = Bench(stage((0, 0x0100), (0x0100, 0)))
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
