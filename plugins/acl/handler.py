# SPDX-License-Identifier: Apache-2.0
"""The plugin class of acl: all rules of a block are one stage; this brings its tables and counters together."""

from typing import TYPE_CHECKING, Any

from fastdns.corefile.names import under
from fastdns.plugin import BlockContext, Dispenser, Plugin

from .config import ACL, Rule
from .metrics import ALLOWED, BLOCKED, DROPPED, FILTERED
from .tables import Decisions, stretches

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

COUNTED = (BLOCKED, FILTERED, DROPPED)


class Acl(Plugin):
    """Says who may ask what."""

    name = "acl"
    directive = ACL

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block; its lines are rules that are tried in order."""
        return [tuple(super().parse(dispenser))]

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Whether any rule is about the name."""
        return any(under(name, zone) for rule in config for zone in rule.zones)

    def __init__(self, config: tuple[Rule, ...], block: BlockContext) -> None:
        super().__init__(config, block)
        self.servers = [block.servers[i] for i in block.listeners]

    def compiled(self) -> "CompiledStage":
        from fastdns._wire import name_from_text, name_lower

        from ._acl import stage

        decisions = Decisions()
        zones: dict[bytes, tuple[int, str]] = {}
        rules = []
        for rule in self.config:
            own = []
            for zone in rule.zones:
                try:
                    octets = name_lower(name_from_text(zone))
                except ValueError:
                    continue  # no query has such a name
                own.append(zones.setdefault(octets, (len(zones), zone))[0])
            ipv4, ipv6 = (stretches(rule.policies, version, decisions).packed() for version in (4, 6))
            rules.append((own, ipv4, ipv6))
        labels = [label for _, label in zones.values()]
        return stage(
            list(zones), rules, list(decisions.numbers), [self.slots(server, labels) for server in self.block.servers]
        )

    def slots(self, server: str, labels: list[str]) -> tuple[int, list[int]]:
        """The counters of one listener: of what passes, and three of each zone. Those that the block cannot be reached
        by have none."""
        if server not in self.servers:
            return 0, [0] * (len(COUNTED) * len(labels))
        stats, view = self.block.stats, self.block.view
        return (
            ALLOWED.slot(server, view, stats=stats),
            [metric.slot(server, zone, view, stats=stats) for zone in labels for metric in COUNTED],
        )
