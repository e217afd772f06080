# SPDX-License-Identifier: Apache-2.0
"""The plugin class of erratic.

Strategy: queries are numbered over all workers, by a counter: two workers that take a number at the same moment may
take the same one. Nothing here is for production, so it is plain Python; a query that is not delayed needs no task.
"""

import asyncio
import ipaddress
import struct
from typing import Any

from fastdns.plugin import (
    AAAA,
    AXFR,
    DROP,
    NS,
    SERVFAIL,
    SOA,
    A,
    AutoPather,
    BlockContext,
    Counter,
    Next,
    Plugin,
    Query,
    Rcode,
    ReadyCheck,
    Reply,
)

from .config import ERRATIC, Settings

QUERIES = Counter("fastdns_erratic_queries_total", "Queries that erratic saw.", ("block",))

IPV4, IPV6 = "192.0.2.53", "2001:db8::53"
LARGE = 30  # records
ZONE_HOSTS = (("a", "2001:bd8::53"), ("b", "2001:500::54"))
SOA_NAMES = b"\x03sns\x03dns\x05icann\x03org\x00\x03noc\x03dns\x05icann\x03org\x00"
SOA_NUMBERS = (2018050825, 7200, 3600, 1209600, 3600)
PATH = ["a.example.org.", "b.example.org.", ""]
NAME_MOST = 253  # octets that leave room for a label of one letter
DEADLINE_MOST = 3600.0


class Erratic(Plugin, AutoPather, ReadyCheck):
    """Drops, delays and truncates. It ends the chain: `next` is never called."""

    name = "erratic"
    directive = ERRATIC
    eager = True

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.deadline = min(max(config.seconds, 0.0) + self.deadline, DEADLINE_MOST)
        self.label = str(block.index)
        self.slot = QUERIES.slot(self.label, stats=block.stats)
        self.earlier = block.stats.get(self.slot)  # of generations before this one

    @property
    def seen(self) -> int:
        """Queries so far."""
        return self.block.stats.get(self.slot) - self.earlier

    async def serve_dns(self, query: Query, next: Next) -> Any:
        config, number = self.config, self.seen
        QUERIES.inc(self.label)
        if config.drop and number % config.drop == 0:
            return DROP
        if config.delay and number % config.delay == 0 and config.seconds > 0:
            await asyncio.sleep(config.seconds)
        # A bit in common, not a remainder: CoreDNS's truncate 3 is every fourth query.
        truncate = bool(config.truncate) and number & config.truncate == 0
        if query.type == AXFR:
            return zone(query, not truncate) if query.name_octets <= NAME_MOST else Rcode(SERVFAIL)
        if query.type not in (A, AAAA):
            return Rcode(SERVFAIL)
        reply = query.reply(aa=True)
        if query.type == AAAA:
            reply.aaaa(IPV6)
        else:
            for _ in range(LARGE if config.large else 1):
                reply.a(IPV4)
        return truncated(reply) if truncate else reply

    def autopath(self, query: Query) -> list[str]:
        """The same path for everybody."""
        return PATH

    def ready(self) -> bool:
        """For a short while, so that /ready can be seen to change."""
        return 3 <= self.seen < 5


def truncated(reply: Reply) -> Reply:
    """The reply with TC."""
    wire = bytearray(reply.wire)
    wire[2] |= 0x02
    return Reply(wire)


def zone(query: Query, whole: bool) -> Reply:
    """The zone of the name in one message; its last record is missing unless it is `whole`."""
    from fastdns._wire import name_from_text

    reply = query.reply(aa=True)
    start = SOA_NAMES + struct.pack("!5I", *SOA_NUMBERS)
    below = "" if query.qname == "." else query.qname
    reply.record(SOA, start)
    for host, _ in reversed(ZONE_HOSTS):
        reply.record(NS, name_from_text(f"{host}.{below}"))
    for host, address in ZONE_HOSTS:
        reply.record(AAAA, ipaddress.ip_address(address).packed, name=f"{host}.{below}")
    return reply.record(SOA, start) if whole else reply
