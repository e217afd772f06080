# SPDX-License-Identifier: Apache-2.0
"""_filter: what a query pays in a listener of which the blocks have views that compiled code judges."""

import pytest

from fastdns._chain import Program
from fastdns.expression import FUNCTIONS, compile_expression
from fastdns.expression.bytecode import translate

from .rig import Rig, wires

TURNS = 100_000
NETS = ", ".join(f"'10.{n}.0.0/16'" for n in range(100))
EXPRESSIONS = {
    "none": "",
    "typical": "name() endsWith '.example.com.' and incidr(client_ip(), '10.0.0.0/8') and not do()",
    "hundred networks": f"any([{NETS}], incidr(client_ip(), #))",
}


@pytest.mark.parametrize("kind", EXPRESSIONS)
def bench_route(repeated, kind):
    """Ingress, router with one filter that says no, the block behind it, REFUSED, egress."""
    text = EXPRESSIONS[kind]
    program = Program(1, 2)
    program.add_listener("dns://:53", 53, False, False, 0)
    if text:
        program.add_block(1, [b"\0"], [], filter=translate([compile_expression(text, FUNCTIONS)]))
        program.route(0, b"\0", 0)
    program.add_block(2, [b"\0"], [])
    program.route(0, b"\0", 1 if text else 0)
    program.finish()
    queries = wires(100, "www.example.org.")
    rounds = TURNS // len(queries)
    with Rig(program=program, upstreams=0) as rig:
        assert repeated(rig.bench.run_stages, queries, rounds, items=TURNS, unit="query") == TURNS
