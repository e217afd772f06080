# SPDX-License-Identifier: Apache-2.0
"""_bridge: a plugin in Python answers, and one that awaits the next stage: ring, Python, ring. Both ends run in one
thread here, so nobody has to be woken; kernel and clients are in it."""

from typing import Any

import pytest

from fastdns._chain import Program
from fastdns.plugins.errors._errors import stage

from .rig import Rig, wires

BATCHES = 20
BATCH = 64
TURNS = 2  # of both ends: a child of `next` comes back in the second


class _Python:
    """What the bridge asks of a plugin."""

    eager = True
    deadline = 5.0
    board = None


class Answers(_Python):
    """Answers by itself."""

    name = "answers"

    async def serve_dns(self, query: Any, next: Any) -> Any:
        return query.reply().a("192.0.2.1")


class Passes(_Python):
    """Awaits the rest of the chain and gives its answer back."""

    name = "passes"

    async def serve_dns(self, query: Any, next: Any) -> Any:
        return await next(query)


@pytest.mark.parametrize("stages", [[Answers()], [Passes(), stage(0), Answers()]], ids=["answer", "next"])
def bench_call(repeated, stages):
    program = Program(1, 1)
    program.add_listener("dns://:53", 53, False, False, 0)
    program.add_block(1, [b"\0"], stages)
    program.route(0, b"\0", 0)
    program.finish()
    queries = wires(BATCH)
    with Rig(program=program, upstreams=0) as rig:
        rig.start_python()

        def serve() -> int:
            replies = 0
            for _ in range(BATCHES):
                rig.bench.send(queries)
                for _ in range(TURNS + len(stages)):
                    rig.bench.turn()
                    rig.engine.bridge.drain()
                rig.bench.turn()
                replies += rig.bench.collect()
            return replies

        assert repeated(serve, items=BATCHES * BATCH, unit="query") == BATCHES * BATCH
        assert rig.counter("coredns_panics_total") == 0
