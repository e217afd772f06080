# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: bench/results/<date>.json, the same as Markdown, and the table in the project's README.

Strategy: the JSON holds everything, and the tables are made of it alone, so an old result can be shown again: `python
-m bench.load --table FILE`. Ratios are shown first, because they travel between machines and CPU times do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = 1
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NOISY = "~"
WRONG_TOO_MUCH = 1e-4  # of the answers: one that comes late to a port that is used again is no sign of anything
ASKED_TOO_MUCH = 0.01  # questions per answer: a few retries are no sign of a cache that does not keep
US = "fastdns"
FLOOR = "floor"
DETAILS = (
    "server", "CPU µs/answer", "spread", "× floor", "answers/s", "p50 µs", "p99 µs", "lost", "upstream/answer"
)

Result = Mapping[str, Any]


class MarkerError(ValueError):
    """A document without the two markers, or with them in the wrong order."""


def write_json(path: Path, result: Result) -> None:
    """The result, one key a line, so that two of them can be compared by `diff`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, sort_keys=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A result that `write_json` wrote. Raises ValueError for another schema or no JSON."""
    result = json.loads(path.read_text())
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise ValueError(f"{path}: no result of schema {SCHEMA}")
    return result


def put_between_markers(path: Path, text: str) -> None:
    """Replaces what stands between the markers of a document. Doing it twice changes nothing. Raises MarkerError."""
    document = path.read_text()
    begin, end = document.find(BEGIN), document.find(END)
    if begin < 0 or end < begin:
        raise MarkerError(f"{path}: needs {BEGIN} and, behind it, {END}")
    path.write_text(f"{document[: begin + len(BEGIN)]}\n{text.strip()}\n{document[end:]}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Three figures, or a dash for what was not measured."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def label(scenario: Result) -> str:
    """The name and shape, with a mark when its rounds were too far apart."""
    return f"{NOISY if scenario['noisy'] else ''}{scenario['name']}, {scenario['shape']}"


def machine(result: Result) -> str:
    """One sentence about where and how the figures were taken, and how to take them again."""
    facts = result["machine"]
    where = f"{facts['cpu']}, {facts['usable_cores']} cores, Linux {facts['kernel']}, {facts['python']}"
    how = f"{result['rounds']} rounds of {result['seconds']:g} s, turn about"
    return f"{result['date']}: {where}; {how}. Again: `{result['command']}`."


def servers(result: Result) -> list[str]:
    """The servers that took part, fastdns first."""
    found = {arm["name"]: None for scenario in result["scenarios"] for arm in scenario["arms"]}
    return [US, *(name for name in found if name not in (US, FLOOR))]


def ratios(result: Result) -> str:
    """CPU per answer as multiples of the floor's: a row for each scenario and shape, a column for each server."""
    columns = servers(result)
    rows = []
    for scenario in result["scenarios"]:
        if scenario["skipped"] or scenario.get("attack"):
            continue
        arms = {arm["name"]: arm for arm in scenario["arms"]}
        floor = arms.get(FLOOR, {}).get("cpu_us")
        cells = [number(arms[name]["ratio"]) if name in arms else "–" for name in columns]
        rows.append([label(scenario), number(floor), *cells])
    return table(["scenario", "floor, µs", *columns], rows)


def details(result: Result) -> str:
    """A table for each scenario and shape, with all that was measured."""
    parts = []
    for scenario in result["scenarios"]:
        parts.append(f"### {label(scenario)}\n\n{scenario['about']}.\n")
        if scenario["skipped"]:
            parts.append(f"Skipped: {scenario['skipped']}.\n")
            continue
        rows = [
            [
                arm["name"],
                number(arm["cpu_us"]),
                f"{number(arm['cpu_us_low'])}–{number(arm['cpu_us_high'])}",
                number(arm["ratio"]),
                number(arm["qps"]),
                number(arm["p50_us"]),
                number(arm["p99_us"]),
                f"{100 * arm['lost']:.2f} %",
                number(arm["asked_upstream"]),
            ]
            for arm in scenario["arms"]
        ]
        parts.append(table(DETAILS, rows))
    return "\n".join(parts)


def remarks(result: Result) -> str:
    """What a reader must know before quoting: noise, what was skipped, who was missing, which versions took part."""
    lines = []
    noisy = [
        f"{label(scenario).removeprefix(NOISY)} ({'; '.join(scenario['noisy'])})"
        for scenario in result["scenarios"]
        if scenario["noisy"]
    ]
    if noisy:
        lines.append(f"**Too noisy to quote** (marked {NOISY}): {', '.join(noisy)}.")
    lines += [f"Skipped: {one['name']} ({one['skipped']})." for one in result["scenarios"] if one["skipped"]]
    lines += [
        f"Left out: {name} in {label(one).removeprefix(NOISY)} ({why})."
        for one in result["scenarios"]
        for name, why in one["left_out"].items()
    ]
    lines += [text for one in result["scenarios"] for text in doubts(one)]
    lines += [text for one in result["scenarios"] for text in attacks(one)]
    if result["missing"]:
        lines.append(f"Not installed, so not measured: {', '.join(result['missing'])}.")
    if result["releases"]:
        lines.append("Versions: " + "; ".join(f"{name}: {text}" for name, text in result["releases"].items()) + ".")
    return "\n\n".join(lines) + ("\n" if lines else "")


def attacks(scenario: Result) -> list[str]:
    """The figure of an attack for each server, and whether it holds the bound."""
    if not scenario.get("attack"):
        return []
    said = []
    bound, least = scenario["holds"], scenario["attack"] != "trickle"
    for arm in scenario["arms"]:
        if (figure := arm.get("held")) is not None:
            held = figure >= bound if least else figure <= bound
            said.append(f"{scenario['name']}, {scenario['shape']}: {arm['name']} {figure:.2f} "
                        f"({'holds' if held else '**does not hold**'} {'at least' if least else 'at most'} {bound:g}).")
    return said


def doubts(scenario: Result) -> list[str]:
    """What makes a figure mean something else than its column says: wrong answers, answers that came from behind."""
    said = []
    for arm in scenario["arms"]:
        where = f"{scenario['name']}, {scenario['shape']}: {arm['name']}"
        if arm["wrong"] > WRONG_TOO_MUCH:
            said.append(f"{where} gave {100 * arm['wrong']:.2f} % answers that were not what was asked for.")
        asked, fresh = arm["asked_upstream"], scenario["fresh"]
        if asked is not None and fresh is not None and asked > fresh + ASKED_TOO_MUCH:
            said.append(f"{where} asked its upstream {asked:.2f} times per answer, where {fresh:.2f} were new.")
    return said


def summary(result: Result) -> str:
    """What stands in the README between the markers."""
    what = (
        "CPU time per answer, of all processes of a server, as multiples of the floor: a program that only sends\n"
        "packets back. What each scenario is: [bench/README.md](bench/README.md)."
    )
    return f"{what}\n\n{ratios(result)}\n{machine(result)}\n\n{remarks(result)}".strip() + "\n"


def page(result: Result) -> str:
    """The whole result as a page."""
    first = f"# Load scenarios, {result['date']}\n\n{ratios(result)}\n{machine(result)}\n\n{remarks(result)}"
    return f"{first}\n## In detail\n\n{details(result)}"
