# SPDX-License-Identifier: Apache-2.0
"""The service manager: readiness, reloads and the watchdog by sd_notify(3), sockets by sd_listen_fds(3).

Strategy: the protocols are a datagram of lines and descriptors from number 3 on; nothing of systemd is linked. What
the manager says stands in the environment: it is taken out there, so that no child speaks in the server's name, and put
back for the program that follows in this process. A manager that does not listen costs nothing: datagrams are sent
without waiting.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

FIRST_FD = 3
FDS_MAX = 4096
OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
PERIODS = 4  # notifications in one watchdog time


def _number(words: Mapping[str, str], name: str) -> int:
    text = words.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


class Notify:
    """What the server tells its manager. Without one every call does nothing."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.words = {name: environ.pop(name) for name in OWN if name in environ}
        path = self.words.get("NOTIFY_SOCKET", "")
        self.address = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""
        self.problem = f"NOTIFY_SOCKET={path}: neither a path nor an abstract name" if path and not self.address else ""
        for_us = "WATCHDOG_PID" not in self.words or _number(self.words, "WATCHDOG_PID") == os.getpid()
        self.watchdog = Watchdog(self, _number(self.words, "WATCHDOG_USEC") / 1e6 if for_us else 0.0)
        self.stopped = False

    def send(self, *lines: str) -> bool:
        """Send one datagram of `NAME=value` lines; False where nobody took it."""
        if not self.address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), self.address)
            except OSError:
                return False
        return True

    def ready(self, status: str) -> None:
        """The server serves, at first or after a reload; `status` is for people. Nothing once it stops."""
        if not self.stopped:
            self.send("READY=1", f"MAINPID={os.getpid()}", "STATUS=" + status.replace("\n", " "))

    def reloading(self) -> None:
        """A reload begins; the manager wants the moment (CLOCK_MONOTONIC, microseconds), to know it is this one."""
        if not self.stopped:
            self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        if not self.stopped:
            self.send("STOPPING=1")
        self.stopped = True


class Watchdog:
    """`seconds` is what the manager waits for a sign of life, 0 where it does not."""

    def __init__(self, notify: Notify, seconds: float) -> None:
        self.notify = notify
        self.seconds = seconds
        self.beaten = False
        self.due = 0.0
        self.last: dict[int, int] = {}

    def tick(self, now: float, beats: Mapping[int, int] | None) -> None:
        """`beats`: last beat of each serving thread, by row; None: taken as read. The manager hears of the server only
        if a worker turned since it last did: a supervisor that lives while nobody answers is no service."""
        if not self.seconds:
            return
        if beats is None:
            self.beaten = True
        else:
            self.beaten = self.beaten or any(self.last.get(row, beat) != beat for row, beat in beats.items())
            self.last = dict(beats)
        if self.beaten and now >= self.due:
            self.beaten = False
            self.due = now + self.seconds / PERIODS
            self.notify.send("WATCHDOG=1")


def listen_fds(environ: MutableMapping[str, str]) -> tuple[list[tuple[str, socket.socket]], list[str]]:
    """Sockets that the manager opened, as (name, socket), and what is wrong with others. They are taken once: the
    variables are removed."""
    words = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = _number(words, "LISTEN_FDS")
    if _number(words, "LISTEN_PID") != os.getpid() or not 0 < count <= FDS_MAX:
        return [], []
    names = words["LISTEN_FDNAMES"].split(":")
    found: list[tuple[str, socket.socket]] = []
    problems = []
    for at in range(count):
        name = names[at] if at < len(names) and names[at] else f"descriptor {FIRST_FD + at}"
        sock = _taken(FIRST_FD + at)
        if sock is None:
            problems.append(f"socket activation: {name}: no UDP socket and no listening TCP socket: not used")
        else:
            found.append((name, sock))
    return found, problems


def _taken(fd: int) -> socket.socket | None:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError:
        # Not open, or no socket: a file that the manager passes to others stays open and does no harm.
        return None
    with contextlib.suppress(OSError):
        listens = sock.type == socket.SOCK_DGRAM or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if sock.family in (socket.AF_INET, socket.AF_INET6) and listens:
            sock.setblocking(False)
            return sock
    sock.close()
    return None
