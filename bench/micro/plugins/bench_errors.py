# SPDX-License-Identifier: Apache-2.0
"""errors: a query that did not fail, and the record of one that did."""

import pytest

from fastdns._drive import Bench
from fastdns._log import Formatter, Rings
from fastdns.plugins.errors._errors import stage

from ..kept import QUERY

TURNS = 20_000
ERROR = b"read udp 127.0.0.1:1->127.0.0.1:2: i/o timeout"


@pytest.mark.parametrize("error", [b"", ERROR], ids=["none", "timeout"])
def bench_report(repeated, error):
    rings = Rings.create(2)
    formatter = Formatter(rings, lambda number: None, "")
    bench = Bench(stage(0), None, 1, rings.handle(1, -1))

    def empty() -> None:
        while formatter.collect():
            pass

    repeated(bench.run, QUERY, rcode=2, error=error, repeat=TURNS, items=TURNS, unit="query", before=empty)
    lines = formatter.collect().count(b"\n") + len(formatter.errors)
    assert bool(lines) == bool(error)
