# SPDX-License-Identifier: Apache-2.0
"""minimal: what a reply costs that is short already. The copying of the reply by the kit is in it."""

from fastdns._drive import Bench
from fastdns.plugins.minimal._minimal import stage

from ..kept import QUERY, reply

TURNS = 200_000


def bench_pass(repeated):
    bench = Bench(stage())
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
