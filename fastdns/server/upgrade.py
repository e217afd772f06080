# SPDX-License-Identifier: Apache-2.0
"""SIGUSR2: the newly installed program takes over in this process, with the same sockets, cache, counters and children.

Strategy: three steps, each of which can fail without harm. A trial (`trial`): the installed program is started beside
the server with copies of all descriptors, adopts the handed-over state to the end, reads and plans the Corefile, says
so and ends. The exec: same process id, state and descriptors inherited, signals blocked until the new program watches
them; one that fails returns here. A reload: the new program starts a generation as SIGUSR1 does, while the processes of
before serve; if that fails they serve on, looked after by the new supervisor.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from ..errors import StartError
from . import children, control, handover, signals
from .boot import VARIABLE
from .children import Child
from .niceness import give_way

if TYPE_CHECKING:
    import subprocess

    from .supervisor import Supervisor

ALARM_SECONDS = 90  # after which a trial ends even if the server that waited for it was killed
UPGRADE = "SIGUSR2"  # who asked, beside swap.SIGNAL and swap.PLUGIN
COMMAND = "adopt"  # the first word of a trial: a program that does not know it ends with a usage error
TRIAL = "trial"
TRIAL_SECONDS = 60.0
TRIAL_NICE = 12


class Upgrade:
    """`wanted`: SIGUSR2 came and was not acted on yet. `trial`: one that shows whether it can; `ready`: it can."""

    def __init__(self, host: Supervisor) -> None:
        self.host = host
        self.wanted = False
        self.trial: Child | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.state_fd = -1
        self.deadline = 0.0
        self.passed = False
        self.ready = False

    @property
    def busy(self) -> bool:
        """Whether everything else waits for a trial or the exec."""
        return self.trial is not None or self.ready

    def request(self) -> None:
        """SIGUSR2. While a reload or a trial is under way it waits; several are one."""
        self.host.log("INFO", "SIGUSR2: Upgrading")
        self.host.notify.reloading()
        self.wanted = True
        self.go_on()

    def go_on(self) -> None:
        """Start what was asked for, if nothing else is under way."""
        if self.wanted and not self.host.swap.busy:
            self.wanted = False
            try:
                self._start()
            except (OSError, ValueError) as error:
                self._refused(f"the trial cannot be started: {error}", "trial")

    def _start(self) -> None:
        import subprocess  # a supervisor that is not upgraded does without

        host = self.host
        host.listeners.widen()
        state, fds = handover.save(host, [])
        state_fd = handover.write(state)
        channel, theirs = control.pair()
        program, words = command_line()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, *program[1:], COMMAND, str(state_fd), str(theirs.fileno()), *words],
                    stdin=subprocess.DEVNULL, pass_fds=[*fds, state_fd, theirs.fileno()],
                    preexec_fn=_mortal)  # noqa: PLW1509 (this process has one thread)
            finally:
                os.close(state_fd)
        self.trial = Child(TRIAL, channel, self.process.pid)
        self.deadline, self.passed = time.monotonic() + TRIAL_SECONDS, False
        host.poller.register(channel.fileno(), select.POLLIN)

    def readable(self) -> None:
        """The trial reports, or has gone."""
        if self.trial is None:
            return
        try:
            for words, fds in self.trial.channel.receive():
                control.close_all(fds)
                self.passed = "adopts" in words
                self.trial.error = str(words.get("error", ""))
        except control.Closed:
            self._unwatch()

    def _unwatch(self) -> None:
        if self.trial is not None and self.trial.channel.fileno() >= 0:
            self.host.poller.unregister(self.trial.channel.fileno())
            self.trial.close()

    def died(self, pid: int, status: int) -> bool:
        """A child was reaped; whether it was the trial."""
        trial, process = self.trial, self.process
        if trial is None or process is None or trial.pid != pid:
            return False
        process.returncode = status
        if trial.channel.fileno() >= 0:
            self.readable()
        self._unwatch()
        self.trial = self.process = None
        if self.host.script is not None or self.host.exit_status is not None:
            return True
        if not self.passed or status:
            self._refused(trial.error or f"the installed program ended: {children.exit_text(status)}", "trial")
        else:
            self.ready = True
        return True

    def finish(self) -> None:
        """Exec, if a trial said that it can be: when no signal and no message is half-way through this program."""
        if self.ready:
            self.ready = False
            if self.host.script is None and self.host.exit_status is None:
                self._replace()

    def tick(self, now: float) -> None:
        """End a trial that takes too long."""
        if self.trial is not None and now >= self.deadline:
            self.deadline = now + TRIAL_SECONDS
            self.trial.error = self.trial.error or f"the installed program did not answer in {TRIAL_SECONDS:.0f} s"
            self.passed = False
            self.cancel()

    def cancel(self) -> None:
        """The server ends, or does not want to wait: the trial ends and is reaped as others are."""
        self.wanted = False
        if self.trial is not None:
            self.trial.kill(signal.SIGKILL)

    def _refused(self, text: str, reason: str) -> None:
        self.host.log("ERROR", f"SIGUSR2: {text}: the running program serves on")
        self.host.swap.count(UPGRADE, reason)
        self.host.swap.go_on()
        self.host.settled("upgrade failed")

    def _replace(self) -> None:
        host = self.host
        signals.block()
        fds: list[int] = []
        written = -1
        host.pending_signals += host.signals.take()
        try:
            state, fds = handover.save(host, host.pending_signals)
            written = handover.write(state)
            fds.append(written)
            for fd in fds:
                os.set_inheritable(fd, True)
            environ = {**os.environ, **host.notify.words, VARIABLE: str(fds[-1])}
            os.execve(sys.executable, sys.orig_argv, environ)
        except (OSError, ValueError) as error:
            for fd in fds:
                os.set_inheritable(fd, False)
            if written >= 0:
                os.close(written)
            signals.unblock()
            self._refused(f"{sys.executable}: {error}", "exec")


def _mortal() -> None:
    # It answers nobody, so it takes no core from those who do.
    give_way(TRIAL_NICE)
    # An alarm outlives the exec, and no program has to know of it; so does what is ignored, because some send these to
    # every process of a service.
    signal.alarm(ALARM_SECONDS)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def command_line() -> tuple[list[str], list[str]]:
    """(interpreter and program, words behind it) of this process, as it was started."""
    words = sys.argv[1:]
    return sys.orig_argv[:len(sys.orig_argv) - len(words)], words


def handed_over() -> dict[str, Any] | None:
    """What the program before this one left to it in this process; None where there was none. StartError."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{VARIABLE}={text}: no descriptor")
    state = handover.read(int(text))
    os.close(int(text))
    return state
