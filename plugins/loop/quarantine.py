# SPDX-License-Identifier: Apache-2.0
"""`action quarantine`: which upstreams send queries back to this server, found out from outside of the query path.

Strategy: the keeper sends probes to each upstream itself, so it knows through which of them a probe came that a worker
sees. A look is several probes with names of their own, because an upstream that has a choice may send one elsewhere. A
name is two random numbers, new at each look, that stand in the shared table while the probes are on their way, so
nobody else can make one. One probe seen is a loop: the upstream's word in the table is set, and `forward` passes
it over. What is answered and was not seen is no loop; two such looks in a row release. Silence changes nothing.
The word holds the generation that set it (and one more), because a block that a reload changed has another word: its
upstreams begin as the words of before say, and those are cleared once their generation is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncGenerator
from enum import Enum

from fastdns._stats import Stats
from fastdns.plugin import Channel, Way

from ._loop import PROBES, WAY_WORDS, WAYS, probe
from .metrics import QUARANTINES, RELEASES

LOOPED = "forward_looped"  # the word of forward's upstreams
ANSWER_SECONDS = 2.0
EAGER_SECONDS = 30.0  # after the start, in which a silent upstream is asked each second
RETRY_SECONDS = 1.0
SERVED_SECONDS = 10.0  # at the most, until the workers of this configuration serve
CLEAN_LOOKS = 2
HEALTHY_INTERVALS = 10


class Look(Enum):
    """What came of a look."""

    LOOP = 1
    CLEAN = 2
    SILENT = 3


class Upstream:
    """One upstream: its shared words, and how many looks in a row found no loop."""

    def __init__(self, stats: Stats, way: Way, key: str, number: int) -> None:
        self.way = way
        labels = (("block", key), ("way", str(number)))
        self.words = tuple(stats.intern(f"fastdns_loop_probe_{word}", labels, "word") for word in WAY_WORDS)
        self.clean = 0


class Quarantine:
    """The upstreams of one block. `key` stands for block and generation; `zone` labels the metrics."""

    def __init__(self, stats: Stats, ways: list[Way], key: str, zone: str, interval: float, generation: int) -> None:
        if len(ways) > WAYS:
            raise ValueError(f"more than {WAYS} upstreams in a block: {len(ways)}")
        self.stats = stats
        self.mark = generation + 1
        self.served = asyncio.Event()
        """Set once the workers of this configuration serve: those of the one before know other numbers."""
        self.zone = zone
        self.interval = interval
        self.upstreams = [Upstream(stats, way, key, number) for number, way in enumerate(ways)]
        known = {to for to, _, _ in looped(stats)}
        for one in self.upstreams:
            if one.way.to in known:
                stats.set_shared(one.way.looped, self.mark)

    async def run(self, channel: Channel) -> None:
        """Looks for as long as the server runs."""
        with contextlib.suppress(TimeoutError):
            # A keeper that replaces another one is not told.
            async with asyncio.timeout(SERVED_SECONDS):
                await self.served.wait()
        for _, slot, mark in looped(self.stats):
            if mark < self.mark:
                self.stats.set_shared(slot, 0)
        await asyncio.gather(*(self.follow(one, channel) for one in self.upstreams))

    async def follow(self, one: Upstream, channel: Channel) -> None:
        """One upstream's life."""
        eager_until = time.monotonic() + EAGER_SECONDS
        while True:
            found = await self.look(one)
            self.judge(one, found, channel)
            eager = time.monotonic() < eager_until
            if (found is Look.SILENT and eager) or (found is Look.CLEAN and self.held(one)):
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(self.interval * (1 if self.held(one) else HEALTHY_INTERVALS))

    def held(self, one: Upstream) -> bool:
        """Whether it is in quarantine."""
        return bool(self.stats.get(one.way.looped))

    def judge(self, one: Upstream, found: Look, channel: Channel) -> None:
        """What a look changes."""
        held = self.held(one)
        one.clean = one.clean + 1 if found is Look.CLEAN else 0 if found is Look.LOOP else one.clean
        if found is Look.LOOP and not held:
            self.stats.set_shared(one.way.looped, self.mark)
            QUARANTINES.inc(self.zone, one.way.to)
            channel.log("WARNING", f"plugin/loop: upstream {one.way.to} sends queries back to this server: it is asked "
                                   f"nothing more until a probe no longer returns")
        elif held and one.clean >= CLEAN_LOOKS:
            self.stats.set_shared(one.way.looped, 0)
            RELEASES.inc(self.zone, one.way.to)
            channel.log("INFO", f"plugin/loop: upstream {one.way.to} sends no queries back any more: it is asked again")

    async def look(self, one: Upstream) -> Look:
        """Sends probes and waits for what they say."""
        # Nobody sees the numbers before they are in the table, nor is any of them taken for a probe behind its time.
        first, second = secrets.randbits(62), secrets.randbits(62) | 1
        words = dict(zip(WAY_WORDS, one.words, strict=True))
        for word, value in (("seen", 0), ("first", first), ("second", second)):
            self.stats.set_shared(words[word], value)
        zone = "" if one.way.zone == "." else one.way.zone
        sent = dict(probe(f"{first + number}.{second}.{zone}") for number in range(PROBES))
        answered = 0
        try:
            with contextlib.suppress(OSError):  # TimeoutError is one
                async with asyncio.timeout(ANSWER_SECONDS), contextlib.aclosing(
                        exchange(one.way, list(sent.values()))) as replies:
                    async for ident in replies:
                        answered += sent.pop(ident, None) is not None
                        if not sent or self.stats.get(words["seen"]):
                            break
            if self.stats.get(words["seen"]):
                return Look.LOOP
            return Look.CLEAN if 2 * answered >= PROBES else Look.SILENT
        finally:
            self.stats.set_shared(words["second"], 0)


def looped(stats: Stats) -> list[tuple[str, int, int]]:
    """(upstream, slot, value) of every word that says that an upstream loops, in whatever configuration."""
    return [(dict(one.labels)["to"], one.slot, one.values[0]) for one in stats.snapshot(words=True)
            if one.name == LOOPED and one.values[0]]


async def exchange(way: Way, messages: list[bytes]) -> AsyncGenerator[bytes, None]:
    """The ids of the replies, as they come; ends when the upstream ends it. OSError."""
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM if way.tcp else socket.SOCK_DGRAM
    found = socket.getaddrinfo(way.address, way.port, type=kind, flags=socket.AI_NUMERICHOST)
    with socket.socket(found[0][0], kind | socket.SOCK_NONBLOCK) as sock:
        if way.source:
            sock.bind((way.source, 0))
        await loop.sock_connect(sock, found[0][4])
        if not way.tcp:
            for message in messages:
                await loop.sock_sendall(sock, message)
            while True:
                reply = await loop.sock_recv(sock, 65535)
                if len(reply) >= 12 and reply[2] & 0x80:
                    yield reply[:2]
        await loop.sock_sendall(sock, b"".join(len(message).to_bytes(2, "big") + message for message in messages))
        data = b""
        while octets := await loop.sock_recv(sock, 65536):
            data += octets
            while len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
                size = 2 + int.from_bytes(data[:2], "big")
                if size >= 14 and data[4] & 0x80:
                    yield data[2:4]
                data = data[size:]
