# SPDX-License-Identifier: Apache-2.0
"""The grammar of loop: CoreDNS's, which has neither words nor a block, and a block of ours.

Strategy: a block that begins with an option of ours is read; anything else is refused in CoreDNS's words.
"""

from __future__ import annotations

from fastdns.corefile.types import Choice, Duration, Located
from fastdns.plugin import Directive, Dispenser, Option, Settings

STOP, QUARANTINE = "stop", "quarantine"
SECONDS = 30.0

ACTION = Option(
    "action", Choice((STOP, QUARANTINE), bad=Located("unknown action '{text}'")), default=STOP,
    help="What is done about a loop: the server ends, or the upstream that sends queries back is asked nothing more.")
INTERVAL = Option(
    "interval", Duration(1, 86400, below=Located("interval {duration} is out of range: 1s to 24h")), default=SECONDS,
    show="DURATION", help="How often a quarantined upstream is probed again; any other after ten times as long.")
OPTIONS = (ACTION, INTERVAL)


def occurrence(d: Dispenser) -> Settings:
    """One `loop`."""
    values = {**ACTION.initial(), **INTERVAL.initial()}
    given: list[str] = []
    table = {option.name: option for option in OPTIONS}
    if not opens_block(d) and d.next_arg():
        raise d.arg_err()
    while d.next_block():
        if d.val not in table:
            raise d.err(f"unknown property '{d.val}'")
        given.append(d.val)
        values.update(table[d.val].read(d))
    return Settings(values, given)


def opens_block(d: Dispenser) -> bool:
    """Whether a block of ours follows on the line; nothing is read."""
    before = d.mark()
    ours = d.next_arg() and d.val == "{" and d.next() and d.val in {option.name for option in OPTIONS}
    d.rewind(before)
    return ours


LOOP = Directive(
    "loop", options=OPTIONS, once=True, parse_one=occurrence,
    help="Finds out whether queries that are forwarded come back, and ends the server, or asks that upstream no more.")
