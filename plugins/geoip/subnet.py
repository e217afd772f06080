# SPDX-License-Identifier: Apache-2.0
"""The client subnet option of a query (RFC 7871 6), out of its octets.

Strategy: the server has checked the query's form before Python saw it; still every length is looked at, and what does
not fit is no subnet.
"""

from __future__ import annotations

import ipaddress
import struct

HEADER = 12
OPT = 41
ECS = 8
FAMILIES = {1: 4, 2: 16}  # octets of an address

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def past_name(wire: bytes, at: int) -> int:
    """The offset behind a name."""
    while wire[at]:
        if wire[at] >= 0xC0:
            return at + 2
        at += 1 + wire[at]
    return at + 1


def client_subnet(wire: bytes) -> Address | None:
    """The address of the first such option; None where there is none that makes sense."""
    try:
        questions, *records = struct.unpack_from("!4H", wire, 4)
        at = HEADER
        for _ in range(questions):
            at = past_name(wire, at) + 4
        for _ in range(sum(records)):
            at = past_name(wire, at)
            rtype, _, _, length = struct.unpack_from("!HHIH", wire, at)
            at += 10
            if rtype == OPT:
                return in_options(wire[at : at + length])
            at += length
    except (IndexError, struct.error):
        return None
    return None


def in_options(rdata: bytes) -> Address | None:
    """The same out of an OPT's options."""
    at = 0
    while at + 4 <= len(rdata):
        code, length = struct.unpack_from("!HH", rdata, at)
        if code == ECS:
            data = rdata[at + 4 : at + 4 + length]
            size = FAMILIES.get(int.from_bytes(data[:2], "big"), 0)
            octets = data[4:]
            if len(data) < 4 or size == 0 or len(octets) > size:
                return None
            return ipaddress.ip_address(octets.ljust(size, b"\0"))
        at += 4 + length
    return None
