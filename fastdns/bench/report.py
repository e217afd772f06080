# SPDX-License-Identifier: Apache-2.0
"""What `fastdns bench` found, as plain data: the scenario, the machine, each round, the floor beside it, and remarks.

Strategy: a report holds only what was counted; every figure that people quote (medians, percentiles over all rounds,
CPU per answer, the ratio to the floor) is computed from that in one place, `figures`, so the summary, the plots, the
formats and the comparison cannot disagree. Times are seconds, sizes octets, unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .tally import Histogram, Tally
from .turns import Spread

SCHEMA = "fastdns-bench/1"
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
AGAINST_QUOTING = {"noisy", "generator", "behind", "shared", "crowded", "lost", "wrong", "failures", "short", "errors"}
"""Kinds of remarks with which a figure is not to be quoted; `remarks.py` says when each is made."""


@dataclass
class Machine:
    """Where the figures come from, as `cpu.machine` tells. No name of the host or of a user."""

    cpu: str
    family: str
    mhz: str
    cores: int
    usable_cores: int
    governor: str
    architecture: str
    kernel: str
    python: str
    compiler: str
    libc: str
    virtual: str
    fastdns: str

    def __str__(self) -> str:
        guest = ", a virtual machine" if self.virtual == "yes" else ""
        return f"{self.cpu}, {self.cores} cores{guest}, Linux {self.kernel}"

    @property
    def versions(self) -> str:
        """The software that was measured, and what built it."""
        return f"fastdns {self.fastdns}, {self.python}, compiler {self.compiler}"


@dataclass
class Scenario:
    """What was asked of whom, and how: two reports with equal scenarios may be compared.

    `server` is `corefile` (our own server), `local` or `remote`; `corefile` and `questions` are SHA-256 digests of
    the configuration's text and of all questions in wire form. `rate` 0 is a closed loop.
    """

    server: str
    corefile: str
    protocol: str
    sockets: int
    in_flight: int
    segment: bool
    spin: bool
    rate: float
    timeout: float
    questions: str
    count: int
    once: bool
    duration: float
    warm: float
    server_cpus: list[int]
    load_cpus: list[int]


@dataclass
class Point:
    """One step of the course: answers per second in the interval that ended `at` seconds after the round's start."""

    at: float
    qps: float


@dataclass
class Round:
    """One round of one arm. `server_cpu` is None where the server's processes are not known; `cores` is the busy share
    of each CPU of the machine, by number; `stolen` the largest share of one that a hypervisor took."""

    tally: Tally
    server_cpu: float | None
    cores: dict[int, float]
    stolen: float
    course: list[Point]

    @property
    def cpu_us(self) -> float | None:
        """Microseconds of CPU that all processes of the server used per answer."""
        if self.server_cpu is None or not self.tally.completed:
            return None
        return self.server_cpu * 1e6 / self.tally.completed


@dataclass
class Arm:
    """One of the two that take turns: the server, or the floor."""

    rounds: list[Round]

    def total(self) -> Tally:
        """All rounds as one run."""
        return sum((one.tally for one in self.rounds), start=Tally())


@dataclass
class Remark:
    """Something a reader of the figures must know. `kind` is one word, for programs."""

    kind: str
    text: str


@dataclass
class Report:
    """A whole run."""

    schema: str
    taken: str
    machine: Machine
    scenario: Scenario
    server: Arm
    floor: Arm | None
    remarks: list[Remark] = field(default_factory=list)

    @property
    def quotable(self) -> bool:
        """Whether no remark speaks against quoting the figures."""
        return not any(remark.kind in AGAINST_QUOTING for remark in self.remarks)


def spread(arm: Arm, figure: Callable[[Round], float | None]) -> Spread | None:
    """The spread of a figure over an arm's rounds; None where a round lacks it."""
    values = [figure(one) for one in arm.rounds]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return Spread.of(known) if known and len(known) == len(values) else None


def floor_ratio(report: Report) -> Spread | None:
    """CPU per answer of the server over that of the floor, pair by pair: neighbours in time share the machine's mood.
    """
    if report.floor is None:
        return None
    ratios = []
    for ours, floor in zip(report.server.rounds, report.floor.rounds, strict=False):
        if not ours.cpu_us or not floor.cpu_us:
            return None
        ratios.append(ours.cpu_us / floor.cpu_us)
    return Spread.of(ratios) if ratios else None


def figures(report: Report) -> dict[str, Spread]:
    """The figures of a report by name, those only that it has."""
    server = report.server
    found = {
        "qps": spread(server, lambda one: one.tally.qps),
        "cpu": spread(server, lambda one: one.cpu_us),
        "p50": spread(server, lambda one: one.tally.latency.percentile(50)),
        "p99": spread(server, lambda one: one.tally.latency.percentile(99)),
        "floor": floor_ratio(report),
    }
    return {name: value for name, value in found.items() if value is not None}


def latency(histogram: Histogram) -> dict[str, float]:
    """Seconds: mean, min, max, stddev, and the percentiles as `p50`, `p99.9`."""
    found = {name: float(getattr(histogram, name)) for name in ("mean", "min", "max", "stddev")}
    return found | {f"p{percentile:g}": histogram.percentile(percentile) for percentile in PERCENTILES}
