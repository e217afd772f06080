# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report: latency by percentile and answers per second over time (PNG or SVG), and a histogram in text.

Strategy: the percentile axis is logarithmic in 1/(1-p), as in HdrHistogram's plots, because what matters lies in the
last per cent. Nothing needs a display: matplotlib's Agg and SVG canvases draw into the file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .errors import BenchError, extra
from .formats import describe
from .report import Arm, Report, figures
from .tally import Histogram

FORMATS = (".png", ".svg")
COLOURS = {"server": "#1f5fa8", "floor": "#9aa3ad"}
INK, GRID = "#22272e", "#dfe3e8"
NINES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)
STEPS = 200
MOST_BINS = 100
FRAME = 8
"""Columns of the histogram that are not bins: labels and frame."""
HEIGHT = 14


def curve(histogram: Histogram) -> tuple[list[float], list[float]]:
    """x = 1/(1-p) and the latency in ms at that percentile, evenly spaced in log x up to the last answer."""
    if histogram.count < 2:
        return [], []
    xs = [math.exp(step / STEPS * math.log(histogram.count)) for step in range(STEPS + 1)]
    return xs, [*(histogram.percentile(100 * (1 - 1 / x)) * 1e3 for x in xs[:-1]), histogram.max * 1e3]


def course(arm: Arm) -> tuple[list[float], list[float], list[float]]:
    """Seconds and answers per second over all rounds behind each other, and where each round begins."""
    xs: list[float] = []
    ys: list[float] = []
    starts: list[float] = []
    start = 0.0
    for one in arm.rounds:
        starts.append(start)
        for point in one.course:
            xs.append(start + point.at)
            ys.append(point.qps)
        start += one.tally.seconds
        xs.append(start)
        ys.append(math.nan)
    return xs, ys, starts


def check_path(path: str) -> None:
    """Raises BenchError when no picture can be made of this name."""
    if Path(path).suffix.lower() not in FORMATS:
        raise BenchError(f"--plot {path}: the name must end in {' or '.join(FORMATS)}")


def draw(report: Report, path: str) -> None:
    """Writes the picture; its format is the ending of its name. Raises BenchError."""
    check_path(path)
    figure = extra("matplotlib.figure").Figure(figsize=(11, 4.9), dpi=144, layout="constrained")
    rc = extra("matplotlib").rc_context
    with rc({"font.family": "DejaVu Sans", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "fastdns"}):
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        _latency(left, report)
        _course(right, report)
        figure.suptitle(_headline(report), x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
        machine = report.machine
        below = f"{describe(report)}\n{machine}; {machine.versions}"
        figure.supxlabel(below, x=0.01, ha="left", fontsize=7.5, color="#57606a")
        try:
            figure.savefig(path, metadata={"Date": None} if path.lower().endswith(".svg") else None)
        except OSError as error:
            raise BenchError(f"--plot {path}: {error.strerror}") from None


def _headline(report: Report) -> str:
    found = figures(report)
    parts = [f"{found['qps'].median:,.0f} queries per second"]
    if "cpu" in found:
        parts.append(f"{found['cpu'].median:.2f} µs of CPU per answer")
    if "floor" in found:
        parts.append(f"{found['floor'].median:.2f} × the floor")
    return " · ".join(parts) + ("" if report.quotable else "  (not to be quoted)")


def _style(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8c959f")


def _arms(report: Report) -> list[tuple[str, Arm]]:
    """The floor first, so that the server's line lies above it."""
    return [("floor", report.floor), ("server", report.server)] if report.floor else [("server", report.server)]


def _latency(axes: Any, report: Report) -> None:
    _style(axes, "Latency by percentile (ms)")
    ticker = extra("matplotlib.ticker")
    far = 2.0
    axes.set_xscale("log")
    axes.set_yscale("log")
    for who, arm in _arms(report):
        xs, ys = curve(arm.total().latency)
        if xs:
            axes.plot(xs, ys, color=COLOURS[who], linewidth=2, label=who)
            far = max(far, xs[-1])
    shown = [nine for nine in NINES if 1 / (1 - nine / 100) <= far]
    axes.set_xlim(1, far)
    axes.set_xticks([1 / (1 - nine / 100) for nine in shown], [f"{nine:g}" for nine in shown])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set_xlabel("percentile", color=INK)
    if report.floor:
        axes.legend(frameon=False, loc="upper left", reverse=True)


def _course(axes: Any, report: Report) -> None:
    _style(axes, "Answers per second over time")
    ticker = extra("matplotlib.ticker")
    for who, arm in _arms(report):
        xs, ys, starts = course(arm)
        axes.plot(xs, ys, color=COLOURS[who], linewidth=2, label=who)
        if who == "server":
            for start in starts[1:]:
                axes.axvline(start, color="#8c959f", linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    rounds = len(report.server.rounds)
    axes.set_xlabel("seconds" + (" (dotted: next round)" if rounds > 1 else ""), color=INK)


def histogram(report: Report, width: int = 80) -> str:
    """The server's latency distribution in text, bins evenly spaced in log time. Raises BenchError."""
    values = [((low + high) / 2, count) for low, high, count in report.server.total().latency.buckets()]
    if not values:
        return "  no latency was recorded\n"
    low, high = max(values[0][0], 1e-9), max(values[-1][0], 2e-9)
    span = max(math.log(high / low), 1e-9)
    bins = max(8, min(MOST_BINS, width - FRAME))
    counts = [0] * bins
    for value, number in values:
        place = int(math.log(max(value, low) / low) / span * bins)
        counts[min(place, bins - 1)] += number
    shares = [count / sum(counts) * 100 for count in counts]
    most = max(shares)
    places = [round(step * (bins - 1) / 4) for step in range(5)]
    edges = [low * math.exp((place + 0.5) / bins * span) * 1e3 for place in places]
    plot = extra("plotext").figure
    plot.clear()
    plot.theme("colorless")
    plot.draw(plot.bar(list(range(bins)), shares, width=1, lines=False))
    # One column of the terminal for each bin.
    plot.ruler("x").lim(-0.5, bins - 0.5).ticks(places, [f"{edge:.3g}" for edge in edges])
    heights = [most * quarter / 4 for quarter in range(5)]
    plot.ruler("y").lim(0, most).ticks(heights, [f"{share:4.1f} %" for share in heights])
    plot.label("latency (ms), log scale; height: share of answers", "x")
    plot.plot_size(bins + FRAME, HEIGHT)
    drawn = str(plot.build().string(colorless=True))
    plot.clear()
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"
