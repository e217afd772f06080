# SPDX-License-Identifier: Apache-2.0
"""Zones and addresses as a Corefile writes them: `example.org:53`, `10.0.0.0/27`, `[::1]:53`, resolv.conf.

Strategy: like units.py: text in, plain values out, ValueError with CoreDNS's message. Domain names are
checked in presentation form (RFC 1035 section 5.1 escapes) over their octets; lengths are of octets.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .units import atoi, quote

DNS, TLS, QUIC, GRPC, HTTPS, HTTPS3, UNIX = "dns", "tls", "quic", "grpc", "https", "https3", "unix"
SCHEMES = (TLS, DNS, QUIC, GRPC, HTTPS3, HTTPS, UNIX)
DEFAULT_PORTS = {DNS: 53, TLS: 853, QUIC: 853, GRPC: 443, HTTPS: 443, HTTPS3: 443}

_MASK = re.compile(r"[0-9]{1,3}", re.ASCII)
_MAX_RESOLV_CONF = 1 << 20


def split_scheme(text: str) -> tuple[str, str]:
    """(scheme, rest) of `SCHEME://REST`; a text without a known scheme is `dns`. Case-sensitive."""
    for scheme in SCHEMES:
        if text.startswith(scheme + "://"):
            return scheme, text[len(scheme) + 3:]
    return DNS, text


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
            step = 3 if octets[at + 1:at + 4].isdigit() and at + 3 < len(octets) else 1
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
    if not is_domain_name(text):
        raise ValueError(f"zone is not a valid domain name: {text}")
    network = parse_cidr(text)
    if network is None:
        return [text], port
    if text[0] == ":" or (text[0] == "0" and ":" in text):
        raise ValueError(f"invalid CIDR {text}")
    return reverse_zones(network), port


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None; a zone (`fe80::1%eth0`) is not taken."""
    if "%" in text or "/" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


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
        zones.append(".".join(labels[len(labels) - 2 - kept:]) + ".")
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


def split_host_port(text: str) -> tuple[str, str]:
    """(host, port) of `HOST:PORT` or `[HOST]:PORT`; ValueError where a port is missing."""
    def bad(why: str) -> ValueError:
        return ValueError(f"address {text}: {why}")

    colon = text.rfind(":")
    if colon < 0:
        raise bad("missing port in address")
    if text.startswith("["):
        close = text.find("]")
        if close < 0:
            raise bad("missing ']' in address")
        if close + 1 == len(text):
            raise bad("missing port in address")
        if close + 1 != colon:
            raise bad("too many colons in address" if text[close + 1] == ":" else "missing port in address")
        host, from_open, from_close = text[1:close], 1, close + 1
    else:
        host, from_open, from_close = text[:colon], 0, 0
        if ":" in host:
            raise bad("too many colons in address")
    if "[" in text[from_open:]:
        raise bad("unexpected '[' in address")
    if "]" in text[from_close:]:
        raise bad("unexpected ']' in address")
    return host, text[colon + 1:]


def join_host_port(host: str, port: int | str) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def strip_interface(host: str) -> str:
    """`fe80::1%eth0` without what follows its last `%`."""
    return host.rpartition("%")[0] if "%" in host else host


def host_port(text: str, default_port: int | str = 53) -> str:
    """`IP:PORT` of `IP[:PORT]`; the host must be an address."""
    try:
        host, port = split_host_port(text)
    except ValueError:
        host, port = text, ""
    if parse_ip(strip_interface(host)) is None:
        raise ValueError(f"must specify an IP address: `{host}'")
    return join_host_port(host, port or default_port)


class ResolvConf(NamedTuple):
    """What resolv.conf(5) says: `servers` and `search` as written, `timeout` in seconds."""

    servers: tuple[str, ...]
    search: tuple[str, ...]
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2


def read_resolv_conf(path: str) -> ResolvConf:
    """Read a file in the form of resolv.conf(5); OSError where it cannot be read."""
    with open(path, "rb") as file:
        text = file.read(_MAX_RESOLV_CONF).decode("utf-8", "replace")
    servers: list[str] = []
    search: tuple[str, ...] = ()
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    for line in text.split("\n"):
        fields = line.split()
        if not fields:
            continue
        word, values = fields[0], fields[1:]
        if word == "nameserver" and values:
            servers.append(values[0])
        elif word in ("domain", "search"):
            search = tuple(values[:1] if word == "domain" else values)
        elif word == "options":
            _resolv_options(values, numbers)
    return ResolvConf(tuple(servers), search, **numbers)


def _resolv_options(values: Iterable[str], numbers: dict[str, int]) -> None:
    for value in values:
        name, colon, digits = value.partition(":")
        if colon and name in numbers:
            try:
                number = atoi(digits)
            except ValueError:
                number = 0
            numbers[name] = min(max(number, 0), 15) if name == "ndots" else max(number, 1)


def host_ports_or_files(texts: Iterable[str]) -> list[str]:
    """Upstreams of `[SCHEME://]IP[:PORT]` texts or resolv.conf files, with ports; `dns://` only if written.

    A file gives its `nameserver` lines at port 53, without interface zones.
    """
    found: list[str] = []
    for text in texts:
        scheme, host = split_scheme(text)
        if not host:
            raise ValueError(f"invalid address: {quote(text)}")
        if scheme == UNIX:
            found.append(text)
            continue
        try:
            address, _ = split_host_port(host)
            with_port = True
        except ValueError:
            host = address = host.strip("[]")
            with_port = False
        if parse_ip(strip_interface(address)) is None:
            found.extend(_nameservers(host))
        elif with_port:
            found.append(text)
        else:
            prefix = "" if scheme == DNS else scheme + "://"
            found.append(prefix + join_host_port(host, DEFAULT_PORTS[scheme]))
    if not found:
        raise ValueError("no nameservers found")
    return found


def _nameservers(path: str) -> list[str]:
    try:
        conf = read_resolv_conf(path)
    except FileNotFoundError:
        cause = f"failed to open file {quote(path)}: {quote(f'open {path}: no such file or directory')}"
        raise ValueError(f"not an IP address or file {quote(path)}: {cause}") from None
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "invalid argument"
        raise ValueError(f"not an IP address or file {quote(path)}: open {path}: {why}") from None
    return [join_host_port(strip_interface(server), 53) for server in conf.servers]
