# SPDX-License-Identifier: Apache-2.0
"""A stream to one collector: what waits for it, bounded, and how it is sent.

Strategy: `put` never waits; what finds no room is dropped. `send` writes what waits, so much at once that one write has
a time, and counts a message as sent when the system has taken it. A collector that takes nothing for TIMEOUT seconds
has lost its connection, and with it what was being written.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import Any

from fastdns.corefile.addresses import split_host_port

from . import frames
from .metrics import SENT

QUEUE_FRAMES = 10_000
QUEUE_OCTETS = 16 << 20
BATCH_OCTETS = 64 << 10
BROKEN = (OSError, EOFError, TimeoutError, frames.FrameError)


class Waiting:
    """Frames that wait for a collector: at most so many times QUEUE_FRAMES, and as often QUEUE_OCTETS."""

    def __init__(self, multiple: int = 1) -> None:
        self.most, self.octets_most = multiple * QUEUE_FRAMES, multiple * QUEUE_OCTETS
        self.frames: deque[bytes] = deque()
        self.octets = 0
        self.some = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no frame at all would be taken."""
        return len(self.frames) >= self.most or self.octets >= self.octets_most

    def put(self, frame: bytes) -> bool:
        """Appends a frame; False when there is no room."""
        if len(self.frames) >= self.most or self.octets + len(frame) > self.octets_most:
            return False
        self.frames.append(frame)
        self.octets += len(frame)
        self.some.set()
        return True

    def take(self) -> list[bytes]:
        """What is written at once: one frame at least where there is one."""
        batch, octets = list[bytes](), 0
        while self.frames and (not batch or octets + len(self.frames[0]) <= BATCH_OCTETS):
            octets += len(self.frames[0])
            batch.append(self.frames.popleft())
        self.octets -= octets
        if not self.frames:
            self.some.clear()
        return batch

    def clear(self) -> int:
        """Forgets all of it; how many there were."""
        found = len(self.frames)
        self.frames.clear()
        self.octets = 0
        self.some.clear()
        return found


class Stream:
    """A connection after its handshake. `to` is the line's name in the metrics."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: Waiting, to: str) -> None:
        self.reader, self.writer, self.waiting, self.to = reader, writer, waiting, to
        self.lost = 0
        self.writing = 0
        # `drain` then waits until the system has taken everything.
        writer.transport.set_write_buffer_limits(0)

    async def send(self) -> None:
        """Sends what waits and what comes, until the connection breaks; then `lost` says how many went with it."""
        gone: asyncio.Task[Any] = asyncio.create_task(self.reader.read(1))  # a collector has nothing to say
        try:
            while not gone.done():
                if not await self._write():
                    await self._pause(gone)
        except BROKEN:
            self.lost, self.writing = self.writing, 0
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError, *BROKEN):
                await gone

    async def _pause(self, gone: asyncio.Task[Any]) -> None:
        # Until there is something, or the other side is gone.
        some: asyncio.Task[Any] = asyncio.create_task(self.waiting.some.wait())
        try:
            await asyncio.wait((some, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            some.cancel()

    async def _write(self) -> bool:
        # One batch; whether there was any. `writing` are those that the system has not taken.
        batch = self.waiting.take()
        if not batch:
            return False
        self.writing = len(batch)
        self.writer.write(b"".join(frames.data(frame) for frame in batch))
        await self._drain()
        return True

    async def _drain(self) -> None:
        async with asyncio.timeout(frames.TIMEOUT):
            await self.writer.drain()
        SENT.inc(self.to, by=self.writing)
        self.writing = 0

    async def finish(self, seconds: float) -> int:
        """After `send` was cancelled: what still waits, then the end of the stream, within a time. How many messages
        were lost."""
        try:
            async with asyncio.timeout(seconds):
                if self.writing:
                    await self._drain()
                while await self._write():
                    continue
                await frames.end(self.reader, self.writer)
        except BROKEN:
            self.lost, self.writing = self.writing, 0
        self.close()
        return self.lost + self.waiting.clear()

    def close(self) -> None:
        """Lets go of the connection at once."""
        self.writer.transport.abort()


# ---- addresses and what goes wrong with them, in Go's words


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Host ("" for every address) and port. OSError worded as Go's."""
    try:
        host, port = split_host_port(endpoint)
    except ValueError as error:
        raise OSError(str(error)) from None
    number = int(port or "0")
    if number > 65535:
        raise OSError(f"address {port}: invalid port")
    return host, number


def socket_path(endpoint: str) -> str:
    """A Unix socket's address: one that begins with @ is a name, and no file."""
    return "\0" + endpoint[1:] if endpoint.startswith("@") else endpoint


def reason(error: BaseException) -> str:
    """Why a system call failed, or a stream did not begin."""
    if isinstance(error, asyncio.IncompleteReadError):
        return "unexpected EOF" if error.partial else "EOF"
    if isinstance(error, TimeoutError) and not error.errno:
        return "i/o timeout"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__
