# SPDX-License-Identifier: Apache-2.0
"""The tuner's judgement: which number of sockets to take, which way to steer, and what the rules of thumb are worth.

Strategy: pure functions over curves, so that curves that were made up can test them. The smallest number of sockets
that is not clearly worse than the best is taken: each socket is a process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .tune_curve import Curve, Point, count, either, serve

NOISY = 0.1
"""A spread of capacity beyond which the recommendation says that it is not to be trusted."""


@dataclass(frozen=True)
class Advice:
    """`sockets` to set, and why: one sentence for each reason. `rising`: more sockets than were tried may help."""

    sockets: int
    reasons: tuple[str, ...]
    rising: bool = False


def recommend(curve: Curve, most: int = 0) -> Advice:
    """The smallest number of sockets that is not clearly worse than the best. `most`: the largest to be tried."""
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
        loss = 1 - curve.capacity(worse[0]) / curve.capacity(chosen)
        reasons.append(f"{worse[0].sockets} {serve(worse[0].sockets)} {loss:.1%} less")
    rising = not more and len(curve.points) > 1 and bool(most) and chosen.sockets >= most
    if rising:
        reasons.append("no larger number was tried: the curve may go on rising")
    if curve.noise > NOISY:
        reasons.append(f"but the runs differ by {curve.noise:.0%}: measure again on a quieter machine")
    return Advice(chosen.sockets, tuple(reasons), rising)


def choose_steering(points: Sequence[Point]) -> str:
    """The way to steer at one number of sockets: by flow unless another is clearly better."""
    curve = Curve(list(points))
    flow = next(point for point in points if point.steer == "flow")
    best = max(points, key=curve.capacity)
    clear = curve.capacity(best) > curve.capacity(flow) * (1 + curve.tolerance)
    return best.steer if clear else "flow"


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
    if one.load_bound:
        return Rule(rule, "-", None, "the load was too weak to see what one socket can use")
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
            verdict = f"{point.sockets} {serve(point.sockets)} {loss:.1%} less than {high.sockets}"
            return Rule(rule, tried, False, verdict)
        high = max(high, point, key=curve.capacity)
    if len(few) < 2:
        return Rule(rule, tried, None, "only one number was measured")
    return Rule(rule, tried, True, "none serves clearly less than a smaller number")
