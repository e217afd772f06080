# SPDX-License-Identifier: Apache-2.0
"""_attempt: the policy's choice among four upstreams, from the question to its answer. Kernel, client and upstreams are
in it: what differs between the cases is how the questions are spread."""

import pytest

from .rig import CHAIN, Rig, wires

BATCHES = 32
BATCH = 64


@pytest.mark.parametrize("policy", ["random", "round_robin", "sequential"])
def bench_policy(repeated, policy):
    corefile = CHAIN.replace("{upstreams}", f"{{upstreams}} {{\n  policy {policy}\n }}")
    with Rig(corefile, upstreams=4) as rig:
        run = rig.bench.run
        done = repeated(run, wires(64), BATCHES, BATCH, True, items=BATCHES * BATCH, unit="query")
    assert done == BATCHES * BATCH
