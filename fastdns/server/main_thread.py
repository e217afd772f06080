# SPDX-License-Identifier: Apache-2.0
"""Where the main thread spends its CPU time, for a look at it (`look.py`).

Strategy: a thread that samples others gets the interpreter when they let go of it, which is where they begin to wait:
it would find a busy main thread waiting, always. So the main thread, which runs the plugins, is interrupted instead: a
timer of the kernel counts its CPU time alone and sends it SIGPROF after each tick of that, and Python's handler finds
the frame that was running. The handler stays once it is installed: a signal that comes late must not end the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from types import CodeType, FrameType
from typing import NamedTuple

from .._process import thread_timer, thread_timer_stop

INSTALL_SECONDS = 1.0  # for a busy main thread to install the handler
DEPTH_MAX = 128
STACKS_MAX = 4096


class Seen(NamedTuple):
    """A frame of a stack: its code, its module, the line."""

    code: CodeType
    module: str
    line: int


class Ticks:
    """The stacks of one look. `found`: looks, nanoseconds and frames by a key; written by the main thread alone."""

    def __init__(self, tick_ns: int) -> None:
        self.found: dict[tuple[tuple[int, int], ...], tuple[list[int], list[Seen]]] = {}
        self.spent = 0
        self.last = 0
        self._timer = thread_timer(os.getpid(), signal.SIGPROF, tick_ns)

    def tick(self, frame: FrameType | None) -> None:
        """The signal has come, in the main thread."""
        now = time.thread_time_ns()
        ns, self.last = now - self.last, now
        if ns <= 0:
            return
        self.spent += ns
        stack: list[Seen] = []
        while frame is not None and len(stack) < DEPTH_MAX:
            stack.append(Seen(frame.f_code, str(frame.f_globals.get("__name__", "?")), frame.f_lineno or 0))
            frame = frame.f_back
        # Of two equal code objects either names the function; comparing them whole would be dear.
        key = tuple((id(at.code), at.line) for at in stack)
        if key not in self.found and len(self.found) >= STACKS_MAX:
            key, stack = (), []
        values, _ = self.found.setdefault(key, ([0, 0], stack))
        values[0] += 1
        values[1] += ns

    def stop(self) -> None:
        """No more signals; once, because the kernel may give the timer's number to another one."""
        if self in _active:
            _active.remove(self)
            thread_timer_stop(self._timer)


_active: list[Ticks] = []  # at most one
_installed = threading.Event()


def _handle(_number: int, frame: FrameType | None) -> None:
    for ticks in _active:
        ticks.tick(frame)


def install() -> None:
    """Installs the handler; in the main thread of the main interpreter, else nothing happens."""
    if not _installed.is_set():
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGPROF, _handle)
            _installed.set()


def start(tick_ns: int, loop: asyncio.AbstractEventLoop | None, used_ns: int) -> Ticks | None:
    """Begins; `used_ns` is what the main thread's clock says. None where it cannot: the main thread is stuck, another
    look runs, the kernel has no such timers."""
    if not _installed.is_set() and loop is not None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(install)
            _installed.wait(INSTALL_SECONDS)
    if not _installed.is_set() or _active:
        return None
    try:
        ticks = Ticks(tick_ns)
    except OSError:
        return None
    ticks.last = used_ns
    _active.append(ticks)
    return ticks
