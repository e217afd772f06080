# SPDX-License-Identifier: Apache-2.0
"""The command line of the load scenarios: which are run, how long, and where the result goes.

usage: python -m bench.load [NAME ...] [--short] [--list] [--save] [--table FILE]
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers import PEERS
from fastdns.bench.cpu import machine
from fastdns.bench.ending import by_signals

from . import report, scenario
from .arms import Plan, Skipped, plan_for
from .run import run

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"
LONG = (5, 3.0, 1.0)  # rounds, seconds measured in each, seconds of warming
INTERRUPTED = 130  # as a shell says of SIGINT
SHORT = (3, 0.6, 0.15)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The words of the command line. Ends the process with 2 for words that make no sense."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="fastdns, the floor and other servers.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="scenarios to run (default: all)")
    parser.add_argument("--short", action="store_true", help="few and short rounds: minutes for all")
    parser.add_argument("--rounds", type=int, help="rounds that count, at least 1")
    parser.add_argument("--seconds", type=float, help="seconds that each turn is measured")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--save", action="store_true", help="write bench/results/<date>.* and the README's table")
    parser.add_argument("--table", metavar="FILE", type=Path, help="show a result that was saved, measure nothing")
    options = parser.parse_args(words)
    if (options.rounds is not None and options.rounds < 1) or (options.seconds is not None and options.seconds <= 0):
        parser.error("--rounds and --seconds must be positive")
    if options.save and options.names:
        parser.error("--save is for a run of all scenarios")
    return options


def measured(chosen: Sequence[scenario.Scenario], plan: Plan, command: str) -> dict[str, Any]:
    """Runs the scenarios one after the other; gives the whole result. Says on standard error how far it is."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    results = []
    for one in chosen:
        for result in run(one, plan, say):
            if result["skipped"]:
                say(f"{one.name}: skipped, {result['skipped']}")
            results.append(result)
    wanted = sorted({name for one in chosen for name in one.peers})
    there = [name for name in wanted if PEERS[name].path()]
    return {
        "schema": report.SCHEMA,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": machine(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "releases": {name: PEERS[name].release() for name in there},
        "missing": [name for name in wanted if name not in there],
        "scenarios": results,
    }


def save(result: report.Result, folder: Path = RESULTS, readme: Path = README) -> None:
    """The result's JSON and page, and the README's table. The newest run of a day is kept."""
    base = folder / result["date"]
    report.write_json(base.with_suffix(".json"), result)
    base.with_suffix(".md").write_text(report.page(result))
    report.put_between_markers(readme, report.summary(result))
    print(f"written: {base.with_suffix('.json')}, {base.with_suffix('.md')}, {readme}", file=sys.stderr)


def main(words: Sequence[str]) -> int:
    """Runs what is asked for; returns the exit status: 1 if our own server failed, or the words made no sense."""
    options = arguments(words)
    try:
        if options.table:
            print(report.page(report.read_json(options.table)))
            return 0
        chosen = [scenario.load(name, PEERS) for name in options.names or scenario.names()]
        chosen.sort(key=lambda one: one.place)
        if options.list:
            print("\n".join(f"{one.name:10} {one.about}" for one in chosen))
            return 0
        rounds, seconds, warm = SHORT if options.short else LONG
        plan = plan_for(options.rounds or rounds, options.seconds or seconds, warm)
        result = measured(chosen, plan, " ".join(["python -m bench.load", *words]))
        print(report.page(result))
        if options.save:
            save(result)
    except (scenario.ScenarioError, Skipped, OSError, ValueError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench.load: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 1 if any(one["failed"] for one in result["scenarios"]) else 0


if __name__ == "__main__":
    with by_signals():
        sys.exit(main(sys.argv[1:]))
