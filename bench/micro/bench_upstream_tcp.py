# SPDX-License-Identifier: Apache-2.0
"""_upstream_tcp: misses over connections that are kept. Kernel, client and upstream are in it."""

from .rig import CHAIN, Rig, wires

BATCHES = 16
BATCH = 32
TCP = CHAIN.replace("{upstreams}", "{upstreams} {\n  force_tcp\n  max_idle_conns 0\n }")


def bench_miss(repeated):
    with Rig(TCP, tcp=True) as rig:
        run = rig.bench.run
        done = repeated(run, wires(64), BATCHES, BATCH, True, items=BATCHES * BATCH, unit="query")
    assert done == BATCHES * BATCH
