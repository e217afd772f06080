# SPDX-License-Identifier: Apache-2.0
"""Health checks of upstreams, once for the whole server, in the keeper.

Strategy: a worker whose attempt failed sets the upstream's `check` word and writes to an eventfd made before the
fork. The keeper then asks the upstream every so often until an answer comes. Failures in a row stand in the `fails`
word, which every worker compares with max_fails. Any DNS message with the right id is health: what matters is that
somebody answers. Workers of a template that was started anew have another eventfd, so the words are looked at once a
second as well.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from secrets import randbelow
from typing import NamedTuple

from fastdns._stats import Stats

from .metrics import FAILURES, PROXY
from .upstreams import Upstream

SECONDS = 1.0  # for an answer
LOOK_SECONDS = 1.0
SHORTEST = 0.01  # seconds between checks, whatever is configured
NS = 2


class Target(NamedTuple):
    """An upstream and its words in the shared table."""

    upstream: Upstream
    fails: int
    check: int


class HealthChecks:
    """The checks of one stanza. `interval` in seconds; `question` is the name asked for, in wire form."""

    def __init__(
        self,
        stats: Stats,
        targets: Sequence[Target],
        *,
        interval: float,
        question: bytes,
        recurse: bool,
        tcp: bool,
        source: str,
    ) -> None:
        self.stats = stats
        self.targets = tuple(targets)
        self.interval = max(interval, SHORTEST)
        self.question = question
        self.recurse = recurse
        self.tcp = tcp
        self.source = source
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.running: dict[Target, asyncio.Task[None]] = {}
        self.timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listens for workers that ask for checks. Whatever an earlier keeper knew is forgotten."""
        for target in self.targets:
            self.stats.set_shared(target.fails, 0)
            self.stats.set_shared(target.check, 0)
        asyncio.get_running_loop().add_reader(self.wake_fd, self.wake)
        self.look()

    async def stop(self) -> None:
        """Ends all checks."""
        asyncio.get_running_loop().remove_reader(self.wake_fd)
        if self.timer is not None:
            self.timer.cancel()
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """A worker asks for checks."""
        try:
            os.eventfd_read(self.wake_fd)
        except BlockingIOError:
            return
        self.begin()

    def look(self) -> None:
        """Whether a worker asked that could not wake this process."""
        self.begin()
        self.timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self.look)

    def begin(self) -> None:
        """Starts the checks that were asked for and do not run."""
        for target in self.targets:
            if target not in self.running and self.stats.get(target.check):
                task = asyncio.get_running_loop().create_task(self.until_healthy(target))
                self.running[target] = task
                task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        """A check has ended: it may be asked for again."""
        self.running = {target: other for target, other in self.running.items() if other is not task}

    async def until_healthy(self, target: Target) -> None:
        """Checks one upstream until it answers."""
        failures = 0
        while not await self.answers(target.upstream):
            failures += 1
            self.stats.set_shared(target.fails, failures)
            FAILURES.inc(PROXY, target.upstream.to)
            await asyncio.sleep(self.interval)
        self.stats.set_shared(target.fails, 0)
        self.stats.set_shared(target.check, 0)

    def message(self) -> bytes:
        """A fresh `DOMAIN IN NS`."""
        header = struct.pack("!HHHHHH", randbelow(1 << 16), 0x0100 if self.recurse else 0, 1, 0, 0, 0)
        return header + self.question + struct.pack("!HH", NS, 1)

    async def answers(self, upstream: Upstream) -> bool:
        """Whether an upstream sends any DNS message with our id within a second."""
        family = socket.AF_INET6 if ":" in upstream.address else socket.AF_INET
        kind = socket.SOCK_STREAM if self.tcp else socket.SOCK_DGRAM
        try:
            with socket.socket(family, kind | socket.SOCK_NONBLOCK) as sock:
                if self.source:
                    sock.bind((self.source, 0))
                async with asyncio.timeout(SECONDS):
                    return await self.exchange(sock, upstream)
        except OSError:  # TimeoutError is one
            return False

    async def exchange(self, sock: socket.socket, upstream: Upstream) -> bool:
        loop = asyncio.get_running_loop()
        found = socket.getaddrinfo(upstream.address, upstream.port, type=sock.type, flags=socket.AI_NUMERICHOST)
        message = self.message()
        await loop.sock_connect(sock, found[0][4])
        if not self.tcp:
            await loop.sock_sendall(sock, message)
            while True:
                reply = await loop.sock_recv(sock, 65535)
                if len(reply) >= 12 and reply[:2] == message[:2]:
                    return True
        await loop.sock_sendall(sock, struct.pack("!H", len(message)) + message)
        reply = b""
        while len(reply) < 14:
            octets = await loop.sock_recv(sock, 4096)
            if not octets:
                return False
            reply += octets
        return reply[2:4] == message[:2]
