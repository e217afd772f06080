# SPDX-License-Identifier: Apache-2.0
"""The edns0 rules: options of the query that are set, appended, replaced or removed, and how a reply shows that.

Strategy: all kinds differ only in where an option's data comes from, so one function changes the options and four say
what the data is. An option is found by its code, whatever the code.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import NamedTuple

from .draft import Draft
from .undo import Remove, Restore, Undo

NSID, ECS, EXPIRE, COOKIE, KEEPALIVE, PADDING = 3, 8, 9, 10, 11, 12
ACTIONS = ("append", "replace", "set", "unset")
VARIABLES = ("{qname}", "{qtype}", "{client_ip}", "{client_port}", "{protocol}", "{server_ip}", "{server_port}")

Applied = tuple[Undo, ...] | None
Data = Callable[[Draft], bytes | None]


class OptionRule(NamedTuple):
    """One option. `kind`: local, nsid or subnet; `data` of a local one, or its `variable`; `bits` of a subnet's two
    families; `revert`: the client does not see it."""

    stop: bool
    kind: str
    action: str
    code: int
    data: bytes = b""
    variable: str = ""
    bits: tuple[int, int] = (0, 0)
    revert: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What of the query decides."""
        if self.variable:
            inside = {"{qname}": "name", "{qtype}": "type", "{server_ip}": "server", "{server_port}": "server"}
            client = "client" if self.variable in VARIABLES else "metadata"
            return frozenset({"options", inside.get(self.variable, client)})
        return frozenset({"options", "client"} if self.kind == "subnet" and self.action != "unset" else {"options"})

    def prepare(self) -> Callable[[Draft], Applied]:
        """The rule, ready to be applied."""
        data = self.source()

        def apply(draft: Draft) -> Applied:
            value = data(draft)
            return None if value is None else self.change(draft, value)

        return apply

    def source(self) -> Data:
        """Where the option's data comes from; None: the rule does not apply."""
        if self.variable:
            return variable(self.variable)
        if self.kind == "subnet" and self.action != "unset":
            return lambda draft: subnet(draft, self.bits)
        return lambda draft: self.data

    def change(self, draft: Draft, data: bytes) -> Applied:
        """Changes the options. The query has an OPT from here on, even where the rule then does not match."""
        options = draft.touch()
        if self.action == "unset":
            options[:] = [option for option in options if option[0] != self.code]
            return ()
        for at, (code, old) in enumerate(options):
            if code == self.code:
                if self.action == "append":
                    return None
                options[at] = (code, data)
                return (Restore(code, old),) if self.revert else ()
        if self.action == "replace":
            return None
        options.append((self.code, data))
        return (Remove(self.code),) if self.revert else ()


def packed(address: str, family: int) -> bytes | None:
    """An address of the client's family in network form; None: of the other one."""
    made = ipaddress.ip_address(address.partition("%")[0])
    return made.packed if made.version == family else None


def variable(word: str) -> Data:
    """The data that a placeholder stands for. Addresses, ports and types are in network form, all else is text."""
    sources: dict[str, Data] = {
        "{qname}": lambda draft: draft.qname.encode(),
        "{qtype}": lambda draft: draft.qtype.to_bytes(2, "big"),
        "{client_ip}": lambda draft: packed(draft.query.client, draft.query.family),
        "{client_port}": lambda draft: draft.query.client_port.to_bytes(2, "big"),
        "{protocol}": lambda draft: draft.query.proto.encode(),
        "{server_ip}": lambda draft: packed(draft.query.local, draft.query.family),
        "{server_port}": lambda draft: int(draft.query.server.rpartition(":")[2]).to_bytes(2, "big"),
    }
    return sources.get(word) or label(word[1:-1])


def label(name: str) -> Data:
    """A metadata label's value."""

    def data(draft: Draft) -> bytes | None:
        value = draft.query.metadata.get(name)
        if callable(value):
            value = value()
        return str(value).encode() if value else None

    return data


def subnet(draft: Draft, bits: tuple[int, int]) -> bytes | None:
    """The client's network as an option (RFC 7871 6): so many octets of the address as the prefix needs."""
    family = draft.query.family
    prefix = bits[0] if family == 4 else bits[1]
    address = packed(draft.query.client, family)
    if address is None:
        return None
    network = ipaddress.ip_network((address, prefix), strict=False).network_address.packed
    return bytes([0, 1 if family == 4 else 2, prefix, 0]) + network[: (prefix + 7) // 8]


def echoed(options: list[tuple[int, bytes]], extra: frozenset[int], udp: bool) -> list[tuple[int, bytes]]:
    """Those options of a query that its reply repeats. Keepalive has no meaning over UDP (RFC 7828 3.2.1)."""
    codes = {NSID, EXPIRE, COOKIE, PADDING, *extra} | (set() if udp else {KEEPALIVE})
    return [option for option in options if option[0] in codes]
