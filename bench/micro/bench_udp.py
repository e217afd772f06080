# SPDX-License-Identifier: Apache-2.0
"""_udp: hits through the loop with real sockets, 64 a batch, from many clients and from few. Kernel and clients are in
it: what differs between the cases is how replies are grouped."""

import pytest

from .rig import Rig, wires

BATCHES = 100
BATCH = 64


@pytest.mark.parametrize("clients", [64, 8, 1])
def bench_hit(repeated, clients):
    queries = wires(1024)
    with Rig(clients=clients) as rig:
        for _ in range(2):
            rig.bench.run(queries, len(queries) // BATCH)
        done = repeated(rig.bench.run, queries, BATCHES, BATCH, items=BATCHES * BATCH, unit="query")
    assert done == BATCHES * BATCH
