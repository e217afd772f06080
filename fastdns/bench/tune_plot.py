# SPDX-License-Identifier: Apache-2.0
"""The tuner's picture: capacity by CPUs for each number of sockets, and the curve that decides (PNG or SVG).

Strategy: the lines are coloured from light to dark by their number, the recommended one stands out; hollow marks are
figures that were computed, filled ones were measured. Nothing needs a display.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from .errors import BenchError, extra
from .plot import GRID, INK
from .tune_curve import Curve, count
from .tune_report import Report, cpus_text

CHOSEN, PALE, BAND = "#c2410c", "#57606a", "#fbe6da"
LIGHT, DARK = (0x86, 0xAB, 0xD3), (0x12, 0x3A, 0x6B)
HOLLOW = ("\nHollow marks and dashes: computed from the CPU per answer, because the load shared the server's CPUs or "
          "was too weak")
WAYS = {"flow": "o", "cpu": "s", "random": "D"}
APART = 0.052
"""What two names keep between them, as a share of the highest figure."""


def draw(report: Report, path: str) -> None:
    """Writes the picture; its format is the ending of its name. Raises BenchError."""
    figure = extra("matplotlib.figure").Figure(figsize=(11, 5.2), dpi=144, layout="constrained")
    with extra("matplotlib").rc_context({"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "none",
                                         "svg.hashsalt": "fastdns"}):
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
        _by_cpus(left, report)
        _by_sockets(right, report)
        figure.suptitle(f"multisocket {report.advice.sockets} for {cpus_text(report.cpus)}: {report.listener}",
                        x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
        machine = report.machine
        hollow = HOLLOW if any(curve.projected for curve in report.curves.values()) else ""
        figure.supxlabel(f"load {report.load}, {report.seconds:g} s a run, {report.rounds} runs a point; "
                         f"{machine['cpu']}, {machine['cores']} CPUs, Linux {machine['kernel']}, "
                         f"{machine['python']}{hollow}",
                         x=0.01, ha="left", fontsize=7.5, color=PALE)
        try:
            figure.savefig(path, metadata={"Date": None} if path.lower().endswith(".svg") else None)
        except OSError as error:
            raise BenchError(f"--plot {path}: {error.strerror}") from None


def _shade(at: float) -> str:
    """A colour between light (0) and dark (1)."""
    return "#" + "".join(f"{round(low + (high - low) * at):02x}" for low, high in zip(LIGHT, DARK, strict=True))


def _by_cpus(axes: Any, report: Report) -> None:
    numbers = sorted({point.sockets for curve in report.curves.values() for point in curve.points})
    ends: list[tuple[float, int, str, str]] = []
    for at, sockets in enumerate(numbers):
        chosen = sockets == report.advice.sockets
        colour = CHOSEN if chosen else _shade(at / max(1, len(numbers) - 1))
        line = [(cpus, curve.capacity(point), curve.projected) for cpus, curve in report.curves.items()
                if (point := curve.at(sockets)) is not None]
        for (x0, y0, _), (x1, y1, computed) in pairwise(line):
            axes.plot([x0, x1], [y0, y1], color=colour, linewidth=2.4 if chosen else 1.5,
                      linestyle=(0, (4, 2)) if computed else "-", zorder=4 if chosen else 3)
        for x, y, computed in line:
            axes.plot([x], [y], "o", color=colour, markersize=6.5 if chosen else 5,
                      markerfacecolor="white" if computed else colour, zorder=6 if chosen else 5)
        ends.append((line[-1][1], line[-1][0], count(sockets), colour))
    top = max(curve.spread(point)[1] for curve in report.curves.values() for point in curve.points)
    _frame(axes, f"{report.title} by CPUs, a line for each number of sockets", "CPUs of the server", top)
    axes.set_xticks(list(report.curves))
    last = report.cpus
    axes.set_xlim(0 if last > 1 else 0.5, last * 1.02 + max(0.2, last * 0.16))
    _name_ends(axes, ends, top)


def _name_ends(axes: Any, ends: list[tuple[float, int, str, str]], top: float) -> None:
    """Names at the ends of the lines, moved apart where they would stand on each other."""
    ends = sorted(ends)
    for (y, x, name, colour), place in zip(ends, apart([y / top for y, *_ in ends]), strict=True):
        axes.annotate(name, (x, y), (x + axes.get_xlim()[1] * 0.02, place * top), va="center", fontsize=8, color=colour,
                      fontweight="bold" if colour == CHOSEN else "normal")


def apart(places: Sequence[float]) -> list[float]:
    """Ascending places, moved so that neighbours keep APART; each group stays about where it was."""
    groups: list[tuple[float, int]] = []  # middle, members
    for place in places:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < APART * (groups[-1][1] + groups[-2][1]) / 2:
            (high, many), (low, few) = groups.pop(), groups.pop()
            groups.append(((high * many + low * few) / (many + few), many + few))
    return [middle + APART * (number - (members - 1) / 2) for middle, members in groups for number in range(members)]


def _by_sockets(axes: Any, report: Report) -> None:
    curve = report.curve
    xs = list(range(len(curve.points)))
    best = curve.capacity(curve.best())
    axes.axhspan(best * (1 - curve.tolerance), best, color=BAND, zorder=1)
    axes.annotate(f"within {curve.tolerance:.1%} of the best", (xs[0] - 0.4, best * (1 - curve.tolerance)), (0, -3),
                  textcoords="offset points", va="top", fontsize=7.5, color=CHOSEN)
    for x, point in zip(xs, curve.points, strict=True):
        chosen = point.sockets == report.advice.sockets
        low, high = curve.spread(point)
        value = curve.capacity(point)
        colour = CHOSEN if chosen else "#1f5fa8"
        axes.errorbar([x], [value], [[value - low], [high - value]], fmt="o", color=colour, capsize=4, linewidth=1.4,
                      markersize=7 if chosen else 5.5, markerfacecolor="white" if curve.projected else colour, zorder=5)
    ys = [curve.capacity(point) for point in curve.points]
    axes.plot(xs, ys, color="#1f5fa8", linewidth=1.2, alpha=0.5, zorder=3)
    _ways(axes, report, xs)
    ways = report.ways.get(report.load, [])
    top = max([curve.spread(point)[1] for point in curve.points] + [Curve(ways).capacity(point) for point in ways])
    _frame(axes, f"The curve that decides: {cpus_text(report.cpus)}", "sockets, CPU µs per answer", top)
    axes.set_xticks(xs, [f"{point.sockets}\n{point.cpu_us:.2f}" for point in curve.points])
    axes.set_xlim(xs[0] - 0.5, xs[-1] + 0.5)


def _ways(axes: Any, report: Report, xs: list[int]) -> None:
    """The other ways to steer, beside the recommended number."""
    points = report.ways.get(report.load, [])
    if not points:
        return
    curve = Curve(points)
    at = xs[[point.sockets for point in report.curve.points].index(report.advice.sockets)]
    for number, point in enumerate(point for point in points if point.steer != "flow"):
        axes.plot([at + 0.16 * (number + 1)], [curve.capacity(point)], WAYS[point.steer], color=CHOSEN, markersize=4.5,
                  markerfacecolor="white", linestyle="none", label=f"steer {point.steer}", zorder=6)
    axes.legend(loc="lower right", fontsize=7.5, frameon=False, labelcolor=INK)


def _frame(axes: Any, title: str, xlabel: str, top: float) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylim(0, top * 1.12)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(colors=INK, length=0)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value / 1000:,.0f} k" if value else "0")
