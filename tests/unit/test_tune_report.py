# SPDX-License-Identifier: Apache-2.0
"""The tuner's words and pictures, of reports that were made up."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench import tune_plot, tune_report, tune_text
from fastdns.bench.errors import BenchError
from fastdns.bench.tune_advice import choose_steering, recommend, rules_of_thumb
from fastdns.bench.tune_curve import Curve, Point, Visit
from fastdns.bench.tune_report import Report
from fastdns.bench.tune_run import by_core, steps
from fastdns.bench.tune_search import ladder

MACHINE: dict[str, str | int] = {"cpu": "A Processor", "cores": 2, "kernel": "6.1", "python": "CPython 3.11"}


def visit(cpus: int, sockets: int, shared: bool, cost: float) -> Visit:
    busy = min(cpus, sockets)
    half = 0.5 if shared else 1.0
    return Visit(busy * half * 1e6 / cost, cost, busy * half, busy * half * 0.9, cpus, 0, shared)


def made(cpus: int = 2, ways: bool = True) -> Report:
    """A report of a machine with so many CPUs, the last curve of shared cores."""
    dice = random.Random(1)
    curves = {}
    for step in steps(cpus):
        shared = step == cpus
        curves[step] = Curve([
            Point(step, sockets, "flow", "64x4",
                  [visit(step, sockets, shared, 5.0 * (1 + 0.1 * max(0, sockets - step)) * dice.uniform(0.99, 1.01))
                   for _ in range(3)])
            for sockets in ladder(step, 2 * step)])
    advice = recommend(curves[cpus])
    report = Report("2026-01-01T00:00:00+00:00", MACHINE, "dns://:53", True, 0, cpus, "64x4", 1.5, 3, curves, advice,
                    "flow", rules_of_thumb(curves[cpus], cpus))
    if ways:
        for shape, gains in (("64x4", (1.0, 1.01, 0.99)), ("8x128", (1.0, 0.8, 1.3))):
            report.ways[shape] = [
                Point(cpus, advice.sockets, steer, shape, [visit(cpus, advice.sockets, True, 5.0 / gain)])
                for steer, gain in zip(("flow", "cpu", "random"), gains, strict=True)]
            report.best_ways[shape] = choose_steering(report.ways[shape])
    return report


def test_the_words() -> None:
    text = tune_text.text(made())
    lines = text.splitlines()
    assert lines[0] == "fastdns tune: dns://:53, 2 CPUs usable, A Processor, Linux 6.1"
    assert "  1 CPU: strong enough, the server's CPUs were full." in lines
    assert any(line.startswith("  2 CPUs: SHARED CORES") for line in lines)
    begin = next(number for number, line in enumerate(lines) if line.startswith("  Cache QPS by CPUs "))
    head, one, two = lines[begin:begin + 3]
    assert head.split() == ["Cache", "QPS", "by", "CPUs", "1", "CPU", "2", "CPUs"]
    # What was computed is marked, what was measured is not.
    assert [cell.endswith("*") for cell in one.split()[2:]] == [False, True]
    assert [cell.endswith("*") for cell in two.split()[2:]] == [False, True]
    at = lines.index("Recommendation: multisocket 2")
    assert lines[at + 1].startswith("  2 sockets serve ")
    assert "  load 64x4: no other way to steer serves more than flow" in lines
    assert "  load 8x128: steer random serves 30% more than flow" in lines
    assert "  without multisocket the server starts 2 workers here: the directive is not needed" in lines


@pytest.mark.parametrize("cpus", [1, 2, 16])
def test_the_plot_in_characters(cpus: int) -> None:
    report = made(cpus)
    plot = tune_text.terminal_plot(report)
    lines = plot.splitlines()
    assert all(len(line) <= tune_text.PLOT_WIDTH for line in lines)
    assert "\x1b" not in plot
    if cpus == 1:
        assert "sockets" in plot
        return
    assert "Cache QPS by CPUs, a line for each number of sockets" in lines[0]
    keys = " ".join(plot.split("CPUs\n")[-1].split())
    numbers = sorted({point.sockets for curve in report.curves.values() for point in curve.points})
    for marker, sockets in zip(tune_text.MARKERS, numbers, strict=False):
        assert f"{marker}: {sockets} socket" in keys


def test_the_json_holds_what_decides() -> None:
    report = made()
    plain = json.loads(tune_report.to_json(report))
    assert plain["schema"] == "fastdns-tune/1"
    assert plain["recommendation"]["sockets"] == report.advice.sockets == 2
    assert plain["recommendation"]["without_multisocket"] == 2
    shown = {curve["cpus"]: curve for curve in plain["curves"]}
    assert (shown[1]["projected"], shown[2]["projected"], shown[2]["shared"]) == (False, True, True)
    best = max(shown[2]["points"], key=lambda point: point["capacity"])
    assert best["sockets"] == 2
    assert best["capacity"] == pytest.approx(2e6 / best["cpu_us_per_answer"])
    assert all(len(point["visits"]) == 3 for curve in plain["curves"] for point in curve["points"])
    assert [row["load"] for row in plain["steering"]] == ["64x4", "8x128"]
    assert [row["best"] for row in plain["steering"]] == ["flow", "random"]


@pytest.mark.parametrize(("cpus", "ways"), [(1, False), (2, True), (64, True)])
def test_the_picture(cpus: int, ways: bool, tmp_path: Path) -> None:
    png, svg = tmp_path / "curve.png", tmp_path / "curve.svg"
    tune_plot.draw(made(cpus, ways), str(png))
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") > 1200
    report = made(cpus, ways)
    tune_plot.draw(report, str(svg))
    text = svg.read_text()
    assert f"multisocket {report.advice.sockets} for {tune_report.cpus_text(cpus)}: dns://:53" in text
    for sockets in (point.sockets for point in report.curve.points):
        assert f">{sockets} socket" in text
    assert ("steer random" in text) == ways
    tune_plot.draw(report, str(tmp_path / "again.svg"))
    assert (tmp_path / "again.svg").read_text() == text
    with pytest.raises(BenchError, match="No such file"):
        tune_plot.draw(report, str(tmp_path / "none" / "x.png"))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=18).map(sorted))
def test_names_stand_apart_and_in_order(places: list[float]) -> None:
    moved = tune_plot.apart(places)
    assert len(moved) == len(places)
    for low, high in pairwise(moved):
        assert high - low >= tune_plot.APART * 0.999
    assert sum(moved) == pytest.approx(sum(places))


def test_threads_of_a_core_stand_together() -> None:
    assert sorted(by_core([3, 1, 2, 0])) == [0, 1, 2, 3]
    assert steps(1) == [1] and steps(2) == [1, 2] and steps(6) == [1, 2, 4, 6] and steps(8) == [1, 2, 4, 8]
