# SPDX-License-Identifier: Apache-2.0
"""Messages between the supervisor and the processes it started: JSON objects with descriptors, over a socketpair.

Strategy: a stream of frames, each a 6-octet header (payload octets, number of descriptors), the JSON payload and
one octet for each group of descriptors, which travel as SCM_RIGHTS. JSON and not pickle: a process that ran a plugin
must not be able to run code in the supervisor. Received descriptors are CLOEXEC. The supervisor reads without
blocking; a peer that sends garbage or too much is treated as gone.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

HEADER = struct.Struct("!IH")
GROUP = 200  # descriptors a message: Linux takes at most 253
PAYLOAD_MAX = 16 << 20
DESCRIPTORS_MAX = 65535
SEND_SECONDS = 5.0

Message = dict[str, Any]


class Closed(Exception):
    """The peer is gone, or sent what is no frame."""


def pair() -> tuple[Channel, socket.socket]:
    """A channel for the supervisor and the socket to give to the other process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(ours), theirs


def gone() -> Channel:
    """A channel that is closed already: of a process that has ended and waits to be started again."""
    channel, theirs = pair()
    theirs.close()
    channel.close()
    return channel


class Channel:
    """One end. `fileno()` can be polled; `receive` never blocks, `wait` does."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._octets = bytearray()
        self._fds: list[int] = []
        self.closed = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = (), seconds: float = SEND_SECONDS) -> None:
        """Send one message. Closed if the peer is gone or does not read for `seconds`."""
        payload = json.dumps(message, separators=(",", ":")).encode()
        if len(payload) > PAYLOAD_MAX or len(fds) > DESCRIPTORS_MAX:
            raise ValueError(f"a message of {len(payload)} octets and {len(fds)} descriptors is too large")
        deadline = time.monotonic() + seconds
        view = memoryview(HEADER.pack(len(payload), len(fds)) + payload)
        while view:
            view = view[self._write(view, (), deadline):]
        for start in range(0, len(fds), GROUP):
            self._write(memoryview(b"\0"), fds[start:start + GROUP], deadline)

    def _write(self, view: memoryview, fds: Sequence[int], deadline: float) -> int:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        while True:
            try:
                return self.sock.sendmsg([view], control, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not _poll(self.sock.fileno(), select.POLLOUT, left):
                    raise Closed("the peer does not read") from None
            except OSError as error:
                raise Closed(str(error)) from None

    def receive(self) -> list[tuple[Message, list[int]]]:
        """Every whole message that has arrived. Raises Closed at the end, once all before it were returned."""
        messages: list[tuple[Message, list[int]]] = []
        while not self.closed:
            try:
                data, control, _flags, _address = self.sock.recvmsg(
                    65536, socket.CMSG_SPACE(4 * GROUP), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                break
            except OSError:
                self.closed = True
                break
            for level, kind, octets in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(octets[:len(octets) - len(octets) % fds.itemsize])
                    self._fds.extend(fds)
            if not data:
                self.closed = True
            self._octets += data
        while (message := self._take()) is not None:
            messages.append(message)
        if self.closed and not messages:
            raise Closed("the peer has gone")
        return messages

    def _take(self) -> tuple[Message, list[int]] | None:
        if len(self._octets) < HEADER.size:
            return None
        size, count = HEADER.unpack_from(self._octets)
        groups = -(-count // GROUP)
        if size > PAYLOAD_MAX:
            raise Closed("no frame")
        if len(self._octets) < HEADER.size + size + groups or len(self._fds) < count:
            return None
        payload = bytes(self._octets[HEADER.size:HEADER.size + size])
        del self._octets[:HEADER.size + size + groups]
        fds, self._fds = self._fds[:count], self._fds[count:]
        try:
            message = json.loads(payload)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            close_all(fds)
            raise Closed("no frame")
        return message, fds

    def wait(self, seconds: float | None = None) -> tuple[Message, list[int]]:
        """The next message; blocks. Raises Closed at the end, TimeoutError after `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            message = self._take()
            if message is not None:
                return message
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not _poll(self.sock.fileno(), select.POLLIN, left):
                raise TimeoutError
            found = self.receive()
            if found:
                # Later ones go back in front of what is still to be read: callers of wait() take one at a time.
                for later, fds in reversed(found[1:]):
                    self._push_back(later, fds)
                return found[0]

    def _push_back(self, message: Message, fds: list[int]) -> None:
        payload = json.dumps(message, separators=(",", ":")).encode()
        groups = -(-len(fds) // GROUP)
        self._octets[:0] = HEADER.pack(len(payload), len(fds)) + payload + bytes(groups)
        self._fds[:0] = fds

    def unread(self, octets: bytes = b"", fds: Sequence[int] = ()) -> tuple[bytes, list[int]]:
        """What has been received and is no whole message yet, `octets` and `fds` put behind it: a process that takes
        this end over goes on there."""
        self._octets += octets
        self._fds.extend(fds)
        return bytes(self._octets), list(self._fds)

    def close(self) -> None:
        """Close this end and whatever descriptors nobody took."""
        close_all(self._fds)
        self._fds = []
        self.closed = True
        self.sock.close()


def _poll(fd: int, events: int, seconds: float | None) -> bool:
    poller = select.poll()
    poller.register(fd, events)
    return bool(poller.poll(None if seconds is None else int(seconds * 1000) + 1))


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors; those that are closed already do no harm."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
