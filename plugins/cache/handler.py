# SPDX-License-Identifier: Apache-2.0
"""The plugin class of cache: what its settings come to for compiled code."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastdns import metrics as core
from fastdns.plugin import BlockContext, BlockPlan, Channel, Event, Plugin
from fastdns.snapshot import Part

from . import metrics
from .config import CACHE, NANO, capacity, ttls
from .keeping import Keeping

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

KINDS = ("success", "denial")
END_SECONDS = 30.0  # for a snapshot when the server ends; one that takes longer leaves the file of before


def wire_names(zones: Iterable[str]) -> list[bytes]:
    """Zones in lower-cased wire form; what is no domain name can hold no query and is left out."""
    from fastdns._wire import name_from_text, name_lower

    names = []
    for zone in zones:
        try:
            names.append(name_lower(name_from_text(zone)))
        except ValueError:
            continue
    return names


def nanoseconds(seconds: float) -> int:
    """A duration for compiled code; a negative one is none."""
    return max(0, round(seconds * NANO))


class Cache(Plugin):
    """Answers from the shared cache and stores what passes."""

    name = "cache"
    directive = CACHE

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks for room in the shared cache."""
        plan.ask(
            "cache",
            success=capacity(config["success_capacity"]),
            denial=capacity(config["denial_capacity"]),
            prefetch=config["amount"] > 0,
            stale=int(min(config["stale_for"], 0x7FFFFFFF)),
        )
        if config["snapshot"]:
            plan.ask("slow_end", seconds=END_SECONDS)

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        self.zones = ",".join(config["zones"])
        self.servers = [block.servers[i] for i in block.listeners]
        for server in self.servers:
            core.cache_site(block.stats, block.generation, block.block_id, server, self.zones, block.view)
        self.keeping = None
        if config["snapshot"] and block.segment is not None:
            part = Part(block.block_id, block.zones, block.settings)
            path = block.path(config["snapshot"])
            self.keeping = Keeping(path, config["snapshot_interval"], block.segment, part, int(config["stale_for"]))

    async def start_server(self, channel: Channel) -> None:
        if self.keeping is not None:
            # A reload has its entries in memory, where they may be newer, or flushed.
            await self.keeping.start(channel, self.block.fresh)

    async def stop_server(self) -> None:
        if self.keeping is not None:
            await self.keeping.stop()

    async def on_event(self, event: Event) -> None:
        if self.keeping is not None and event in (Event.FINAL_SHUTDOWN, Event.LEAVE):
            await self.keeping.save()

    def compiled(self) -> "CompiledStage":
        from ._cache import stage

        config = self.config
        zones, own = wire_names(config["zones"]), wire_names(self.block.zones)
        return stage(
            self.block.block_id,
            None if self.covers(zones, own) else zones,
            tuple(wire_names(config[f"disable_{kind}"]) for kind in KINDS),
            ttls(config),
            int(config["servfail"]),
            (config["amount"], nanoseconds(config["duration"]), config["percentage"]),
            (
                int(min(config["stale_for"], 0x7FFFFFFF)),
                config["verify"],
                nanoseconds(config["verify_timeout"]),
                config["serve_stale_policy"] is not None,
                int(config["stale_ttl"]),
                nanoseconds(config["recheck"]),
            ),
            bool(config["keepttl"]),
            [self.slots(server) for server in self.block.servers],
            tuple(metric.slot(stats=self.block.stats) for metric in (metrics.TORN, metrics.PROMOTED, metrics.LOST)),
        )

    @staticmethod
    def covers(zones: list[bytes], own: list[bytes]) -> bool:
        """Whether every name of the block is below one of the zones."""
        from fastdns._wire import name_under

        return all(any(name_under(name, zone) for zone in zones) for name in own)

    def slots(self, server: str) -> tuple[int, ...]:
        """The counters of one listener; those that the block cannot be reached by have none."""
        if server not in self.servers:
            return (0,) * 9
        plain, typed = {}, {}
        for metric in (metrics.REQUESTS, metrics.MISSES, metrics.PREFETCH, metrics.DROPS, metrics.SERVED_STALE):
            plain[metric] = metric.slot(server, self.zones, self.block.view, stats=self.block.stats)
        for metric in (metrics.HITS, metrics.EVICTIONS):
            typed[metric] = [
                metric.slot(server, kind, self.zones, self.block.view, stats=self.block.stats) for kind in KINDS
            ]
        return (
            plain[metrics.REQUESTS],
            *typed[metrics.HITS],
            plain[metrics.MISSES],
            plain[metrics.PREFETCH],
            plain[metrics.DROPS],
            plain[metrics.SERVED_STALE],
            *typed[metrics.EVICTIONS],
        )
