# SPDX-License-Identifier: Apache-2.0
"""A line that listens: collectors connect, and each that has shaken hands is given every message from then on.

Strategy: each collector has a queue and a task of its own. CoreDNS writes to them one after the other while the query
waits; here one that reads too slowly loses messages, and after a while its connection, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

from . import frames
from .config import Tap
from .metrics import CONNECTIONS, DROPPED
from .stream import BROKEN, Stream, Waiting, host_and_port, reason, socket_path

CHECK_SECONDS = 10.0
CLIENTS_MOST = 64  # of a line, those that are shaking hands included
BACKLOG = 128


class Listening:
    """A tap with its clients. Made on the keeper's loop."""

    def __init__(self, tap: Tap, to: str, log: logging.Logger) -> None:
        self.tap, self.to, self.log = tap, to, log
        self.streams: dict[Stream, asyncio.Task[Any]] = {}
        self.guests: set[asyncio.Task[Any]] = set()
        self.path: tuple[str, int] | None = None  # of our socket file, and its inode
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._seconds = frames.TIMEOUT  # for the end of a stream

    @property
    def refuses(self) -> str:
        """Why a message would not be taken."""
        return "" if self.streams else "down"

    def start(self) -> None:
        """Listens, without keeping anybody waiting."""
        self._opening = asyncio.create_task(self.open())
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        # Again and again: in a reload the one before us says that it has none.
        while True:
            CONNECTIONS.set(len(self.streams), self.to)
            await asyncio.sleep(CHECK_SECONDS)

    def put(self, frame: bytes) -> None:
        """Takes a message for all clients."""
        for stream in self.streams:
            if not stream.waiting.put(frame):
                self.drop("queue", 1)

    def drop(self, why: str, count: int) -> None:
        """Counts messages that a client will not get; where there is none, nothing is missed."""
        if count and self.streams:
            DROPPED.inc(self.to, why, by=count)

    async def open(self) -> None:
        """Opens the socket; a failure is logged, and there is none."""
        if self.tap.proto == "tls" and not self.tap.tls:
            self.log.warning("TLS listener requires cert and key files")
            return
        try:
            await self._open()
        except (OSError, ValueError) as error:
            self.log.error("Failed to start dnstap listener: %s", self._worded(error))

    async def _open(self) -> None:
        if self.tap.proto == "unix":
            path = self.tap.endpoint
            await asyncio.to_thread(self._unlink_dead, path)
            with contextlib.ExitStack() as undo:
                sock = undo.enter_context(socket.socket(socket.AF_UNIX))
                sock.bind(socket_path(path))
                self._server = await asyncio.start_unix_server(self._accepted, sock=sock, backlog=BACKLOG)
                undo.pop_all()
            if path and not path.startswith("@"):
                self.path = path, Path(path).stat().st_ino
            return
        host, port = host_and_port(self.tap.endpoint)
        context = await asyncio.to_thread(self._context) if self.tap.proto == "tls" else None
        more: dict[str, Any] = {"ssl": context, "ssl_handshake_timeout": frames.TIMEOUT} if context else {}
        self._server = await asyncio.start_server(self._accepted, host or None, port, backlog=BACKLOG, **more)

    @staticmethod
    def _unlink_dead(path: str) -> None:
        # The socket of a server that was killed: nobody listens there.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
                return
            sock.settimeout(frames.TIMEOUT)
            try:
                sock.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()

    def _context(self) -> ssl.SSLContext:
        certificate, key, *authority = self.tap.tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name in self.tap.tls:
            with open(name, "rb"):  # the errors of `ssl` do not say which file
                continue
        context.load_cert_chain(certificate, key)
        if authority:
            context.load_verify_locations(authority[0])
            context.verify_mode = ssl.CERT_OPTIONAL if self.tap.skipverify else ssl.CERT_REQUIRED
        return context

    def _worded(self, error: BaseException) -> str:
        if isinstance(error, ssl.SSLError):
            return f"tls: {error.reason or error}"
        if isinstance(error, OSError) and error.filename in self.tap.tls:
            return f"open {error.filename}: {reason(error)}"
        network = "unix" if self.tap.proto == "unix" else "tcp"
        if isinstance(error, OSError) and error.errno:
            return f"listen {network} {self.tap.endpoint}: bind: {os.strerror(error.errno).lower()}"
        return f"listen {network}: {error}"

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.guests.add(task)
        try:
            if len(self.guests) > CLIENTS_MOST:
                raise OSError(f"{CLIENTS_MOST} of them are connected")
            await frames.begin(reader, writer)
        except BROKEN as error:
            self.log.warning("Error creating encoder for dnstap client: %s", reason(error))
            return
        else:
            await self._serve(Stream(reader, writer, Waiting(), self.to), task)
        finally:
            self.guests.discard(task)
            writer.transport.abort()

    async def _serve(self, stream: Stream, task: asyncio.Task[Any]) -> None:
        self.streams[stream] = task
        CONNECTIONS.set(len(self.streams), self.to)
        try:
            await stream.send()
            self.drop("broken", stream.lost + stream.waiting.clear())
        except asyncio.CancelledError:
            self.drop("broken", await stream.finish(self._seconds))
        finally:
            del self.streams[stream]
            CONNECTIONS.set(len(self.streams), self.to)

    async def stop(self, seconds: float) -> None:
        """Closes the socket and sends its clients what waits for them, if it goes quickly."""
        tasks = [task for task in (self._opening, self._watching) if task is not None]
        self._opening = self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.path is not None:
            path, inode = self.path
            self.path = None
            with contextlib.suppress(OSError):
                if Path(path).stat().st_ino == inode:
                    Path(path).unlink()
        self._seconds = seconds
        guests = list(self.guests)
        for task in guests:
            task.cancel()
        await asyncio.gather(*guests, return_exceptions=True)

    async def restart(self) -> None:
        """A new configuration is being tried, which may want the same address."""
        await self.stop(frames.TIMEOUT)

    async def restart_failed(self) -> None:
        """... and did not come."""
        self.start()
