# SPDX-License-Identifier: Apache-2.0
"""tsig: what every query that is not signed pays for its being there. The copying of the reply by the kit is in it."""

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.tsig._tsig import stage

from ..kept import QUERY, reply

TURNS = 200_000


@pytest.mark.parametrize("types", [(), (252, 251)])
def bench_unsigned(repeated, types):
    bench = Bench(stage(types, (), False, [range(2, 8)]), Stats.create(4))
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))
