# SPDX-License-Identifier: Apache-2.0
"""multisocket: the number of sockets of a block's listeners.

Strategy: read the whole line first and count, as CoreDNS does, so that the errors are the same. Each socket is
read by one worker process. Without a number there are as many as usable CPUs, which the supervisor knows.
"""

from __future__ import annotations

from typing import Any

from fastdns.corefile.types import Int
from fastdns.plugin import Arg, BlockPlan, ConfigError, Directive, Dispenser, Plugin, Settings, SetupError

MOST = 1024
USABLE_CPUS = -1

COUNT = Int(
    1, MOST,
    below="num sockets can not be zero or negative: {value}",
    above=f"num sockets exceeds maximum ({MOST}): {{value}}",
    bad="invalid num sockets: {error}",
)


class Multisocket(Plugin):
    """A side directive: it serves nothing, it only says how many."""

    name = "multisocket"
    chain = False
    directive = Directive(
        "multisocket",
        args=(Arg("sockets", COUNT, default=USABLE_CPUS, optional=True, show="NUM_SOCKETS"),),
        help="Opens several sockets at each listen address, each read by a worker of its own.",
    )

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """At most one occurrence, at most one number, no block."""
        try:
            dispenser.next()
            words = dispenser.remaining_args()
            if len(words) > 1 or dispenser.next():
                raise dispenser.arg_err()
            sockets = COUNT.read(words[0], dispenser) if words else USABLE_CPUS
        except ConfigError as error:
            raise SetupError(cls.name, error) from None
        return [Settings({"sockets": sockets}, ("sockets",) if words else ())]

    @classmethod
    def plan(cls, config: Settings, plan: BlockPlan) -> None:
        plan.sockets = config["sockets"]
