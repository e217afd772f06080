# SPDX-License-Identifier: Apache-2.0
"""_tcp: hits on one connection whose client sends 128 queries without waiting. Kernel and client are in it."""

from .rig import Rig, wires

TRAINS = 50
TRAIN = 128
TURNS = 8  # of the loop: it takes 32 messages a turn
REPLY = 2 + 12 + len(b"\x08h0000000\7example\3org\0") + 4 + 16


def bench_hit(repeated):
    queries = wires(TRAIN)
    train = b"".join(len(wire).to_bytes(2, "big") + wire for wire in queries)
    with Rig() as rig:
        rig.bench.run(queries, 2)
        client = rig.connect()
        rig.bench.turn()

        def exchange() -> int:
            octets = 0
            for _ in range(TRAINS):
                client.sendall(train)
                rig.bench.turn(TURNS)
                octets += len(client.recv(1 << 20))
            return octets

        assert repeated(exchange, items=TRAINS * TRAIN, unit="query") == TRAINS * TRAIN * REPLY
