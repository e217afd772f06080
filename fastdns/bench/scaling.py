# SPDX-License-Identifier: Apache-2.0
"""What many cores would do, from what one core costs: a model small enough to be wrong in visible places.

Strategy. A worker per core shares nothing that a hit writes, so cores multiply; four things take away from that, each a
figure of its own: what a network card costs beyond loopback, the slow-down of a query by each further core, flows that
the kernel hashes unevenly over the sockets (drawn here, seeded), and the memory that the queries' cache lines need.
What was measured is in `Cost`; what is only assumed is in `Assumptions`. `scaling_check` compares with a machine.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

LINE = 64  # octets
DRAWS = 2_000_000  # flows drawn for one figure, in all trials
TRIALS = (25, 400)  # at least, at most


@dataclass(frozen=True)
class Cost:
    """Measured, of a hit: CPU time per answer, kernel included, and the cache lines that are not near."""

    cpu_us: float
    """Microseconds of all of the server's processes per answer, over loopback."""
    far_lines: float
    """Cache lines that a core's own caches do not hold, user space alone."""

    def __post_init__(self) -> None:
        if not self.cpu_us > 0 or self.far_lines < 0:
            raise ValueError(f"{self}: a query costs something")


@dataclass(frozen=True)
class Assumptions:
    """Not measured here. Each can be looked at on a big machine, and each being wrong has its own symptom."""

    nic_share: float = 0.25
    """CPU of the card's driver and interrupts, as a share of cpu_us, on the same core. (Over loopback the server pays
    for one passage through IP and UDP that is not its own already: the reply's, up to the client's socket.)"""
    slowing: float = 0.002
    """By how much each further core makes a query dearer: shared caches, and kernel words that all cores use."""
    kernel_lines: float = 12.0
    """Cache lines of a datagram in and out that kernel and card move through memory."""
    memory_gb: float = 100.0
    """Memory bandwidth of the machine, 10^9 octets per second."""


class Imbalance(NamedTuple):
    """The busiest socket's load as a multiple of the mean: its expectation, and what one start in twenty exceeds."""

    mean: float
    p95: float


class Prediction(NamedTuple):
    """Queries per second of `cores` cores."""

    cores: int
    saturated: float
    """Every core busy: what many flows together can get."""
    lossless: tuple[float, ...]
    """Until the busiest core is full, for each number of flows asked for, all flows asking alike."""
    heavy: float
    """The same with very many flows and one client that asks a share of everything from one flow."""
    memory_gb: float
    """What `saturated` moves through memory, 10^9 octets per second."""


def busiest(
    flows: int, sockets: int, heavy: Sequence[float] = (), *, seed: int = 1, trials: int = 0
) -> Imbalance:
    """Flows hashed over the sockets of a reuseport group: each goes to any of them alike, and stays there.

    `heavy`: shares of all queries that come from clients with one flow each; `flows` others ask the rest, all alike.
    ValueError for no flow, no socket, or shares beyond 1.
    """
    rest = 1.0 - sum(heavy)
    if flows < 0 or sockets < 1 or rest < -1e-9 or min(heavy, default=0) < 0 or (not flows and rest > 1e-9):
        raise ValueError(f"{flows} flows and the shares {list(heavy)} over {sockets} sockets")
    draw = random.Random(f"{seed} {flows} {sockets}")
    trials = trials or min(max(DRAWS // (flows + len(heavy)), TRIALS[0]), TRIALS[1])
    found = []
    for _ in range(trials):
        load = [0] * sockets
        for place in draw.choices(range(sockets), k=flows):
            load[place] += 1
        weight = [rest * n / flows if flows else 0.0 for n in load]
        for share in heavy:
            weight[draw.randrange(sockets)] += share
        found.append(max(weight) * sockets)
    found.sort()
    return Imbalance(statistics.fmean(found), found[min(len(found) - 1, int(0.95 * len(found)))])


def capacity(cores: int, cost: Cost, assumed: Assumptions) -> float:
    """Queries per second of so many busy cores, memory aside. ValueError for no core."""
    if cores < 1:
        raise ValueError(f"{cores} cores")
    microseconds = cost.cpu_us * (1 + assumed.nic_share) * (1 + assumed.slowing * (cores - 1))
    return cores * 1e6 / microseconds


def octets(cost: Cost, assumed: Assumptions) -> float:
    """Octets that a query moves through memory."""
    return (cost.far_lines + assumed.kernel_lines) * LINE


def predict(
    cores: int, cost: Cost, assumed: Assumptions, flows: Sequence[int] = (), heavy_share: float = 0.1, seed: int = 1
) -> Prediction:
    """What `cores` cores would answer. ValueError for figures that make no sense."""
    limit = assumed.memory_gb * 1e9 / octets(cost, assumed)
    saturated = min(capacity(cores, cost, assumed), limit)
    lossless = tuple(saturated / busiest(n, cores, seed=seed).mean for n in flows)
    # Very many flows spread evenly; the heavy one comes on top of its socket's part of the others.
    heavy = saturated / (heavy_share * cores + 1 - heavy_share)
    return Prediction(cores, saturated, lossless, heavy, saturated * octets(cost, assumed) / 1e9)


def doublings(most: int) -> list[int]:
    """1, 2, 4 … up to `most`, which is the last even where it is none of them. ValueError below 1."""
    if most < 1:
        raise ValueError(f"{most} cores")
    found = [1]
    while found[-1] * 2 <= most:
        found.append(found[-1] * 2)
    return found if found[-1] == most else [*found, most]
