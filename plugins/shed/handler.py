# SPDX-License-Identifier: Apache-2.0
"""The plugin class of shed: which listeners keep replies, and where drops are counted.

Strategy: the directive has no options. Its stage tells each worker's loop to keep what a socket does not take
(fastdns/_udp_backlog.pxi), and drops queries while nothing more can be kept. Only plain DNS has such a socket, so other
keys are refused, in CoreDNS's words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdns.corefile.units import quote
from fastdns.plugin import BlockPlan, Directive, Dispenser, Plugin, SetupError

from .metrics import DROPPED

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

DNS = "dns"
WAITING = 1024  # replies that a socket keeps: BACKLOG of fastdns/_udp.pxd
PAGE_OCTETS = 4096


def occurrence(d: Dispenser) -> tuple[()]:
    """Nothing may follow."""
    if d.remaining_args():
        raise d.arg_err()
    if d.next_block():
        raise d.err("shed takes no options")
    return ()


class Shed(Plugin):
    """Drops the oldest replies and the newest queries of a UDP socket that takes no more."""

    name = "shed"
    directive = Directive(
        "shed", once=True, parse_one=occurrence,
        help="Keeps the newest replies that a UDP socket does not take, and drops queries while there are too many.")

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """At most one, and not where there is no UDP socket of ours."""
        found = super().parse(dispenser)
        for key in dispenser.keys:
            scheme = key.partition("://")[0]
            if scheme != DNS:
                raise SetupError(cls.name, dispenser.err(
                    f"only plain DNS server blocks are supported; {quote(key)} uses transport {quote(scheme)}"))
        return found

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Says what replies that wait may take. The room of each is the largest reply's, of which it touches what it
        fills: a page, if it came over a path without fragments; what larger ones took is given back once all left."""
        plan.ask("backlog", each=WAITING * PAGE_OCTETS)

    def compiled(self) -> CompiledStage:
        """Counters for each listener of the block; those of others are not used."""
        from ._shed import stage

        servers, own = self.block.servers, self.block.listeners
        return stage([self.slots(server) if number in own else None for number, server in enumerate(servers)])

    def slots(self, server: str) -> tuple[int, int]:
        """The counters of dropped queries and replies."""
        stats = self.block.stats
        return DROPPED.slot(server, "query", stats=stats), DROPPED.slot(server, "response", stats=stats)
