# SPDX-License-Identifier: Apache-2.0
"""The listening sockets: opened once by the supervisor, kept over crashes and reloads, inherited by workers.

Strategy: each listener has one UDP and one TCP socket per worker that reads it, all with SO_REUSEPORT. A
socket is closed only when it left its group first (a connected UDP socket gets nothing new) and
was drained, because the kernel throws away what a closing socket had queued.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import StartError
from . import steer
from .activation import Activated, described, same, sharing
from .banner import listen_text

BUFFER_OCTETS = 4 << 20  # asked for; the kernel doubles it
WIDE_OCTETS = 4 * BUFFER_OCTETS  # while a generation starts beside the one that serves
DATAGRAM_OCTETS = 832  # what the kernel charges for a small queued datagram
BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn

# <linux/in.h>, <linux/in6.h>, <asm/socket.h>: not in Python's socket module.
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_OMIT = 5
SO_RCVBUFFORCE = 33
SO_SNDBUFFORCE = 32

STREAM_SCHEMES = frozenset(("tls", "https", "grpc"))  # TCP only
PACKET_SCHEMES = frozenset(("https3", "quic"))  # UDP only

Key = tuple[str, str, int]  # scheme, address, port
HELD = "held"  # steered for as long as a reload takes, beside steer.MODES


@dataclass
class Listener:
    """The sockets of one listen address. `udp[i]` and `tcp[i]` belong to worker i; none where the scheme has none.

    `settled`: so many of them stand at the head of their groups in the kernel, in this order. `steered`: how the groups
    are steered now, "" where that is not known.
    """

    scheme: str
    address: str
    port: int
    udp: list[socket.socket] = field(default_factory=list)
    tcp: list[socket.socket] = field(default_factory=list)
    settled: int = 0
    steered: str = ""

    @property
    def key(self) -> Key:
        return self.scheme, self.address, self.port

    def count(self) -> int:
        """Sockets of each kind."""
        return max(len(self.udp), len(self.tcp))

    def fds(self, index: int) -> tuple[int, int]:
        """(UDP, TCP) descriptors of worker `index`, -1 where it has none."""
        return (self.udp[index].fileno() if index < len(self.udp) else -1,
                self.tcp[index].fileno() if index < len(self.tcp) else -1)

    def shared(self) -> bool:
        """Whether two workers read one socket, so that the group has fewer places than workers."""
        return any(len(set(map(same, socks))) < len(socks) for socks in (self.udp, self.tcp))

    def close(self) -> None:
        """Close this process's copies."""
        for sock in self.udp + self.tcp:
            sock.close()
        self.udp.clear()
        self.tcp.clear()


def ipv6_available() -> bool:
    """Whether the host has IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def is_wildcard(address: str) -> bool:
    """Whether `address` means every address of the host (Go listens on both families then)."""
    return address in ("", "0.0.0.0", "::")


def resolve(address: str, port: int, ipv6: bool) -> tuple[int, tuple[object, ...]]:
    """(family, socket address) to bind to."""
    if is_wildcard(address):
        return (socket.AF_INET6, ("::", port, 0, 0)) if ipv6 else (socket.AF_INET, ("0.0.0.0", port))
    if ":" not in address:
        return socket.AF_INET, (address, port)
    host, _, zone = address.partition("%")
    scope = 0
    if zone:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    return socket.AF_INET6, (host, port, 0, scope)


def open_socket(kind: int, address: str, port: int, ipv6: bool, beside_leaving: bool = False) -> socket.socket:
    """A bound socket with every option that the server wants; `beside_leaving`: see leave_group. OSError."""
    family, where = resolve(address, port, ipv6)
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if kind == socket.SOCK_STREAM or beside_leaving:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if is_wildcard(address) else 1)
        if kind == socket.SOCK_DGRAM:
            _packet_options(sock, family, is_wildcard(address))
        sock.bind(where)
        if kind == socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        elif beside_leaving:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        sock.close()
        raise
    return sock


def _packet_options(sock: socket.socket, family: int, wildcard: bool) -> None:
    # Forged ICMP must not shrink what we send: the path MTU is never looked at, on either level of a dual-stack socket.
    _try(sock, socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT)
    if family == socket.AF_INET6:
        _try(sock, socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_OMIT)
    if wildcard and family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif wildcard:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    _buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, BUFFER_OCTETS)
    _buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, BUFFER_OCTETS)


def _buffer(sock: socket.socket, forced: int, plain: int, octets: int) -> None:
    # Who may, goes beyond net.core.rmem_max; who may not, gets that.
    if not _try(sock, socket.SOL_SOCKET, forced, octets):
        _try(sock, socket.SOL_SOCKET, plain, octets)


def _try(sock: socket.socket, level: int, name: int, value: int) -> bool:
    try:
        sock.setsockopt(level, name, value)
    except OSError:
        return False
    return True


def cause(error: OSError) -> str:
    """An error of the system in Go's words: `bind: address already in use`."""
    text = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"bind: {text}"


class Listeners:
    """Every listener of the server, by key; `leaving`: the sockets that were retired and are not yet closed by all.
    `ipv6` is found out at the first wildcard socket."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Listener] = {}
        self.leaving: dict[Key, list[socket.socket]] = {}
        self._ipv6: bool | None = None
        self.notes: list[str] = []
        self.rest: list[tuple[Key, socket.socket]] = []  # activated ones that nobody read, with what is queued there
        self.resting: list[socket.socket] = []  # of these, what a worker reads to its end now
        self._said_buffer = False
        self.wide = False
        self.activated = Activated()

    @property
    def ipv6(self) -> bool:
        """Whether wildcard sockets are dual-stack. False is noted once, for the log."""
        if self._ipv6 is None:
            self._ipv6 = ipv6_available()
            if not self._ipv6:
                self.notes.append("no IPv6 on this host: listening on IPv4 alone")
        return self._ipv6

    def open(self, wanted: Iterable[tuple[Key, int]], quietly: bool = False) -> list[tuple[Listener, int]]:
        """Open what is missing of (key, sockets). Returns what was added as (listener, sockets it had before).
        `quietly`: what a group gains gets nothing before `steer`.

        Either all are open or none was added: StartError with CoreDNS's text.
        """
        added: list[tuple[Listener, int]] = []
        try:
            for key, count in wanted:
                listener = self.by_key.get(key) or Listener(*key, steered=steer.FLOW)
                had = listener.count()
                if had < count:
                    added.append((listener, had))
                    self.by_key[key] = listener
                    if quietly:
                        hold(listener, had)
                    self._extend(listener, count)
                    if self.wide:
                        self.widen()
        except StartError:
            self.undo(added)
            raise
        return added

    def widen(self) -> None:
        """Have UDP sockets hold more for a while: processes that start take turns away from those that read. A server
        without CAP_NET_ADMIN has what net.core.rmem_max allows anyway."""
        self._hold(WIDE_OCTETS)

    def narrow(self) -> None:
        """As it was: what waits longer than a client does is answered for nothing."""
        if self.wide:
            self._hold(BUFFER_OCTETS)

    def _hold(self, octets: int) -> None:
        self.wide = octets > BUFFER_OCTETS
        for listener in self.by_key.values():
            for sock in listener.udp:
                _buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, octets)

    def _extend(self, listener: Listener, count: int) -> None:
        if not self.leaving.get(listener.key):
            listener.settled = count
        while listener.scheme not in PACKET_SCHEMES and len(listener.tcp) < count:
            listener.tcp.append(self._one(listener, socket.SOCK_STREAM))
        while listener.scheme not in STREAM_SCHEMES and len(listener.udp) < count:
            listener.udp.append(self._one(listener, socket.SOCK_DGRAM))

    def _one(self, listener: Listener, kind: int) -> socket.socket:
        ipv6 = self.ipv6 if is_wildcard(listener.address) else True
        ready: list[socket.socket] = []
        try:
            ready = self._ready(listener, kind, ipv6)
            used = {same(sock) for sock in listener.udp + listener.tcp}
            for sock in ready:
                if same(sock) not in used:
                    return sock.dup()
            beside_leaving = any(port == listener.port for _, _, port in self.leaving)
            sock = open_socket(kind, listener.address, listener.port, ipv6, beside_leaving)
        except (OSError, OverflowError) as error:
            if ready:
                return self._shared(listener, kind, ready)
            name = "Listen: listen tcp" if kind == socket.SOCK_STREAM else "ListenPacket: listen udp"
            where = listen_text(listener.address, listener.port)
            why = cause(error) if isinstance(error, OSError) else "invalid port"
            raise StartError(f"{name} {where}: {why}") from None
        if kind == socket.SOCK_DGRAM and not self._said_buffer:
            self._said_buffer = True
            self.notes.append(buffer_note(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)))
        return sock

    def _ready(self, listener: Listener, kind: int, ipv6: bool) -> list[socket.socket]:
        if not self.activated.socks:
            return []
        found = self.activated.find(kind, *resolve(listener.address, listener.port, ipv6))
        for sock in found:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == socket.SOCK_DGRAM:
                _packet_options(sock, sock.family, is_wildcard(listener.address))
        return found

    def _shared(self, listener: Listener, kind: int, ready: list[socket.socket]) -> socket.socket:
        """A socket that another worker reads as well: slower, but everything is answered."""
        socks = listener.udp if kind == socket.SOCK_DGRAM else listener.tcp
        note = sharing(listen_text(listener.address, listener.port), kind, len(ready))
        if note not in self.notes:
            self.notes.append(note)
        return ready[len(socks) % len(ready)].dup()

    def surplus(self, counts: Mapping[Key, int]) -> list[str]:
        """What to warn of: activated sockets in groups whose first `counts` sockets are read and they are not. They
        leave, because the kernel would go on sending a share of the clients to them: those that a worker still reads
        go the way of all sockets that are retired, the others become `rest`."""
        said = []
        for key, listener in self.by_key.items() if self.activated.socks else ():
            keep, ipv6 = counts.get(key, 0), self.ipv6 if is_wildcard(listener.address) else True
            for kind, socks in ((socket.SOCK_DGRAM, listener.udp), (socket.SOCK_STREAM, listener.tcp)):
                read = set(map(same, socks))
                where = resolve(listener.address, listener.port, ipv6)
                for sock in self.activated.surplus(kind, *where, socks[:keep]):
                    said.append(f"socket activation: more sockets than workers for {described(sock)}: one is not used")
                    if same(sock) in read:
                        sock.close()
                        continue
                    if sock.type == socket.SOCK_DGRAM:
                        leave_group(sock)
                    self.leaving.setdefault(key, []).append(sock)
                    self.rest.append((key, sock))
        return said

    def rested(self) -> None:
        """What nobody read has been read to its end, or cannot be."""
        for sock in self.resting:
            if sock.type == socket.SOCK_STREAM:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)
            sock.close()
        self.forget(self.resting)
        self.resting = []

    def idle(self) -> list[str]:
        """What to warn of now: activated sockets that no listener has."""
        said = self.surplus({key: listener.count() for key, listener in self.by_key.items()})
        used = (sock for listener in self.by_key.values() for sock in listener.udp + listener.tcp)
        return said + self.activated.idle(used)

    def last(self, old: Mapping[Key, int], new: Mapping[Key, int]) -> dict[int, list[int]]:
        """By worker of a generation with the sockets `old`: the listeners (their numbers) where it has one that nobody
        reads when `new` serve. Activated sockets that no listener has wait for one that comes."""
        kept = {same(sock) for key, listener in self.by_key.items()
                for sock in listener.udp[:new.get(key, 0)] + listener.tcp[:new.get(key, 0)]}
        found: dict[int, list[int]] = {}
        for number, (key, count) in enumerate(old.items()):
            listener = self.by_key.get(key)
            for index in range(new.get(key, 0), count if listener is not None else 0):
                assert listener is not None
                socks = listener.udp[index:index + 1] + listener.tcp[index:index + 1]
                if any(same(sock) not in kept and (key in new or sock not in self.activated) for sock in socks):
                    found.setdefault(index, []).append(number)
        return found

    def refuse(self, leaving: Iterable[socket.socket]) -> None:
        """Have TCP sockets that were retired, and that nobody accepts at any more, refuse connections: closing them has
        to wait for every process that holds them."""
        kept = {same(sock) for listener in self.by_key.values() for sock in listener.tcp}
        for sock in leaving:
            if sock.type == socket.SOCK_STREAM and same(sock) not in kept and sock not in self.activated:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RD)

    def undo(self, added: Iterable[tuple[Listener, int]]) -> None:
        """Close again what `open` added. A group that gained sockets has given them nothing yet (`quietly`); at a
        listener that is new, no client was promised anything."""
        for listener, had in added:
            for socks in (listener.udp, listener.tcp):
                for sock in socks[had:]:
                    sock.close()
                del socks[had:]
            listener.settled = min(listener.settled, had)
            if not listener.count():
                self.by_key.pop(listener.key, None)

    def retire(self, wanted: Iterable[tuple[Key, int]]) -> list[socket.socket]:
        """Take sockets that nobody wants any more out of their groups; returns them, to be closed once drained and
        then forgotten."""
        counts = dict(wanted)
        leaving: list[socket.socket] = []
        for key, listener in list(self.by_key.items()):
            keep = counts.get(key, 0)
            for sock in listener.udp[keep:]:
                if sock not in self.activated:
                    leave_group(sock)
            left = listener.udp[keep:] + listener.tcp[keep:]
            if left:
                self.leaving.setdefault(key, []).extend(left)
            leaving += left
            del listener.udp[keep:], listener.tcp[keep:]
            listener.settled = min(listener.settled, keep)
            if not keep:
                del self.by_key[key]
        return leaving

    def forget(self, gone: Iterable[socket.socket]) -> None:
        """Retired sockets are closed in every process that had them."""
        closed = set(map(id, gone))
        for key, socks in list(self.leaving.items()):
            socks[:] = [sock for sock in socks if id(sock) not in closed]
            if not socks:
                del self.leaving[key]
                if (listener := self.by_key.get(key)) is not None:
                    listener.settled = listener.count()

    def steer(self, modes: Mapping[Key, str], counts: Mapping[Key, int], cpus: Sequence[int]) -> None:
        """Steer each group to its first `counts` sockets, which serve; worker i runs on `cpus[i]`.

        Sockets that leave stand behind these, so the program is right before, during and after their way out. But if a
        group grew while others were leaving, nobody can say at which places the new ones stand (a connected socket
        keeps its place or not, by kernel version), and a program must never point to a socket that nobody reads: such a
        group goes by the hash until the others have gone. Its new sockets may then stand in another order than their
        workers, which costs `cpu` the nearness and loses nothing.

        A TCP socket cannot leave its group but by closing, so while some leave, new connections go to the others at
        random instead of by the hash.
        """
        for key, listener in self.by_key.items():
            mode, count = modes.get(key, steer.FLOW), counts.get(key, 0)
            known = 0 < count <= listener.settled and not listener.shared()
            if not known:
                mode = steer.FLOW
            held = mode == steer.FLOW and known and bool(self.leaving.get(key))
            if mode == listener.steered == steer.FLOW and not held:
                continue
            try:
                for socks in filter(None, (listener.udp, listener.tcp)):
                    steer.attach(socks[0], steer.RANDOM if held and socks is listener.tcp else mode, cpus[:count])
            except OSError as error:
                if mode != steer.FLOW:
                    self.notes.append(f"plugin/multisocket: steer {mode}: {cause(error).removeprefix('bind: ')}: "
                                      "the kernel's hash of the flow is used")
                for socks in filter(None, (listener.udp, listener.tcp)):
                    steer.detach(socks[0])
                mode, held = steer.FLOW, False
            listener.steered = HELD if held else mode

    def close(self) -> None:
        """Close everything."""
        for listener in self.by_key.values():
            listener.close()
        self.by_key.clear()


def hold(listener: Listener, count: int) -> None:
    """Give everything to the first `count` sockets of a group that is about to grow: nobody reads the others yet."""
    if not 0 < count <= listener.settled or listener.shared():
        return  # nobody knows where they stand
    listener.steered = HELD
    for socks in filter(None, (listener.udp, listener.tcp)):
        with contextlib.suppress(OSError):
            steer.attach(socks[0], steer.RANDOM, range(count))


def leave_group(sock: socket.socket) -> None:
    """Make a UDP socket get nothing new while what it has queued can still be read: connect it to a discard address.

    A socket bound to one address keeps its place in the kernel's table of that address, where a new socket would join
    *it* and so found a second group, in whose favour the first gets nothing any more. Without SO_REUSEPORT it is passed
    over; then only SO_REUSEADDR, on both, lets a new socket be bound beside it (`beside_leaving`).
    """
    where = ("::1", 9, 0, 0) if sock.family == socket.AF_INET6 else ("127.0.0.1", 9)
    own = sock.getsockname()[0]
    if sock.family == socket.AF_INET6 and own not in ("::", "::1"):
        where = (own, 9, 0, sock.getsockname()[3])
    elif sock.family == socket.AF_INET and own not in ("0.0.0.0",):
        where = (own, 9)
    try:
        sock.connect(where)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except OSError:
        # Its address has gone from the host: nothing arrives there anyway.
        return


def buffer_note(octets: int) -> str:
    """What a receive buffer of `octets` holds, and for how long, for the log."""
    held = octets // DATAGRAM_OCTETS
    return (f"UDP receive buffer {octets} octets a socket: {held} small datagrams, "
            f"{held / 100:.1f} ms at 100,000 queries a second")
