# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the upstreams of a Corefile under test: it knows an address for every name.

Strategy: a thread that answers one datagram after another. It is asked once for each name, before anything is measured;
where nothing caches, the floor (`fastdns.bench.floor`) stands in instead.
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

A = 1
TTL = 86_400
ANSWER = b"\xc0\x0c\0\1\0\1" + TTL.to_bytes(4, "big") + b"\0\4\xc0\0\2\1"  # 192.0.2.1 for the question's name
# Nothing of this type: an SOA without which a denial may not be cached (RFC 2308 5).
DENIAL = b"\xc0\x0c\0\6\0\1" + TTL.to_bytes(4, "big") + b"\0\x16\0\0" + b"".join(
    number.to_bytes(4, "big") for number in (1, 3600, 600, TTL, TTL))
HEADER_OCTETS = 12


def reply(query: bytes) -> bytes:
    """The answer to a query of one question; empty where it is none."""
    at = HEADER_OCTETS
    while at < len(query) and 0 < query[at] < 64:
        at += query[at] + 1
    end = at + 5
    if len(query) < end or query[at] or query[2] & 0x80 or query[4:6] != b"\0\1":
        return b""
    address = query[at + 1:at + 3] == A.to_bytes(2, "big")
    counts = b"\0\1\0\1\0\0\0\0" if address else b"\0\1\0\0\0\1\0\0"
    flags = bytes((query[2] & 1 | 0x84, 0x80))
    return query[:2] + flags + counts + query[HEADER_OCTETS:end] + (ANSWER if address else DENIAL)


class Upstream:
    """A context manager; `port` on 127.0.0.1 while it is open."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(0.1)
        self.port = int(self.sock.getsockname()[1])
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._serve, name="upstream", daemon=True)

    def _serve(self) -> None:
        while not self.stopping.is_set():
            try:
                query, client = self.sock.recvfrom(4096)
                if answer := reply(query):
                    self.sock.sendto(answer, client)
            except OSError:
                # Nothing to do for a tenth of a second, or a client that went away.
                continue

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None,
                 _trace: TracebackType | None) -> None:
        self.stopping.set()
        self.thread.join()
        self.sock.close()
