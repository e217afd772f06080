# SPDX-License-Identifier: Apache-2.0
"""Our own server for a run: started from a Corefile as it stands, asked where the Corefile says.

Strategy: the Corefile is used where it lies, because it may name files beside it. Keys without a port get a free one
by `-dns.port`; keys with one keep it, and a port that somebody holds already is refused, because then somebody else's
answers would be measured. The first `dns://` key and its `bind` say where to ask, unless an address was given.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import socket
import sys

from ..corefile.blocks import ServerBlock
from ..corefile.source import Corefile, load_source, read_source
from .arguments import Options
from .errors import BenchError
from .target import LOOPBACK, Target, free_port

SCHEME = "dns"


class Owned:
    """Where our own server is asked, and the `target` that starts it. Raises ConfigError, BenchError."""

    def __init__(self, options: Options, question: bytes, cpus: list[int]) -> None:
        free = free_port()
        source = read_source(options.conf)
        corefile = load_source(source, port=free)
        self.digest = digest(corefile)
        address, port = asked(corefile, options.address)
        self.address, self.port = address, options.port or port
        if self.port != free:
            _untaken(self.address, self.port)
        self.target = Target(
            [sys.executable, "-m", "fastdns", "-conf", options.conf, "-dns.port", str(free)], self.port,
            address=self.address, cpus=",".join(map(str, cpus)), question=question, protocol=options.protocol,
        )


def digest(corefile: Corefile) -> str:
    """SHA-256 over keys and tokens, imports included: neither comments nor the places of files count."""
    plain = [
        [list(block.keys), {name: [token.text for token in tokens] for name, tokens in block.tokens.items()}]
        for block in corefile.raw
    ]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def asked(corefile: Corefile, address: str = "") -> tuple[str, int]:
    """(address, port) of the first `dns://` key. BenchError where there is none, or `bind` names no address."""
    for block in corefile.blocks:
        for zone in block.zones:
            if zone.scheme == SCHEME:
                return address or _bound(block), zone.port
    raise BenchError(f"{corefile.filename}: no server block speaks {SCHEME}://")


def _bound(block: ServerBlock) -> str:
    tokens = [token.text for token in block.tokens.get("bind", ())]
    for text in tokens:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if address.is_unspecified:
            return "::1" if address.version == 6 else LOOPBACK
        return str(address)
    if len(tokens) > 1:
        raise BenchError(f"{block.filename}: bind names no address; say as ADDRESS where to ask")
    return LOOPBACK


def _untaken(address: str, port: int) -> None:
    """Refuses a port that somebody holds."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(family, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise BenchError(f"{address} port {port} is taken: another server would be measured") from None
                raise BenchError(f"{address} port {port}: {error.strerror}") from None
