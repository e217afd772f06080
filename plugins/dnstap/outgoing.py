# SPDX-License-Identifier: Apache-2.0
"""A line that connects to its collector, and goes on trying.

Strategy: as CoreDNS does it. The first connection is tried at the start, and its failure is logged; one that breaks is
made again at once; while there is none it is tried every CHECK_SECONDS. Messages wait while a connection is being
made, and are dropped while there is none. What was dropped is logged every CHECK_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Any

from . import frames
from .config import Tap
from .metrics import CONNECTIONS, DROPPED
from .stream import BROKEN, Stream, Waiting, host_and_port, reason, socket_path

CHECK_SECONDS = 10.0
STEADY_SECONDS = 1.0  # a connection that broke sooner is not made again at once


class Outgoing:
    """A tap with its connection. Made on the keeper's loop."""

    def __init__(self, tap: Tap, to: str, log: logging.Logger) -> None:
        self.tap, self.to, self.log = tap, to, log
        self.waiting = Waiting(tap.queue)
        self.dropped = 0  # since the last line about it
        self.live = True  # there is a connection, or one is being made
        self.stream: Stream | None = None
        self._check = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def refuses(self) -> str:
        """Why a message would not be taken."""
        return "down" if not self.live else "queue" if self.waiting.full else ""

    def start(self) -> None:
        """Connects, without keeping anybody waiting."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]

    def put(self, frame: bytes) -> None:
        """Takes a message."""
        if not self.waiting.put(frame):
            self.drop("queue", 1)

    def drop(self, why: str, count: int) -> None:
        """Counts messages that the collector will not get."""
        if count:
            self.dropped += count
            DROPPED.inc(self.to, why, by=count)

    async def _watch(self) -> None:
        while True:
            # Again and again: in a reload the one before us says that it has none.
            CONNECTIONS.set(int(self.stream is not None), self.to)
            await asyncio.sleep(CHECK_SECONDS)
            if self.dropped:
                dropped, self.dropped = self.dropped, 0
                self.log.warning("Dropped dnstap messages: %d", dropped)
            self._check.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        first = True
        while True:
            try:
                self.live = True
                self.stream = await self._connect()
            except (*BROKEN, ValueError) as error:
                if first:
                    self.log.error("No connection to dnstap endpoint: %s", self._worded(error))
                steady = False
            else:
                began = loop.time()
                CONNECTIONS.set(1, self.to)
                await self.stream.send()
                CONNECTIONS.set(0, self.to)
                self.drop("broken", self.stream.lost)
                self.stream.close()
                self.stream = None
                steady = loop.time() - began >= STEADY_SECONDS
            first = False
            if not steady:
                self.live = False
                self.drop("down", self.waiting.clear())
                self._check.clear()
                await self._check.wait()

    async def _connect(self) -> Stream:
        async with asyncio.timeout(frames.TIMEOUT):
            reader, writer = await self._open()
        try:
            await frames.begin(reader, writer)
        except BaseException:
            writer.transport.abort()
            raise
        return Stream(reader, writer, self.waiting, self.to)

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.tap.proto == "unix":
            return await asyncio.open_unix_connection(socket_path(self.tap.endpoint))
        host, port = host_and_port(self.tap.endpoint)
        more: dict[str, Any] = {}
        if self.tap.proto == "tls":
            more["ssl"] = await asyncio.to_thread(self._context)
        reader, writer = await asyncio.open_connection(host or "localhost", port, **more)
        sock = writer.get_extra_info("socket")
        if self.tap.proto == "tcp":
            # As much as the system allows; small frames may wait for each other.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(self.tap.writebuf << 20, 0x3FFFFFFF))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        return reader, writer

    def _context(self) -> ssl.SSLContext:
        # Reading the authorities takes tens of milliseconds.
        context = ssl.create_default_context()
        if self.tap.skipverify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _worded(self, error: BaseException) -> str:
        network = "unix" if self.tap.proto == "unix" else "tcp"
        if isinstance(error, ssl.SSLError):
            return f"tls: {error.reason or error}"
        if isinstance(error, socket.gaierror):
            return f"dial {network}: lookup {host_and_port(self.tap.endpoint)[0]}: no such host"
        if isinstance(error, TimeoutError) and not error.errno:
            return f"dial {network} {self.tap.endpoint}: i/o timeout"
        if isinstance(error, OSError):
            if not error.errno and str(error).startswith("address "):
                return f"dial {network}: {error}"
            return f"dial {network} {self.tap.endpoint}: connect: {reason(error)}"
        return reason(error)

    async def stop(self, seconds: float) -> None:
        """Sends what waits, if it goes quickly, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.live = False
        if self.stream is not None:
            self.drop("broken", await self.stream.finish(seconds))
            CONNECTIONS.set(0, self.to)
        self.drop("down", self.waiting.clear())
        if self.dropped:
            self.log.warning("Dropped dnstap messages: %d", self.dropped)

    async def restart(self) -> None:
        """A new configuration is being tried: this one goes on."""

    async def restart_failed(self) -> None:
        """... and did not come."""
