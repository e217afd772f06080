# SPDX-License-Identifier: Apache-2.0
"""cookie: what a query pays for a cookie, and for having none. The copying of the reply by the kit is in it."""

import time

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.cookie._cookie import judged, stage
from fastdns.testing import question

from ..kept import reply

TURNS = 200_000
KEY = bytes(16)


@pytest.mark.parametrize("kind", ["none", "good", "client"])
def bench_query(repeated, kind):
    bench = Bench(stage([KEY], False, [list(range(2, 8))]), Stats.create(4), 1)
    cookie = judged(b"12345678", bytes(4), [KEY], int(time.time()))[1] if kind == "good" else b"12345678"
    options = [] if kind == "none" else [(10, cookie)]
    wire = question("www.example.org.", 1, bufsize=1232, options=options)
    # Each turn but the first finds the option where the response put it back.
    done = repeated(bench.run, wire, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
