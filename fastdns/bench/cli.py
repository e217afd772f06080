# SPDX-License-Identifier: Apache-2.0
"""`fastdns bench`: reads the words, checks what can be checked, measures, and hands the report to each output.

Strategy: everything that could make a finished measurement useless is tried before it: the old report is read and
compared by machine and scenario, the libraries are imported, the places of the files looked at. Exit statuses are in
`--help`; an interrupted run shows what it has and ends with 130, as a shell expects.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from . import compare, formats
from .arguments import Options, parser, read
from .errors import FINE, INTERRUPTED, REGRESSION, BenchError, extra, outcome
from .progress import progress
from .report import Report
from .session import Session
from .summary import summary

FILES: dict[str, Callable[[Report], str]] = {
    "json": formats.to_json,
    "csv": formats.to_csv,
    "markdown": formats.to_markdown,
    "hdr": formats.to_hgrm,
}


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `fastdns bench`; returns the exit status."""
    if words[:1] == ["--scaling"]:
        from .scaling_check import scaling_main

        return scaling_main(words[1:], out, err)

    def answer() -> int:
        options = read(words)
        if options is None:
            out.write(parser().format_help())
            return FINE
        return run(options, out, err)

    return outcome("fastdns bench", " before anything was measured", err, answer)


def run(options: Options, out: TextIO, err: TextIO) -> int:
    """Measure and write. Raises FastdnsError."""
    old = formats.read_report(options.compare) if options.compare else None
    _prepare(options)
    session = Session(options)
    if old is not None and not options.force:
        compare.require_same(old.machine, old.scenario, session.machine, session.scenario)
    shown = progress(out, err, options.progress)
    try:
        report = session.measure(shown)
    finally:
        shown.close()
    _write(options, report, out)
    piped = any(getattr(options, name) == "-" for name in FILES)
    if not piped:
        out.write(summary(report))
        if options.histogram:
            from .plot import histogram

            out.write("\n" + histogram(report, shutil.get_terminal_size().columns))
    status = FINE
    if old is not None:
        found = compare.compare(old, report, options.threshold, options.force)
        (err if piped else out).write("\n" + compare.text(found, options.threshold))
        status = REGRESSION if found.regression else FINE
    return INTERRUPTED if session.interrupted else status


def outputs(options: Options) -> Iterator[tuple[str, str]]:
    """(option, file) of each file that is to be written."""
    for name in (*FILES, "plot"):
        if getattr(options, name):
            yield name, getattr(options, name)


def _prepare(options: Options) -> None:
    """Whatever would fail after the measurement fails before it. Raises BenchError."""
    needed = {"plot": "matplotlib.figure", "hdr": "hdrh.histogram", "histogram": "plotext"}
    for name, module in needed.items():
        if getattr(options, name):
            try:
                extra(module)
            except BenchError as error:
                raise BenchError(f"--{name}: {error}") from None
    for name, path in outputs(options):
        folder = Path(path).parent
        if path != "-" and (Path(path).is_dir() or not os.access(folder, os.W_OK)):
            raise BenchError(f"--{name} {path}: cannot be written")


def _write(options: Options, report: Report, out: TextIO) -> None:
    for name, path in outputs(options):
        if name == "plot":
            from .plot import draw

            draw(report, path)
        elif path == "-":
            out.write(FILES[name](report))
        else:
            try:
                Path(path).write_text(FILES[name](report))
            except OSError as error:
                raise BenchError(f"--{name} {path}: {error.strerror}") from None
