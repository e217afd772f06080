# SPDX-License-Identifier: Apache-2.0
"""`fastdns explain`: what a Corefile comes to, and which way a question goes.

Strategy: a Corefile with mistakes is shown as `fastdns check` shows it, and explained when it has none.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
from collections.abc import Sequence
from typing import Any, TextIO

from .._log import TYPES
from ..corefile.names import fqdn, is_domain_name
from .cli import as_json, look
from .explain import Question, explain, ways
from .explain_show import text
from .findings import ERROR
from .show import Paint, summary, text_of
from .words import FINE, MISTAKES, USAGE, Parser, UsageError, common, put

CLASSES = {"IN": 1, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}
NUMBERED = re.compile(r"(TYPE|CLASS)([0-9]{1,5})", re.IGNORECASE | re.ASCII)


def parser() -> Parser:
    """The options; their order is that of `--help`."""
    made = Parser(
        prog="fastdns explain", allow_abbrev=False, add_help=False,
        description="Shows the listeners, blocks and plugins of a Corefile in the order in which a query meets them, "
        "which run compiled and which in Python. With NAME: which way that question goes. Nothing is opened, asked or "
        "started.",
        epilog="Exit status: 0 explained, 1 the Corefile has mistakes (shown as by check), 2 wrong usage.")
    made.add_argument("file", nargs="?", metavar="FILE", help="a Corefile, - for standard input (default ./Corefile)")
    made.add_argument("name", nargs="?", metavar="NAME", help="a name that is asked for")
    made.add_argument("type", nargs="?", metavar="TYPE", help="its type (default A)")
    common(made)
    made.add_argument("--client", type=address, metavar="ADDR", help="the client's address")
    made.add_argument("--class", dest="qclass", type=class_number, default=1, metavar="CLASS",
                      help="IN, CH ... (default IN)")
    made.add_argument("--listen", default="", metavar="LABEL", help="at this listener alone, as `dns://:53`")
    return made


def address(word: str) -> str:
    """An IP address."""
    try:
        return str(ipaddress.ip_address(word))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no IP address") from None


def _numbered(word: str, kind: str) -> int | None:
    match = NUMBERED.fullmatch(word)
    return int(match[2]) if match and match[1].upper() == kind and int(match[2]) < 65536 else None


def class_number(word: str) -> int:
    """A class by name or as CLASSnn (RFC 3597 5)."""
    number = CLASSES.get(word.upper(), _numbered(word, "CLASS"))
    if number is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no class: one of {', '.join(CLASSES)}")
    return number


def type_number(word: str) -> int:
    """A type by name or as TYPEnn (RFC 3597 5). Raises UsageError."""
    names = {name: number for number, name in TYPES.items()}
    number = names.get(word.upper(), _numbered(word, "TYPE"))
    if number is None:
        raise UsageError(f"argument TYPE: {word!r} is no type of record")
    return number


def question(options: argparse.Namespace) -> Question | None:
    """What is asked, None where nothing is. Raises UsageError."""
    if not options.name:
        if options.client or options.listen or options.qclass != 1:
            raise UsageError("--client, --class and --listen are about a question: NAME is missing")
        return None
    if not is_domain_name(options.name):
        raise UsageError(f"argument NAME: {options.name!r} is no domain name")
    try:
        return Question(options.name, type_number(options.type or "A"), options.qclass, options.client or "")
    except ValueError as error:
        raise UsageError(f"argument NAME: {error}") from None


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `fastdns explain`; returns the exit status."""
    try:
        options = parser().read(words)
        if options.help:
            out.write(parser().format_help())
            return FINE
        files = [*options.conf]
        if options.conf:
            # The file is named by the flag: what stands first is the name.
            if options.type:
                raise UsageError("one Corefile can be explained at a time")
            options.name, options.type = options.file, options.name
        elif options.file:
            files = [options.file]
        if len(files) > 1:
            raise UsageError("one Corefile can be explained at a time")
        asked = question(options)
        return run(options, files[0] if files else "", asked, out)
    except UsageError as error:
        err.write(f"fastdns explain: {error}\nfastdns explain --help lists the options\n")
        return USAGE


def run(options: argparse.Namespace, name: str, asked: Question | None, out: TextIO) -> int:
    """Explain and show; returns the exit status. Raises UsageError."""
    findings, lines, seen = look(name, options.port)
    paint = Paint(out, options.color)
    if seen is None or seen.generation is None or findings.count(ERROR):
        if options.json:
            put(out, json.dumps(as_json(findings, lines, seen, False), ensure_ascii=False, indent=2) + "\n")
            return MISTAKES
        mistakes = "".join(text_of(one, lines, paint) + "\n" for one in findings.ordered())
        put(out, f"{mistakes}{findings.filename}: {summary(findings)}\n")
        return MISTAKES
    facts: dict[str, Any] = explain(seen)
    if asked is not None:
        servers = [at["server"] for at in facts["listeners"]]
        if options.listen and options.listen not in servers:
            raise UsageError(f"argument --listen: {options.listen!r} is none of {', '.join(servers)}")
        facts["question"] = {
            "name": fqdn(asked.name),
            "type": TYPES.get(asked.qtype, f"TYPE{asked.qtype}"),
            "class": next((word for word, number in CLASSES.items() if number == asked.qclass), f"CLASS{asked.qclass}"),
            "client": str(asked.client or ""),
        }
        facts["ways"] = ways(seen, asked, [options.listen] if options.listen else [])
    if options.json:
        facts["findings"] = as_json(findings, lines, seen, True)["findings"]
        put(out, json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
        return FINE
    put(out, text(facts, paint) + "".join("\n" + text_of(one, lines, paint) for one in findings.ordered()))
    return FINE
