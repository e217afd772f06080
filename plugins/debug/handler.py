# SPDX-License-Identifier: Apache-2.0
"""The plugin class of debug: it only asks; the server does."""

from typing import Any

from fastdns.plugin import BlockPlan, Directive, Dispenser, Plugin


class Debug(Plugin):
    """Asks for log lines of level DEBUG, and for an end where a plugin panics."""

    name = "debug"
    chain = False
    directive = Directive("debug", block=False, surplus="word", help="Shows log lines of level DEBUG.")

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, however often its name is written."""
        return super().parse(dispenser)[:1]

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks for it."""
        plan.ask("debug")
