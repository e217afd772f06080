# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/1.1 server for operators' requests: GET answers of a few paths, nothing else.

Strategy: h11 judges the octets, asyncio moves them. Every connection has CoreDNS's five seconds for each of the
handshake where there is TLS, reading a request, writing the answer and being idle; there are at most CONNECTIONS of
them, more are closed at once. A request body is read and ignored up to BODY_MAX octets.
"""

from __future__ import annotations

import asyncio
import email.utils
import socket
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import h11

if TYPE_CHECKING:
    from .gate import Gate

SECONDS = 5.0
CONNECTIONS = 256
BODY_MAX = 65536
GZIP_FROM = 1024
LEAVE_SECONDS = 0.5  # for requests on their way when the process ends
PAUSE_SECONDS = 0.1  # when nothing can be accepted: no descriptors
LOOKS = 4  # turns of the loop from octets that are readable to a request
ACCEPT_TURN = 64  # connections taken before others have their turn
TEXT = "text/plain; charset=utf-8"


Field = tuple[str, str]


class Answer(NamedTuple):
    """Status, body and media type of an answer, and further fields of its head."""

    status: int
    body: bytes
    type: str = TEXT
    fields: tuple[Field, ...] = ()


NOT_FOUND = Answer(404, b"404 page not found\n")
UNAUTHORIZED = Answer(401, b"Unauthorized\n")
TOO_MANY = Answer(429, b"Too Many Requests\n")
NOSNIFF = ("X-Content-Type-Options", "nosniff")
ERRORS = (NOT_FOUND, UNAUTHORIZED, TOO_MANY)
PACKED = "application/octet-stream"  # what is compressed already
Handler = Callable[[], Awaitable[Answer]]


class Tree(NamedTuple):
    """Everything below a prefix: `answer` gets path and query, and has `seconds`, unless the client leaves before."""

    prefix: str
    answer: Callable[[str, str], Awaitable[Answer]]
    seconds: float

    def holds(self, path: str) -> bool:
        """Whether a path is the prefix or below it."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


class Server:
    """Serves `paths`, each with its handler, and `trees` on listening sockets that somebody else has opened; behind
    `gate` where there is one."""

    def __init__(self, paths: dict[str, Handler], gate: Gate | None = None, trees: Sequence[Tree] = ()) -> None:
        self.paths = paths
        self.gate = gate
        self.trees = trees
        self._listening: list[socket.socket] = []
        self._open: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()  # of these, who has its answer and may ask again
        self._leaving = False

    async def start(self, sockets: list[socket.socket]) -> None:
        """Begins to accept."""
        for sock in sockets:
            sock.setblocking(False)
            self._listening.append(sock)
            self._watch(sock)

    def close(self) -> None:
        """Accepts no more. Whoever else holds the sockets does."""
        self._leaving = True
        for sock in self._listening:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        self._listening.clear()

    async def stop(self, seconds: float = LEAVE_SECONDS) -> None:
        """Accepts no more; who has asked, or has just come, has so many seconds; then ends what is open."""
        self.close()
        for _ in range(LOOKS):
            await asyncio.sleep(0)  # what has arrived from those who may ask again is looked at
        for task in self._idle:
            task.cancel()
        asking = self._open - self._idle
        if asking:
            await asyncio.wait(asking, timeout=seconds)
        ending = [*self._open]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _watch(self, sock: socket.socket) -> None:
        if sock in self._listening:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, sock: socket.socket) -> None:
        # Not asyncio's own: a connection has its task as soon as it is accepted, so the end forgets none; and with TLS
        # each has the present certificate.
        loop = asyncio.get_running_loop()
        for _ in range(ACCEPT_TURN):
            try:
                theirs, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                loop.remove_reader(sock)
                loop.call_later(PAUSE_SECONDS, self._watch, sock)
                return
            if len(self._open) >= CONNECTIONS:
                theirs.close()
                continue
            theirs.setblocking(False)
            task = loop.create_task(self._welcome(theirs))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _welcome(self, theirs: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        gate = self.gate if self.gate is not None and self.gate.tls else None
        secured: dict[str, Any] = {}
        if gate is not None:
            gate.refresh()
            secured = {"ssl": gate.context, "ssl_handshake_timeout": SECONDS, "ssl_shutdown_timeout": 1.0}
        reader = asyncio.StreamReader(BODY_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, theirs, **secured)
        except (OSError, asyncio.CancelledError):
            theirs.close()
            return
        if gate is not None and not gate.knows(transport.get_extra_info("peercert")):
            transport.abort()
            return
        await self._serve(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._connection(reader, writer)
            writer.close()
            await asyncio.wait_for(writer.wait_closed(), SECONDS)  # what is not sent yet would go with the process
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=16384)
        task = asyncio.current_task()
        assert task is not None
        while True:
            try:
                request = await asyncio.wait_for(self._request(http, reader), SECONDS)
            finally:
                self._idle.discard(task)
            if request is None:
                return
            path, _, query = request.target.decode("ascii", "replace").partition("?")
            tree = next((tree for tree in self.trees if tree.holds(path)), None)
            seconds = SECONDS if tree is None else SECONDS + tree.seconds
            answering = asyncio.wait_for(self._answer(http, writer, request, path, query, tree), seconds)
            await (answering if tree is None else self._unless_left(answering, http, reader))
            if self._leaving or http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()
            self._idle.add(task)

    async def _unless_left(self, answering: Coroutine[Any, Any, None], http: h11.Connection,
                           reader: asyncio.StreamReader) -> None:
        # An answer that takes long, unless nobody waits for it any more. A client that asks on has its turn later; of
        # one read so much is kept, more stays in the socket.
        task = asyncio.ensure_future(answering)
        more = asyncio.ensure_future(reader.read(16384))
        try:
            await asyncio.wait((task, more), return_when=asyncio.FIRST_COMPLETED)
            if more.done():
                octets = more.result()
                if not octets and not task.done():
                    raise ConnectionAbortedError
                http.receive_data(octets)
            await task
        finally:
            task.cancel()
            more.cancel()
            await asyncio.gather(task, more, return_exceptions=True)

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

    async def _answer(self, http: h11.Connection, writer: asyncio.StreamWriter, request: h11.Request, path: str,
                      query: str, tree: Tree | None) -> None:
        handler = self.paths.get(path)
        headers = dict(request.headers)
        answer = await self._refusal(headers)
        if answer is None and tree is not None:
            answer = await tree.answer(path, query)
        elif answer is None:
            answer = await handler() if handler is not None else NOT_FOUND
        body = answer.body
        fields = [("Content-Type", answer.type), ("Date", email.utils.formatdate(usegmt=True)), *answer.fields]
        if self.gate is not None and answer is not TOO_MANY:
            fields += [field for field in self.gate.headers if answer not in ERRORS or field[0] != NOSNIFF[0]]
        if answer is UNAUTHORIZED:
            fields.append(("WWW-Authenticate", "Basic"))
        if answer in ERRORS:
            fields.append(NOSNIFF)
        if len(body) >= GZIP_FROM and answer.type != PACKED and _accepts_gzip(headers.get(b"accept-encoding", b"")):
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            body = packer.compress(body) + packer.flush()
            fields.append(("Content-Encoding", "gzip"))
        fields.append(("Content-Length", str(len(body))))
        if self._leaving:
            fields.append(("Connection", "close"))
        reason = HTTPStatus(answer.status).phrase
        octets = http.send(h11.Response(status_code=answer.status, headers=fields, reason=reason)) or b""
        if request.method != b"HEAD":
            octets += http.send(h11.Data(data=body)) or b""
        octets += http.send(h11.EndOfMessage()) or b""
        writer.write(octets)
        await writer.drain()

    async def _refusal(self, headers: dict[bytes, bytes]) -> Answer | None:
        # What the gate answers instead of the path's handler.
        if self.gate is None:
            return None
        self.gate.refresh()
        if not self.gate.within_rate():
            return TOO_MANY
        if not await self.gate.admits(headers.get(b"authorization", b"")):
            return UNAUTHORIZED
        return None


def _accepts_gzip(value: bytes) -> bool:
    for word in value.decode("ascii", "replace").split(","):
        name, _, quality = word.strip().partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
