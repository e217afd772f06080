# SPDX-License-Identifier: Apache-2.0
"""What the tuner found, and its JSON.

Strategy: one dataclass that holds everything that was measured and judged; each form (text, picture, JSON) only
words it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from .tune_advice import Advice, Rule
from .tune_curve import Curve, Point

SCHEMA = "fastdns-tune/1"
MARK = "*"


@dataclass
class Report:
    """`curves`: by number of CPUs, the last is the one that decides. `ways`: by shape of load, the points of each way
    to steer. `usual`: workers that the server starts without `multisocket`. `written`: what became of the Corefile.
    `took`: seconds."""

    taken: str
    machine: dict[str, str | int]
    listener: str
    cached: bool
    sockets_now: int
    usual: int
    load: str
    seconds: float
    rounds: int
    curves: dict[int, Curve]
    advice: Advice
    steer: str
    rules: list[Rule]
    ways: dict[str, list[Point]] = field(default_factory=dict)
    best_ways: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    written: str = ""
    took: float = 0.0

    @property
    def cpus(self) -> int:
        """The CPUs that the recommendation is for."""
        return max(self.curves)

    @property
    def curve(self) -> Curve:
        """The curve that decides."""
        return self.curves[self.cpus]

    @property
    def title(self) -> str:
        """What the curve shows."""
        return "Cache QPS" if self.cached else "QPS"


def cpus_text(cpus: int) -> str:
    """`1 CPU`, `2 CPUs`."""
    return f"{cpus} CPU" + ("" if cpus == 1 else "s")


def strength(curve: Curve) -> str:
    """Whether the load was strong enough for a curve, in one sentence."""
    others = "; OTHER PROGRAMS used its CPUs too" if any(point.disturbed for point in curve.points) else ""
    return _saturation(curve) + others


def _saturation(curve: Curve) -> str:
    if any(point.shared for point in curve.points):
        return (f"SHARED CORES, load and server divide them: ranked by CPU per answer; the figures marked {MARK} are "
                "what the CPUs would serve at that cost without the load")
    if any(point.load_bound for point in curve.points):
        return ("TOO WEAK, the load's cores were full before the server's: ranked by CPU per answer, figures marked "
                f"{MARK}")
    if not any(point.server_bound for point in curve.points):
        used = max(point.used / point.busy_cpus for point in curve.points)
        return f"the server used only {used:.0%} of its CPUs and the load had time left: something else is the limit"
    return "strong enough, the server's CPUs were full"


def _point(curve: Curve, point: Point) -> dict[str, Any]:
    low, high = curve.spread(point)
    return {"sockets": point.sockets, "steer": point.steer, "load": point.shape, "capacity": curve.capacity(point),
            "capacity_low": low, "capacity_high": high, "qps": point.qps, "cpu_us_per_answer": point.cpu_us,
            "cpus_used": point.used, "lost": point.lost, "server_bound": point.server_bound,
            "load_bound": point.load_bound, "visits": [asdict(visit) for visit in point.visits]}


def to_json(report: Report) -> str:
    """One JSON object, with a final newline. Times are seconds unless a name says otherwise."""
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "taken": report.taken,
        "machine": report.machine,
        "listener": report.listener,
        "cached": report.cached,
        "cpus": report.cpus,
        "load": report.load,
        "seconds": report.seconds,
        "rounds": report.rounds,
        "took": report.took,
        "curves": [{"cpus": cpus, "projected": curve.projected, "shared": any(p.shared for p in curve.points),
                    "noise": curve.noise, "strength": strength(curve),
                    "points": [_point(curve, point) for point in curve.points]}
                   for cpus, curve in report.curves.items()],
        "steering": [{"load": shape, "best": report.best_ways[shape],
                      "points": [_point(Curve(points), point) for point in points]}
                     for shape, points in report.ways.items()],
        "rules": [asdict(rule) for rule in report.rules],
        "recommendation": {"sockets": report.advice.sockets, "steer": report.steer,
                           "reasons": list(report.advice.reasons), "rising": report.advice.rising,
                           "sockets_now": report.sockets_now,
                           "without_multisocket": report.usual},
        "notes": report.notes,
        "written": report.written,
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
