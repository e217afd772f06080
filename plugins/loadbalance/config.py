# SPDX-License-Identifier: Apache-2.0
"""The grammar of loadbalance.

Strategy: CoreDNS reads the block of a weighted line apart from that of others, and networks of `prefer` from all lines
up to a weighted one, so the lines are read by hand into one configuration.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from fastdns.corefile.names import parse_cidr
from fastdns.corefile.types import Duration
from fastdns.corefile.units import parse_duration, quote
from fastdns.plugin import Directive, Dispenser, Option

RELOAD = 30.0  # seconds
NETWORKS_MOST = 256
ROUND_ROBIN, WEIGHTED = "round_robin", "weighted"
MAPPED = 0xFFFF << 32  # ::ffff:0:0/96, where IPv4 addresses are compared

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Settings:
    """What the lines of a block come to. `reload` in seconds; 0: the file is read once."""

    policy: str = ROUND_ROBIN
    file: str = ""
    reload: float = RELOAD
    prefer: tuple[str, ...] = ()

    def ranges(self) -> list[tuple[bytes, bytes]]:
        """The preferred networks as (first, last) address of 16 octets, IPv4 mapped (RFC 4291 2.5.5.2)."""
        found = []
        for text in self.prefer:
            network = ipaddress.ip_network(text)
            base = MAPPED if network.version == 4 else 0
            ends = (int(network.network_address), int(network.broadcast_address))
            found.append((ends[0] + base, ends[1] + base))
        return [(first.to_bytes(16, "big"), last.to_bytes(16, "big")) for first, last in found]


def read_weighted(d: Dispenser, words: list[str]) -> Settings:
    """A line with the policy `weighted`, and its block."""
    if len(words) < 2:
        raise d.err("missing weight file argument")
    if len(words) > 2:
        raise d.err("unexpected argument(s)")
    reload = RELOAD
    while d.next_block():
        if d.val != "reload":
            raise d.err(f"unknown property '{d.val}'")
        given = d.remaining_args()
        if not given:
            raise d.err("reload duration value is missing")
        if len(given) > 1:
            raise d.err("unexpected argument")
        try:
            reload = parse_duration(given[0])
            if reload < 0:
                raise ValueError
        except ValueError:
            raise d.err(f"invalid reload duration '{given[0]}'") from None
    return Settings(WEIGHTED, words[1], reload)


def read_networks(d: Dispenser) -> tuple[str, ...]:
    """The words of a `prefer` line."""
    found = []
    for word in d.remaining_args():
        network = parse_cidr(word)
        if network is None:
            raise d.err(f"invalid CIDR {quote(word)}: invalid CIDR address: {word}")
        found.append(str(network))
    return tuple(found)


def read_line(d: Dispenser, before: Settings) -> Settings:
    """One line and its block; `before` is what the lines above come to."""
    words = d.remaining_args()
    found = replace(before, policy=ROUND_ROBIN)
    if words:
        if words[0] == WEIGHTED:
            found = read_weighted(d, words)
        elif words[0] != ROUND_ROBIN:
            raise d.fail(f"unknown policy: {words[0]}")
        elif len(words) > 1:
            raise d.err(f"unknown property for {words[0]}")
    while d.next_block():
        if d.val != "prefer":
            raise d.err(f"unknown property '{d.val}'")
        found = replace(found, prefer=found.prefer + read_networks(d))
        if len(found.prefer) > NETWORKS_MOST:
            raise d.err(f"prefer has more than {NETWORKS_MOST} networks")
    return found


def read_lines(d: Dispenser) -> Settings:
    """All lines of a block; the current token is the first one's name."""
    found = read_line(d, Settings())
    while d.next():
        found = read_line(d, found)
    return found


LOADBALANCE = Directive(
    "loadbalance",
    usage="loadbalance [round_robin]",
    options=(
        Option("reload", Duration(0.0), default=RELOAD, show="DURATION",
               help="How often the weight file is looked at (`weighted` only). 0: read once."),
        Option("prefer", usage="prefer [CIDR...]",
               help="Networks whose addresses come first, in this order (`round_robin` only), at most 256."),
    ),
    parse_one=read_lines,
    whole=True,
    help="Orders the records of each reply.",
)

__all__ = ["LOADBALANCE", "ROUND_ROBIN", "WEIGHTED", "Settings"]
