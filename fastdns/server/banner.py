# SPDX-License-Identifier: Apache-2.0
"""What is printed at the start: one line for each zone of each listener, then the version.

Strategy: text only, no printing. Lines are CoreDNS's to the letter; scripts wait for them.
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable

import fastdns

from ..corefile.addresses import join_host_port
from ..corefile.units import quote

# RFC 1035 2.3.1 preferred name syntax, as CoreDNS checks it.
_PREFERRED = re.compile(r"(?:[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+\Z")
_REVERSE = (".in-addr.arpa.", ".ip6.arpa.")


def preferred(zone: str) -> bool:
    """Whether `zone` has the preferred syntax; the root and reverse zones pass."""
    return zone == "." or zone.endswith(_REVERSE) or bool(_PREFERRED.match(zone))


def zone_lines(scheme: str, address: str, port: int, zones: Iterable[str]) -> list[str]:
    """The lines of one listener: `ZONE:PORT`, with the scheme unless it is dns, and the address where it has one."""
    prefix = "" if scheme == "dns" else scheme + "://"
    suffix = f" on {address}" if address else ""
    lines = []
    for zone in sorted(set(zones), key=lambda text: text.encode("utf-8", "surrogateescape")):
        if not preferred(zone):
            lines.append(f"Warning: Domain {quote(zone)} does not follow RFC1035 preferred syntax")
        lines.append(f"{prefix}{zone}:{port}{suffix}")
    return lines


def version_lines() -> list[str]:
    """`fastdns-VERSION`, then the system, the Python and the revision it was built from."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    python = "python{}.{}.{}".format(*sys.version_info)
    revision = getattr(fastdns, "__revision__", "")
    return [f"fastdns-{fastdns.__version__}", f"{sys.platform}/{machine}, {python}, {revision}"]


def listen_text(address: str, port: int | str) -> str:
    """An address as Go prints it: `:53`, `127.0.0.1:53`, `[::1]:53`."""
    return join_host_port(address, port)
