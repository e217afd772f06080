# SPDX-License-Identifier: Apache-2.0
"""`fastdns check`: every mistake of a Corefile at once, with its line, its column and what was meant.

Strategy: text for people on standard output, one JSON object for programs; the exit status is the answer for scripts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, TextIO

from ..corefile import Source
from ..errors import ConfigError
from .examine import Examined, examine
from .findings import ERROR, WARNING, Finding, Findings
from .show import Lines, Paint, json_of, summary, text_of
from .words import FINE, MISTAKES, STDIN, USAGE, Parser, UsageError, common, put, shown, source


def parser() -> Parser:
    """The options; their order is that of `--help`."""
    made = Parser(
        prog="fastdns check", allow_abbrev=False, add_help=False,
        description="Reads Corefiles as the server does, sets their plugins up, and does nothing else: no socket, no "
        "file written, no question asked, nothing started. Without FILE: ./Corefile; - is standard input.",
        epilog="Exit status: 0 no mistakes, 1 mistakes, 2 wrong usage.")
    made.add_argument("files", nargs="*", metavar="FILE", help="Corefiles to check")
    common(made)
    made.add_argument("--strict", action="store_true", help="a warning counts as a mistake")
    return made


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `fastdns check`; returns the exit status."""
    try:
        options = parser().read(words)
        names = [*options.conf, *options.files] or [""]
        if sum(name in STDIN for name in names) > 1:
            raise UsageError("standard input can be read once")
    except UsageError as error:
        err.write(f"fastdns check: {error}\nfastdns check --help lists the options\n")
        return USAGE
    if options.help:
        out.write(parser().format_help())
        return FINE
    return run(options, names, out)


def run(options: argparse.Namespace, names: Sequence[str], out: TextIO) -> int:
    """Check and show; returns the exit status."""
    paint, answers, worst = Paint(out, options.color), [], FINE
    texts: list[str] = []
    for name in names:
        findings, lines, seen = look(name, options.port)
        bad = findings.count(ERROR) or (options.strict and findings.count(WARNING))
        worst = MISTAKES if bad else worst
        if options.json:
            answers.append(as_json(findings, lines, seen, not bad))
            continue
        texts += [text_of(one, lines, paint) + "\n" for one in findings.ordered()]
        texts.append(f"{paint('place', findings.filename)}: {summary(findings)}{size_of(seen)}\n")
    if options.json:
        answer = {"ok": worst == FINE, "files": answers}
        texts = [json.dumps(answer, ensure_ascii=False, indent=2) + "\n"]
    put(out, "".join(texts))
    return worst


def look(name: str, port: int) -> tuple[Findings, Lines, Examined | None]:
    """Check one Corefile; one that cannot be read has that as its mistake."""
    try:
        text = source(name, port)
    except ConfigError as error:
        findings = Findings(shown(name))
        findings.add(Finding(ERROR, shown(name), 0, 0, str(error), str(error)))
        return findings, Lines(Source(shown(name), b"")), None
    seen = examine(text, port)
    return seen.findings, Lines(text), seen


def size_of(seen: Examined | None) -> str:
    """` (2 blocks, 1 listener)` for a Corefile without mistakes."""
    if seen is None or seen.generation is None:
        return ""
    blocks, listeners = len(seen.generation.blocks), len(seen.generation.listeners)
    return f" ({blocks} block{'s' * (blocks != 1)}, {listeners} listener{'s' * (listeners != 1)})"


def as_json(findings: Findings, lines: Lines, seen: Examined | None, ok: bool) -> dict[str, Any]:
    """What was found in one Corefile, as plain values."""
    return {
        "file": findings.filename,
        "ok": ok,
        "errors": findings.count(ERROR),
        "warnings": findings.count(WARNING),
        "imports": list(seen.files) if seen is not None else [],
        "findings": json_of(findings.ordered(), lines),
    }
