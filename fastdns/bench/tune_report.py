# SPDX-License-Identifier: Apache-2.0
"""What the tuner found: as text with a plot for terminals, and as JSON.

Strategy: one dataclass that holds everything that was measured and judged; each form only words it. A figure that was not
measured but computed is marked wherever it stands.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .errors import extra
from .tune_curve import Advice, Curve, Point, Rule, count

SCHEMA = "fastdns-tune/1"
MARK = "*"
PLOT_WIDTH, PLOT_HEIGHT = 78, 18
MARKERS = "123456789abcdefghijklmnopqrstuvwxyz"
"""One for each number of sockets in turn; the legend says which."""


@dataclass
class Report:
    """`curves`: by number of CPUs, the last is the one that decides. `ways`: by shape of load, the points of each way to
    steer. `usual`: workers that the server starts without `multisocket`. `written`: what became of the Corefile."""

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


def grouped(number: float) -> str:
    """`123,456`."""
    return f"{number:,.0f}"


def cpus_text(cpus: int) -> str:
    """`1 CPU`, `2 CPUs`."""
    return f"{cpus} CPU" + ("" if cpus == 1 else "s")


def strength(report: Report) -> list[str]:
    """Whether the load was strong enough, in one sentence for the numbers of CPUs that it is true of."""
    said: dict[str, list[int]] = {}
    for cpus, curve in report.curves.items():
        said.setdefault(_strength(curve), []).append(cpus)
    return [f"  {', '.join(map(str, cpus))} CPU{'s' * (cpus != [1])}: {text}." for text, cpus in said.items()]


def _strength(curve: Curve) -> str:
    others = "; OTHER PROGRAMS used its CPUs too" if any(point.disturbed for point in curve.points) else ""
    return _saturation(curve) + others


def _saturation(curve: Curve) -> str:
    if any(point.shared for point in curve.points):
        return (f"SHARED CORES, load and server divide them: ranked by CPU per answer; the figures marked {MARK} are what the "
                "CPUs would serve at that cost without the load")
    if any(point.load_bound for point in curve.points):
        return f"TOO WEAK, the load's cores were full before the server's: ranked by CPU per answer, figures marked {MARK}"
    if not any(point.server_bound for point in curve.points):
        used = max(point.used / point.busy_cpus for point in curve.points)
        return f"the server used only {used:.0%} of its CPUs and the load had time left: something else is the limit"
    return "strong enough, the server's CPUs were full"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells).rstrip()


def matrix(report: Report) -> list[list[str]]:
    """Capacity by CPUs (columns) for each number of sockets (rows)."""
    rows = [[f"{report.title} by CPUs", *(cpus_text(cpus) for cpus in report.curves)]]
    numbers = sorted({point.sockets for curve in report.curves.values() for point in curve.points})
    for sockets in numbers:
        row = [count(sockets)]
        for curve in report.curves.values():
            point = curve.at(sockets)
            mark = MARK if curve.projected else ""
            row.append("" if point is None else grouped(curve.capacity(point)) + mark)
        rows.append(row)
    return rows


def details(report: Report) -> list[list[str]]:
    """The points of the curve that decides."""
    curve = report.curve
    mark = MARK if curve.projected else ""
    rows = [[f"with {cpus_text(report.cpus)}", report.title + mark, "lowest", "highest", "measured", "CPU us/answer",
             "CPUs used", "lost"]]
    for point in curve.points:
        low, high = curve.spread(point)
        rows.append([count(point.sockets), grouped(curve.capacity(point)), grouped(low), grouped(high), grouped(point.qps),
                     f"{point.cpu_us:.2f}", f"{point.used:.2f}", str(point.lost)])
    return rows


def steering_rows(report: Report) -> list[list[str]]:
    """Ways to steer by shapes of load."""
    shapes = list(report.ways)
    rows = [[f"steering at {count(report.advice.sockets)}", *(f"load {shape}" for shape in shapes)]]
    curves = [Curve(points) for points in report.ways.values()]
    for at, point in enumerate(next(iter(report.ways.values()))):
        row = [f"steer {point.steer}"]
        for curve, points in zip(curves, report.ways.values(), strict=True):
            row.append(grouped(curve.capacity(points[at])) + (MARK if curve.projected else ""))
        rows.append(row)
    return rows


def rules_rows(report: Report) -> list[list[str]]:
    """The rules of thumb and the verdict on each."""
    words = {True: "agrees", False: "DISAGREES", None: "says nothing"}
    return [[rule.rule, rule.says, f"{words[rule.agrees]}: {rule.verdict}"] for rule in report.rules]


def recommendation(report: Report) -> list[str]:
    """What to set, and why."""
    sockets = report.advice.sockets
    lines = [f"Recommendation: multisocket {sockets}"]
    lines += [f"  {reason}" for reason in report.advice.reasons]
    for shape, points in report.ways.items():
        curve, way = Curve(points), report.best_ways[shape]
        flow = next(point for point in points if point.steer == "flow")
        best = next(point for point in points if point.steer == way)
        if way == "flow":
            lines.append(f"  load {shape}: no other way to steer serves more than flow")
        else:
            gain = curve.capacity(best) / curve.capacity(flow) - 1
            lines.append(f"  load {shape}: steer {way} serves {gain:.0%} more than flow")
    if "cpu" in report.best_ways.values():
        lines.append("  but over loopback a packet is received on the CPU of its sender: with a network card `steer cpu` "
                     "follows the card's queues")
    if sockets == report.usual:
        lines.append(f"  without multisocket the server starts {report.usual} workers here: the directive is not needed")
    return lines


def text(report: Report, plot: bool = True) -> str:
    """Everything, for a terminal."""
    machine = report.machine
    parts = [
        f"fastdns tune: {report.listener}, {cpus_text(report.cpus)} usable, {machine['cpu']}, Linux {machine['kernel']}",
        f"Load {report.load} (sockets x queries in flight on each, on each of its CPUs), {report.seconds:g} s a run:",
        *strength(report),
        *report.notes,
        "",
        *table(matrix(report)),
        "",
    ]
    if plot:
        parts += [terminal_plot(report), ""]
    parts += [*table(details(report)), ""]
    if report.ways:
        parts += [*table(steering_rows(report)), ""]
    rules = rules_rows(report)
    width, said = (max(len(row[column]) for row in rules) for column in (0, 1))
    parts += ["Rules of thumb (CoreDNS's manual of multisocket)"]
    parts += [f"  {rule.ljust(width)}  {says.ljust(said)}  {verdict}" for rule, says, verdict in rules]
    parts += ["", *recommendation(report)]
    if report.written:
        parts.append(f"  {report.written}")
    parts.append(f"Measured in {report.took:.0f} s.")
    return "\n".join(parts) + "\n"


def terminal_plot(report: Report) -> str:
    """The curve in characters: by CPUs where there are several numbers of them, else by sockets. Raises BenchError."""
    plot = extra("plotext").figure
    plot.clear()
    plot.theme("colorless")
    by_cpus = len(report.curves) > 1
    lines = list(_lines(report) if by_cpus else [("", [(p.sockets, report.curve.capacity(p)) for p in report.curve.points])])
    # The smallest number comes last and so on top: where lines coincide it is the one to take.
    for number, (_, line) in reversed(list(enumerate(lines))):
        plot.draw(plot.signal([x for x, _ in line], [y for _, y in line], marker=MARKERS[number % len(MARKERS)]).lines())
    ticks = sorted({x for _, line in lines for x, _ in line})
    plot.ruler("x").lim(ticks[0] * 0.8, ticks[-1] + ticks[0] * 0.2).ticks(ticks, list(map(str, ticks)))
    highest = max(curve.capacity(curve.best()) for curve in report.curves.values())
    heights = [highest * quarter / 4 for quarter in range(5)]
    plot.ruler("y").lim(0, highest * 1.1).ticks(heights, list(map(grouped, heights)))
    plot.label("CPUs" if by_cpus else "sockets", "x")
    plot.title(f"{report.title} by {'CPUs, a line for each number of sockets' if by_cpus else 'sockets'}")
    plot.plot_size(PLOT_WIDTH, PLOT_HEIGHT)
    drawn = str(plot.build().string(colorless=True)).splitlines()
    plot.clear()
    if by_cpus:
        keys = [f"{MARKERS[number % len(MARKERS)]}: {label}" for number, (label, _) in enumerate(lines)]
        drawn += textwrap.wrap("   ".join(keys), PLOT_WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in drawn)


def _lines(report: Report) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """For each number of sockets: its label, and capacity by CPUs."""
    for sockets in sorted({point.sockets for curve in report.curves.values() for point in curve.points}):
        yield count(sockets), [(cpus, curve.capacity(point)) for cpus, curve in report.curves.items()
                               if (point := curve.at(sockets)) is not None]


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
                    "noise": curve.noise, "strength": _strength(curve), "points": [_point(curve, p) for p in curve.points]}
                   for cpus, curve in report.curves.items()],
        "steering": [{"load": shape, "best": report.best_ways[shape],
                      "points": [_point(Curve(points), point) for point in points]}
                     for shape, points in report.ways.items()],
        "rules": [asdict(rule) for rule in report.rules],
        "recommendation": {"sockets": report.advice.sockets, "steer": report.steer, "reasons": list(report.advice.reasons),
                           "rising": report.advice.rising, "sockets_now": report.sockets_now,
                           "without_multisocket": report.usual},
        "notes": report.notes,
        "written": report.written,
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
