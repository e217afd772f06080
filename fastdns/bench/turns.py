# SPDX-License-Identifier: Apache-2.0
"""Servers compared turn about: A B A B ..., because a machine's speed drifts and neighbours come and go.

Strategy. Every arm is up for the whole measurement; in a round each has its turn of the same load, and the arms'
order alternates from round to round. The first round is thrown away. What is reported per arm is the median with its
extremes; what is compared is each round's ratio to the first arm (the floor), whose median a slow minute of the
machine does not move. A spread of the CPU time per answer above 5 % of its median, or a core that the hypervisor took
away, makes the figures `noisy`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ._load import Load, Questions
from .cpu import CoreMeter, CpuMeter
from .tally import Tally
from .target import Server

NOISY_SPREAD = 0.05
NOISY_STOLEN = 0.02
LOAD_CPU = 1


class Shape(NamedTuple):
    """How the load comes."""

    name: str
    sockets: int = 64
    in_flight: int = 4
    protocol: str = "udp"
    segment: bool = False
    rate: float = 0.0
    """Queries per second of the open loop; 0: closed loop."""


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("512x1", 512, 1),
        Shape("64x4", 64, 4),
        Shape("8x128", 8, 128, segment=True),
        Shape("64x4-tcp", 64, 4, protocol="tcp"),
    )
}
"""Many clients with one query each; the usual one; heavy clients; connections."""


@dataclass
class Arm:
    """One of the servers compared: it is up, and stays up. Its `questions` are repeated unless `once`."""

    name: str
    server: Server
    questions: Questions
    once: bool = False
    next_index: int = 0


@dataclass
class Turn:
    """One arm's turn in one round."""

    tally: Tally
    cpu_seconds: float
    """Of all of the server's processes; 0 when they are not known."""
    stolen: float
    """The largest share of a core that the hypervisor took."""

    @property
    def cpu_us_per_answer(self) -> float:
        return self.cpu_seconds * 1e6 / self.tally.completed if self.tally.completed else 0.0

    @property
    def server_share(self) -> float:
        """CPU time of the server per second: 1.0 is one core."""
        return self.cpu_seconds / self.tally.seconds if self.tally.seconds else 0.0


class Spread(NamedTuple):
    """A figure's median over the rounds, and its extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    @property
    def relative(self) -> float:
        """The distance of the extremes as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


@dataclass
class Figures:
    """What one arm showed, over the rounds that count. Latencies are in seconds."""

    name: str
    turns: list[Turn]
    cpu_us_per_answer: Spread
    qps: Spread
    p50: Spread
    p99: Spread
    server_share: Spread
    ratio_cpu: Spread
    """CPU per answer as a multiple of the first arm's in the same round."""
    ratio_qps: Spread
    """Answers per second as a multiple of the first arm's in the same round."""
    noisy: list[str] = field(default_factory=list)
    """Why these figures should not be quoted; empty when they may."""

    def as_dict(self) -> dict[str, object]:
        """For JSON: the figures, and the tally of all turns together."""
        total = sum((turn.tally for turn in self.turns), Tally())
        spreads = {key: value._asdict() for key, value in vars(self).items() if isinstance(value, Spread)}
        return {"name": self.name, **spreads, "noisy": self.noisy, "tally": total.as_dict()}


@dataclass
class Result:
    """A measurement turn about."""

    shape: Shape
    rounds: int
    seconds: float
    figures: list[Figures]

    @property
    def noisy(self) -> list[str]:
        """Why the figures should not be quoted, over all arms."""
        return [f"{figures.name}: {cause}" for figures in self.figures for cause in figures.noisy]

    def __getitem__(self, name: str) -> Figures:
        return next(figures for figures in self.figures if figures.name == name)

    def as_dict(self) -> dict[str, object]:
        return {
            "shape": self.shape._asdict(),
            "rounds": self.rounds,
            "seconds": self.seconds,
            "noisy": self.noisy,
            "arms": [figures.as_dict() for figures in self.figures],
        }


def generator(arm: Arm, shape: Shape, load_cpu: int, timeout: float, spin: bool) -> Load:
    """The load of one turn: fresh sockets, so that no turn inherits another's ports."""
    return Load(
        arm.server.address,
        arm.server.port,
        arm.questions,
        protocol=shape.protocol,
        sockets=shape.sockets,
        in_flight=shape.in_flight,
        rate=shape.rate,
        segment=shape.segment,
        timeout=timeout,
        first=arm.next_index,
        loop=not arm.once,
        cpu=load_cpu,
        spin=spin,
    )


def turn(
    arm: Arm, shape: Shape, seconds: float, *, load_cpu: int = LOAD_CPU, timeout: float = 2.0, spin: bool = False
) -> Turn:
    """One turn of load on one arm. ValueError, OSError; RuntimeError when the server ends meanwhile."""
    load = generator(arm, shape, load_cpu, timeout, spin)
    with CoreMeter() as cores, CpuMeter(arm.server.pids()) as cpu:
        tally = load.run(seconds)
    arm.next_index = load.next_index
    load.close()
    return Turn(tally, cpu.seconds, max((core.stolen for core in cores.cores.values()), default=0.0))


def causes(turns: Sequence[Turn], cpu: Spread) -> list[str]:
    """What makes an arm's figures unfit to be quoted."""
    found = []
    if cpu.relative > NOISY_SPREAD:
        found.append(f"CPU per answer spreads over {cpu.relative:.1%} of its median")
    stolen = max(turn.stolen for turn in turns)
    if stolen > NOISY_STOLEN:
        found.append(f"the hypervisor took {stolen:.1%} of a core")
    if not all(turn.tally.completed for turn in turns):
        found.append("a turn without any answer")
    unsent = sum(turn.tally.unsent for turn in turns)
    if unsent:
        found.append(f"{unsent} queries could not be sent at the rate asked for")
    return found


def figures(name: str, turns: Sequence[Turn], base: Sequence[Turn]) -> Figures:
    """One arm's figures, and its ratios to `base` round by round."""

    def ratios(of: Callable[[Turn], float]) -> Spread:
        return Spread.of([of(t) / of(b) if of(b) else 0.0 for t, b in zip(turns, base, strict=True)])

    cpu = Spread.of([t.cpu_us_per_answer for t in turns])
    return Figures(
        name=name,
        turns=list(turns),
        cpu_us_per_answer=cpu,
        qps=Spread.of([t.tally.qps for t in turns]),
        p50=Spread.of([t.tally.latency.percentile(50) for t in turns]),
        p99=Spread.of([t.tally.latency.percentile(99) for t in turns]),
        server_share=Spread.of([t.server_share for t in turns]),
        ratio_cpu=ratios(lambda t: t.cpu_us_per_answer),
        ratio_qps=ratios(lambda t: t.tally.qps),
        noisy=causes(turns, cpu),
    )


def measure(
    arms: Sequence[Arm] | Mapping[str, Server],
    shape: Shape,
    rounds: int = 5,
    seconds: float = 3.0,
    warm: float = 2.0,
    *,
    questions: Questions | None = None,
    load_cpu: int = LOAD_CPU,
    timeout: float = 2.0,
    spin: bool = False,
    progress: Callable[[str, int, Turn], None] | None = None,
) -> Result:
    """Turn about over the arms, the first being what the others are compared with.

    Each arm is warmed for `warm` seconds, then one round is thrown away and `rounds` count. A mapping of names to
    servers asks all of them the same `questions`. `spin`: the load never sleeps (see `Load`); servers that answer one
    by one are compared fairly with those that answer in batches only so, but nothing else may need the load's core.
    `progress` is told of each turn: arm, round (0: the one thrown away), and what it gave. ValueError, OSError;
    RuntimeError when a server ends meanwhile.
    """
    if isinstance(arms, Mapping):
        if questions is None:
            raise ValueError("servers by name need questions")
        arms = [Arm(name, server, questions) for name, server in arms.items()]
    if not arms or rounds < 1:
        raise ValueError(f"{len(arms)} arms, {rounds} rounds: one of each at least")
    if len({arm.name for arm in arms}) < len(arms):
        raise ValueError("two arms have the same name")
    if warm > 0:
        for arm in arms:
            turn(arm, shape, warm, load_cpu=load_cpu, timeout=timeout, spin=spin)
    turns: dict[str, list[Turn]] = {arm.name: [] for arm in arms}
    for number in range(rounds + 1):
        for arm in arms if number % 2 == 0 else arms[::-1]:
            one = turn(arm, shape, seconds, load_cpu=load_cpu, timeout=timeout, spin=spin)
            if number:
                turns[arm.name].append(one)
            if progress:
                progress(arm.name, number, one)
    base = turns[arms[0].name]
    return Result(shape, rounds, seconds, [figures(arm.name, turns[arm.name], base) for arm in arms])
