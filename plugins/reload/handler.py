# SPDX-License-Identifier: Apache-2.0
"""reload: how often the Corefile is looked at.

Strategy: the directive only says so; looking happens once for the server, in the keeper, and the supervisor swaps the
generations. Like CoreDNS it reads its first line and nothing behind it; the last block that has it wins.
"""

from __future__ import annotations

from typing import Any

from fastdns.corefile.types import Duration
from fastdns.plugin import (
    Arg,
    BlockPlan,
    ConfigError,
    Counter,
    Directive,
    Dispenser,
    Gauge,
    Plugin,
    Settings,
    SetupError,
)

INTERVAL, JITTER = 30.0, 15.0
INTERVAL_TYPE = Duration(2.0, below="interval value must be greater or equal to 2s")
JITTER_LEAST = 1.0

FAILED = Counter("coredns_reload_failed_total", "Reloads of a changed Corefile that failed.")
VERSION = Gauge("coredns_reload_version_info", "Hash of the running configuration.", ("hash", "value"))


class Reload(Plugin):
    """A side directive: it asks the server to watch."""

    name = "reload"
    chain = False
    directive = Directive(
        "reload",
        args=(
            Arg("interval", INTERVAL_TYPE, default=INTERVAL, optional=True),
            Arg("jitter", Duration(0.0), default=JITTER, optional=True),
        ),
        help="Looks at the Corefile every INTERVAL, give or take half of JITTER.",
    )

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """The first line; CoreDNS looks at no other."""
        try:
            dispenser.next()
            words = dispenser.remaining_args()
            if len(words) > 2:
                raise dispenser.arg_err()
            interval = INTERVAL_TYPE.read(words[0], dispenser) if words else INTERVAL
            jitter = Duration().read(words[1], dispenser) if len(words) > 1 else JITTER
            if jitter != 0 and jitter < JITTER_LEAST:
                raise dispenser.fail("jitter value must be 0 or greater or equal to 1s")
        except ConfigError as error:
            raise SetupError(cls.name, error) from None
        return [Settings({"interval": interval, "jitter": min(jitter, interval / 2)})]

    @classmethod
    def plan(cls, config: Settings, plan: BlockPlan) -> None:
        plan.ask("reload", interval=config["interval"], jitter=config["jitter"])
