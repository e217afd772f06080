# SPDX-License-Identifier: Apache-2.0
"""`fastdns tune`: finds the number of sockets that serves most, shows the curve, and may write it into the Corefile.

Strategy: whatever could fail after the measurement is tried before it: the edit of the Corefile, the libraries, the
places of the files. Then: a load that is strong enough, the curve by CPUs, the ways to steer, the judgement.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ..corefile.addresses import DNS
from ..corefile.source import Corefile, Source, load_source, read_source
from . import cpu, questions, tune_report, tune_text, tune_write
from .errors import FINE, BenchError, UsageError, extra, outcome
from .tune_advice import choose_steering, recommend, rules_of_thumb
from .tune_copy import Copy, Subject, copy
from .tune_curve import Curve, Point
from .tune_run import Bench, Plan, usable
from .words import Parser, decimal, whole

MOST_SOCKETS = 1024
LEAST_MOST = 3
MODES = ("flow", "cpu", "random")
NAMES = 1000


def parser() -> argparse.ArgumentParser:
    """The options; their order is that of `--help`."""
    made = Parser(
        prog="fastdns tune", allow_abbrev=False, add_help=False,
        description="Measures multisocket 1, 2, 3 and so on with copies of a Corefile's listener, on this machine, "
        "until more does not help, and recommends a number. A server that runs already is not touched.",
        epilog="Exit status: 0 fine, 2 nothing measured or nothing written, 130 interrupted.")
    made.add_argument("-h", "--help", action="store_true", help="this text")
    made.add_argument("-conf", "--conf", default="", metavar="COREFILE", help="Corefile to tune (default ./Corefile)")
    made.add_argument("-dns.port", "--dns.port", "-p", dest="port", type=whole(0, 65535), default=53, metavar="PORT",
                      help="default port of its blocks, as at the server (default 53)")
    made.add_argument("--listen", default="", metavar="LABEL",
                      help="which listener, as `dns://:53` or `127.0.0.1:53` (default: the first)")
    made.add_argument("--most", type=whole(1, MOST_SOCKETS), metavar="N",
                      help="largest number of sockets to try (default: twice the usable CPUs)")
    made.add_argument("--seconds", type=decimal(0.1, 3600, "seconds"), default=1.5, metavar="SECONDS",
                      help="length of a run (default 1.5)")
    made.add_argument("--rounds", type=whole(1, 100), default=3, metavar="N",
                      help="runs of each point that decides (default 3)")
    made.add_argument("-d", "--data", default="", metavar="FILE",
                      help=f"questions in dnsperf's form (default: {NAMES} names in the listener's first zone)")
    made.add_argument("--upstreams", action="store_true", help="let `forward` ask the real upstreams")
    made.add_argument("--no-steering", action="store_true", help="do not measure the ways to steer")
    made.add_argument("--write", action="store_true", help="put the recommended number into the Corefile")
    made.add_argument("--write-steering", action="store_true",
                      help="with --write: put the best way to steer there too, if it is not by flow")
    made.add_argument("--json", default="", metavar="FILE",
                      help="everything as one JSON object; - is standard output, alone")
    made.add_argument("--plot", default="", metavar="FILE", help="a picture, .png or .svg")
    made.add_argument("--no-progress", action="store_true", help="say nothing while it measures")
    return made


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `fastdns tune`; returns the exit status."""

    def answer() -> int:
        options = parser().parse_args(list(words))
        if options.help:
            out.write(parser().format_help())
        else:
            run(options, out, err)
        return FINE

    return outcome("fastdns tune", "; nothing was written", err, answer)


def run(options: argparse.Namespace, out: TextIO, err: TextIO) -> None:
    """Measure, print, write. Raises FastdnsError."""
    source = read_source(options.conf, options.port)
    corefile, subjects = listeners(source, options.port)
    subject = choose(subjects, options.listen)
    copied = copy(corefile, subject, options.upstreams)
    _prepare(options, source, subject)
    plan, usual = make_plan(options, copied)

    def say(text: str) -> None:
        if not options.no_progress:
            err.write(f"{text}\n")
            err.flush()

    bench = Bench(plan, say)
    begin = time.monotonic()
    try:
        with bench.upstream():
            bench.strengthen()
            bench.draw()
            report = judge(bench, subject, usual, options)
    except OSError as error:
        raise BenchError(f"cannot measure: {error}") from None
    report.took = time.monotonic() - begin
    others = [other.label for other in subjects if other is not subject]
    report.notes = [f"Measured is a copy: {note}." for note in copied.notes] + bench.remarks()
    if others:
        report.notes.append(f"Not measured: {', '.join(others)} (--listen).")
    if options.write:
        report.written = write(options, source, subject, report)
    _show(options, report, out)


def listeners(source: Source, port: int) -> tuple[Corefile, list[Subject]]:
    """The Corefile and what it listens on for `dns://`, in its order. Raises ConfigError."""
    from .. import chain

    corefile = load_source(source, chain.known(), chain.not_built(), port)
    generation = chain.load(corefile)
    found = []
    for at in generation.listeners:
        where = (at.scheme, at.address, at.port)
        if at.scheme != DNS:
            continue
        blocks: dict[int, None] = {}
        zones: dict[str, None] = {}
        for block in generation.blocks:
            for key in block.listen_keys():
                if (key.key.scheme, key.address, key.key.port) == where:
                    blocks[block.source.index] = None
                    zones[key.key.zone] = None
        found.append(Subject(at.server, *where, at.sockets, at.steer, tuple(blocks), tuple(zones)))
    return corefile, found


def choose(subjects: Sequence[Subject], wanted: str) -> Subject:
    """The listener of a label, with or without its scheme; the first where none is wanted. Raises BenchError."""
    for subject in subjects:
        if wanted in ("", subject.label, subject.label.partition("://")[2]):
            return subject
    if not subjects:
        raise BenchError("the Corefile listens on nothing that can be measured: no dns:// key")
    raise BenchError(f"--listen {wanted}: the Corefile listens on {', '.join(subject.label for subject in subjects)}")


def make_plan(options: argparse.Namespace, copied: Copy) -> tuple[Plan, int]:
    """What to measure, and how many workers the server starts without `multisocket`. Raises FastdnsError."""
    from ..server import placement

    have = placement.limits()
    cpus = placement.usable_cpus(have)
    if options.data:
        asked = questions.read(options.data)
    else:
        try:
            asked = questions.synthetic(NAMES, zone=copied.zone)
        except ValueError as error:
            raise BenchError(f"no names can be made up below {copied.zone}: {error} (--data)") from None
    most = min(options.most or max(2 * cpus, LEAST_MOST), MOST_SOCKETS)
    plan = Plan(copied, asked, cpus, most, options.seconds, options.rounds, usable(), quota=have.quota is not None)
    return plan, placement.default_workers(have)


def judge(bench: Bench, subject: Subject, usual: int, options: argparse.Namespace) -> tune_report.Report:
    """Recommend, and measure the ways to steer at that number."""
    plan = bench.plan
    curves = {}
    for point in bench.points.values():
        if point.visits and point.cpus not in curves:
            curves[point.cpus] = bench.curve(point.cpus)
    curve = curves[plan.cpus]
    advice = recommend(curve, plan.most)
    report = tune_report.Report(
        taken=datetime.now(UTC).isoformat(timespec="seconds"), machine=cpu.machine(), listener=subject.label,
        cached=plan.copy.caches, sockets_now=subject.sockets, usual=usual, load=bench.shape.name, seconds=plan.seconds,
        rounds=plan.rounds, curves=dict(sorted(curves.items())), advice=advice, steer="flow",
        rules=rules_of_thumb(curve, plan.cpus, alone(curves)))
    if advice.sockets > 1 and not options.no_steering:
        report.ways = bench.ways(advice.sockets, MODES)
        report.best_ways = {shape: choose_steering(points) for shape, points in report.ways.items()}
        report.steer = report.best_ways[bench.shape.name]
    return report


def alone(curves: dict[int, Curve]) -> Point | None:
    """One socket on the most CPUs that the load did not share."""
    found = [point for _, curve in sorted(curves.items()) if (point := curve.at(1)) is not None and not point.shared]
    return found[-1] if found else None


def write(options: argparse.Namespace, source: Source, subject: Subject, report: tune_report.Report) -> str:
    """Put the recommendation into the Corefile; says what was done. Raises BenchError."""
    steer = report.steer if options.write_steering and report.ways else subject.steer
    path = options.conf or source.filename
    new = tune_write.edit(source.filename, source.body, subject.blocks, report.advice.sockets, steer)
    if new == source.body:
        return f"{path} says so already; it was left alone"
    tune_write.replace(path, source.body, new)
    return f"{path} was changed; a running server reads it with SIGUSR1 or by the reload directive"


def _prepare(options: argparse.Namespace, source: Source, subject: Subject) -> None:
    """Whatever would fail after the measurement fails before it. Raises BenchError."""
    if options.write_steering and (options.no_steering or not options.write):
        raise UsageError("--write-steering: needs --write, and the ways to steer to be measured")
    if options.write:
        path = options.conf or source.filename
        if options.conf == "stdin" or not Path(path).is_file():
            raise BenchError("--write: there is no file to write into")
        if not os.access(Path(os.path.realpath(path)).parent, os.W_OK):
            raise BenchError(f"--write: the folder of {path} is not writable")
        tune_write.edit(source.filename, source.body, subject.blocks, 1, subject.steer)
    if options.plot and not re.search(r"\.(png|svg)$", options.plot, re.IGNORECASE):
        raise BenchError(f"--plot {options.plot}: the name must end in .png or .svg")
    for name, module in (("plot", "matplotlib.figure"), ("json", "")):
        path = getattr(options, name)
        if path and path != "-" and (Path(path).is_dir() or not os.access(Path(path).parent, os.W_OK)):
            raise BenchError(f"--{name} {path}: cannot be written")
        if path and module:
            extra(module)
    if options.json != "-":
        extra("plotext")


def _show(options: argparse.Namespace, report: tune_report.Report, out: TextIO) -> None:
    if options.plot:
        from . import tune_plot

        tune_plot.draw(report, options.plot)
    if options.json == "-":
        out.write(tune_report.to_json(report))
        return
    out.write(tune_text.text(report))
    if options.json:
        try:
            Path(options.json).write_text(tune_report.to_json(report), encoding="utf-8")
        except OSError as error:
            raise BenchError(f"--json {options.json}: {error.strerror}") from None
