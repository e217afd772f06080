# SPDX-License-Identifier: Apache-2.0
"""Everything at once: whatever upstreams do, each query gets exactly one answer and the tables are empty afterwards.

Strategy: the first letter of a name says what the upstreams do with it. Random names, protocols and stanzas with all
options are asked in bursts; equal names meet in one question. A seed makes a run repeatable.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter

import pytest

from fastdns.testing import Worker, free_port, question
from tests.faults.upstream import CLOSE, Asked, Upstream, reply

A = 1


def misbehave(asked: Asked) -> list[bytes | float]:
    """What an upstream does with a name."""
    wrong = reply(asked, id=asked.id ^ 0x55)
    truncated = reply(asked, flags=0x8380, answers=0)
    udp = asked.proto == "udp"
    return {
        "a": [reply(asked)],
        "b": [0.05, reply(asked)],
        "c": [],
        "d": [wrong, reply(asked)] if udp else [reply(asked)],
        "e": [asked.wire[:2] + b"\x80" * 30, asked.wire[:1], reply(asked)],
        "f": [truncated] if udp else [reply(asked)],
        "g": [reply(asked, rcode=2, answers=0)],
        "h": [] if udp else [CLOSE],
        "i": [reply(asked, answers=100)],
        "j": [reply(asked, rcode=3, answers=0)],
        "k": [wrong] if udp else [0.3, reply(asked)],
        "l": [0.19, reply(asked)],
        "m": [reply(asked, answers=0)],
        "n": [reply(asked), reply(asked)],
    }[asked.name[0]]


STANZAS = (
    ("x.test", "policy random", "read_timeout 200ms", "max_fails 0"),
    (
        "y.test",
        "policy round_robin",
        "read_timeout 150ms",
        "failover SERVFAIL",
        "prefer_udp",
        "expire 50ms",
        "max_fails 0",
    ),
    ("z.test", "policy sequential", "read_timeout 100ms", "force_tcp", "max_idle_conns 2", "max_fails 0"),
    ("w.test", "policy random", "read_timeout 200ms", "next NXDOMAIN", "next_on_nodata", "max_fails 0"),
)


def corefile(*ports: int) -> str:
    to = " ".join(f"127.0.0.1:{port}" for port in ports)
    stanzas = [line for zone, *options in STANZAS for line in (f"forward {zone} {to} {{", *options, "}")]
    return "\n".join([".:0 {", *stanzas, f"forward test {to} {{", "max_fails 0", "read_timeout 100ms", "}", "}", ""])


class Client:
    """Sockets of one client: UDP, and a TCP connection that pipelines."""

    def __init__(self, port: int) -> None:
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.udp.connect(("127.0.0.1", port))
        self.tcp = socket.create_connection(("127.0.0.1", port))
        self.sent: Counter[tuple[str, int]] = Counter()
        self.found: Counter[tuple[str, int]] = Counter()
        self._stream = b""
        for sock in (self.udp, self.tcp):
            sock.setblocking(False)

    def ask(self, proto: str, name: str, id: int) -> None:
        wire = question(name, A, id=id)
        self.sent[proto, id] += 1
        if proto == "udp":
            self.udp.send(wire)
        else:
            self.tcp.setblocking(True)
            self.tcp.sendall(len(wire).to_bytes(2, "big") + wire)
            self.tcp.setblocking(False)

    def read(self) -> None:
        """Takes what has arrived."""
        try:
            while True:
                self.found["udp", int.from_bytes(self.udp.recv(65535)[:2], "big")] += 1
        except BlockingIOError:
            pass
        try:
            while piece := self.tcp.recv(65535):
                self._stream += piece
        except BlockingIOError:
            pass
        while len(self._stream) >= 2 and len(self._stream) >= 2 + int.from_bytes(self._stream[:2], "big"):
            self.found["tcp", int.from_bytes(self._stream[2:4], "big")] += 1
            self._stream = self._stream[2 + int.from_bytes(self._stream[:2], "big") :]

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_storm(seed: int) -> None:
    dice = random.Random(seed)
    with Upstream(misbehave) as one, Upstream(misbehave) as two:
        with Worker(corefile(one.port, free_port(), two.port)) as server:
            clients = [Client(server.port) for _ in range(4)]
            for burst in range(20):
                for id in range(30 * burst, 30 * burst + 30):
                    letter = dice.choice("abcdefghijklmn")
                    name = f"{letter}{dice.randrange(40)}.{dice.choice('xyzw')}.test."
                    for client in dice.sample(clients, dice.randrange(1, 4)):
                        client.ask(dice.choice(("udp", "udp", "tcp")), name, id)
                time.sleep(0.01)
                for client in clients:
                    client.read()
            deadline = time.monotonic() + 20
            while server.engine.in_flight and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.3)
            for client in clients:
                client.read()
                assert client.found == client.sent
                client.close()
            assert server.engine.in_flight == 0


def test_full_tables_answer_servfail() -> None:
    """More questions than there are places: the rest is refused at once, and the places are free again later."""
    with Upstream(lambda asked: []) as silent:
        options = "max_fails 0\nread_timeout 3s\nmax_connect_attempts 1"
        with Worker(f".:0 {{\nforward . 127.0.0.1:{silent.port} {{\n{options}\n}}\n}}\n") as server:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            sock.connect(("127.0.0.1", server.port))
            sock.settimeout(8)
            found = 0
            for n in range(17000):
                sock.send(question(f"n{n}.test.", A, id=n))
                if n % 64 == 0:
                    time.sleep(0.002)
            while found < 600:
                assert sock.recv(512)[3] & 15 == 2
                found += 1
            assert server.engine.in_flight <= 16384
            silent.script = lambda asked: [reply(asked)]
            deadline = time.monotonic() + 8
            while server.engine.in_flight and time.monotonic() < deadline:
                time.sleep(0.1)
            assert server.ask("again.test.", A).answer
            sock.close()
