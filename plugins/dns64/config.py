# SPDX-License-Identifier: Apache-2.0
"""The grammar of dns64: one configuration out of all lines.

Strategy: CoreDNS does not read the block of a line with a prefix; what stands there is then taken for further lines,
where `prefix` still sets a prefix and nothing else does anything. Read by hand, so that a Corefile means the same here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastdns.corefile.names import parse_cidr
from fastdns.corefile.units import quote
from fastdns.plugin import Directive, Dispenser, Option

WELL_KNOWN = "64:ff9b::/96"  # RFC 6052 2.1
LEAST, MOST = 32, 96  # bits


@dataclass(frozen=True)
class Settings:
    """`prefix` is the octets that stand in front of each address."""

    prefix: bytes
    translate_all: bool = False
    allow_ipv4: bool = False


def read_prefix(d: Dispenser, text: str) -> bytes:
    """A prefix of a length that RFC 6052 knows. Raises ConfigError in CoreDNS's words."""
    network = parse_cidr(text)
    if network is None:
        raise d.fail(f"invalid CIDR address: {text}")
    if network.version != 6:
        raise d.err(f"invalid netmask {network.max_prefixlen} IPv6 address: {quote(str(network))}")
    if network.prefixlen % 8 or not LEAST <= network.prefixlen <= MOST:
        raise d.err(f"invalid prefix length {quote(str(network))}")
    return network.network_address.packed[: network.prefixlen // 8]


def read_line(d: Dispenser, found: Settings) -> Settings:
    """One line, and its block where it has no prefix."""
    words = d.remaining_args()
    if len(words) > 1:
        raise d.arg_err()
    if words:
        return replace(found, prefix=read_prefix(d, words[0]))
    while d.next_block():
        if d.val == "prefix":
            if not d.next_arg():
                raise d.arg_err()
            found = replace(found, prefix=read_prefix(d, d.val))
        elif d.val == "translate_all":
            found = replace(found, translate_all=True)
        elif d.val == "allow_ipv4":
            found = replace(found, allow_ipv4=True)
        else:
            raise d.err(f"unknown property '{d.val}'")
    return found


def read_lines(d: Dispenser) -> Settings:
    """All lines of a block; the current token is the first one's name."""
    found = read_line(d, Settings(read_prefix(d, WELL_KNOWN)))
    while d.next():
        found = read_line(d, found)
    return found


DNS64 = Directive(
    "dns64",
    usage="dns64 [PREFIX]",
    options=(
        Option("prefix", usage="prefix PREFIX", help="The prefix, where none stands on the line."),
        Option("translate_all", help="Translates answers that have AAAA records too."),
        Option("allow_ipv4", help="Translates for clients with IPv4 addresses too."),
    ),
    parse_one=read_lines,
    help="Makes IPv6 addresses out of IPv4 ones.",
)
