# SPDX-License-Identifier: Apache-2.0
"""multisocket: the number of sockets of a block's listeners, and how packets are spread over them.

Strategy: read the whole line first and count, as CoreDNS does, so that the errors are the same. CoreDNS knows no block
here; one that begins with an option of ours is read, any other is refused in its words. Each socket is read by one
worker process. Without a number there are as many as usable CPUs, which the supervisor knows.
"""

from __future__ import annotations

from typing import Any

from fastdns.corefile.types import Choice, Int
from fastdns.plugin import Arg, BlockPlan, ConfigError, Directive, Dispenser, Option, Plugin, Settings, SetupError

MOST = 1024
USABLE_CPUS = -1

COUNT = Int(
    1, MOST,
    below="num sockets can not be zero or negative: {value}",
    above=f"num sockets exceeds maximum ({MOST}): {{value}}",
    bad="invalid num sockets: {error}",
)
STEER = Option("steer", Choice(("flow", "cpu", "random"), bad="unknown way to steer: {text}"), default="flow",
               help="Which socket gets a packet: the one that the hash of its flow says, that of a worker on the CPU "
                    "that received it, or any.")


class Multisocket(Plugin):
    """A side directive: it serves nothing, it only says how many, and who gets what."""

    name = "multisocket"
    chain = False
    directive = Directive(
        "multisocket",
        args=(Arg("sockets", COUNT, default=USABLE_CPUS, optional=True, show="NUM_SOCKETS"),),
        options=(STEER,),
        help="Opens several sockets at each listen address, each read by a worker of its own.",
    )

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """At most one occurrence, at most one number, at most our block."""
        try:
            dispenser.next()
            words = dispenser.remaining_args()
            if len(words) > 1:
                raise dispenser.arg_err()
            values = {"sockets": USABLE_CPUS, **STEER.initial()}
            given = ["sockets"] if words else []
            if opens_block(dispenser):
                while dispenser.next_block():
                    if dispenser.val != STEER.name:
                        raise dispenser.err(f"unknown property '{dispenser.val}'")
                    values.update(STEER.read(dispenser))
                    given.append(STEER.name)
            if dispenser.next():
                raise dispenser.arg_err()
            if words:
                values["sockets"] = COUNT.read(words[0], dispenser)
        except ConfigError as error:
            raise SetupError(cls.name, error) from None
        return [Settings(values, given)]

    @classmethod
    def plan(cls, config: Settings, plan: BlockPlan) -> None:
        plan.sockets = config["sockets"]
        plan.steer = config["steer"]


def opens_block(dispenser: Dispenser) -> bool:
    """Whether a block of ours follows on the line; nothing is read."""
    before = dispenser.mark()
    ours = dispenser.next_arg() and dispenser.next() and dispenser.val == STEER.name
    dispenser.rewind(before)
    return ours
