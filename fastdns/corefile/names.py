# SPDX-License-Identifier: Apache-2.0
"""Zones as a Corefile writes them: `tls://example.org:853`, `10.0.0.0/27`.

Strategy: like units.py: text in, plain values out, ValueError with CoreDNS's message. Domain names are
checked in presentation form (RFC 1035 section 5.1 escapes) over their octets; lengths are of octets.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from .addresses import parse_ip, split_scheme
from .units import atoi, quote

_MASK = re.compile(r"[0-9]{1,3}", re.ASCII)


def is_fqdn(name: str) -> bool:
    """True if `name` ends with a dot that is not escaped."""
    if not name.endswith("."):
        return False
    stem = name[:-1]
    return (len(stem) - len(stem.rstrip("\\"))) % 2 == 0


def fqdn(name: str) -> str:
    """`name` with a final dot."""
    return name if is_fqdn(name) else name + "."


def normalize(name: str) -> str:
    """`name` with a final dot, in lower case."""
    return fqdn(name).lower()


def is_domain_name(name: str) -> bool:
    """True if `name` can be a domain name: labels of 1 to 63 octets, in all at most 256 with lengths."""
    if not name:
        return False
    octets = fqdn(name).encode("utf-8", "surrogateescape")
    at, begin, total, dot, escaped = 0, 0, 0, False, False
    while at < len(octets):
        ch = octets[at]
        if ch == 0x5C:
            escaped = not escaped
            step = 3 if octets[at + 1 : at + 4].isdigit() and at + 3 < len(octets) else 1
            at += step
            begin += step
            dot = False
        elif ch == 0x2E:
            escaped = False
            label = at - begin
            total += 1 + label
            if dot or (at == 0 and len(octets) > 1) or label > 63 or total > 256:
                return False
            dot, begin = True, at + 1
        else:
            escaped = dot = False
        at += 1
    return not escaped


def can_be_asked(name: str) -> bool:
    """True if a question can hold this domain name: each escape is of one octet, each label has at most 63 octets, all
    of it 255, in lower case too. `is_domain_name` alone is laxer, as CoreDNS is."""
    if not is_domain_name(name):
        return False
    octets, at, label, total = normalize(name).encode("utf-8", "surrogateescape"), 0, 0, 1
    while at < len(octets):
        if octets[at] == 0x2E:
            label = -1
        elif octets[at] == 0x5C:
            digits = octets[at + 1 : at + 4]
            if digits[:1].isdigit():
                if len(digits) < 3 or not digits.isdigit() or int(digits) > 255:
                    return False
                at += 2
            at += 1
        at += 1
        label += 1
        total += 1
        if label > 63:
            return False
    return total + (label > 0) <= 255


def under(name: str, zone: str) -> bool:
    """Whether a name is a zone or below it; both in lower case with final dot."""
    if zone in (".", name):
        return True
    if not name.endswith("." + zone):
        return False
    # The dot may be an octet of a label: `a\.example.` is one label.
    stem = name[: -len(zone) - 1]
    return (len(stem) - len(stem.rstrip("\\"))) % 2 == 0


def split_zone_port(text: str) -> tuple[list[str], str]:
    """(zones, port) of `ZONE[:PORT]` without a scheme; port "" where none is given.

    A CIDR network becomes its reverse zones, several where the mask is off an octet (IPv4) or nibble
    (IPv6) boundary. Zones are as written otherwise: neither qualified nor in lower case.
    """
    head, colon, tail = text.rpartition(":")
    if colon and not tail:
        raise ValueError(f"expecting data after last colon: {quote(text)}")
    if not text:
        # An empty key has its (absent) colon at the end as well.
        raise ValueError('expecting data after last colon: ""')
    port = ""
    if colon:
        try:
            port, text = str(atoi(tail)), head
        except ValueError:
            port = ""
    length = len(text.encode("utf-8", "surrogateescape"))
    if length > 255:
        raise ValueError(f"specified zone is too long: {length} > 255")
    if not can_be_asked(text):
        raise ValueError(f"zone is not a valid domain name: {text}")
    network = parse_cidr(text)
    if network is None:
        return [text], port
    if text[0] == ":" or (text[0] == "0" and ":" in text):
        raise ValueError(f"invalid CIDR {text}")
    return reverse_zones(network), port


def parse_cidr(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network of `ADDRESS/BITS` with host bits masked off, or None."""
    host, slash, mask = text.partition("/")
    address = parse_ip(host)
    if not slash or address is None or not _MASK.fullmatch(mask) or int(mask) > address.max_prefixlen:
        return None
    return ipaddress.ip_network((address, int(mask)), strict=False)


def reverse_zones(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    """The zones under in-addr.arpa or ip6.arpa that cover exactly `network` (RFC 1035 3.5, RFC 3596 2.5)."""
    step = 8 if network.version == 4 else 4
    boundary = -(-network.prefixlen // step) * step
    zones = []
    for subnet in network.subnets(new_prefix=boundary):
        kept = boundary // step
        labels = subnet.network_address.reverse_pointer.split(".")
        zones.append(".".join(labels[len(labels) - 2 - kept :]) + ".")
    return zones


def zones_of(text: str) -> list[str]:
    """Normalised zones of one zone argument, scheme and port dropped; empty where it is no zone."""
    try:
        zones, _ = split_zone_port(split_scheme(text)[1])
    except ValueError:
        return []
    return [normalize(zone) for zone in zones]


def origins(args: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The zones of `args` (those that are none are skipped), or those of the server block's keys."""
    if args:
        return [zone for arg in args for zone in zones_of(arg)]
    return [(zones_of(key) or [key])[0] for key in keys]


def fallthrough_zones(args: Sequence[str]) -> list[str]:
    """Zones of `fallthrough [ZONES...]`; none given means the root."""
    return [zone for arg in args for zone in zones_of(arg)] if args else ["."]
