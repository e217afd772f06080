# SPDX-License-Identifier: Apache-2.0
"""CPU time of a server, however many processes and threads it has; how busy each core was; what machine this is.

Strategy. A process's CPU clock (clock_gettime(2) takes the id of any process) says to the nanosecond what all of its
threads used, those that ended included; /proc/PID/task/*/schedstat, its fallback, knows only threads that live. A
process that ends takes its clock along, but the kernel adds its time to its parent's `cutime` and `cstime` when it is
waited for. So the figure is the difference of (clocks + what ended children left behind) over the whole tree: nothing
that ended is missing, and only what ended is as coarse as a tick (10 ms). Processes that were handed to another
parent are still counted.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

PROC = Path("/proc")
TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # seconds
CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>


class Process(NamedTuple):
    """One process as /proc/PID/stat shows it; times in seconds."""

    pid: int
    parent: int
    started: int
    """Ticks since boot: with the pid it names one process for good."""
    of_children: float
    """CPU time of its children that ended and were waited for, and of theirs."""


def process(pid: int) -> Process | None:
    """The process, or None when there is none of that number."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, parentheses and spaces too.
    words = text[text.rindex(")") + 2 :].split()
    return Process(pid, int(words[1]), int(words[19]), (int(words[13]) + int(words[14])) * TICK)


def processes() -> dict[int, Process]:
    """Every process there is, by pid."""
    found = (process(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return {p.pid: p for p in found if p}


def tree(roots: Iterable[int], every: dict[int, Process] | None = None) -> list[int]:
    """The roots that live, and all their descendants."""
    every = processes() if every is None else every
    children: dict[int, list[int]] = {}
    for p in every.values():
        children.setdefault(p.parent, []).append(p.pid)
    found: dict[int, None] = {}
    waiting = [pid for pid in roots if pid in every]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found[pid] = None
            waiting += children.get(pid, [])
    return list(found)


def cpu_seconds(pid: int) -> float:
    """CPU time of one process, its ended threads included. ProcessLookupError when there is none."""
    try:
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return scheduled_seconds(pid)


def scheduled_seconds(pid: int) -> float:
    """CPU time of a process's live threads, as the scheduler counts it. ProcessLookupError when there is none."""
    total = 0
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that ended since
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    return total / 1e9


class CpuMeter:
    """CPU seconds that processes and all their descendants use inside a `with` block.

    Of the processes named, those that descend from another one named may come and go like any descendant. `seconds`
    can be read inside the block too. RuntimeError when one of the others ends meanwhile: such a figure is none.
    """

    def __init__(self, pids: int | Iterable[int]) -> None:
        self.pids = [pids] if isinstance(pids, int) else list(pids)
        self._seen: dict[tuple[int, int], None] = {}
        self._tops: list[int] = []
        self._roots: dict[int, int] = {}
        self._start = 0.0
        self._end: float | None = None

    def _read(self) -> float:
        every = processes()
        if not self._roots:
            inner = {pid for root in self.pids for pid in tree([root], every) if pid != root}
            self._tops = [pid for pid in self.pids if pid not in inner]
        for pid in self._tops:
            now = every.get(pid)
            if now is None or self._roots.setdefault(pid, now.started) != now.started:
                raise RuntimeError(f"process {pid} ended while it was measured")
        living = tree(self._tops, every)
        known = [pid for pid, started in self._seen if pid in every and every[pid].started == started]
        total = 0.0
        for pid in dict.fromkeys([*living, *tree(known, every)]):
            try:
                total += cpu_seconds(pid)
            except ProcessLookupError:
                continue
            total += every[pid].of_children
            self._seen[pid, every[pid].started] = None
        return total

    @property
    def seconds(self) -> float:
        """Since the block was entered; until it was left, once it was."""
        return (self._read() if self._end is None else self._end) - self._start

    def __enter__(self) -> Self:
        self._seen.clear()
        self._roots.clear()
        self._end = None
        self._start = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end = self._read()


class Core(NamedTuple):
    """What a core did in a period, as shares of it (0 .. 1)."""

    busy: float
    stolen: float
    """What the hypervisor gave to others: a share of this makes every figure doubtful."""


def core_ticks() -> dict[int, tuple[int, int, int]]:
    """Per core: ticks busy, stolen, and in all, since boot."""
    found = {}
    for line in (PROC / "stat").read_text().splitlines():
        name, *words = line.split()
        if name.startswith("cpu") and name != "cpu":
            user, nice, system, idle, wait, irq, soft, stolen = map(int, words[:8])
            busy = user + nice + system + irq + soft
            found[int(name[3:])] = (busy, stolen, busy + idle + wait + stolen)
    return found


@dataclass
class CoreMeter:
    """How busy each core was inside a `with` block: `cores`, by number, afterwards."""

    cores: dict[int, Core] = field(default_factory=dict)
    _before: dict[int, tuple[int, int, int]] = field(default_factory=dict, repr=False)

    def __enter__(self) -> Self:
        self._before = core_ticks()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cores = {}
        for number, after in core_ticks().items():
            before = self._before.get(number, after)
            busy, stolen, whole = (a - b for a, b in zip(after, before, strict=True))
            if whole > 0:
                self.cores[number] = Core(busy / whole, stolen / whole)


def first_line(path: str, key: str = "") -> str:
    """The first line of a file, or of its lines `KEY : VALUE` the first value of that key; empty when there is none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    if not key:
        return lines[0].strip() if lines else ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def model() -> str:
    """The processor's name, as far as this machine tells."""
    names: Sequence[str] = [first_line("/proc/cpuinfo", key) for key in ("model name", "Model", "CPU part")]
    return next((name for name in names if name), platform.processor() or platform.machine())


def machine() -> dict[str, str | int]:
    """What a figure should be read beside: processor, cores, system, interpreter, compiler."""
    from ._load import COMPILER

    family = (first_line("/proc/cpuinfo", key) for key in ("vendor_id", "cpu family", "model", "stepping"))
    return {
        "cpu": model(),
        "family": "/".join(part for part in family if part),
        "mhz": first_line("/proc/cpuinfo", "cpu MHz"),
        "cores": os.cpu_count() or 0,
        "usable_cores": len(os.sched_getaffinity(0)),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiler": COMPILER,
        "libc": " ".join(platform.libc_ver()),
        "virtual": "yes" if "hypervisor" in first_line("/proc/cpuinfo", "flags").split() else "no",
    }
