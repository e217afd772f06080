# SPDX-License-Identifier: Apache-2.0
"""The supervisor's view of a process it looks after, and how a template is started.

Strategy: a template is a fresh interpreter with one inherited socket and the supervisor's import path. Every other
process is forked by a template, twice, so that it becomes the supervisor's own child (the supervisor is the
subreaper) and is reaped by it. A child says its process id first; what dies before that dies nameless and is noticed
by its channel.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from . import control, signals

TEMPLATE, FORMATTER, KEEPER, WEB, WORKER = "template", "formatter", "keeper", "web", "worker"

_BOOT = (
    "import sys; fd = int(sys.argv.pop(1)); beside = sys.argv.pop(1) == '1'; sys.path[:] = sys.argv[1:]; "
    "from fastdns.server.boot import main; main(fd, beside)"
)


class Child:
    """One process. `pid` is 0 until it said so; `state` is one of starting, ready, serving, leaving."""

    def __init__(self, role: str, channel: control.Channel, pid: int = 0) -> None:
        self.role = role
        self.channel = channel
        self.pid = pid
        self.state = "starting"
        self.born = 0.0  # monotonic seconds at which it served
        self.index = -1  # of a worker: which sockets it reads
        self.rows = -1  # of a worker: its pair of counter rows
        self.beat = -1
        self.stale = 0
        self.ran = 0  # nanoseconds of CPU that it had had when it became stale
        self.python_beat = -1
        self.python_stale = 0
        self.traceback_fd = -1
        self.quiet = False  # a worker that was told to stop, and reads nothing more
        self.error = ""  # what it said before it died
        self.deadline: float | None = None  # monotonic seconds at which it is killed

    def send(self, message: control.Message, fds: tuple[int, ...] | list[int] = ()) -> bool:
        """Send; False where the process is gone already (its death is handled when it is reaped)."""
        try:
            self.channel.send(message, fds)
        except control.Closed:
            return False
        return True

    def kill(self, number: int) -> None:
        """Send a signal. A process that was reaped has no id any more."""
        if self.pid > 0:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                self.pid = 0

    def close(self) -> None:
        """Forget its descriptors."""
        self.channel.close()
        if self.traceback_fd >= 0:
            os.close(self.traceback_fd)
            self.traceback_fd = -1

    def reads(self) -> bool:
        """Whether it is a worker that may read a query."""
        return self.role == WORKER and self.index >= 0 and not self.quiet

    def __str__(self) -> str:
        name = f"{self.role} {self.index}" if self.index >= 0 else self.role
        return f"{name} (pid {self.pid})"


def start_template(beside: bool = False) -> Child:
    """Start the interpreter of a new generation. `beside`: it gives way to those who serve. OSError."""
    channel, theirs = control.pair()
    with theirs:
        fd = os.dup(theirs.fileno())
        try:
            os.set_inheritable(fd, True)
            words = [str(fd), str(int(beside)), *(path for path in sys.path if path)]
            arguments = [sys.executable, "-P", "-c", _BOOT, *words]
            pid = os.posix_spawn(sys.executable, arguments, os.environ, setsigmask=signals.GROUP)
        finally:
            os.close(fd)
    return Child(TEMPLATE, channel, pid)


def ask_fork(template: Child, role: str, **words: Any) -> Child | None:
    """Have a template fork a process of `role`. None where the template is gone; OSError."""
    channel, theirs = control.pair()
    with theirs:
        child = Child(role, channel)
        if not template.send({"fork": role, **words}, [theirs.fileno()]):
            channel.close()
            return None
    return child


def adopt(fd: int) -> control.Channel:
    """The channel behind an inherited or received descriptor."""
    return control.Channel(socket.socket(fileno=fd))


def exit_text(status: int) -> str:
    """How a process ended, in words, from waitpid's status."""
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return f"exit status {os.waitstatus_to_exitcode(status)}"
