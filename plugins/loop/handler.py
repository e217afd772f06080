# SPDX-License-Identifier: Apache-2.0
"""loop: asks the server itself for a name that nobody else knows, and ends it when the question comes back.

Strategy: the keeper sends the probe, once for the whole server; the compiled stage in every worker counts the probe in
words that all processes share, because each lap of a loop may land on another worker. The keeper watches the count.
With `action quarantine` it asks each upstream by itself instead (quarantine.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from typing import TYPE_CHECKING

from fastdns.corefile.addresses import join_host_port
from fastdns.corefile.units import quote
from fastdns.plugin import BlockContext, Channel, Event, Forwards, Plugin, Settings, SetupError, Way, end_task

from ._loop import SEEN_MOST, WORDS, probe, quarantine, stage
from .config import LOOP, QUARANTINE
from .quarantine import SERVED_SECONDS, Quarantine

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

PROBE_SECONDS = 30.0
ANSWER_SECONDS = 2.0
RETRY_SECONDS = 1.0
LOOK_SECONDS = 0.05
LEFT_SECONDS = 4.0  # after that no worker of a configuration before reads: one that would has been killed
HELP = "see https://coredns.io/plugins/loop#troubleshooting"


class Loop(Plugin):
    """`qname` is the probe's name: two random numbers below the zone of the block's first key."""

    name = "loop"
    directive = LOOP

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.zone = block.zones[0]
        labels = f"{secrets.randbits(62)}.{secrets.randbits(62)}."
        self.qname = labels + ("" if self.zone == "." else self.zone)
        # Old and new processes of a reload overlap: each has words of its own, and the table does not fill up.
        self.key = f"{block.generation % 2}.{block.index}"
        key = (("block", self.key),)
        self.words = [block.stats.intern(f"fastdns_loop_{word}", key, "word") for word in WORDS]
        for slot in self.words:
            block.stats.set_shared(slot, 0)
        self.stats = block.stats
        self.task: asyncio.Task[None] | None = None
        self.served = asyncio.Event()
        """Set once the workers of this configuration serve."""
        self.first = False

    def compiled(self) -> CompiledStage:
        """The counter of probes."""
        block = self.block
        self.ways: list[Way] = [way for one in block.providers(Forwards) for way in one.ways()]
        if self.config["action"] != QUARANTINE:
            return stage(self.qname, self.words)
        try:
            self.quarantine = Quarantine(block.stats, self.ways, self.key, self.zone, self.config["interval"],
                                         block.generation)
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None
        return quarantine([one.words for one in self.quarantine.upstreams])

    def address(self) -> str:
        """The listen address that is probed, as CoreDNS prints it: `:53`, `127.0.0.1:53`."""
        label = self.block.servers[self.block.listeners[0]]
        return label.partition("://")[2]

    def start_server(self, channel: Channel) -> None:
        """Start probing; the answer needs workers that serve, so nobody waits for it here."""
        if self.config["action"] == QUARANTINE:
            run = self.quarantine.run(channel)
        else:
            for way in self.ways:
                self.stats.set_shared(way.looped, 0)  # another action may have set it before a reload
            run = self._run(channel)
        self.task = asyncio.get_running_loop().create_task(run)

    def on_event(self, event: Event) -> None:
        """Probes are understood from now on."""
        if event is Event.FIRST_STARTUP:
            self.first = True
        elif event is Event.STARTUP:
            (self.quarantine.served if self.config["action"] == QUARANTINE else self.served).set()

    async def stop_server(self) -> None:
        """Stop probing."""
        task, self.task = self.task, None
        await end_task(task)

    async def _run(self, channel: Channel) -> None:
        with contextlib.suppress(TimeoutError):
            # A keeper that replaces another one is not told.
            async with asyncio.timeout(SERVED_SECONDS):
                await self.served.wait()
        await self._probe(channel)
        if not self.first:
            # The workers of before, which still read for a while, may have answered: to them it was any other name.
            await asyncio.sleep(LEFT_SECONDS)
            self.stats.set_shared(self.words[0], 0)
            await self._probe(channel)
        self.stats.set_shared(self.words[1], 1)

    async def _probe(self, channel: Channel) -> None:
        """Asks until an answer comes, and waits for what comes back after it."""
        deadline = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < deadline:
            if await self._exchange(channel):
                await self._watch(channel, time.monotonic() + ANSWER_SECONDS)
                break
            self.stats.set_shared(self.words[0], 0)
            await asyncio.sleep(RETRY_SECONDS)

    async def _exchange(self, channel: Channel) -> bool:
        """Ask once; whether an answer came."""
        ident, question = probe(self.qname)
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            family, where = self._where()
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(where)
                sock.send(question)
                until = time.monotonic() + ANSWER_SECONDS
                while time.monotonic() < until:
                    self._judge(channel)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            reply = await loop.sock_recv(sock, 65535)
                        if len(reply) >= 12 and reply[:2] == ident and reply[2] & 0x80:
                            return True
        return False

    def _where(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        host, _, port = self.address().rpartition(":")
        host = host.strip("[]")
        if host in ("", "0.0.0.0", "::"):
            # A wildcard socket is dual-stack where the host has IPv6, and IPv4 alone where not.
            return socket.AF_INET, ("127.0.0.1", int(port))
        return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port))

    async def _watch(self, channel: Channel, until: float) -> None:
        while time.monotonic() < until:
            self._judge(channel)
            await asyncio.sleep(LOOK_SECONDS)

    def _judge(self, channel: Channel) -> None:
        if self.stats.get(self.words[0]) > SEEN_MOST:
            channel.fatal(
                f"plugin/loop: Loop ({self._remote()} -> {self.address()}) detected for zone {quote(self.zone)}, "
                f'{HELP}. Query: "HINFO {self.qname}"')
            self.stats.set_shared(self.words[0], 0)

    def _remote(self) -> str:
        high, low, port = (self.stats.get(slot) for slot in self.words[2:])
        octets = (high & (1 << 64) - 1).to_bytes(8, "big") + (low & (1 << 64) - 1).to_bytes(8, "big")
        family = socket.AF_INET if port >> 16 == 1 else socket.AF_INET6
        host = socket.inet_ntop(family, octets[:4] if family == socket.AF_INET else octets)
        return join_host_port(host, port & 0xffff)
