# SPDX-License-Identifier: Apache-2.0
"""A loopback whose sockets can be stopped: what a full send buffer looks like, made by the kernel.

Strategy: a thread of its own leaves for a network namespace of its own, where the loopback device has two classes.
Sockets whose SO_PRIORITY names the second send through a token bucket that lets next to nothing pass until `open` is
called; all others are not held up. Whatever is to live there is made in that thread, or in threads that it starts.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
SLOW = 0x10002  # class 1:2
SNDBUF = 4608  # octets: the least that Linux takes
SHUT, OPEN = "rate 8bit burst 400 limit 100mb", "rate 10gbit burst 100mb limit 100mb"
T = TypeVar("T")


def tc(*words: str) -> None:
    subprocess.run(["tc", *" ".join(words).split()], check=True, capture_output=True)


class Loopback:
    """`run(f)` runs f inside."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self.thread = thread

    def run(self, function: Callable[[], T]) -> T:
        return self.thread.submit(function).result()

    def narrow(self, sock: socket.socket) -> None:
        """Has a socket send through the token bucket, from a small buffer."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, SLOW)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SNDBUF)

    def open(self) -> None:
        self.run(lambda: tc("qdisc change dev lo parent 1:2 handle 20: tbf", OPEN))


def enter() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    tc("qdisc add dev lo root handle 1: htb default 1")
    for number in (1, 2):
        tc(f"class add dev lo parent 1: classid 1:{number} htb rate 10gbit burst 10mb")
    tc("qdisc add dev lo parent 1:2 handle 20: tbf", SHUT)


@contextmanager
def loopback() -> Iterator[Loopback]:
    """Skips the test where the kernel or the user cannot."""
    with ThreadPoolExecutor(1) as thread:
        try:
            thread.submit(enter).result()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespace with a token bucket: {error}")
        yield Loopback(thread)
