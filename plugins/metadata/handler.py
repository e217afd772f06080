# SPDX-License-Identifier: Apache-2.0
"""The plugin class of metadata: asks the block's providers for labels before the chain runs.

Strategy: where the block has no provider, the stage is compiled and does nothing. Else queries come to Python here, on
their way down: names in the zones are shown to each provider, all others pass.
"""

from typing import TYPE_CHECKING, Any

from fastdns.corefile.names import origins
from fastdns.plugin import BlockContext, Directive, Dispenser, MetadataProvider, Next, Plugin, Query, Settings

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


def occurrence(d: Dispenser) -> Settings:
    """The directive's one line: CoreDNS takes neither a block nor a second line, and words both in the same way."""
    file, line = d.file, d.line
    zones = tuple(origins(d.remaining_args(), d.keys))
    if d.next_block() or d.next():
        raise d.arg_err()
    return Settings({"zones": zones}, (), file, line)


class Metadata(Plugin):
    """Has labels collected."""

    name = "metadata"
    directive = Directive(
        "metadata", parse_one=occurrence, usage="metadata [ZONES...]", help="Collects labels for each query.")
    # Providers are quick by contract, and nothing but `next` is awaited.
    eager = True

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.zones = tuple(config.zones)
        self.providers: list[MetadataProvider] = []

    def compiled(self) -> "CompiledStage | None":
        self.providers = self.block.providers(MetadataProvider)
        if self.providers:
            return None
        from ._metadata import stage

        return stage()

    def wants(self, name: str) -> bool:
        """Whether a name, in lower case with final dot, lies in the zones."""
        return any(zone in (".", name) or name.endswith(f".{zone}") for zone in self.zones)

    async def serve_dns(self, query: Query, next: Next) -> Any:
        if self.wants(query.name):
            for provider in self.providers:
                provider.metadata(query)
        return await next(query)
