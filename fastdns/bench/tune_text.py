# SPDX-License-Identifier: Apache-2.0
"""What the tuner found, for a terminal: tables, a plot in characters, the recommendation and why.

Strategy: a figure that was not measured but computed is marked wherever it stands.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from .errors import extra
from .tune_curve import Curve, count
from .tune_report import MARK, Report, cpus_text, strength

PLOT_WIDTH, PLOT_HEIGHT = 78, 18
MARKERS = "123456789abcdefghijklmnopqrstuvwxyz"
"""One for each number of sockets in turn; the line below the plot says which."""


def grouped(number: float) -> str:
    """`123,456`."""
    return f"{number:,.0f}"


def strengths(report: Report) -> list[str]:
    """Whether the load was strong enough, in one sentence for the numbers of CPUs that it is true of."""
    said: dict[str, list[int]] = {}
    for cpus, curve in report.curves.items():
        said.setdefault(strength(curve), []).append(cpus)
    return [f"  {', '.join(map(str, cpus))} CPU{'s' * (cpus != [1])}: {text}." for text, cpus in said.items()]


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
        figures = map(grouped, (curve.capacity(point), low, high, point.qps))
        rows.append([count(point.sockets), *figures, f"{point.cpu_us:.2f}", f"{point.used:.2f}", str(point.lost)])
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
        lines.append("  but over loopback a packet is received on the CPU of its sender: with a network card `steer "
                     "cpu` follows the card's queues")
    if sockets == report.usual:
        workers = f"{report.usual} worker{'s' * (report.usual > 1)}"
        lines.append(f"  without multisocket the server starts {workers} here: the directive is not needed")
    return lines


def text(report: Report, plot: bool = True) -> str:
    """Everything, for a terminal."""
    machine = report.machine
    parts = [
        f"fastdns tune: {report.listener}, {cpus_text(report.cpus)} usable, {machine['cpu']}, "
        f"Linux {machine['kernel']}",
        f"Load {report.load} (sockets x queries in flight on each, on each of its CPUs), {report.seconds:g} s a run:",
        *strengths(report),
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
    alone = [("", [(point.sockets, report.curve.capacity(point)) for point in report.curve.points])]
    lines = list(_lines(report)) if by_cpus else alone
    # The smallest number comes last and so on top: where lines coincide it is the one to take.
    for number, (_, line) in reversed(list(enumerate(lines))):
        marker = MARKERS[number % len(MARKERS)]
        plot.draw(plot.signal([x for x, _ in line], [y for _, y in line], marker=marker).lines())
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
