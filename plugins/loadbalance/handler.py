# SPDX-License-Identifier: Apache-2.0
"""The plugin class of loadbalance: all that it does to a query is compiled."""

from typing import TYPE_CHECKING

from fastdns.plugin import BlockContext, Channel, Plugin

from .config import LOADBALANCE, WEIGHTED, Settings

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Loadbalance(Plugin):
    """Orders the records of each reply: by chance, by weights, or preferred networks first."""

    name = "loadbalance"
    directive = LOADBALANCE

    @classmethod
    def publishes(cls, config: Settings) -> bool:
        """Weights."""
        return config.policy == WEIGHTED

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.watch = None
        if config.policy == WEIGHTED:
            from .weights import Watch

            self.watch = Watch(block.path(config.file), config.reload)

    def compiled(self) -> "CompiledStage":
        from ._loadbalance import stage

        return stage(self.config.ranges(), self.board)

    async def start_server(self, channel: Channel) -> None:
        if self.watch is not None:
            await self.watch.start(channel)

    async def stop_server(self) -> None:
        if self.watch is not None:
            await self.watch.stop()
