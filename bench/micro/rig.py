# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of whole paths stand on: a worker's engine with its clients and upstreams, in one thread.

Strategy: the engine is made of a Corefile exactly as a worker makes it; then EngineBench turns its loop by hand. No
thread runs beside it and no time is waited for, so a run takes the same steps each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import TracebackType
from typing import Self

from fastdns import chain, metrics
from fastdns._cache import Segment
from fastdns._chain import Program
from fastdns._drive_engine import EngineBench
from fastdns._stats import Stats
from fastdns._udp import Engine
from fastdns.corefile import load_source
from fastdns.corefile.source import Source
from fastdns.testing import question

ADDRESS = "127.0.0.1"
ROOM = 4 << 20  # octets of a socket's receive buffer, as far as the kernel allows
CHAIN = ". {\n errors\n prometheus\n cache 3600\n forward . {upstreams}\n}\n"
"""The chain that most servers run. Each turn of the loop goes through these four stages."""


def wires(count: int, zone: str = "example.org.", qtype: int = 1) -> list[bytes]:
    """Queries for `count` names h0000000.ZONE and so on: labels of eight octets."""
    return [question(f"h{number:07d}.{zone}", qtype, id=number & 0xFFFF) for number in range(count)]


class Rig:
    """`bench` drives the engine of a Corefile, or of a program; `{upstreams}` in the Corefile stands for the addresses
    of the upstreams, which are asked over UDP, or over TCP."""

    def __init__(
        self,
        corefile: str = CHAIN,
        *,
        program: Program | None = None,
        clients: int = 16,
        upstreams: int = 1,
        tcp: bool = False,
    ) -> None:
        self.sockets: list[socket.socket] = []
        self.stats = Stats.create(4)
        metrics.attach(self.stats, 2)
        metrics.declare(self.stats)
        self.segment: Segment | None = None
        pairs = [self._pair() for _ in range(upstreams)]
        if program is None:
            addresses = " ".join(f"{ADDRESS}:{udp.getsockname()[1]}" for udp, _ in pairs)
            program = self._build(corefile.replace("{upstreams}", addresses))
        self.engine = Engine(program, self.stats, self.segment, {})
        udp, self.tcp = self._pair()
        self.engine.listener(0, udp.fileno(), self.tcp.fileno())
        self.engine.start(0, 1, None)
        peers = [self._client(udp.getsockname()) for _ in range(clients)]
        self.bench = EngineBench(
            self.engine,
            [one.fileno() for one in peers],
            [] if tcp else [one.fileno() for one, _ in pairs],
            [listener.fileno() for _, listener in pairs] if tcp else [],
        )

    def _build(self, corefile: str) -> Program:
        source = Source("Corefile", corefile.encode())
        generation = chain.load(load_source(source, chain.known(), chain.not_built()))
        asked = generation.plan()["cache"]
        ids = list(range(1, len(generation.blocks) + 1))
        if asked:
            self.segment = Segment.create([(ids[at["block"]], at["success"], at["denial"], 0) for at in asked])
        return generation.build(self.stats, self.segment, ids, 1)

    def _keep(self, one: socket.socket) -> socket.socket:
        self.sockets.append(one)
        return one

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        # A UDP and a TCP socket on the same port.
        for _ in range(100):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            tcp = socket.socket()
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            udp.bind((ADDRESS, 0))
            with contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                tcp.listen(1024)
                for one in (udp, tcp):
                    one.setblocking(False)
                    self._keep(one)
                return udp, tcp
            udp.close()
            tcp.close()
        raise OSError("no port is free for both UDP and TCP")

    def _client(self, address: tuple[str, int]) -> socket.socket:
        one = self._keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        one.connect(address)
        return one

    def connect(self) -> socket.socket:
        """A TCP connection to the listener."""
        one = self._keep(socket.create_connection(self.tcp.getsockname()))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return one

    def start_python(self, recorder: metrics.Recorder | None = None) -> None:
        """Readies the Python thread's end, on an event loop that never runs: for plugins that await nothing. Without a
        `recorder` no answer is kept."""
        self.loop = asyncio.new_event_loop()
        # `await next(query)` asks which task runs; without a running loop that would be a panic of each query.
        asyncio._set_running_loop(self.loop)
        self.engine.bridge.start(self.loop, self.stats, 2, lambda level, line: None, ["dns://:53"], None, recorder)

    def counter(self, name: str, **labels: str) -> int:
        """The value of a counter: the sum of its series with these labels."""
        wanted = set(labels.items())
        return sum(s.values[0] for s in self.stats.snapshot() if s.name == name and wanted <= set(s.labels))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "loop"):
            self.engine.bridge.stop()
            asyncio._set_running_loop(None)
            self.loop.close()
        for one in self.sockets:
            one.close()
