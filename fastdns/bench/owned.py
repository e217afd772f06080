# SPDX-License-Identifier: Apache-2.0
"""Our own server for a run: started from a Corefile as it stands, asked where the Corefile says.

Strategy: the Corefile is used where it lies, because it may name files beside it. Keys without a port get a free one
by `-dns.port`; keys with one keep it, and a port that somebody holds already is refused, because then somebody else's
answers would be measured. The first `dns://` key and its `bind` say where to ask, unless an address was given.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import ipaddress
import json
import socket
import sys

from ..corefile.blocks import ServerBlock
from ..corefile.source import Corefile, load_source, read_source
from ..ports import free_port
from .arguments import Options
from .errors import BenchError
from .target import LOOPBACK, Target, TargetError

SCHEME = "dns"
CHOSEN = 0
"""The port of keys without one, until it is chosen."""
ATTEMPTS = 3


class Owned:
    """Our own server: `digest` tells its Corefile from others. Raises ConfigError, BenchError."""

    def __init__(self, options: Options, question: bytes, cpus: list[int]) -> None:
        corefile = load_source(read_source(options.conf), port=CHOSEN)
        self.digest = digest(corefile)
        self.address, port = asked(corefile, options.address)
        self.port = options.port or port
        self._conf, self._protocol, self._question = options.conf, options.protocol, question
        self._cpus = ",".join(map(str, cpus))
        if self.port != CHOSEN:
            _untaken(self.address, self.port)

    def start(self, stack: contextlib.ExitStack) -> Target:
        """Starts it for as long as `stack` lasts; a port that we chose and somebody was quicker to take is replaced by
        another. Raises TargetError."""
        for left in reversed(range(ATTEMPTS)):
            free = free_port()
            target = Target(
                [sys.executable, "-m", "fastdns", "-conf", self._conf, "-dns.port", str(free)], self.port or free,
                address=self.address, cpus=self._cpus, question=self._question, protocol=self._protocol,
            )
            try:
                return stack.enter_context(target)
            except TargetError as error:
                if not left or f":{free}: bind: address already in use" not in str(error):
                    raise
        raise AssertionError("the last attempt returns or raises")


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
