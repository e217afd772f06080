# SPDX-License-Identifier: Apache-2.0
"""The plugin class of timeouts: what it says becomes part of the listeners that the block is reached by."""

from typing import Any

from fastdns.plugin import BlockPlan, Plugin

from .config import TIMEOUTS


class Timeouts(Plugin):
    """Changes the timeouts of connections."""

    name = "timeouts"
    chain = False
    directive = TIMEOUTS

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Says what connections are given; a later line counts."""
        for name in config:
            if name == "maxtcpqueries":
                plan.timeouts["queries"] = max(0, config[name])
            else:
                plan.timeouts[name] = config[name]
