# SPDX-License-Identifier: Apache-2.0
"""What the tuner measured: visits, points, and the curve of a number of CPUs.

Strategy: what is compared is a point's *capacity*: the answers a second that were measured where the load had cores of
its own and was strong enough; where it was not, what the cores would serve at the measured CPU per answer. One curve
never mixes the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

TOLERANCE = 0.03
"""Smaller differences of capacity are none, whatever the noise."""
BUSY = 0.9
"""A server that uses this share of what it may use is saturated."""
LOAD_BUSY = 0.95
"""A generator that uses this share of its cores may be the limit itself."""
DISTURBED = 0.1
"""A share of the server's CPUs that others may use."""


@dataclass(frozen=True)
class Visit:
    """One run against one server. `cpu_us`: CPU microseconds of all its processes per answer; `used`: CPUs it used;
    `load_used`: CPUs that the generator used, of `load_cpus`; `cores`, `load_cores`: how busy the CPUs of each were, by
    whatever ran there (0 to 1); `shared`: both ran on the same cores."""

    qps: float
    cpu_us: float
    used: float
    load_used: float = 0.0
    load_cpus: int = 1
    lost: int = 0
    shared: bool = False
    cores: float = 0.0
    load_cores: float = 0.0

    @property
    def load_full(self) -> bool:
        """Whether the generator could not have done more: its CPUs were full, be it of others."""
        return self.load_used >= LOAD_BUSY * self.load_cpus or self.load_cores >= LOAD_BUSY


@dataclass
class Point:
    """What was measured of `sockets` on `cpus` CPUs."""

    cpus: int
    sockets: int
    steer: str = "flow"
    shape: str = ""
    visits: list[Visit] = field(default_factory=list)

    @property
    def busy_cpus(self) -> int:
        """CPUs that so many workers can use."""
        return min(self.sockets, self.cpus)

    @property
    def shared(self) -> bool:
        """Whether server and load ran on the same cores."""
        return any(visit.shared for visit in self.visits)

    @property
    def qps(self) -> float:
        """Median of the answers a second."""
        return median(visit.qps for visit in self.visits)

    @property
    def cpu_us(self) -> float:
        """Median of the CPU microseconds per answer."""
        return median(visit.cpu_us for visit in self.visits)

    @property
    def used(self) -> float:
        """Median of the CPUs that the server used."""
        return median(visit.used for visit in self.visits)

    @property
    def lost(self) -> int:
        """Queries without an answer."""
        return sum(visit.lost for visit in self.visits)

    @property
    def server_bound(self) -> bool:
        """Whether the server had used up its CPUs."""
        return self.used >= BUSY * self.busy_cpus

    @property
    def load_bound(self) -> bool:
        """Whether the generator's CPUs were full first."""
        return not self.server_bound and any(visit.load_full for visit in self.visits)

    @property
    def disturbed(self) -> bool:
        """Whether other programs used a good part of the server's CPUs."""
        return any(v.cores * self.cpus - v.used - (v.load_used if v.shared else 0.0) > DISTURBED * self.cpus
                   for v in self.visits)

    def capacities(self, projected: bool) -> list[float]:
        """Answers a second of each visit: as measured, or what the CPUs would serve at the measured cost."""
        return [self.busy_cpus * 1e6 / v.cpu_us if projected else v.qps for v in self.visits]


@dataclass
class Curve:
    """The points of one number of CPUs and one way to steer, by sockets."""

    points: list[Point]

    def __post_init__(self) -> None:
        self.points = sorted(self.points, key=lambda point: point.sockets)

    @property
    def projected(self) -> bool:
        """Whether capacities are computed from the CPU per answer: cores were shared, or the load was too weak."""
        return any(point.shared or point.load_bound for point in self.points)

    def capacity(self, point: Point) -> float:
        """Answers a second, by which points of this curve are compared."""
        return median(point.capacities(self.projected))

    def spread(self, point: Point) -> tuple[float, float]:
        """The smallest and the largest capacity of a point's visits."""
        found = point.capacities(self.projected)
        return min(found), max(found)

    @property
    def noise(self) -> float:
        """Half the spread of a point's visits as a share of its capacity; the median over the points."""
        found = []
        for point in self.points:
            low, high = self.spread(point)
            found.append((high - low) / 2 / self.capacity(point))
        return median(found)

    @property
    def tolerance(self) -> float:
        """Differences up to this share count as none."""
        return max(TOLERANCE, self.noise)

    def best(self) -> Point:
        """The point of the largest capacity."""
        return max(self.points, key=self.capacity)

    def at(self, sockets: int) -> Point | None:
        """The point of so many sockets, if it was measured."""
        return next((point for point in self.points if point.sockets == sockets), None)

    def good(self, point: Point) -> bool:
        """Whether no other point is clearly better."""
        return self.capacity(point) >= self.capacity(self.best()) * (1 - self.tolerance)


def count(sockets: int) -> str:
    """`1 socket`, `2 sockets`."""
    return f"{sockets} socket" + ("" if sockets == 1 else "s")


def serve(sockets: int, many: int = 1) -> str:
    """The verb for so many sockets."""
    return "serves" if sockets == 1 and many == 1 else "serve"


def either(numbers: Iterable[int]) -> str:
    """`3`, `3 and 4`, `3, 4 and 6`."""
    words = list(map(str, numbers))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
