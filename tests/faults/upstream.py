# SPDX-License-Identifier: Apache-2.0
"""A scripted upstream for tests: a port for UDP and TCP whose behaviour is a function of the question.

Strategy: one thread and one selector. `script(question)` returns what to send, in order: octets, or seconds to wait;
CLOSE ends a connection, RESET resets it. Everything that arrives is kept in `asked`, with its source port.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

CLOSE = b""
RESET = b"reset"


@dataclass
class Asked:
    """A question as it arrived."""

    wire: bytes
    proto: str
    port: int
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> int:
        return int.from_bytes(self.wire[:2], "big")

    @property
    def name(self) -> str:
        return name_of(self.wire)

    @property
    def end(self) -> int:
        """Where the question section ends."""
        return self.wire.index(b"\0", 12) + 5


Script = Callable[[Asked], Sequence[bytes | float]]


def name_of(wire: bytes) -> str:
    """The question's name, with a dot after each label."""
    at, labels = 12, []
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]].decode("latin-1"))
        at += wire[at] + 1
    return ".".join([*labels, ""])


def reply(
    asked: Asked,
    *,
    rcode: int = 0,
    flags: int = 0x8180,
    answers: int = 1,
    id: int | None = None,
    question: bytes | None = None,
    tail: bytes = b"",
    additional: int = 0,
) -> bytes:
    """A reply to a question: `answers` A records 192.0.2.1, .2 ..."""
    section = asked.wire[12 : asked.end] if question is None else question
    identity = asked.id if id is None else id
    head = struct.pack("!HHHHHH", identity, flags | rcode, 1 if section else 0, answers, 0, additional)
    fixed = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4)
    records = b"".join(fixed + bytes((192, 0, 2, n + 1)) for n in range(answers))
    return head + section + records + tail


def answer(asked: Asked) -> Sequence[bytes | float]:
    """The plain answer."""
    return [reply(asked)]


class Upstream:
    """`with Upstream(script) as up`: serves on `address`, port `up.port`; tcp=False refuses connections."""

    def __init__(self, script: Script = answer, *, tcp: bool = True, port: int = 0, address: str = "127.0.0.1") -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.accepted = 0
        self.address = address
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.udp = socket.socket(self.family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.tcp = socket.socket(self.family)
        self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bind(port)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.udp, selectors.EVENT_READ, self._datagram)
        if tcp:
            self.tcp.listen(64)
            self._selector.register(self.tcp, selectors.EVENT_READ, self._accept)
        self._later: list[tuple[float, Callable[[bytes], object], bytes]] = []
        self._open: dict[socket.socket, bytes] = {}
        self._stop, self._stopped = socket.socketpair()
        self._selector.register(self._stopped, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _bind(self, port: int) -> None:
        for _ in range(100):
            self.udp.bind((self.address, port))
            self.port = self.udp.getsockname()[1]
            try:
                self.tcp.bind((self.address, self.port))
            except OSError:
                self.udp.close()
                self.udp = socket.socket(self.family, socket.SOCK_DGRAM)
                continue
            return
        raise OSError("no free port")

    def of(self, name: str, proto: str | None = None) -> list[Asked]:
        """What was asked for a name."""
        return [one for one in list(self.asked) if one.name.lower() == name and proto in (None, one.proto)]

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            for at, send, octets in [one for one in self._later if one[0] <= now]:
                self._later.remove((at, send, octets))
                self._send(send, octets)
            wait = max(min((at for at, _, _ in self._later), default=now + 1) - now, 0)
            for key, _ in self._selector.select(wait):
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    key.data(key.fileobj)

    @staticmethod
    def _send(send: Callable[[bytes], object], octets: bytes) -> None:
        with contextlib.suppress(OSError):
            send(octets)

    def _play(self, asked: Asked, send: Callable[[bytes], object]) -> None:
        self.asked.append(asked)
        at = time.monotonic()
        for step in self.script(asked):
            if isinstance(step, float | int):
                at += step
            elif at <= time.monotonic():
                self._send(send, step)
            else:
                self._later.append((at, send, step))

    def _datagram(self, sock: socket.socket) -> None:
        wire, peer = sock.recvfrom(65535)
        self._play(Asked(wire, "udp", peer[1]), lambda octets: sock.sendto(octets, peer))

    def _accept(self, sock: socket.socket) -> None:
        conn, _ = sock.accept()
        self.accepted += 1
        self._open[conn] = b""
        self._selector.register(conn, selectors.EVENT_READ, self._stream)

    def _hang_up(self, conn: socket.socket) -> None:
        self._selector.unregister(conn)
        del self._open[conn]
        conn.close()

    def hang_up(self) -> None:
        """Closes every connection that is open, from the next turn of the thread."""
        for conn in list(self._open):
            with contextlib.suppress(OSError):
                conn.shutdown(socket.SHUT_RDWR)

    def _stream(self, conn: socket.socket) -> None:
        octets = conn.recv(65535)
        if not octets:
            self._hang_up(conn)
            return
        have = self._open[conn] + octets
        while len(have) >= 2 and len(have) >= 2 + int.from_bytes(have[:2], "big"):
            size = int.from_bytes(have[:2], "big")
            wire, have = have[2 : 2 + size], have[2 + size :]
            self._open[conn] = have

            def send(octets: bytes) -> None:
                if octets == RESET:
                    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if octets in (CLOSE, RESET):
                    self._hang_up(conn)
                else:
                    conn.sendall(len(octets).to_bytes(2, "big") + octets)

            self._play(Asked(wire, "tcp", conn.getpeername()[1]), send)
            if conn not in self._open:
                return
        self._open[conn] = have

    def __enter__(self) -> Upstream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.send(b".")
        self._thread.join(5)
        for sock in (self.udp, self.tcp, self._stop, self._stopped, *self._open):
            sock.close()
        self._selector.close()
