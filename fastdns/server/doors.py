# SPDX-License-Identifier: Apache-2.0
"""The listening sockets of /metrics, /health, /ready and profiles, kept by the supervisor from one generation to the
next.

Strategy: a template opens an address that is new, because it knows what becomes of a failure, and hands the socket up;
every template after it gets that same socket. So a connection that waits in its queue during a reload or an upgrade is
accepted by whichever web process lives, and one that ends leaves nobody behind. What no configuration asks for any more
is closed here once the new one serves; the last process that holds it takes it away.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any

Counts = list[list[Any]]  # [address, sockets] as messages have it


class Doors:
    """`by_address`: the sockets of each address."""

    def __init__(self) -> None:
        self.by_address: dict[str, list[socket.socket]] = {}

    def given(self, addresses: Iterable[str]) -> tuple[Counts, list[int]]:
        """What a template that wants these addresses is given: (counts, descriptors)."""
        counts: Counts = []
        fds: list[int] = []
        for address in dict.fromkeys(addresses):
            if socks := self.by_address.get(address):
                counts.append([address, len(socks)])
                fds += [sock.fileno() for sock in socks]
        return counts, fds

    def take(self, counts: Counts, fds: Sequence[int]) -> list[str]:
        """Own what a template has opened; returns the addresses that are new. ValueError."""
        if sum(count for _, count in counts) != len(fds):
            raise ValueError("addresses and sockets do not fit")
        added, left = [], iter([socket.socket(fileno=fd) for fd in fds])
        for address, count in counts:
            own = [next(left) for _ in range(count)]
            if address in self.by_address:
                # A template that was started anew beside one that opened it: nobody has heard of this one.
                for sock in own:
                    sock.close()
                continue
            self.by_address[address] = own
            added.append(address)
        return added

    def drop(self, addresses: Iterable[str]) -> None:
        """Close this process's copies of some."""
        for address in addresses:
            for sock in self.by_address.pop(address, ()):
                sock.close()

    def keep(self, addresses: Iterable[str]) -> None:
        """Close all but these."""
        self.drop(set(self.by_address) - set(addresses))
