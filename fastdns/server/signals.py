# SPDX-License-Identifier: Apache-2.0
"""Signals of the supervisor and of its children.

Strategy: handlers do nothing; the number arrives as an octet in a pipe that the poll loop watches, so that nothing
runs between two lines of anything. Children ignore what a terminal sends to the whole group: the supervisor alone
decides.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)
IGNORED = (signal.SIGHUP, signal.SIGPIPE)
GROUP = tuple(number for number in WATCHED if number != signal.SIGCHLD)  # blocked while a template starts


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has the number already."""


class Signals:
    """The supervisor's signals. `fd` becomes readable; `take()` returns the numbers in order."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, _noted)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        unblock()

    def take(self) -> list[int]:
        """The signals that have arrived since the last call."""
        try:
            return list(os.read(self.fd, 4096))
        except BlockingIOError:
            return []


def block() -> None:
    """Keep what arrives from now on for the program that follows in this process: what is pending outlives an exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)


def unblock() -> None:
    """Let them in."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def child_defaults() -> None:
    """What a child process does about signals: nothing. A terminal and some service managers send them to the whole
    group; the supervisor alone decides, and when it is gone the closed channel says so."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (*GROUP, *IGNORED):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP)
