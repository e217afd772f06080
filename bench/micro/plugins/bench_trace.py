# SPDX-License-Identifier: Apache-2.0
"""trace: what a query that is not traced pays for its being there, and one that is. The copying of the reply by the kit
is in the first."""

import os

from fastdns._drive import Bench
from fastdns.plugins.trace._trace import Tracer

from ..kept import QUERY, chain, reply

TURNS = 200_000
TRACED = 1000  # fewer than the table holds: nobody takes them


def bench_pass(repeated):
    bench = Bench(Tracer(1 << 40).stage())
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))


def bench_traced_hit(repeated):
    tracer = Tracer(1)
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    tracer.open(fd)
    bench = chain([tracer.stage()])
    answered = repeated(bench.time, [QUERY], TRACED, before=tracer.drain, items=TRACED, unit="query")
    assert answered == TRACED and tracer.full == 0
    os.close(fd)
