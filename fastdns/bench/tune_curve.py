# SPDX-License-Identifier: Apache-2.0
"""The tuner's judgement: which numbers of sockets to try, which one to take, and what the rules of thumb are worth.

Strategy: pure functions over points that were measured, so that synthetic curves can test them. What is compared is a
point's *capacity*: the answers a second that were measured where the load had cores of its own and was strong enough;
where it was not, what the cores would serve at the measured CPU per answer. One curve never mixes the two. The smallest
number of sockets that is not clearly worse than the best is taken: each socket is a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

TOLERANCE = 0.03
"""Smaller differences of capacity are none, whatever the noise."""
BUSY = 0.9
"""A server that uses this share of what it may use is saturated."""
LOAD_BUSY = 0.95
"""A generator that uses this share of its cores may be the limit itself."""
DISTURBED = 0.1
"""A share of the server's CPUs that others may use."""
NOISY = 0.1
"""A spread of capacity beyond which the recommendation says that it is not to be trusted."""
PATIENCE = 2
"""So many numbers in a row that do not help end the search."""
REFINEMENTS = 4


@dataclass(frozen=True)
class Visit:
    """One run against one server. `cpu_us`: CPU microseconds of all its processes per answer; `used`: CPUs that it used;
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
        """Whether the generator could not have done more: its CPUs were full, even if others filled them."""
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


@dataclass(frozen=True)
class Advice:
    """`sockets` to set, and why: one sentence for each reason. `rising`: more sockets than were tried may help."""

    sockets: int
    reasons: tuple[str, ...]
    rising: bool = False


def ladder(cpus: int, most: int) -> list[int]:
    """Numbers of sockets to try, ascending: 1, 2, 3, 4, 6, 8, 12, 16 … and the number of CPUs."""
    steps = {cpus} if cpus <= most else set()
    step = 1
    while step <= most:
        steps |= {step, step * 3 // 2} if step > 1 else {step}
        step *= 2
    return sorted(number for number in steps if number <= most)


def search(measure: Callable[[int], float], cpus: int, most: int, tolerance: float = TOLERANCE) -> dict[int, float]:
    """Capacity by sockets: up the ladder until more does not help, then between the rungs for the smallest that does."""
    found: dict[int, float] = {}
    best, idle = 0.0, 0
    for sockets in ladder(cpus, most):
        found[sockets] = measure(sockets)
        idle = 0 if found[sockets] > best * (1 + tolerance) else idle + 1
        best = max(best, found[sockets])
        if idle >= PATIENCE and sockets >= min(cpus, most):
            break
    for _ in range(REFINEMENTS):
        between = _between(found, tolerance)
        if between is None:
            break
        found[between] = measure(between)
    return dict(sorted(found.items()))


def _between(found: dict[int, float], tolerance: float) -> int | None:
    """A number that was not tried and may be the one: just below the smallest good one, or beside the best."""
    numbers = sorted(found)
    best = max(numbers, key=lambda number: found[number])
    good = next(number for number in numbers if found[number] >= found[best] * (1 - tolerance))
    # Steps of less than an eighth drown in the tolerance.
    gaps = [(low, high) for low, high in pairwise(numbers) if high - low > max(1, low // 8)]
    for low, high in gaps:
        if high == good:
            return (low + high) // 2
    for low, high in gaps:
        # A peak between two rungs shows as a best one whose neighbour is clearly lower.
        if best in (low, high) and min(found[low], found[high]) < found[best] * (1 - tolerance):
            return (low + high) // 2
    return None


def recommend(curve: Curve, most: int = 0) -> Advice:
    """The smallest number of sockets that is not clearly worse than the best. `most`: the largest that might be tried."""
    chosen = next(point for point in curve.points if curve.good(point))
    at = curve.points.index(chosen)
    fewer, more = curve.points[:at], curve.points[at + 1:]
    reasons = []
    if fewer:
        gain = curve.capacity(chosen) / curve.capacity(fewer[-1]) - 1
        reasons.append(f"{count(chosen.sockets)} {serve(chosen.sockets)} {gain:.1%} more than {fewer[-1].sockets}")
    worse = [point for point in more if curve.capacity(point) < curve.capacity(chosen) * (1 - curve.tolerance)]
    equal = [point for point in more if point not in worse]
    if equal:
        reasons.append(f"{either(point.sockets for point in equal)} {serve(equal[0].sockets, len(equal))} no more "
                       f"(differences up to {curve.tolerance:.1%} count as none)")
    if worse:
        lowest = min(worse, key=curve.capacity)
        loss = 1 - curve.capacity(lowest) / curve.capacity(chosen)
        reasons.append(f"{lowest.sockets} {serve(lowest.sockets)} {loss:.1%} less")
    rising = not more and len(curve.points) > 1 and bool(most) and chosen.sockets >= most
    if rising:
        reasons.append("no larger number was tried: the curve may go on rising")
    if curve.noise > NOISY:
        reasons.append(f"but the runs differ by {curve.noise:.0%}: measure again on a quieter machine")
    return Advice(chosen.sockets, tuple(reasons), rising)


def choose_steering(points: Sequence[Point]) -> tuple[str, Curve]:
    """The way to steer at one number of sockets: by flow unless another is clearly better. Also the points as a curve."""
    curve = Curve(list(points))
    flow = next(point for point in points if point.steer == "flow")
    best = max(points, key=curve.capacity)
    clear = curve.capacity(best) > curve.capacity(flow) * (1 + curve.tolerance)
    return (best.steer if clear else "flow"), curve


@dataclass(frozen=True)
class Rule:
    """A rule of thumb, what it says here, and whether the measurement agrees (None: it says nothing about that)."""

    rule: str
    says: str
    agrees: bool | None
    verdict: str


def rules_of_thumb(curve: Curve, cpus: int, one: Point | None = None) -> list[Rule]:
    """What the manual of CoreDNS's multisocket advises, held against the curve of `cpus` CPUs. `one`: a point of one
    socket with CPUs of its own, where the curve's has none."""
    return [_as_many_as_cpus(curve, cpus), _available_by_used(curve, cpus, one or curve.at(1)), _no_harm(curve)]


def _judge(curve: Curve, sockets: int) -> tuple[bool | None, str]:
    point = curve.at(sockets)
    if point is None:
        return None, f"{sockets} was not measured"
    best = curve.best()
    share = curve.capacity(point) / curve.capacity(best)
    if curve.good(point):
        return True, f"{sockets} {serve(sockets)} {share:.1%} of the best"
    return False, f"{sockets} {serve(sockets)} only {share:.1%} of what {best.sockets} {serve(best.sockets)}"


def _as_many_as_cpus(curve: Curve, cpus: int) -> Rule:
    return Rule("as many sockets as CPUs", f"{cpus}", *_judge(curve, cpus))


def _available_by_used(curve: Curve, cpus: int, one: Point | None) -> Rule:
    rule = "CPUs allowed / CPUs that one socket uses"
    if one is None or one.shared or one.used <= 0:
        return Rule(rule, "-", None, "one socket was not measured on CPUs of its own")
    sockets = max(1, round(cpus / one.used))
    return Rule(rule, f"{cpus} / {one.used:.2f} = {sockets}", *_judge(curve, sockets))


def _no_harm(curve: Curve) -> Rule:
    rule = "1 to 10 sockets do no harm"
    few = [point for point in curve.points if point.sockets <= 10]
    tried = f"tried: {', '.join(str(point.sockets) for point in few)}"
    high = few[0]
    for point in few[1:]:
        if curve.capacity(point) < curve.capacity(high) * (1 - curve.tolerance):
            loss = 1 - curve.capacity(point) / curve.capacity(high)
            return Rule(rule, tried, False, f"{point.sockets} {serve(point.sockets)} {loss:.1%} less than {high.sockets}")
        high = max(high, point, key=curve.capacity)
    if len(few) < 2:
        return Rule(rule, tried, None, "only one number was measured")
    return Rule(rule, tried, True, "none serves clearly less than a smaller number")


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
