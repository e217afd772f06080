# SPDX-License-Identifier: Apache-2.0
"""One look at the threads of this process: the work behind the profiles of `pprof`.

Strategy: a hundred times a second it takes the stack of each Python thread and reads that thread's CPU clock; what the
clock advanced since the last time is put on the stack that stands there now. So the figures sum to what the scheduler
says, whatever is missed between two of them. The main thread is interrupted instead (`main_thread.py`). The compiled
loop has no frames: its thread's time is split into its own and the kernel's. tracemalloc, for `heap`, runs as long as
the look.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import select
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from . import main_thread
from .thread_clocks import thread_clock, threads, ticks

TICK_NS = 10_000_000
DEPTH_MAX = 128  # frames of a stack, the innermost ones
STACKS_MAX = 4096  # different stacks of a look; others count as LOST
TASKS_MAX = 10_000
EVENTS_MAX = 50_000
TRACEBACK = 32  # frames of an allocation
LOST = "[more different stacks than are kept]"
OTHERS = "[threads without Python]"
LOOP_USER, LOOP_KERNEL = "[compiled loop]", "[compiled loop: system calls]"
HOT = "hot"  # the thread that runs the compiled loop
MAIN = "MainThread"

Stack = list[tuple[int, int]]  # (function, line), the innermost frame first


class Look:
    """What one look finds: `functions` are (name, file, first line), samples (thread, stack, values)."""

    def __init__(self, seconds: float, sock: socket.socket | None = None,
                 loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.seconds = seconds
        self.loop = loop
        self.functions: list[tuple[str, str, int]] = []
        self.events: list[tuple[str, int, int, int]] = []  # thread, function, begin and length (ns)
        self.lost = 0
        self._numbers: dict[tuple[str, str, int], int] = {}
        self._codes: dict[int, tuple[CodeType, int]] = {}
        self._samples: dict[tuple[str, tuple[tuple[int, int], ...]], list[int]] = {}
        self._poll = select.poll()
        if sock is not None:
            self._poll.register(sock.fileno(), 0)

    def samples(self) -> list[tuple[str, Stack, list[int]]]:
        """Everything that was added up."""
        return [(thread, list(stack), values) for (thread, stack), values in self._samples.items()]

    def function(self, name: str, file: str = "", line: int = 0) -> int:
        """The number of a function."""
        key = name, file, line
        if key not in self._numbers:
            self._numbers[key] = len(self.functions)
            self.functions.append(key)
        return self._numbers[key]

    def code(self, frame: FrameType) -> int:
        """The number of a frame's function."""
        return self.named(frame.f_code, str(frame.f_globals.get("__name__", "?")))

    def named(self, code: CodeType, module: str) -> int:
        """The number of a function by its code."""
        found = self._codes.get(id(code))
        if found is None:
            name = f"{module}.{code.co_qualname}"
            found = self._codes[id(code)] = code, self.function(name, code.co_filename, code.co_firstlineno)
        return found[1]

    def stack(self, frame: FrameType | None) -> Stack:
        """The frames from the innermost outwards."""
        found: Stack = []
        while frame is not None and len(found) < DEPTH_MAX:
            found.append((self.code(frame), frame.f_lineno or 0))
            frame = frame.f_back
        return found

    def add(self, thread: str, stack: Sequence[tuple[int, int]], *values: int) -> None:
        """Adds to the sample of a stack."""
        key = thread, tuple(stack)
        if key not in self._samples and len(self._samples) >= STACKS_MAX:
            self.lost += 1
            key = thread, ((self.function(LOST), 0),)
        sums = self._samples.setdefault(key, [0] * len(values))
        for i, value in enumerate(values):
            sums[i] += value

    def moments(self, tick_ns: int = TICK_NS) -> Iterator[tuple[int, int]]:
        """(now, nanoseconds since the last one) at each tick until the time is over or nobody waits any more."""
        last = time.monotonic_ns()
        end = last + int(self.seconds * 1e9)
        while last < end and not self._poll.poll(0):
            time.sleep(max(0, min(tick_ns, end - last)) / 1e9)
            now = time.monotonic_ns()
            yield now, now - last
            last = now

    def used(self, clocks: dict[int, int], names: dict[int, tuple[str, int]]) -> dict[int, int]:
        """CPU nanoseconds of each thread since the last call with these `clocks`."""
        found = {}
        for ident, (_, tid) in names.items():
            with contextlib.suppress(OSError):
                now = time.clock_gettime_ns(thread_clock(tid))
                found[ident] = now - clocks.get(ident, 0)
                clocks[ident] = now
        return found

    def cpu(self) -> None:
        """Where CPU time goes: values are looks and nanoseconds."""
        clocks: dict[int, int] = {}
        names = threads()
        began = time.process_time_ns()
        self.used(clocks, names)
        main = threading.main_thread().ident or 0
        ticks_of_main = main_thread.start(TICK_NS, self.loop, clocks.get(main, 0))
        try:
            self._cpu(clocks, names, began, ticks_of_main)
        finally:
            if ticks_of_main is not None:
                ticks_of_main.stop()

    def _cpu(self, clocks: dict[int, int], names: dict[int, tuple[str, int]], began: int,
             ticks_of_main: main_thread.Ticks | None) -> None:
        main = threading.main_thread().ident or 0
        at_first = clocks.get(main, 0)
        before = {ident: ticks(tid) for ident, (name, tid) in names.items() if name == HOT}
        loops: dict[int, tuple[Stack, list[int]]] = {}
        spent = 0
        for _ in self.moments():
            names = threads()
            frames = sys._current_frames()
            for ident, ns in self.used(clocks, names).items():
                if ns <= 0 or ident not in frames or (ident == main and ticks_of_main is not None):
                    continue
                spent += ns
                if names[ident][0] == HOT:
                    _, values = loops.setdefault(ident, (self.stack(frames[ident]), [0, 0]))
                    values[0] += 1
                    values[1] += ns
                else:
                    self.add(names[ident][0], self.stack(frames[ident]), 1, ns)
            del frames
        if ticks_of_main is not None:
            spent += self._main(ticks_of_main, clocks.get(main, at_first) - at_first)
        for ident, (stack, values) in loops.items():
            self._loop(stack, values, before.get(ident, (0, 0)), ticks(names[ident][1]) if ident in names else (0, 0))
        rest = time.process_time_ns() - began - spent
        if rest > 0:
            self.add(OTHERS, [(self.function(OTHERS), 0)], 1, rest)

    def _main(self, ticks_of_main: main_thread.Ticks, used: int) -> int:
        # What the main thread has found of itself; the little since its last tick goes where it stands now.
        ticks_of_main.stop()
        for values, stack in list(ticks_of_main.found.values()):
            frames = [(self.named(at.code, at.module), at.line) for at in stack]
            if not frames:
                self.lost += values[0]
                frames = [(self.function(LOST), 0)]
            self.add(MAIN, frames, *values)
        left = used - ticks_of_main.spent
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        if left > 0:
            self.add(MAIN, self.stack(frame), 1, left)
        return ticks_of_main.spent + max(0, left)

    def _loop(self, stack: Stack, values: list[int], before: tuple[int, int], after: tuple[int, int]) -> None:
        # The compiled loop has no frames to show. How its time splits into its own and the kernel's is known.
        user, kernel = after[0] - before[0], after[1] - before[1]
        share = kernel / (user + kernel) if user + kernel > 0 else 0.0
        count, ns = round(values[0] * share), round(values[1] * share)
        self.add(HOT, [(self.function(LOOP_USER), 0), *stack], values[0] - count, values[1] - ns)
        if ns:
            self.add(HOT, [(self.function(LOOP_KERNEL), 0), *stack], count, ns)

    def block(self, period_ns: int) -> None:
        """Where threads wait, looked at every `period_ns`, at most a hundred times a second: looks, nanoseconds."""
        clocks: dict[int, int] = {}
        self.used(clocks, threads())
        for _, passed in self.moments(max(TICK_NS, period_ns)):
            names = threads()
            frames = sys._current_frames()
            for ident, ns in self.used(clocks, names).items():
                if ident in frames and ident != threading.get_ident() and passed > ns:
                    self.add(names[ident][0], self.stack(frames[ident]), 1, passed - ns)
            del frames

    def goroutine(self) -> None:
        """Where each thread stands, and each task of the event loop: how many."""
        time.sleep(TICK_NS / 1e9)  # else every loop stands where it starts this thread
        names = threads()
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                self.add(names.get(ident, (OTHERS, 0))[0], self.stack(frame), 1)
        if self.loop is None:
            return
        for number, task in enumerate(asyncio.all_tasks(self.loop)):
            if number >= TASKS_MAX:
                self.lost += 1
                continue
            self.add("tasks", self.awaited(task.get_coro()) or [(self.function(task.get_name()), 0)], 1)

    def awaited(self, coroutine: Any) -> Stack:
        """The frames of a suspended coroutine, and of what it awaits."""
        found: Stack = []
        while coroutine is not None and len(found) < DEPTH_MAX:
            kind = next((k for k in ("cr", "gi", "ag") if hasattr(coroutine, f"{k}_frame")), None)
            frame = getattr(coroutine, f"{kind}_frame") if kind else None
            if frame is None:
                break
            found.append((self.code(frame), frame.f_lineno or 0))
            coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
        return found[::-1]

    def heap(self, collect: bool) -> None:
        """What was allocated meanwhile and still lives: objects, octets."""
        before = tracemalloc.is_tracing()
        found = None
        if not before:
            tracemalloc.start(TRACEBACK)
        try:
            for _ in self.moments():
                continue
            if collect:
                gc.collect()
            with contextlib.suppress(RuntimeError):  # another look has just ended, and tracing with it
                found = tracemalloc.take_snapshot()
        finally:
            if not before:
                tracemalloc.stop()
        for one in found.statistics("traceback") if found is not None else ():
            stack = [(self.function(f"{Path(at.filename).name}:{at.lineno}", at.filename, at.lineno), at.lineno)
                     for at in reversed(one.traceback)]
            self.add("allocated", stack, one.count, one.size)

    def trace(self) -> None:
        """What each thread did when: frames with begin and length, of threads that used CPU time."""
        clocks: dict[int, int] = {}
        self.used(clocks, threads())
        began: dict[str, list[tuple[int, int]]] = {}
        last = time.monotonic_ns()
        for now, _ in self.moments():
            names = threads()
            frames = sys._current_frames()
            for ident, ns in self.used(clocks, names).items():
                if ident == threading.get_ident():
                    continue
                stack = self.stack(frames[ident])[::-1] if ident in frames and ns > 0 else []
                self._turn(f"{names[ident][0]} {names[ident][1]}", began, [f for f, _ in stack], last)
            del frames
            last = now
        for thread in list(began):
            self._turn(thread, began, [], last)

    def _turn(self, thread: str, began: dict[str, list[tuple[int, int]]], functions: list[int], since: int) -> None:
        # Ends what runs no more, begins what is new: `began` holds the open frames, the outermost first.
        open_frames = began.setdefault(thread, [])
        same = 0
        while same < min(len(open_frames), len(functions)) and open_frames[same][0] == functions[same]:
            same += 1
        for function, at in reversed(open_frames[same:]):
            if len(self.events) >= EVENTS_MAX:
                self.lost += 1
            else:
                self.events.append((thread, function, at, since - at))
        open_frames[same:] = [(function, since) for function in functions[same:]]


