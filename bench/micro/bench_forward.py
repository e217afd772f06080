# SPDX-License-Identifier: Apache-2.0
"""_forward: whether a query is the stanza's (FROM, and none of `except`), and equal questions that become one."""

import pytest

from .rig import Rig, wires

TURNS = 50_000
BATCHES = 32
BATCH = 64


@pytest.mark.parametrize("ignored", [0, 50])
def bench_match(repeated, ignored):
    """A query that is not forwarded: the name is under FROM, but also under the last name of `except`."""
    names = " ".join(["example.org", *(f"e{number}.example.net" for number in range(ignored))][::-1])
    corefile = f". {{\n errors\n forward . 127.0.0.1:53 {{\n  except {names}\n }}\n}}\n"
    with Rig(corefile, upstreams=0) as rig:
        assert repeated(rig.bench.run_stages, wires(10), TURNS // 10, items=TURNS, unit="query") == TURNS


def bench_coalesce(repeated):
    """64 equal questions are one. Kernel, clients and upstream are in it."""
    with Rig(". {\n forward . {upstreams}\n}\n", clients=64) as rig:
        done = repeated(rig.bench.run, wires(1), BATCHES, BATCH, items=BATCHES * BATCH, unit="query")
        asked = rig.counter("fastdns_forward_events_total", event="coalesced")
    assert done == BATCHES * BATCH and asked >= done - BATCHES
