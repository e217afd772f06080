# SPDX-License-Identifier: Apache-2.0
"""A measurement that is told to end takes the servers along that it started.

Strategy: SIGTERM and SIGHUP become an exception in the main thread, so that every `with` block on the way out does what
it does after a failure. Each server has a session of its own, where nobody else's signal reaches it. A signal that
comes while a process is being started, and nobody can stop it yet, waits until it is known; more of them while all this
ends are ignored, because each step of the end is bounded.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """A signal came; the exit status is what a shell says of one."""


class _Held:
    """`depth`: so many parts of the program must not be interrupted; `number`: the signal that came meanwhile."""

    depth = 0
    number = 0


def _end(number: int, _frame: FrameType | None = None) -> None:
    if _Held.depth:
        _Held.number = number
        return
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Ended(128 + number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """What is done here is done to its end before a signal is acted on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Held.depth += 1
    try:
        yield
    finally:
        _Held.depth -= 1
        if not _Held.depth and _Held.number:
            number, _Held.number = _Held.number, 0
            _end(number)


@contextlib.contextmanager
def by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is done here by `Ended`, where they would have ended the process; one that is ignored
    stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
