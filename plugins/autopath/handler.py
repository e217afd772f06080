# SPDX-License-Identifier: Apache-2.0
"""The plugin class of autopath.

Strategy: a query that is not in the first zone of its client's path is passed on; one that is runs the rest of the
chain once for each zone of the path, until something is there. The first of these questions is the client's own; the
others are asked aside, as CoreDNS asks with a copy. The path may be another plugin's to say, who may be in Python, and
so is this; all that it awaits is the chain.
"""

from __future__ import annotations

from typing import Any

from fastdns.corefile.names import under
from fastdns.plugin import (
    DROP,
    FORMERR,
    NOTIMP,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    AutoPather,
    BlockContext,
    Counter,
    Next,
    Plugin,
    PluginError,
    Query,
    Rcode,
    Reply,
    SetupError,
)

from .config import AUTOPATH, Settings

SUCCESS = Counter("coredns_autopath_success_total", "Queries answered on their client's search path.", ("server",))
UNWRITTEN = (SERVFAIL, REFUSED, FORMERR, NOTIMP)


class Autopath(Plugin):
    """Walks the search path of clients."""

    name = "autopath"
    directive = AUTOPATH
    eager = True

    @classmethod
    def concerns(cls, config: Settings, name: str) -> bool:
        """Whether the name is in the zones."""
        return any(under(name, zone) for zone in config.zones)

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.source: AutoPather | None = None

    def compiled(self) -> None:
        """Nothing is; but now every plugin of the block is set up, and the one to ask is found. One that is not there
        means no path, as in CoreDNS."""
        for name, member in self.block.members:
            if name == self.config.source:
                if not isinstance(member, AutoPather):
                    raise SetupError(self.name, f"{name} does not implement the AutoPather interface")
                self.source = member

    async def serve_dns(self, query: Query, next: Next) -> Any:
        if not self.concerns(self.config, query.name):
            return await next(query)
        path = self.source.autopath(query) if self.source is not None else list(self.config.search)
        if not path or not path[0] or not under(query.name, path[0]):
            return await next(query)
        if query.name == path[0]:
            raise PluginError(SERVFAIL, f"trimzone: overshot qname: {query.qname}for zone {path[0]}")
        base = query.qname[: len(query.qname) - (len(path[0]) if path[0] != "." else 0)]
        return await self.walk(query, next, base, path)

    async def walk(self, query: Query, next: Next, base: str, path: list[str]) -> Any:
        """Asks for `base` in each zone of the path; `base` ends with a dot."""
        first: Any = None
        for number, zone in enumerate(path):
            try:
                asked = query if number == 0 else query.replace(name=base + zone.removesuffix("."), aside=True)
            except ValueError:
                continue  # no name is that long
            found = await next(asked)
            if number == 0:
                first = found
            if isinstance(found, Rcode):
                if found.rcode not in UNWRITTEN:
                    return DROP
                continue
            if not isinstance(found, Reply):
                return found
            if found.rcode == NXDOMAIN:
                continue
            SUCCESS.inc(query.server)
            return query.renamed(found, alias=True)
        return first
