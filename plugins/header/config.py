# SPDX-License-Identifier: Apache-2.0
"""The grammar of header: lines of rules, of which the last that names a flag counts."""

from collections.abc import Iterable
from typing import NamedTuple

from fastdns.plugin import Directive, Dispenser, Option

FLAGS = {"aa": 0x0400, "ra": 0x0080, "rd": 0x0100}  # RFC 1035 4.1.1
SELECTORS = ("query", "response")


class Rule(NamedTuple):
    """One flag that is set, or cleared."""

    flag: str
    state: bool


class Rules(NamedTuple):
    """What one block says, in order."""

    query: tuple[Rule, ...] = ()
    response: tuple[Rule, ...] = ()


def read_rules(d: Dispenser, action: str, flags: list[str]) -> tuple[Rule, ...]:
    """The rules of one line. Raises OptionError in CoreDNS's words."""
    if not action:
        raise d.fail("setting up rule: no flag action provided")
    if not flags:
        raise d.fail("setting up rule: invalid length for flags, at least one should be provided")
    if action.lower() not in ("set", "clear"):
        raise d.fail(f"setting up rule: unknown flag action={action.lower()}, should be set or clear")
    for flag in flags:
        if flag.lower() not in FLAGS:
            raise d.fail(f"setting up rule: unknown/unsupported flag={flag.lower()}")
    return tuple(Rule(flag.lower(), action.lower() == "set") for flag in flags)


def occurrence(d: Dispenser) -> Rules:
    """The rules of the first block that has any; CoreDNS looks no further."""
    found: dict[str, tuple[Rule, ...]] = dict.fromkeys(SELECTORS, ())
    while True:
        while d.next_block():
            selector = d.val.lower()
            if selector not in SELECTORS:
                raise d.fail(f"setting up rule: invalid selector={selector} should be query or response")
            action = d.val if d.next_arg() else ""
            found[selector] += read_rules(d, action, d.remaining_args())
        if any(found.values()):
            break
        if not d.next():
            raise d.arg_err()
    while d.next():
        continue
    return Rules(found["query"], found["response"])


def masks(rules: Iterable[Rule]) -> tuple[int, int]:
    """(bits to set, bits to clear): of several rules for one flag the last counts."""
    last = {rule.flag: rule.state for rule in rules}
    return (
        sum(FLAGS[flag] for flag, state in last.items() if state),
        sum(FLAGS[flag] for flag, state in last.items() if not state),
    )


HEADER = Directive(
    "header",
    options=(
        Option("query", usage="query set|clear FLAGS...", help="Changes the query for the plugins behind."),
        Option("response", usage="response set|clear FLAGS...", help="Changes what the plugins behind answer."),
    ),
    parse_one=occurrence,
    whole=True,
    help="Sets and clears header flags.",
)
