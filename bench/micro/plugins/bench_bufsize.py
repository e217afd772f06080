# SPDX-License-Identifier: Apache-2.0
"""bufsize: what every query pays for its being there. The copying of the reply by the kit is in it."""

from fastdns._drive import Bench
from fastdns.plugins.bufsize._bufsize import stage

from ..kept import QUERY, reply

TURNS = 200_000


def bench_pass(repeated):
    bench = Bench(stage(1232))
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
