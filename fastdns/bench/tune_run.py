# SPDX-License-Identifier: Apache-2.0
"""The tuner's measurements: one server per visit, started, warmed, loaded and stopped.

Strategy: a visit is short and starts a fresh server, so that several visits also average over where the kernel's hash
and scheduler put things; the numbers of sockets are visited in turn, so that a slow minute of the machine meets all of
them. The server has the first CPUs; the load has others where there are any, else all share, which each visit notes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ..ports import free_port
from ._load import Load
from .cpu import CoreMeter, CpuMeter, first_line
from .errors import BenchError
from .questions import Questions
from .target import Target
from .tune_copy import Copy
from .tune_curve import Curve, Point, Visit
from .tune_search import search
from .tune_upstream import Upstream
from .turns import Shape

STRENGTHS = (Shape("64x4", 64, 4), Shape("64x16", 64, 16), Shape("64x64 segmented", 64, 64, segment=True))
"""Loads from usual to strong; the first that saturates one worker is taken, the usual one where none does."""
HEAVY = Shape("8x128", 8, 128, segment=True)
SETTLE_SECONDS = 0.3
SERVFAIL, REFUSED = 2, 5


def by_core(cpus: Sequence[int]) -> list[int]:
    """CPUs ordered so that the threads of one core stand together: server and load then share no core."""
    def core(cpu: int) -> str:
        return first_line(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)

    first: dict[str, int] = {}
    for cpu in sorted(cpus):
        first.setdefault(core(cpu), cpu)
    return sorted(cpus, key=lambda cpu: (first[core(cpu)], cpu))


def steps(cpus: int) -> list[int]:
    """Numbers of CPUs at which the curve is drawn: 1, 2, 4 … and all."""
    found, step = [], 1
    while step < cpus:
        found.append(step)
        step *= 2
    return [*found, cpus]


@dataclass
class Plan:
    """What is to be measured. `cpus`: those the server may use in the end; `most`: the largest number of sockets."""

    copy: Copy
    questions: Questions
    cpus: int
    most: int
    seconds: float
    rounds: int
    allowed: list[int]
    quota: bool = False


@dataclass
class Bench:
    """Measures. `say` is told of each visit as it begins. Use it inside `with bench.upstream():`."""

    plan: Plan
    say: Callable[[str], None]
    shape: Shape = STRENGTHS[0]
    points: dict[tuple[int, int, str, str], Point] = field(default_factory=dict)
    rcodes: dict[int, int] = field(default_factory=dict)
    upstream_port: int = 0

    def upstream(self) -> ExitStack:
        """The stand-in for upstreams, where the Corefile forwards."""
        stack = ExitStack()
        if self.plan.copy.forwards and self.plan.copy.caches:
            self.upstream_port = stack.enter_context(Upstream()).port
        elif self.plan.copy.forwards:
            self.upstream_port = stack.enter_context(Target.floor()).port
        return stack

    def point(self, cpus: int, sockets: int, steer: str = "flow", shape: Shape | None = None) -> Point:
        """The point of these, without visits at first."""
        shape = shape or self.shape
        key = (cpus, sockets, steer, shape.name)
        return self.points.setdefault(key, Point(cpus, sockets, steer, shape.name))

    def curve(self, cpus: int) -> Curve:
        """The curve of so many CPUs by flow, of the usual shape."""
        return Curve([point for point in self.points.values()
                      if (point.cpus, point.steer, point.shape) == (cpus, "flow", self.shape.name) and point.visits])

    # -- what is measured

    def strengthen(self) -> None:
        """Take the weakest load that saturates one worker; where none does, the usual one."""
        for shape in STRENGTHS:
            self.shape = shape
            point = self.visit(1, 1)
            # On shared cores no load can be too weak for the cost of an answer.
            if point.shared or not point.load_bound:
                return
        self.shape = STRENGTHS[0]

    def draw(self) -> None:
        """The curve of each number of CPUs; the last one, which decides, in several rounds."""
        for cpus in steps(self.plan.cpus):
            def capacity(sockets: int, cpus: int = cpus) -> float:
                point = self.visit(cpus, sockets)
                return self.curve(cpus).capacity(point)

            search(capacity, cpus, self.plan.most)
        for _ in range(self.plan.rounds - 1):
            for point in self.curve(self.plan.cpus).points:
                self.visit(point.cpus, point.sockets)

    def ways(self, sockets: int, modes: Sequence[str]) -> dict[str, list[Point]]:
        """Each way to steer at one number of sockets, turn about, for the load so far and for few heavy clients."""
        found: dict[str, list[Point]] = {}
        for shape in (self.shape, HEAVY):
            found[shape.name] = [self.point(self.plan.cpus, sockets, steer, shape) for steer in modes]
        for _ in range(self.plan.rounds):
            for points in found.values():
                for point in points:
                    if len(point.visits) < self.plan.rounds:
                        shape = self.shape if point.shape == self.shape.name else HEAVY
                        self.visit(point.cpus, sockets, point.steer, shape)
        return found

    # -- one visit

    def visit(self, cpus: int, sockets: int, steer: str = "flow", shape: Shape | None = None) -> Point:
        """One run; its result is added to the point, which is returned. BenchError where nothing was answered."""
        shape = shape or self.shape
        point = self.point(cpus, sockets, steer, shape)
        allowed = self.plan.allowed
        shared = self.plan.quota or cpus >= len(allowed)
        load_cpus = [-1] * max(1, cpus) if shared else allowed[cpus:3 * cpus]
        self.say(f"{cpus} CPU{'s' * (cpus > 1)}, {sockets} socket{'s' * (sockets > 1)}, {steer}, load {shape.name}")
        with tempfile.TemporaryDirectory(prefix="fastdns-tune-") as folder:
            port = free_port()
            name = Path(folder) / "Corefile"
            text = self.plan.copy.fill(port, free_port(), self.upstream_port, sockets, steer)
            name.write_text(text, encoding="utf-8", errors="surrogateescape")
            argv = [sys.executable, "-m", "fastdns", "-conf", str(name), "-quiet"]
            where = ",".join(map(str, allowed[:cpus]))
            with Target(argv, port, cpus=where, question=self.plan.questions.wire(0)) as server:
                point.visits.append(self._run(server, shape, allowed[:cpus], load_cpus))
        return point

    def _run(self, server: Target, shape: Shape, cpus: Sequence[int], load_cpus: Sequence[int]) -> Visit:
        shared = -1 in load_cpus
        questions = self.plan.questions
        # Every name once, gently: the stand-in is slow, and from now on a cache has them.
        warm = Load(server.address, server.port, questions, sockets=8, in_flight=4, loop=False)
        warm.run(5.0)
        warm.close()
        loads = [Load(server.address, server.port, questions, sockets=shape.sockets, in_flight=shape.in_flight,
                      segment=shape.segment, first=number * len(questions) // len(load_cpus), cpu=cpu)
                 for number, cpu in enumerate(load_cpus)]
        with ThreadPoolExecutor(len(loads)) as pool:
            list(pool.map(lambda load: load.run(SETTLE_SECONDS), loads))
            try:
                with CoreMeter() as cores, CpuMeter(server.pids()[:1]) as cpu:
                    tallies = list(pool.map(lambda load: load.run(self.plan.seconds), loads))
            except RuntimeError as error:
                raise BenchError(f"the server ended under load: {error}; {server.words()}") from None
        for load in loads:
            load.close()
        completed = sum(tally.completed for tally in tallies)
        if not completed:
            raise BenchError(f"the server answered nothing under load; its last words: {server.words()}")
        for tally in tallies:
            for code, number in tally.rcodes.items():
                self.rcodes[code] = self.rcodes.get(code, 0) + number
        seconds = max(tally.seconds for tally in tallies)
        return Visit(
            qps=sum(tally.qps for tally in tallies),
            cpu_us=cpu.seconds * 1e6 / completed,
            used=cpu.seconds / seconds,
            load_used=sum(tally.cpu_seconds for tally in tallies) / seconds,
            load_cpus=len(load_cpus),
            lost=sum(tally.lost for tally in tallies),
            shared=shared,
            cores=busy(cores, cpus),
            load_cores=busy(cores, cpus if shared else load_cpus),
        )

    def remarks(self) -> list[str]:
        """What was odd about the answers."""
        total = sum(self.rcodes.values())
        found = []
        for code, name in ((SERVFAIL, "SERVFAIL"), (REFUSED, "REFUSED")):
            if self.rcodes.get(code, 0) > total // 100:
                found.append(f"{self.rcodes[code] / total:.0%} of the answers were {name}: "
                             "the questions do not fit the Corefile (--data)")
        return found


def busy(meter: CoreMeter, cpus: Sequence[int]) -> float:
    """How busy these CPUs were on average, 0 to 1; 0 where the kernel does not say."""
    found = [meter.cores[cpu].busy for cpu in cpus if cpu in meter.cores]
    return sum(found) / len(found) if found else 0.0


def usable() -> list[int]:
    """The CPUs of this process, by core."""
    return by_core(sorted(os.sched_getaffinity(0)))
