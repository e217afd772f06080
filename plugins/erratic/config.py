# SPDX-License-Identifier: Apache-2.0
"""The grammar of erratic: all lines of a block come to one configuration, as CoreDNS reads them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastdns.corefile.units import parse_duration, parse_int, quote
from fastdns.plugin import Directive, Dispenser, Option

EVERY = 2  # queries: what an option without a number means
DELAY = 0.1  # seconds


@dataclass(frozen=True)
class Settings:
    """One in so many queries is dropped, delayed (by `seconds`), or truncated; 0: none is."""

    drop: int = EVERY
    delay: int = 0
    seconds: float = DELAY
    truncate: int = 0
    large: bool = False


def read_amount(d: Dispenser, word: str) -> int:
    """A number of queries. Raises OptionError in CoreDNS's words."""
    try:
        amount = parse_int(word, 32)
    except ValueError as error:
        raise d.fail(str(error)) from None
    if amount < 0:
        raise d.fail(f"illegal amount value given {quote(word)}")
    return amount


def read_option(d: Dispenser, found: Settings, name: str) -> Settings:
    """One line with an amount: `drop`, `delay` or `truncate`."""
    words = d.remaining_args()
    if len(words) > (2 if name == "delay" else 1):
        raise d.arg_err()
    if name == "delay":
        found = replace(found, delay=EVERY, seconds=DELAY)
    elif name == "truncate":
        found = replace(found, truncate=EVERY)
    if not words:
        return found
    amount = read_amount(d, words[0])
    if name == "drop":
        return replace(found, drop=amount)
    if name == "truncate":
        return replace(found, truncate=amount)
    found = replace(found, delay=amount)
    if len(words) > 1:
        try:
            found = replace(found, seconds=parse_duration(words[1]))
        except ValueError as error:
            raise d.fail(str(error)) from None
    return found


def read_lines(d: Dispenser) -> Settings:
    """All lines; the current token is the first one's name. What stands behind the name is not looked at."""
    found, dropping = Settings(), False
    while True:
        while d.next_block():
            if d.val == "large":
                found = replace(found, large=True)
            elif d.val in ("drop", "delay", "truncate"):
                name = d.val
                dropping = dropping or (name == "drop" and bool(d.peek_args()))
                found = read_option(d, found, name)
            else:
                raise d.err(f"unknown property '{d.val}'")
        if not d.next():
            break
    if (found.delay or found.truncate) and not dropping:
        found = replace(found, drop=0)
    return found


ERRATIC = Directive(
    "erratic",
    options=(
        Option("drop", usage="drop [AMOUNT]", help="Drops one in AMOUNT queries (2); where nothing is written, 2."),
        Option("truncate", usage="truncate [AMOUNT]", help="Sets TC in replies (2): of each query whose number has no "
                                                           "bit in common with AMOUNT."),
        Option("delay", usage="delay [AMOUNT [DURATION]]",
               help="Delays one in AMOUNT queries (2) by DURATION (100ms)."),
        Option("large", help="Answers A with thirty records."),
    ),
    parse_one=read_lines,
    help="Answers badly.",
)
