# SPDX-License-Identifier: Apache-2.0
"""A small DNS server, UDP and TCP on one port, that misbehaves as the question's first label says.

    with Planted(late=1.2) as server:           # seconds that an answer to `late-...` waits
        ... server.port, server.asked ...

Strategy: a thread per socket, timers for what comes late. A label is a kind and a number (`truncated-7`); what the
kinds are is the table in `replies`. Everything else is answered as it should be.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

SERVFAIL, REFUSED = 2, 5
Send = Callable[[bytes], None]


def kind_of(wire: bytes) -> str:
    return wire[13 : 13 + wire[12]].decode().partition("-")[0].lower()


def reply(wire: bytes, rcode: int = 0, truncated: bool = False, ident: int | None = None) -> bytes:
    head = wire[:2] if ident is None else ident.to_bytes(2, "big")
    return head + bytes([0x80 | wire[2] | (2 if truncated else 0), 0x80 | rcode]) + wire[4:]


def replies(wire: bytes) -> list[bytes]:
    """What is sent back for a query, at once or late."""
    fine = reply(wire)
    (ident,) = struct.unpack(">H", wire[:2])
    name_end = 13 + wire[12]
    table = {
        "lost": [],
        "servfail": [reply(wire, SERVFAIL)],
        "refused": [reply(wire, REFUSED)[:4] + bytes(8)],  # without the question
        "headless": [fine[:4] + bytes(8)],  # NOERROR without the question: answers nothing
        "id": [reply(wire, ident=ident ^ 0x8000)],
        "name": [fine[:13] + b"x" + fine[14:]],
        "type": [fine[:-4] + b"\0\x10" + fine[-2:]],
        "truncated": [reply(wire, truncated=True)],
        "twice": [fine, fine],
        "short": [fine[:11]],
        "empty": [b""],
        "echo": [wire],
        "upper": [fine[:12] + fine[12:name_end].upper() + fine[name_end:]],
        "huge": [fine + bytes(60000)],
        "garbage": [b"\xff" * 700, fine],
    }
    return table.get(kind_of(wire), [fine])


class Planted:
    """The server; a context manager. `asked` holds the queries that came, `per_connection` ends a connection after so
    many."""

    def __init__(self, late: float = 1.0, per_connection: int = 0, piecewise: bool = False, address: str = "127.0.0.1"):
        self.late, self.per_connection, self.piecewise = late, per_connection, piecewise
        self.asked: list[bytes] = []
        self.connections: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp, self.tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.tcp.bind((address, 0))
        self.port: int = self.tcp.getsockname()[1]
        self.udp.bind((address, self.port))
        self.tcp.listen(64)
        self.threads = [threading.Thread(target=self.serve_udp), threading.Thread(target=self.serve_tcp)]
        self.timers: list[threading.Timer] = []

    def handle(self, wire: bytes, send: Send) -> None:
        self.asked.append(wire)
        for message in replies(wire):
            if kind_of(wire) == "late":
                timer = threading.Timer(self.late, send, (message,))
                self.timers.append(timer)
                timer.start()
            else:
                send(message)

    def serve_udp(self) -> None:
        while True:
            wire, peer = self.udp.recvfrom(65535)
            if not wire:
                return
            self.handle(wire, lambda message, peer=peer: self.udp.sendto(message, peer))  # type: ignore[misc]

    def serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.tcp.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections.append(connection)
                thread = threading.Thread(target=self.serve_connection, args=(connection,))
                self.threads.append(thread)
                thread.start()

    def serve_connection(self, connection: socket.socket) -> None:
        def send(message: bytes) -> None:
            framed = len(message).to_bytes(2, "big") + message
            step = 1 if self.piecewise and len(framed) < 100 else 9000 if self.piecewise else len(framed)
            with contextlib.suppress(OSError):
                for at in range(0, len(framed), step):
                    connection.sendall(framed[at : at + step])

        answered = 0
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while len(head := stream.read(2)) == 2:
                wire = stream.read(int.from_bytes(head, "big"))
                if self.per_connection and answered == self.per_connection:
                    break
                self.handle(wire, send)
                answered += 1
        if self.per_connection:
            connection.close()

    def __enter__(self) -> Self:
        for thread in list(self.threads):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for timer in self.timers:
            timer.join()
        with socket.socket(self.udp.family, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.udp.getsockname())
        self.tcp.shutdown(socket.SHUT_RDWR)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        for sock in (self.udp, self.tcp, *self.connections):
            sock.close()
