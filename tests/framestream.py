# SPDX-License-Identifier: Apache-2.0
"""A reader of Frame Streams for tests, with a decoder of its own for protobuf: what is tested is not what tests.

Strategy: one thread for each connection. `Sink` listens as a collector does; `Reader` connects to a tap that listens.
`gate` closed: nothing more is read. Frames are kept as dictionaries by the names of the schema's fields.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from types import TracebackType
from typing import Any, Self

from fastdns.testing import receive

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
ACCEPT, START, STOP, READY, FINISH = range(1, 6)
OUTER = {1: "identity", 2: "version", 3: "extra", 14: "message", 15: "kind"}
INNER = {
    1: "type", 2: "family", 3: "protocol", 4: "query_address", 5: "response_address", 6: "query_port",
    7: "response_port", 8: "query_sec", 9: "query_nsec", 10: "query", 12: "response_sec", 13: "response_nsec",
    14: "response",
}  # fmt: skip
TYPES = {5: "CQ", 6: "CR", 7: "FQ", 8: "FR"}
Frame = dict[str, Any]


def control(kind: int, content_type: bytes = b"") -> bytes:
    """A control frame."""
    field = struct.pack("!II", 1, len(content_type)) + content_type if content_type else b""
    return struct.pack("!III", 0, 4 + len(field), kind) + field


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


def unpack(data: bytes, names: dict[int, str]) -> Frame:
    """The fields of a protobuf message: varints, fixed32 and octets."""
    found, at = Frame(), 0
    while at < len(data):
        tag, at = _varint(data, at)
        name = names[tag >> 3]
        assert name not in found
        if tag & 7 == 0:
            found[name], at = _varint(data, at)
        elif tag & 7 == 5:
            (found[name],) = struct.unpack_from("<I", data, at)
            at += 4
        else:
            assert tag & 7 == 2
            size, at = _varint(data, at)
            assert at + size <= len(data)
            found[name] = data[at : at + size]
            at += size
    return found


def decode(frame: bytes) -> Frame:
    """A frame of dnstap: the fields of both messages in one."""
    outer = unpack(frame, OUTER)
    assert outer.pop("kind") == 1
    inner = unpack(outer.pop("message"), INNER)
    inner["type"] = TYPES[inner["type"]]
    return outer | inner


class Talk:
    """The reader's side of one connection."""

    def __init__(self, gate: threading.Event, frames: list[Frame]) -> None:
        self.gate, self.frames = gate, frames
        self.finished = False

    def run(self, sock: socket.socket) -> None:
        """Until the other side ends or breaks off."""
        with contextlib.suppress(EOFError, OSError), sock:
            while True:
                self.gate.wait()
                (size,) = struct.unpack("!I", receive(sock, 4))
                if size:
                    self.frames.append(decode(receive(sock, size)))
                    continue
                (size,) = struct.unpack("!I", receive(sock, 4))
                payload = receive(sock, size)
                (kind,) = struct.unpack_from("!I", payload)
                if kind == READY:
                    assert payload == control(READY, CONTENT_TYPE)[8:]
                    sock.sendall(control(ACCEPT, CONTENT_TYPE))
                elif kind == STOP:
                    self.finished = True
                    sock.sendall(control(FINISH))
                    return
                else:
                    assert payload == control(START, CONTENT_TYPE)[8:]


class _Got:
    frames: list[Frame]

    def wait(self, count: int, seconds: float = 20.0) -> list[Frame]:
        """The frames so far, once there are so many."""
        until = time.monotonic() + seconds
        while len(self.frames) < count:
            assert time.monotonic() < until, f"{len(self.frames)} frames of {count}"
            time.sleep(0.02)
        return self.frames


class Sink(_Got):
    """A collector at `address`: (host, port) or a path. `rcvbuf`: of its sockets, where reading shall be slow."""

    def __init__(self, address: tuple[str, int] | str = ("127.0.0.1", 0), tls: ssl.SSLContext | None = None,
                 rcvbuf: int = 0) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.bind(address)
        self.sock.listen()
        self.tls = tls
        self.frames: list[Frame] = []
        self.gate = threading.Event()
        self.gate.set()
        self.talks: list[Talk] = []
        self.socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Its TCP port."""
        port: int = self.sock.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            talk = Talk(self.gate, self.frames)
            self.talks.append(talk)
            threading.Thread(target=self._talk, args=(talk, sock), daemon=True).start()

    def _talk(self, talk: Talk, sock: socket.socket) -> None:
        if self.tls is not None:
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        self.socks.append(sock)
        talk.run(sock)

    def hang_up(self) -> None:
        """Closes every connection, not the listening socket."""
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends all of it."""
        self.gate.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class Reader(_Got):
    """A collector that connects to a tap that listens."""

    def __init__(self, address: tuple[str, int] | str, tls: ssl.SSLContext | None = None) -> None:
        until = time.monotonic() + 20
        while True:
            sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            try:
                sock.connect(address)
                break
            except OSError:
                sock.close()
                assert time.monotonic() < until, address
                time.sleep(0.05)
        sock.settimeout(20)
        self.sock = sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost")
        self.frames: list[Frame] = []
        self.gate = threading.Event()
        self.gate.set()
        self.talk = Talk(self.gate, self.frames)
        self.thread = threading.Thread(target=self.talk.run, args=(self.sock,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Hangs up."""
        self.gate.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()
