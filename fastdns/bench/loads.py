# SPDX-License-Identifier: Apache-2.0
"""The threads of a load as one.

Strategy: one thread on each CPU of the load, without the interpreter's lock. The thread that runs them only waits,
shows what they count, and stops them when it is interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ._load import Load, Questions
from .arguments import Options
from .errors import BenchError
from .report import Point
from .tally import Tally
from .target import Server

STEPS = 20
"""Points of a round's course, as far as they lie within these bounds, in seconds."""
SHORTEST, LONGEST = 0.1, 1.0
SHOW_SECONDS = 0.1


class Loads:
    """The threads of the load on one server, as one."""

    def __init__(self, server: Server, options: Options, asked: Questions, cpus: list[int]) -> None:
        threads = max(1, len(cpus))
        if options.sockets < threads:
            raise BenchError(f"{options.sockets} sockets cannot be shared by {threads} threads: fewer --load-cpus")
        if options.once and len(asked) < threads:
            raise BenchError(f"{len(asked)} questions cannot be shared by {threads} threads")
        self.once = options.once
        self.threads = []
        for number in range(threads):
            mine = asked
            if options.once and threads > 1:
                mine = Questions([asked.wire(index) for index in range(number, len(asked), threads)],
                                 [asked.rcode(index) for index in range(number, len(asked), threads)])
            try:
                self.threads.append(Load(
                    server.address, server.port, mine, protocol=options.protocol,
                    sockets=(options.sockets + number) // threads, in_flight=options.in_flight,
                    rate=options.rate / threads, segment=options.segment, spin=options.spin, timeout=options.timeout,
                    first=0 if options.once else len(asked) * number // threads, loop=not options.once,
                    cpu=cpus[number] if cpus else -1,
                ))
            except (ValueError, OSError) as error:
                raise BenchError(f"{server.address} port {server.port}: {error}") from None

    @property
    def exhausted(self) -> bool:
        """Whether each question was to be asked once, and was."""
        return self.once and all(one.next_index >= len(one.questions) for one in self.threads)

    def run(self, seconds: float, show: Callable[[Tally], None], stop: threading.Event) -> tuple[Tally, list[Point]]:
        """All threads at once for so many seconds, or until `stop`, which an interrupt sets. Raises BenchError."""
        step = min(max(seconds / STEPS, SHORTEST), LONGEST)
        runs = [_Run(load, seconds, step, stop) for load in self.threads]
        try:
            for run in runs:
                run.start()
            for run in runs:
                while run.is_alive():
                    try:
                        run.join(SHOW_SECONDS)
                        show(together([run.latest for run in runs]))
                    except KeyboardInterrupt:
                        stop.set()
        finally:
            if any(run.is_alive() for run in runs):
                stop.set()
            for run in runs:
                if run.ident is not None:
                    run.join()
        for run in runs:
            if run.error is not None:
                raise BenchError(f"{run.load.address} port {run.load.port}: {run.error}") from run.error
        return together([run.latest for run in runs]), course([run.marks for run in runs])


class _Run(threading.Thread):
    """One thread of load, once."""

    def __init__(self, load: Load, seconds: float, step: float, stop: threading.Event) -> None:
        super().__init__(name="load", daemon=True)
        self.load, self.seconds, self.step, self.ended = load, seconds, step, stop
        self.latest = Tally()
        self.marks: list[tuple[float, int]] = [(0.0, 0)]
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._note(self.load.run(self.seconds, self._tick, self.step), ended=True)
        except (OSError, RuntimeError) as error:
            self.error = error

    def _tick(self, tally: Tally) -> bool:
        self._note(tally)
        return not self.ended.is_set()

    def _note(self, tally: Tally, ended: bool = False) -> None:
        self.latest = tally
        # The end of a run comes at its own moment; too short a last interval says nothing, unless it is the only one.
        if tally.seconds - self.marks[-1][0] > self.step / 2 or (ended and len(self.marks) == 1 and tally.seconds > 0):
            self.marks.append((tally.seconds, tally.in_window))


def together(tallies: list[Tally]) -> Tally:
    """Runs at the same time as one."""
    total = sum(tallies, start=Tally())
    total.seconds = max(tally.seconds for tally in tallies)
    return total


def course(threads: list[list[tuple[float, int]]]) -> list[Point]:
    """The rates of all threads, interval by interval."""
    points = []
    for step in range(1, min(map(len, threads))):
        rate = sum((marks[step][1] - marks[step - 1][1]) / (marks[step][0] - marks[step - 1][0]) for marks in threads)
        points.append(Point(max(marks[step][0] for marks in threads), rate))
    return points
