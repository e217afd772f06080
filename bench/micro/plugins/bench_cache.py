# SPDX-License-Identifier: Apache-2.0
"""cache: a hit through its stage. The TTL of each record is aged: the cases' difference is twelve of them, and the
octets that they take."""

import pytest

from ..kept import QUERY, chain

TURNS = 100_000


@pytest.mark.parametrize("records", [1, 13])
def bench_age_ttls(repeated, records):
    bench = chain([], records)
    assert repeated(bench.time, [QUERY], TURNS, items=TURNS, unit="query") == TURNS
