# SPDX-License-Identifier: Apache-2.0
"""_upstream_udp: misses over UDP, 64 a batch and one a batch: what a batch shares is drawn, sent and received once.
Kernel, client and upstream are in it."""

import pytest

from .rig import Rig, wires

QUERIES = 2048


@pytest.mark.parametrize("batch", [1, 64])
def bench_miss(repeated, batch):
    with Rig() as rig:
        run = rig.bench.run
        done = repeated(run, wires(64), QUERIES // batch, batch, True, items=QUERIES, unit="query")
    assert done == QUERIES
