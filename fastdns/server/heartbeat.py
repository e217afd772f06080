# SPDX-License-Identifier: Apache-2.0
"""Hung or idle: which workers have stopped turning.

Strategy: each thread of a worker stores the time in a word of its own row, each turn. Stale is a word that did not
change over five of the supervisor's own wake-ups although a socket of that worker is readable (an idle worker has
nothing to read). A wake-up that itself came late says that the whole machine or this process was paused: all counts
start anew, so a pause never kills anybody. Nor is a thread hung that had no CPU all the time although it wanted one:
another one in its place would have none either, and what was read would be lost. The Python thread beats on its own;
its word counts over a longer time and needs no socket.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .children import Child

TICK_SECONDS = 0.1
LATE_SECONDS = 0.25
STALE_TICKS = 5
STARVED_NS = 5_000_000  # of CPU in STALE_TICKS: one that turned once would have used it up or had no more to do
PYTHON_STALE_TICKS = 60  # 6 s: longer than a query's deadline in Python


def readable(fds: Sequence[int]) -> bool:
    """Whether anything waits to be read."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return any(events & select.POLLIN for _, events in poller.poll(0))


def cpu(pid: int) -> tuple[int, bool]:
    """(nanoseconds of CPU that all threads of a process have had, whether one of them wants some now)."""
    total, wants = 0, False
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
            wants = wants or (task / "stat").read_text().rpartition(") ")[2][:1] == "R"
    return total, wants


class Heartbeats:
    """`word(row)` reads a row's beat, `fds(index)` are the sockets of the worker with that index, `cpu` tells what a
    process has had."""

    def __init__(self, word: Callable[[int], int], fds: Callable[[int], Sequence[int]],
                 cpu: Callable[[int], tuple[int, bool]] = cpu) -> None:
        self.word = word
        self.fds = fds
        self.cpu = cpu
        self.last = -1.0

    def look(self, now: float, workers: Iterable[Child]) -> tuple[list[Child], list[Child]]:
        """(hung workers, workers whose Python thread is stuck) at this wake-up; `now` in monotonic seconds."""
        late = self.last >= 0 and now - self.last > LATE_SECONDS
        self.last = now
        hung, stuck = [], []
        for worker in workers:
            self._hot(worker, late)
            self._python(worker, late)
            if worker.stale >= STALE_TICKS:
                hung.append(worker)
            elif worker.python_stale >= PYTHON_STALE_TICKS:
                stuck.append(worker)
        return hung, stuck

    def _hot(self, worker: Child, late: bool) -> None:
        beat = self.word(worker.rows)
        if late or beat != worker.beat or not readable(self.fds(worker.index)):
            worker.stale = 0
        else:
            worker.stale += 1
            if worker.stale == 1:
                worker.ran = self.cpu(worker.pid)[0]
            elif worker.stale >= STALE_TICKS and self._starved(worker):
                worker.stale = 0
        worker.beat = beat

    def _starved(self, worker: Child) -> bool:
        ran, wants = self.cpu(worker.pid)
        return wants and ran - worker.ran < STARVED_NS

    def _python(self, worker: Child, late: bool) -> None:
        beat = self.word(worker.rows + 1)
        worker.python_stale = 0 if late or beat != worker.python_beat else worker.python_stale + 1
        worker.python_beat = beat
