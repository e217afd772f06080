# SPDX-License-Identifier: Apache-2.0
"""The plugin class of metadata: asks the block's providers for labels before the chain runs.

Strategy: where the block has no provider, the stage is compiled; labels of which the value is known beforehand are set
there. Else queries come to Python here, on their way down: names in the zones are shown to each provider, all others
pass. A filter in Python that decides about the block has them shown earlier, and then once more.
"""

from typing import TYPE_CHECKING, Any

from fastdns.corefile.names import origins
from fastdns.plugin import (
    BlockContext,
    Directive,
    Dispenser,
    FixedLabels,
    MetadataCollector,
    MetadataProvider,
    Next,
    Plugin,
    Query,
    Settings,
)

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


def occurrence(d: Dispenser) -> Settings:
    """The directive's one line: CoreDNS takes neither a block nor a second line, and words both in the same way."""
    file, line = d.file, d.line
    zones = tuple(origins(d.remaining_args(), d.keys))
    if d.next_block() or d.next():
        raise d.arg_err()
    return Settings({"zones": zones}, (), file, line)


class Metadata(Plugin, MetadataCollector):
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
        self.fixed: dict[str, str] = {}

    def compiled(self) -> "CompiledStage | None":
        self.providers = self.block.providers(MetadataProvider)
        for plugin in self.block.providers(FixedLabels):
            self.fixed.update(plugin.labels())
        if self.providers:
            return None
        from fastdns._wire import name_from_text, name_lower

        from ._metadata import stage

        read = [(self.block.labels.place(name), value.encode()) for name, value in self.fixed.items()]
        return stage([name_lower(name_from_text(zone)) for zone in self.zones],
                     [(place, value) for place, value in read if place >= 0])

    def wants(self, name: str) -> bool:
        """Whether a name, in lower case with final dot, lies in the zones."""
        return any(zone in (".", name) or name.endswith(f".{zone}") for zone in self.zones)

    def collect(self, query: Query) -> None:
        """Sets the labels of a query whose name is in the zones."""
        if self.wants(query.name):
            query.metadata.update(self.fixed)
            for provider in self.providers:
                provider.metadata(query)

    async def serve_dns(self, query: Query, next: Next) -> Any:
        self.collect(query)
        return await next(query)
