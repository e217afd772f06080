# SPDX-License-Identifier: Apache-2.0
"""The grammar of log: names, a format, classes; every line of the block is one set of rules."""

from typing import Any, NamedTuple

from fastdns.corefile.types import Choice, Text
from fastdns.plugin import Arg, Directive, Option, Settings

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)
COMBINED = COMMON + ' "{>opcode}"'
CLASSES = ("all", "success", "denial", "error")


class Rule(NamedTuple):
    """Names at and below `scope` are logged by `format` if the reply is of one of the `classes`."""

    scope: str
    format: str
    classes: tuple[str, ...]


def rules(lines: list[Any]) -> tuple[Rule, ...]:
    """The rules of a block's lines in the order in which they are tried."""
    found = []
    for line in lines:
        names, text = list(line["names"]), COMMON
        # A single word is a name, whatever it looks like.
        if len(names) > 1 and "{" in names[-1]:
            text = names.pop().replace("{common}", COMMON).replace("{combined}", COMBINED)
        classes = line["classes"] or ("all",)
        found += [Rule(name if name.endswith(".") else f"{name}.", text, classes) for name in names or ["."]]
    return tuple(found)


LOG: Directive = Directive(
    "log",
    usage="log [NAMES... [FORMAT]]",
    args=(Arg("names", Text(), optional=True, rest=True, show="NAMES|FORMAT"),),
    options=(
        Option(
            "class",
            args=(Arg("classes", Choice(CLASSES, bad="invalid Class: {text}"), default=(), rest=True, show="CLASS"),),
            repeat="join",
            help="Logs only replies of these classes; without it all of them.",
        ),
    ),
    help="Writes a line for each query.",
)

__all__ = ["CLASSES", "COMBINED", "COMMON", "LOG", "Rule", "Settings", "rules"]
