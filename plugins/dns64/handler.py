# SPDX-License-Identifier: Apache-2.0
"""The plugin class of dns64: its settings and counters for the compiled half."""

from typing import TYPE_CHECKING

from fastdns.plugin import BlockContext, Counter, Plugin

from .config import DNS64, Settings

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

TRANSLATED = Counter("coredns_dns64_requests_translated_total", "Answers that were translated.", ("server",))


class Dns64(Plugin):
    """Translates answers for clients behind NAT64."""

    name = "dns64"
    directive = DNS64

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        own = {block.servers[i] for i in block.listeners}
        self.slots = [TRANSLATED.slot(server, stats=block.stats) if server in own else 0 for server in block.servers]

    def compiled(self) -> "CompiledStage":
        from ._dns64 import stage

        return stage(self.config.prefix, self.config.translate_all, self.config.allow_ipv4, self.slots)
