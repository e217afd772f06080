# SPDX-License-Identifier: Apache-2.0
"""The grammar of rrl, and networks as compiled code compares them."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from fastdns.corefile.types import Int, Located, Type
from fastdns.plugin import Arg, Directive, Dispenser, Option, Settings

RATE_MOST = 1_000_000
ALLOW_MOST = 4096
TABLE = 65536

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Cidr(Type):
    """An address or a network; the value is its text, ADDRESS/LENGTH, without bits behind the length."""

    def read(self, text: str, d: Dispenser) -> str:
        try:
            return str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise d.err(f"invalid address or network: {text}") from None

    def bounds(self) -> str:
        return "ADDRESS or ADDRESS/LENGTH"


def number(what: str, low: int, high: int) -> Int:
    """A whole number whose errors name it, its bounds and the line."""
    out = Located(f"{what} must be {low} to {high}, not {{value}}")
    return Int(low, high, below=out, bad=Located(f"{what} must be {low} to {high}, not {{text}}"))


def limit(name: str, help: str) -> Option:
    """`NAME RATE [BURST]`."""
    return Option(
        name,
        args=(
            Arg(name, number(f"rate of {name}", 1, RATE_MOST), show="RATE"),
            Arg(f"{name}_burst", number(f"burst of {name}", 1, RATE_MOST), optional=True, show="BURST"),
        ),
        repeat="once",
        once_text=Located("{text} can only be specified once"),
        help=help,
    )


def check(settings: Settings, d: Dispenser) -> None:
    """At least one limit, and a bounded list."""
    if all(settings[name] is None for name in ("queries", "misses", "errors")):
        raise d.fail("no limit is set: write queries, misses or errors")
    if len(settings["allow"]) > ALLOW_MOST:
        raise d.fail(f"allow has more than {ALLOW_MOST} networks")


RRL = Directive(
    "rrl",
    options=(
        limit("queries", "Queries a second that a network may send, and how many at once (as many as RATE)."),
        limit("misses", "Queries a second that `cache` may pass on for a network, and how many at once."),
        limit("errors", "Replies other than NOERROR a second that a network may get over UDP, and how many at once."),
        Option("slip", number("slip", 0, 100), default=2,
               help="Of so many queries over a limit one is answered, truncated; the others get no answer. 0: none."),
        Option("ipv4_prefix", number("ipv4_prefix", 8, 32), default=24, show="LENGTH",
               help="Bits that the addresses of one IPv4 network share."),
        Option("ipv6_prefix", number("ipv6_prefix", 16, 128), default=56, show="LENGTH",
               help="Bits that the addresses of one IPv6 network share."),
        Option("allow", Cidr(), rest=True, repeat="join", show="NETWORKS",
               help="Clients that no limit concerns, at most 4096 networks."),
        Option("table", number("table", 1024, 1 << 24), default=TABLE, show="NETWORKS",
               help="Networks that are remembered at once, rounded up to a power of two; each takes 40 octets."),
        Option("report_only", help="Counts what would be limited, and limits nothing."),
    ),
    once=True,
    check=check,
    help="Limits what the clients of one network may cause.",
)


def ranges(networks: Iterable[str], version: int) -> list[tuple[bytes, bytes]]:
    """(first, last) address of the networks of one IP version: sorted, joined where they touch."""
    parsed: list[Network] = [ipaddress.ip_network(text) for text in networks]
    if version == 4:
        merged: Iterable[Network] = ipaddress.collapse_addresses(n for n in parsed if n.version == 4)
    else:
        merged = ipaddress.collapse_addresses(n for n in parsed if n.version == 6)
    return [(n.network_address.packed, n.broadcast_address.packed) for n in merged]


__all__ = ["ALLOW_MOST", "RRL", "Cidr", "ranges"]
