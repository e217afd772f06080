# SPDX-License-Identifier: Apache-2.0
"""The plugin class of rrl: what its settings come to for compiled code, and the memory that all workers share."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from fastdns.plugin import BlockContext, BlockPlan, Plugin

from .config import RRL, ranges
from .metrics import ACTIONS, CLASSES, CONTENDED, EVICTIONS, EXEMPT, LIMITED, REASONS

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

NANO = 1_000_000_000


PREFIX = "rrl "


def key(layout: int, config: Any, plan: BlockPlan) -> str:
    """What says that buckets mean the same: settings, zones, and where what stands."""
    text = json.dumps([layout, [str(zone) for zone in plan.keys], dict(config)], sort_keys=True)
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()


class Rrl(Plugin):
    """Limits what the clients of one network may cause."""

    name = "rrl"
    directive = RRL

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks for buckets that outlive a reload with the same settings."""
        from ._rrl import LAYOUT, octets

        plan.ask("kept", key=key(LAYOUT, config, plan), octets=octets(config["table"]))

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        self.servers = [block.servers[i] for i in block.listeners]
        # Whoever asked has the only memory of that key in the block: `rrl` stands once.
        self.buckets = next((fd for name, fd in block.kept.items() if name.startswith(PREFIX)), -1)

    def compiled(self) -> "CompiledStage":
        from ._rrl import stage

        config, block = self.config, self.block
        return stage(
            tuple(self.limit(name) for name in CLASSES),
            (config["ipv4_prefix"], config["ipv6_prefix"]),
            config["slip"],
            config["report_only"],
            self.asks_at_misses(),
            (ranges(config["allow"], 4), ranges(config["allow"], 6)),
            config["table"],
            [self.slots(server) for server in block.servers],
            (EVICTIONS.slot(stats=block.stats), CONTENDED.slot(stats=block.stats)),
            self.buckets,
        )

    def limit(self, name: str) -> tuple[int, int]:
        """(nanoseconds that one costs, how many at once) of a class; (0, 0): no limit."""
        rate, burst = self.config[name], self.config[f"{name}_burst"]
        return (NANO // rate, burst or rate) if rate else (0, 0)

    def asks_at_misses(self) -> bool:
        """Whether a `cache` behind says what is a miss; without one, everything is."""
        place = self.block.position
        return place is not None and "cache" in self.block.chain[place:]

    def slots(self, server: str) -> tuple[list[int], list[int]]:
        """The counters of one listener: by class and action, and by reason. Those that the block cannot be reached by
        have none."""
        if server not in self.servers:
            return [0] * (len(CLASSES) * len(ACTIONS)), [0] * len(REASONS)
        stats, view = self.block.stats, self.block.view
        return (
            [LIMITED.slot(server, view, kind, action, stats=stats) for kind in CLASSES for action in ACTIONS],
            [EXEMPT.slot(server, view, reason, stats=stats) for reason in REASONS],
        )
