# SPDX-License-Identifier: Apache-2.0
"""A run from options to report: what is asked, who is asked and where everybody runs; then round after round.

Strategy: everything that can be refused is refused in `Session.__init__`, before a server starts. With the floor beside
it, server and floor take turns, and the order turns round each time. A run that ends early (interrupted, or out of
questions) keeps what it has and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import dataclass

from .. import __version__
from ._load import Questions
from .arguments import Options
from .asking import questions
from .cpu import CoreMeter, CpuMeter, tree
from .cpu import machine as machine_facts
from .errors import BenchError
from .loads import Loads
from .owned import Owned
from .progress import Now, Progress
from .remarks import judge
from .report import SCHEMA, Arm, Machine, Point, Report, Round, Scenario
from .tally import Tally
from .target import Address, Server, Target
from .words import is_local


@dataclass
class Places:
    """Who runs where. No CPU: the kernel decides."""

    server: list[int]
    load: list[int]


def place(options: Options, usable: list[int]) -> Places:
    """The CPUs that were asked for. Without a word: our own server and its load divide the machine, three quarters to
    one, and a running server that is bound to some CPUs (as `--pids` shows) leaves the last other one to the load."""
    server, load = options.server_cpus or bound_to(options.pids), options.load_cpus
    if options.conf and not server and not load and len(usable) > 1:
        load = usable[-max(1, len(usable) // 4) :]
    free = [cpu for cpu in usable if cpu not in (server or load)]
    if options.conf:
        server, load = server or free or usable, load or free[-max(1, len(server) // 3) :] or usable
    elif server and not load:
        load = free[-1:]
    return Places(server, load)


def bound_to(pids: list[int]) -> list[int]:
    """The CPUs that processes and their descendants may use, as far as those are not all of the machine."""
    found: set[int] = set()
    for pid in tree(pids):
        with contextlib.suppress(ProcessLookupError):
            found |= os.sched_getaffinity(pid)
    return sorted(found) if len(found) < (os.cpu_count() or 1) else []


Sides = dict[str, tuple[Server, Loads]]
"""Who takes turns, by name."""


class Session:
    """One run of the bench. Raises BenchError, and UsageError where the words turn out not to fit."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.interrupted = False
        self.short = ""
        self.questions = questions(options)
        self.places = place(options, sorted(os.sched_getaffinity(0)))
        self.owned = Owned(options, self.questions.wire(0), self.places.server) if options.conf else None
        self.machine = Machine(**machine_facts(), fastdns=__version__)  # type: ignore[arg-type]
        self.scenario = Scenario(
            server="corefile" if self.owned else "local" if is_local(options.address) else "remote",
            corefile=self.owned.digest if self.owned else "", protocol=options.protocol, sockets=options.sockets,
            in_flight=options.in_flight, segment=options.segment, spin=options.spin, rate=options.rate,
            timeout=options.timeout,
            questions=digest(self.questions), count=len(self.questions), once=options.once, duration=options.duration,
            warm=options.warm, server_cpus=self.places.server, load_cpus=self.places.load,
        )
        self._stop = threading.Event()

    def measure(self, show: Progress) -> Report:
        """Start what is ours, warm, measure, and judge. Raises FastdnsError; KeyboardInterrupt before any round."""
        options = self.options
        taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.ExitStack() as stack:
            show.stage("starting", 0.0)
            own = self.owned.start(stack) if self.owned else None
            server: Server = own or Address(options.address, options.port, options.pids)
            sides: Sides = {}
            sides["server"] = server, Loads(server, options, self.questions, self.places.load)
            if options.floor:
                cpus = ",".join(map(str, self.places.server))
                floor = stack.enter_context(Target.floor(segment=options.segment, cpus=cpus))
                sides["floor"] = floor, Loads(floor, options, self.questions, self.places.load)
            rounds: dict[str, list[Round]] = {name: [] for name in sides}
            self._warm(sides, show)
            self._rounds(sides, rounds, show)
        if self.interrupted:
            self.short = "interrupted"
        if not rounds["server"]:
            if self.interrupted:
                raise KeyboardInterrupt
            raise BenchError(f"{self.short} before the first round: ask more of them, or warm less")
        floor_arm = Arm(rounds["floor"]) if rounds.get("floor") else None
        report = Report(SCHEMA, taken, self.machine, self.scenario, Arm(rounds["server"]), floor_arm)
        report.remarks = judge(report, self.short)
        return report

    def _warm(self, sides: Sides, show: Progress) -> None:
        if not self.options.warm:
            return
        for name, (server, loads) in sides.items():
            tally = self._load(f"warming the {name}", loads, self.options.warm, show)[0]
            _answered(server, tally)
            if self.interrupted:
                raise KeyboardInterrupt

    def _rounds(self, sides: Sides, rounds: dict[str, list[Round]], show: Progress) -> None:
        """All rounds; a round that was interrupted counts only as far as it is the first."""
        for number in range(self.options.rounds):
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for name in order:
                server, loads = sides[name]
                if loads.exhausted:
                    self.short = f"all {len(self.questions)} questions were asked"
                    return
                words = f"round {number + 1} of {self.options.rounds}, {name}"
                one = self._round(words, server, loads, show)
                if self.interrupted and rounds["server"]:
                    return
                _answered(server, one.tally)
                rounds[name].append(one)
                if self.interrupted:
                    return

    def _round(self, words: str, server: Server, loads: Loads, show: Progress) -> Round:
        pids = server.pids()
        try:
            with CoreMeter() as cores, CpuMeter(pids) as cpu:
                tally, points = self._load(words, loads, self.options.duration, show)
        except RuntimeError as error:
            raise BenchError(str(error)) from None
        return Round(
            tally=tally, server_cpu=cpu.seconds if pids else None,
            cores={number: core.busy for number, core in cores.cores.items()},
            stolen=max((core.stolen for core in cores.cores.values()), default=0.0), course=points,
        )

    def _load(self, words: str, loads: Loads, seconds: float, show: Progress) -> tuple[Tally, list[Point]]:
        show.stage(words, seconds)
        found = loads.run(seconds, lambda tally: show.update(_now(tally)), self._stop)
        self.interrupted = self._stop.is_set()
        return found


def _now(tally: Tally) -> Now:
    return Now(tally.seconds, tally.completed, tally.lost, tally.qps)


def _answered(server: Server, tally: Tally) -> None:
    if not tally.completed:
        raise BenchError(f"no answer from {server.address} port {server.port}: {tally.sent} queries sent")


def digest(asked: Questions) -> str:
    """SHA-256 over all questions, each behind its length and its expected response code."""
    found = hashlib.sha256()
    for index in range(len(asked)):
        wire = asked.wire(index)
        found.update(len(wire).to_bytes(2, "big") + asked.rcode(index).to_bytes(1, "big", signed=True) + wire)
    return found.hexdigest()
