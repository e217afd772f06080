# SPDX-License-Identifier: Apache-2.0
"""What an expression can ask of a DNS query: the functions of CoreDNS's environment.

Strategy: a table of types for the checker, and for each query an object that looks like a mapping and makes a bound
function only for the names that are used.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._log import CLASSES, type_name
from .types import BOOL, INT, STRING, Type, function

if TYPE_CHECKING:
    from ..plugin import Query

TEXTS = ("type", "name", "class", "proto", "client_ip", "port", "server_ip", "server_port")
NUMBERS = ("size", "id", "opcode", "bufsize")
FUNCTIONS: dict[str, Type] = {
    **{name: function((), STRING) for name in TEXTS},
    **{name: function((), INT) for name in NUMBERS},
    "do": function((), BOOL),
    "incidr": function((STRING, STRING), BOOL, fails=True),
    "metadata": function((STRING,), STRING),
}


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as Go's net.ParseIP reads it; an IPv4-mapped one is IPv4."""
    if "%" in text:
        return None
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


@functools.lru_cache(1024)
def parse_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network as Go's net.ParseCIDR reads it. Raises ValueError in its words."""
    address, slash, bits = text.partition("/")
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    if slash and bits.isascii() and bits.isdigit() and len(bits) < 4:
        try:
            network = ipaddress.ip_network((address, int(bits)), strict=False) if "%" not in address else None
        except ValueError:
            network = None
    if network is None:
        raise ValueError(f"invalid CIDR address: {text}")
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


def incidr(ip: str, cidr: str) -> bool:
    """Whether an address lies in a network. Raises ValueError in CoreDNS's words."""
    address = parse_ip(ip)
    if address is None:
        raise ValueError("first argument is not an IP address")
    network = parse_cidr(cidr)
    return address.version == network.version and address in network


def class_name(number: int) -> str:
    """A class as miekg/dns prints it."""
    return CLASSES.get(number, f"CLASS{number}")


class Environment(Mapping[str, Any]):
    """The functions of `FUNCTIONS` for one query."""

    __slots__ = ("query",)

    def __init__(self, query: Query) -> None:
        self.query = query

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name == "incidr":
            return incidr
        return functools.partial(GETTERS[name], self.query)

    def __iter__(self) -> Iterator[str]:
        return iter(FUNCTIONS)

    def __len__(self) -> int:
        return len(FUNCTIONS)


def environment(query: Query) -> Environment:
    """What `Expression.evaluate` wants for a query."""
    return Environment(query)


def metadata(query: Query, label: str) -> str:
    """A label of the query; empty where it is not set."""
    value = query.metadata.get(label, "")
    return str(value() if callable(value) else value)


GETTERS: dict[str, Callable[..., Any]] = {
    "type": lambda query: type_name(query.type),
    "name": lambda query: query.name,
    "class": lambda query: class_name(query.qclass),
    "proto": lambda query: query.proto,
    "client_ip": lambda query: query.client,
    "port": lambda query: str(query.client_port),
    "server_ip": lambda query: query.local,
    "server_port": lambda query: query.server.rpartition(":")[2],
    "size": lambda query: query.size,
    "id": lambda query: query.id,
    "opcode": lambda query: query.opcode,
    "bufsize": lambda query: query.bufsize,
    "do": lambda query: bool(query.do),
    "metadata": metadata,
}
