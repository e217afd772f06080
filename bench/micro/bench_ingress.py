# SPDX-License-Identifier: Apache-2.0
"""_ingress: from octets to octets, without a socket: a hit through the usual chain, and messages that are refused."""

from fastdns.testing import question

from .rig import Rig, wires

TURNS = 100_000
NAMES = 1000


def bench_hit(repeated):
    queries = wires(NAMES)
    with Rig() as rig:
        for _ in range(2):
            rig.bench.run(queries, len(queries) // 40, batch=40)
        done = repeated(rig.bench.run_stages, queries, TURNS // NAMES, items=TURNS, unit="query")
    assert done == TURNS


def bench_error_reply(repeated):
    """An opcode that the server does not know: answered before anything else is looked at."""
    wire = bytearray(question("www.example.org.", 1, id=1))
    wire[2] |= 0x78
    with Rig() as rig:
        assert repeated(rig.bench.run_stages, [bytes(wire)], TURNS, items=TURNS, unit="message") == TURNS


def bench_silence(repeated):
    """A response that came by mistake, or by malice."""
    wire = bytearray(question("www.example.org.", 1, id=1))
    wire[2] |= 0x80
    with Rig() as rig:
        assert repeated(rig.bench.run_stages, [bytes(wire)], TURNS, items=TURNS, unit="message") == 0
