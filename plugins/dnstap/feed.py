# SPDX-License-Identifier: Apache-2.0
"""From the rings to the taps, in the keeper: records become frames.

Strategy: one reader for all blocks. The compiled half rings when there is a record, and only if this side sleeps; then
at most TAKEN are taken at once, so that the keeper's other work has its turn, with a nap where there was less. A record
goes to every tap of its block, in the order of their lines, and is made into a frame only where there is room for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from fastdns._log import Texts

from .metrics import DAMAGED
from .schema import ENUMS, MESSAGE, Dnstap, Message

if TYPE_CHECKING:
    from ._dnstap import Found, Table

TAKEN = 256
NAP_SECONDS = 0.02
DOZE_SECONDS = 0.25  # a worker of a template that was started again rings elsewhere
FAMILIES = ENUMS["SocketFamily"]
PROTOCOLS = ENUMS["SocketProtocol"]
NOTED = itemgetter(11)
QUERIES = frozenset(number for name, number in ENUMS["Message.Type"].items() if name.endswith("_QUERY"))
OPEN_SECONDS = 2.0  # for workers that still answer what they have read, when a configuration is replaced
LAST_SECONDS = 0.7  # for what waits in the end


class Sink(Protocol):
    """Where a tap's frames go."""

    @property
    def refuses(self) -> str:
        """Why it would not take a message: the reason that it is counted by; "" where it would."""

    def start(self) -> None:
        """Begins, without keeping anybody waiting."""

    def put(self, frame: bytes) -> None:
        """Takes a message; never waits."""

    def drop(self, why: str, count: int) -> None:
        """Counts messages that will not get there."""

    async def stop(self, seconds: float) -> None:
        """Sends what waits, if it goes quickly, and ends."""


class Line:
    """A tap of a block: what its frames say beside the message, and where they go. `place`: of its text among those of
    the block, None where `extra` is the same for all."""

    def __init__(self, sink: Sink, full: bool, identity: bytes, version: bytes, extra: bytes | None,
                 place: int | None) -> None:
        self.sink, self.full, self.extra, self.place = sink, full, extra, place
        self.fixed = {"type": MESSAGE, "identity": identity, "version": version}

    def frame(self, fields: dict[str, Any], octets: bytes, texts: Sequence[bytes]) -> bytes:
        """The frame for a message."""
        if self.full:
            name = "query_message" if fields["type"] in QUERIES else "response_message"
            fields = {**fields, name: octets}
        extra = self.extra if self.place is None else texts[self.place]
        more = {} if extra is None else {"extra": extra}
        frame: bytes = Dnstap(**self.fixed, **more, message=Message(**fields)).SerializeToString()
        return frame


def described(found: Found) -> dict[str, Any]:
    """The fields of a Message that every line has."""
    _, kind, tcp, asker, asker_port, asked, asked_port, query_ns, response_ns, _, _, _ = found
    fields: dict[str, Any] = {"type": kind, "socket_protocol": PROTOCOLS["TCP" if tcp else "UDP"]}
    if asker or asked:
        fields["socket_family"] = FAMILIES["INET" if len(asked or asker) == 4 else "INET6"]
    if asker:
        fields["query_address"], fields["query_port"] = asker, asker_port
    if asked:
        fields["response_address"], fields["response_port"] = asked, asked_port
    fields["query_time_sec"], fields["query_time_nsec"] = divmod(query_ns, 1_000_000_000)
    if response_ns:
        fields["response_time_sec"], fields["response_time_nsec"] = divmod(response_ns, 1_000_000_000)
    return fields


class Block:
    """The taps of a block. `formats`: of those texts that differ from message to message."""

    def __init__(self, lines: Sequence[Line], formats: list[str]) -> None:
        self.lines = lines
        self.texts = Texts(formats) if formats else None
        self.lost = 0

    def take(self, found: Found) -> None:
        """Gives a record to the taps."""
        fields = texts = None
        for line in self.lines:
            if why := line.sink.refuses:
                line.sink.drop(why, 1)
                continue
            if fields is None:
                fields = described(found)
                texts = self.texts.render(found[10]) if self.texts is not None else ()
            line.sink.put(line.frame(fields, found[9], texts or ()))

    def missed(self, lost: int) -> None:
        """The rings have lost so many since the start."""
        for line in self.lines:
            line.sink.drop("ring", lost - self.lost)
        self.lost = lost


class Feed:
    """Reads the rings for all blocks. Made on the keeper's loop; `wake_fd` is the rings' eventfd."""

    def __init__(self, table: Table, blocks: Sequence[Block], wake_fd: int, log: logging.Logger) -> None:
        self.table, self.blocks, self.wake_fd, self.log = table, blocks, wake_fd, log
        self.final = False
        self._damaged = 0
        self._rung = asyncio.Event()
        # What was lost before this process is not lost by it.
        for block, lost in zip(blocks, table.lost(), strict=True):
            block.lost = lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(wake_fd, self._ring)
        self._sinks = [line.sink for block in blocks for line in block.lines]
        for sink in self._sinks:
            sink.start()
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._run())

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.wake_fd)
        self._rung.set()

    async def _run(self) -> None:
        while True:
            taken = self.turn()
            if taken >= TAKEN:
                await asyncio.sleep(0)
            elif taken:
                await asyncio.sleep(NAP_SECONDS)
            else:
                self._rung.clear()
                if self.table.sleep():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(DOZE_SECONDS):
                            await self._rung.wait()

    def turn(self) -> int:
        """Takes some records; how many."""
        found = self.table.drain(TAKEN)
        found.sort(key=NOTED)
        for one in found:
            try:
                self.blocks[one[0]].take(one)
            except Exception as error:
                self.log.error("a message cannot be told: %s: %s", type(error).__name__, error)
        for block, lost in zip(self.blocks, self.table.lost(), strict=True):
            if lost != block.lost:
                block.missed(lost)
        damaged = self.table.damaged - self._damaged
        if damaged:
            DAMAGED.inc(by=damaged)
            self._damaged += damaged
        return len(found)

    async def stop(self) -> None:
        """Takes what workers still write, sends what is there, and ends, all within a few seconds. The second time
        nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        until = self._loop.time() + (LAST_SECONDS if self.final else OPEN_SECONDS)
        while self._loop.time() < until and (self.turn() or self.table.open()):
            await asyncio.sleep(NAP_SECONDS)
        while self.turn():
            continue
        self._loop.remove_reader(self.wake_fd)
        await asyncio.gather(*(sink.stop(LAST_SECONDS) for sink in self._sinks))


