# SPDX-License-Identifier: Apache-2.0
"""Addresses as a Corefile writes them: `tls://9.9.9.9`, `[::1]:53`, `fe80::1%eth0`, or a resolv.conf.

Strategy: like units.py: text in, plain values out, ValueError with CoreDNS's message. Addresses stay text, in the form
`IP:PORT` that metrics and logs show.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import NamedTuple

from .paths import os_cause
from .units import atoi, quote

DNS, TLS, QUIC, GRPC, HTTPS, HTTPS3, UNIX = "dns", "tls", "quic", "grpc", "https", "https3", "unix"
SCHEMES = (TLS, DNS, QUIC, GRPC, HTTPS3, HTTPS, UNIX)
DEFAULT_PORTS = {DNS: 53, TLS: 853, QUIC: 853, GRPC: 443, HTTPS: 443, HTTPS3: 443}

_MAX_RESOLV_CONF = 1 << 20
_HOST_NAME = re.compile(r"(?=.{1,254}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")


def split_scheme(text: str) -> tuple[str, str]:
    """(scheme, rest) of `SCHEME://REST`; a text without a known scheme is `dns`. Case-sensitive."""
    for scheme in SCHEMES:
        if text.startswith(scheme + "://"):
            return scheme, text[len(scheme) + 3 :]
    return DNS, text


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address, or None; a zone (`fe80::1%eth0`) is not taken."""
    if "%" in text or "/" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def split_host_port(text: str) -> tuple[str, str]:
    """(host, port) of `HOST:PORT` or `[HOST]:PORT`; ValueError where a port is missing."""

    def bad(why: str) -> ValueError:
        return ValueError(f"address {text}: {why}" if text else why)

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
    return host, text[colon + 1 :]


def is_host_name(text: str) -> bool:
    """Whether a resolver would be asked for it at all; an address is no name."""
    return _HOST_NAME.fullmatch(text) is not None and text.strip("0123456789.") != ""


def listen_fault(port: str, in_url: str = "") -> str:
    """Why nobody can listen on a port for TCP, whatever else the host does; "" where somebody may. `in_url`: the whole
    address, where it must stand in a URL too."""
    if port.isascii() and port.isdecimal():
        # Compared as text: a number of thousands of digits is none that Python reads.
        number = port.lstrip("0")
        return f"listen tcp: address {port}: invalid port" if len(number) > 5 or int(number or 0) > 65535 else ""
    if not port:
        return ""
    if in_url:
        return f'parse "http://{in_url}": invalid port ":{port}" after host'
    try:
        socket.getservbyname(port, "tcp")
    except (OSError, ValueError):  # a ValueError for a NUL or a lone surrogate in it
        return f"listen tcp: lookup tcp/{port}: unknown port"
    return ""


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
    except IsADirectoryError:
        return []
    except (OSError, ValueError) as error:
        # A name with a zero octet is a ValueError.
        why = os_cause(error) if isinstance(error, OSError) else "invalid argument"
        raise ValueError(f"not an IP address or file {quote(path)}: open {path}: {why}") from None
    return [join_host_port(strip_interface(server), 53) for server in conf.servers]
