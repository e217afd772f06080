# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for operators' requests: GET answers of a few paths, nothing else.

Strategy: h11 judges the octets, asyncio moves them. Every connection has CoreDNS's five seconds for each of reading a
request, writing the answer and being idle; there are at most CONNECTIONS of them, more are closed at once. A request
body is read and ignored up to BODY_MAX octets.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
import zlib
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

import h11

SECONDS = 5.0
CONNECTIONS = 256
BODY_MAX = 65536
GZIP_FROM = 1024
TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """Status, body and media type of an answer."""

    status: int
    body: bytes
    type: str = TEXT


NOT_FOUND = Answer(404, b"404 page not found\n")
Handler = Callable[[], Awaitable[Answer]]


class Server:
    """Serves `paths`, each with its handler, on listening sockets that somebody else has opened."""

    def __init__(self, paths: dict[str, Handler]) -> None:
        self.paths = paths
        self._listeners: list[asyncio.AbstractServer] = []
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, sockets: list[socket.socket]) -> None:
        """Begins to accept."""
        for sock in sockets:
            self._listeners.append(await asyncio.start_server(self._serve, sock=sock, limit=BODY_MAX))

    async def stop(self) -> None:
        """Accepts no more, and ends what is open."""
        for listener in self._listeners:
            listener.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._connection(reader, writer)
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=16384)
        while True:
            request = await asyncio.wait_for(self._request(http, reader), SECONDS)
            if request is None:
                return
            await asyncio.wait_for(self._answer(http, writer, request), SECONDS)
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _request(self, http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
        # The next request, its body read; None at the end of the connection.
        request = None
        body = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(16384))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += len(event.data)
                if body > BODY_MAX:
                    return None
            elif isinstance(event, h11.EndOfMessage):
                return request
            else:
                return None

    async def _answer(self, http: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request) -> None:
        path = request.target.decode("ascii", "replace").partition("?")[0]
        handler = self.paths.get(path)
        answer = await handler() if handler is not None else NOT_FOUND
        headers = dict(request.headers)
        body = answer.body
        fields = [("Content-Type", answer.type), ("Date", email.utils.formatdate(usegmt=True))]
        if answer is NOT_FOUND:
            fields.append(("X-Content-Type-Options", "nosniff"))
        if len(body) >= GZIP_FROM and _accepts_gzip(headers.get(b"accept-encoding", b"")):
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            fields.append(("Content-Encoding", "gzip"))
        fields.append(("Content-Length", str(len(body))))
        reason = HTTPStatus(answer.status).phrase
        octets = http.send(h11.Response(status_code=answer.status, headers=fields, reason=reason)) or b""
        if request.method != b"HEAD":
            octets += http.send(h11.Data(data=body)) or b""
        octets += http.send(h11.EndOfMessage()) or b""
        writer.write(octets)
        await writer.drain()


def _accepts_gzip(value: bytes) -> bool:
    for word in value.decode("ascii", "replace").split(","):
        name, _, quality = word.strip().partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
