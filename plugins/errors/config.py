# SPDX-License-Identifier: Apache-2.0
"""The grammar of errors; `consolidate` reads its own line, because a level has to stand before show_first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastdns.corefile.regexes import compile_regex
from fastdns.corefile.types import Expecting, Text
from fastdns.corefile.units import parse_duration
from fastdns.plugin import Arg, Directive, Dispenser, Option

REGEXP_MAX = 10000
LEVELS = ("warning", "error", "info", "debug")


class Pattern(NamedTuple):
    """Errors that `regexp` matches are counted for `seconds` and told in one line at `level`."""

    seconds: float
    regexp: str
    level: str
    show_first: bool


def pattern(d: Dispenser) -> Pattern:
    """One consolidate line; the current token is `consolidate`. Raises CorefileError in CoreDNS's words."""
    words = d.remaining_args()
    if not 2 <= len(words) <= 4:
        raise d.arg_err()
    try:
        seconds = parse_duration(words[0])
        if len(words[1].encode()) > REGEXP_MAX:
            raise d.err(f"regex pattern too long: {len(words[1].encode())} > {REGEXP_MAX}")
        compile_regex(words[1])
    except ValueError as error:
        raise d.err(str(error)) from None
    level, show_first = "", False
    for word in words[2:]:
        if word in LEVELS:
            if level:
                raise d.err("multiple log levels specified in consolidate")
            if show_first:
                raise d.err("log level must come before show_first in consolidate")
            level = word
        elif word == "show_first":
            show_first = True
        else:
            raise d.err(f"unknown option in consolidate: {word}")
    return Pattern(seconds, words[1], level or "error", show_first)


def consolidate(d: Dispenser) -> Mapping[str, Any]:
    """The row's keys: patterns are tried in the order of their lines, so the lines are joined."""
    return {"patterns": (pattern(d),)}


class File(Text):
    """The word `stdout`."""

    def read(self, text: str, d: Dispenser) -> str:
        if text != "stdout":
            raise d.err(f"invalid log file: {text}")
        return text

    def bounds(self) -> str:
        return "`stdout`"


ERRORS = Directive(
    "errors",
    args=(Arg("file", File(), default="stdout", optional=True, show="stdout"),),
    options=(
        Option("stacktrace", surplus="leave", help="Logs the traceback of a plugin that raised."),
        Option(
            "consolidate",
            parse=consolidate,
            defaults={"patterns": ()},
            repeat="join",
            usage="consolidate DURATION REGEXP [LEVEL] [show_first]",
            help="Counts errors that match for a while, then tells in one line how many there were.",
        ),
    ),
    once=True,
    unknown=Expecting("Unknown field {text}"),
    help="Writes a line for each query that failed.",
)
