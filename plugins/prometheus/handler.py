# SPDX-License-Identifier: Apache-2.0
"""The plugin class of prometheus: the counters of its block, and what says which plugins are enabled."""

import platform
from typing import TYPE_CHECKING, Any

import fastdns
from fastdns import metrics
from fastdns.plugin import BlockPlan, Channel, Event, Plugin

from .config import PROMETHEUS

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Prometheus(Plugin):
    """Counts queries; the web process serves the counters."""

    name = "prometheus"
    directive = PROMETHEUS

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks the web process to serve."""
        plan.ask(
            "http",
            service="metrics",
            address=config["address"],
            runtime_metrics=bool(config["runtime_metrics"]),
            tls=config["tls"] or "",
            at=(config.file, config.line),
        )

    def compiled(self) -> "CompiledStage":
        from ._prometheus import stage

        block = self.block
        cells = {
            (listener, zone): metrics.cell(block.stats, block.servers[listener], name, block.view, self.writer())
            for listener in block.listeners
            for zone, name in enumerate(block.zones)
        }
        return stage(len(block.servers), len(block.zones), cells)

    def writer(self) -> str:
        """The `plugin` label of replies: the stage after this one, whoever wrote the reply, as CoreDNS has it."""
        place = self.block.position
        after = self.block.chain[place + 1 :] if place is not None else ()
        return after[0] if after else ""

    def enabled(self, value: int) -> None:
        """Sets `plugin_enabled` for the chain, at the listeners of the block's first key and for its zone only."""
        block, key = self.block, self.block.keys[0]
        for listener in block.listeners:
            server = block.servers[listener]
            if server.startswith(f"{key.scheme}://") and server.endswith(f":{key.port}"):
                for name in block.chain:
                    metrics.PLUGIN_ENABLED.set(value, server, block.zones[0], block.view, name)

    def start_server(self, channel: Channel) -> None:
        """Says what runs."""
        metrics.BUILD_INFO.set(1, fastdns.__version__, "", f"python{platform.python_version()}")
        self.enabled(1)

    def on_event(self, event: Event) -> None:
        """A reload clears what was enabled; the new generation, or this one if that fails, sets it again."""
        if event is Event.RESTART:
            metrics.table().clear(metrics.PLUGIN_ENABLED.name)
        elif event in (Event.STARTUP, Event.RESTART_FAILED):
            self.enabled(1)
