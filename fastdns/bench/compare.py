# SPDX-License-Identifier: Apache-2.0
"""Two reports side by side: what got better, what got worse, and whether that is more than the threshold.

Strategy: a comparison of figures from different machines or of different questions means nothing, so it is refused,
with every difference named, unless it is forced. What only explains a change (versions of fastdns, Python, the
compiler) is shown and never refused. The verdict rests on CPU per answer and queries per second, medians over the
rounds; the other figures are shown beside them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from .errors import BenchError
from .formats import ROWS
from .report import Machine, Report, Scenario, figures
from .turns import Spread

THRESHOLD = 5.0
"""Percent."""
DECIDING = {"qps": 1, "cpu": -1}
"""The figures that decide, and the direction that is better."""
BETTER = {**DECIDING, "floor": -1, "p50": -1, "p99": -1}
SAME_MACHINE = ("cpu", "family", "architecture", "cores", "usable_cores", "governor", "virtual", "kernel")
MAY_DIFFER = ("fastdns", "python", "compiler", "libc")
LENGTHS = ("duration", "warm")
"""Parts of a scenario that make its figures more or less certain, but not other figures."""
NOTHING = Spread(0.0, 0.0, 0.0)
MORE_FAILED = 0.001
"""A share of lost and wrong answers that grew by more than this is a regression whatever the figures say."""


@dataclass
class Change:
    """One figure before and after; `percent` is positive where the figure grew."""

    key: str
    words: str
    old: str
    new: str
    percent: float
    verdict: str
    """`better`, `worse`, `same`; empty for a figure that does not decide."""


@dataclass
class Comparison:
    """All changes, the reasons why they may mean nothing, and the verdict."""

    changes: list[Change]
    notes: list[str]
    regression: bool


def obstacles(old_machine: Machine, old: Scenario, machine: Machine, new: Scenario) -> list[str]:
    """Why the two may not be compared: each field of machine and scenario in which they differ."""
    found = []
    for name in SAME_MACHINE:
        before, after = getattr(old_machine, name), getattr(machine, name)
        if before != after:
            found.append(f"machine.{name}: {before!r} then, {after!r} now")
    for entry in dataclasses.fields(new):
        before, after = getattr(old, entry.name), getattr(new, entry.name)
        if before != after and entry.name not in LENGTHS:
            found.append(f"scenario.{entry.name}: {before!r} then, {after!r} now")
    return found


def require_same(old_machine: Machine, old: Scenario, machine: Machine, new: Scenario) -> None:
    """Raises BenchError where reports of the two cannot be compared."""
    differences = obstacles(old_machine, old, machine, new)
    if differences:
        raise BenchError("cannot compare (--force does it nevertheless):\n  " + "\n  ".join(differences))


def compare(old: Report, new: Report, threshold: float = THRESHOLD, force: bool = False) -> Comparison:
    """Compare; `threshold` is in percent. Raises BenchError where the two cannot be compared."""
    if not force:
        require_same(old.machine, old.scenario, new.machine, new.scenario)
    differences = obstacles(old.machine, old.scenario, new.machine, new.scenario)
    before, after = figures(old), figures(new)
    if not any(key in after and before.get(key, NOTHING).median for key in DECIDING):
        raise BenchError("cannot compare: neither queries per second nor CPU per answer is in both")
    changes = []
    for key, words, form, factor in ROWS:
        was, now = before.get(key), after.get(key)
        if was is None or now is None or not was.median:
            continue
        percent = (now.median - was.median) / was.median * 100
        verdict = _verdict(percent * DECIDING[key], threshold) if key in DECIDING else ""
        changes.append(Change(key, words, form.format(was.median * factor), form.format(now.median * factor),
                              percent, verdict))
    notes = [f"forced although {difference}" for difference in differences]
    for name in MAY_DIFFER:
        was_version, now_version = getattr(old.machine, name), getattr(new.machine, name)
        if was_version != now_version:
            notes.append(f"{name}: {was_version} then, {now_version} now")
    notes += [f"the {when} run is not to be quoted: {remark.text}" for when, report in (("old", old), ("new", new))
              for remark in report.remarks if not report.quotable]
    failed = _failed(new) - _failed(old)
    if failed > MORE_FAILED:
        notes.append(f"lost and wrong answers rose by {failed:.2%} of the queries")
    return Comparison(changes, notes, failed > MORE_FAILED or any(one.verdict == "worse" for one in changes))


def _verdict(gain: float, threshold: float) -> str:
    return "better" if gain > threshold else "worse" if gain < -threshold else "same"


def _failed(report: Report) -> float:
    """The share of queries without a right answer."""
    tally = report.server.total()
    return (tally.lost + tally.wrong) / tally.sent if tally.sent else 0.0


def _row(one: Change) -> str:
    return f"  {one.words + ':':<26}{one.old:>12} -> {one.new:>12}  {one.percent:+7.1f} %  {one.verdict}".rstrip()


def text(found: Comparison, threshold: float) -> str:
    """The comparison as a table for people."""
    lines = [f"Compared with the old run (threshold {threshold:g} %):", ""]
    lines += [_row(one) for one in found.changes]
    lines += ["", *(f"  {note}" for note in found.notes)]
    if found.notes:
        lines.append("")
    lines.append(f"  Verdict: {'REGRESSION' if found.regression else 'no regression'}")
    return "\n".join(lines) + "\n"
