# SPDX-License-Identifier: Apache-2.0
"""bind: addresses and interface names become listen addresses.

Strategy: resolved while the Corefile is read, so that a reload sees addresses that came and went. A line's `except`
takes away from that line only; the lines of a block add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastdns.corefile.addresses import parse_ip
from fastdns.corefile.types import Text
from fastdns.corefile.units import quote
from fastdns.plugin import Arg, BlockPlan, Directive, Dispenser, Option, Plugin, Settings

NOTHING = "at least one address or interface name is expected"
NOTHING_EXCEPTED = "at least one address or interface must be given to except subdirective"


def interface_addresses() -> dict[str, list[str]]:
    """Addresses of each interface; IPv6 link-local ones carry their zone (`fe80::1%eth0`)."""
    import socket

    import psutil

    return {
        name: [entry.address for entry in entries if entry.family in (socket.AF_INET, socket.AF_INET6)]
        for name, entries in psutil.net_if_addrs().items()
    }


def resolve(words: Sequence[str], interfaces: Mapping[str, Sequence[str]]) -> list[str]:
    """Addresses of `words`, each an address or an interface. ValueError in CoreDNS's words."""
    found: list[str] = []
    for word in words:
        if word in interfaces:
            found.extend(interfaces[word])
        elif parse_ip(word) is None:
            raise ValueError(f"not a valid IP address or interface name: {quote(word)}")
        else:
            found.append(word)
    return found


def _except(d: Dispenser) -> Mapping[str, Any]:
    words = d.remaining_args()
    if not words:
        raise d.fail(NOTHING_EXCEPTED)
    return {"excepted": tuple(words)}


def _check(settings: Settings, d: Dispenser) -> Settings:
    if not settings["addresses"]:
        raise d.fail(NOTHING)
    interfaces = interface_addresses()
    try:
        listen = resolve(settings["addresses"], interfaces)
        excepted = resolve(settings["excepted"], interfaces)
    except ValueError as error:
        raise d.fail(str(error)) from None
    return settings.replace(listen=tuple(address for address in listen if address not in excepted))


class Bind(Plugin):
    """A side directive: it serves nothing, it only says where."""

    name = "bind"
    chain = False
    directive = Directive(
        "bind",
        usage="bind ADDRESS|IFACE...",
        args=(Arg("addresses", Text(), default=(), optional=True, rest=True, show="ADDRESS|IFACE"),),
        options=(
            Option("except", parse=_except, defaults={"excepted": ()}, usage="except ADDRESS|IFACE...",
                   help="Addresses or interfaces of this line that are not listened on."),
        ),
        unknown='invalid option "{text}"',
        help="Listens on some addresses instead of all.",
        check=_check,
    )

    @classmethod
    def plan(cls, config: Settings, plan: BlockPlan) -> None:
        plan.listen = [*(plan.listen or ()), *config["listen"]]
