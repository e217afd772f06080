# SPDX-License-Identifier: Apache-2.0
"""Sockets that the service manager opened (socket activation), and which listener each of them is for.

Strategy: a socket is told by its address, never by its name or place, so a unit file and a Corefile cannot be mixed up.
They stay with the supervisor for ever and listeners get duplicates: a listener that goes and comes finds its socket
again, and nothing that is queued there is lost.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable

from .banner import listen_text


def same(sock: socket.socket) -> int:
    """What all duplicates of a socket have in common: its inode."""
    return os.fstat(sock.fileno()).st_ino


class Activated:
    """`socks`: (name, socket) as the service manager gave them."""

    def __init__(self) -> None:
        self.socks: list[tuple[str, socket.socket]] = []
        self._said: list[str] = []

    def find(self, kind: int, family: int, where: tuple[object, ...]) -> list[socket.socket]:
        """Those that are bound to just this address."""
        return [sock for _, sock in self.socks if sock.type == kind and bound_to(sock, family, where)]

    def surplus(self, kind: int, family: int, where: tuple[object, ...],
                used: Iterable[socket.socket]) -> list[socket.socket]:
        """Take out those of an address that are not among `used` although others are."""
        have = set(map(same, used))
        found = [sock for sock in self.find(kind, family, where) if same(sock) not in have] if have else []
        self.socks = [(name, sock) for name, sock in self.socks if sock not in found]
        return found

    def __contains__(self, sock: socket.socket) -> bool:
        return any(same(sock) == same(own) for _, own in self.socks)

    def idle(self, used: Iterable[socket.socket]) -> list[str]:
        """What to warn of: those that nobody uses; each time that they change."""
        have = set(map(same, used))
        idle = [f"socket activation: {name}: no server block listens on {described(sock)}: nothing there is answered"
                for name, sock in self.socks if same(sock) not in have]
        new, self._said = idle != self._said, idle
        return idle if new else []


def bound_to(sock: socket.socket, family: int, where: tuple[object, ...]) -> bool:
    """Whether a socket is bound to an address, and takes both families where `::` means that."""
    own = sock.getsockname()
    if sock.family != family or own[1] != where[1] or where[3:] != own[3:]:
        return False
    mine, its = (ipaddress.ip_address(str(address).partition("%")[0]) for address in (where[0], own[0]))
    if mine == its and mine == ipaddress.IPv6Address("::"):
        return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return mine == its


def described(sock: socket.socket) -> str:
    """`udp 127.0.0.1:53`."""
    kind = "udp" if sock.type == socket.SOCK_DGRAM else "tcp"
    where = sock.getsockname()
    return f"{kind} {listen_text(where[0], where[1])}"


def sharing(listener: str, kind: int, count: int) -> str:
    """What to say where workers must share the `count` sockets of a listener."""
    word = "ListenDatagram" if kind == socket.SOCK_DGRAM else "ListenStream"
    return (f"socket activation: workers share {count} socket{'s' if count > 1 else ''} of {listener}: give its unit "
            f"ReusePort=yes and {word}= once for each worker")
