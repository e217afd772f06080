# SPDX-License-Identifier: Apache-2.0
"""An upstream that takes its time: run as `slow.py PORT [SECONDS]`.

Strategy: one loop, one socket. Every answer is late by the same time, so what waits is a queue and not a heap. Only
names that begin with `f`, those of a flood, are answered late: what a cache is filled with is answered at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from collections import deque

ADDRESS = "127.0.0.1"
DELAY = 0.5  # seconds
MOST_WAITING = 100_000
HEADER = 12
RECEIVE_OCTETS = 4 << 20
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
ANSWER = b"\xc0\x0c\0\1\0\1" + (3600).to_bytes(4, "big") + b"\0\4" + bytes((192, 0, 2, 1))


def reply(query: bytes) -> bytes | None:
    """An A record for whatever is asked, or None for what is no query with one question."""
    if len(query) < HEADER or query[2] & 0x80 or query[4:6] != b"\0\1":
        return None
    end = HEADER
    while end < len(query) and query[end]:
        if query[end] > 63:
            return None
        end += query[end] + 1
    end += 5
    if end > len(query):
        return None
    flags = bytes((0x84 | query[2] & 1, 0))
    return query[:2] + flags + b"\0\1\0\1\0\0\0\0" + query[HEADER:end] + ANSWER


def is_late(query: bytes) -> bool:
    """Whether the name is one of a flood."""
    return query[HEADER + 1 : HEADER + 2] in (b"f", b"F")


def serve(sock: socket.socket, delay: float) -> None:
    """Answers for ever. What does not fit into the queue is dropped, as a server that is overrun does."""
    waiting: deque[tuple[float, bytes, tuple[str, int]]] = deque()
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, answer, client = waiting.popleft()
            with contextlib.suppress(OSError):
                sock.sendto(answer, client)
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if not select.select([sock], [], [], pause)[0]:
            continue
        for _ in range(64):
            try:
                query, client = sock.recvfrom(4096)
            except BlockingIOError:
                break
            except OSError:
                continue
            made = reply(query)
            if made is None:
                continue
            if not is_late(query):
                with contextlib.suppress(OSError):
                    sock.sendto(made, client)
            elif len(waiting) < MOST_WAITING:
                waiting.append((time.monotonic() + delay, made, client))


def main(port: int, delay: float = DELAY) -> None:
    """Binds 127.0.0.1 and serves until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_OCTETS)
        sock.bind((ADDRESS, port))
        sock.setblocking(False)
        serve(sock, delay)


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:3]))
