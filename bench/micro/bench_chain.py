# SPDX-License-Identifier: Apache-2.0
"""_chain: routing among few and among many zones, and the walk down and up a block's stages."""

import pytest

from fastdns._chain import Program
from fastdns._wire import name_from_text
from fastdns.plugins.errors._errors import stage

from .kept import QUERY, chain
from .rig import Rig, wires

TURNS = 100_000


def refusing(zones: list[str]) -> Program:
    """Blocks without stages, which answer REFUSED as soon as the router has found them."""
    program = Program(1, len(zones))
    program.add_listener("dns://:53", 53, False, False, 0)
    for index, zone in enumerate(zones):
        name = name_from_text(zone)
        program.add_block(index + 1, [name], [])
        program.route(0, name, index)
    program.finish()
    return program


@pytest.mark.parametrize("zones", [1, 1000])
def bench_route(repeated, zones):
    """Ingress, router, REFUSED, egress."""
    names = [".", *(f"z{number}.example.org." for number in range(zones - 1))]
    queries = wires(100, "z7.example.org.")
    rounds = TURNS // len(queries)
    with Rig(program=refusing(names), upstreams=0) as rig:
        assert repeated(rig.bench.run_stages, queries, rounds, items=TURNS, unit="query") == TURNS


@pytest.mark.parametrize("stages", [1, 9])
def bench_walk(repeated, stages):
    """Router and runner with so many stages, of which the last answers; the difference of the two is eight stages."""
    bench = chain([stage(0) for _ in range(stages - 1)])
    assert repeated(bench.time, [QUERY], TURNS, items=TURNS, unit="query") == TURNS
