# SPDX-License-Identifier: Apache-2.0
"""The plugin class of health: a side directive, all that it asks for is done by the web process and the supervisor."""

from typing import Any

from fastdns.corefile.units import format_duration
from fastdns.plugin import BlockPlan, Dispenser, Event, Plugin

from .config import HEALTH, merged


class Health(Plugin):
    """Asks for /health and for the lameduck period."""

    name = "health"
    chain = False
    directive = HEALTH

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, whatever the number of lines."""
        return [merged(super().parse(dispenser))]

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks the web process to serve, and the supervisor to wait at the end."""
        plan.ask("http", service="health", address=config["address"])
        if config["lameduck"] > 0:
            plan.ask("lameduck", seconds=config["lameduck"])

    def on_event(self, event: Event) -> None:
        """Tells that the lameduck period begins."""
        if event is Event.FINAL_SHUTDOWN and self.config["lameduck"] > 0:
            self.log.info("Going into lameduck mode for %s", format_duration(self.config["lameduck"]))
