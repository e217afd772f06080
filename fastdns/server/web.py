# SPDX-License-Identifier: Apache-2.0
"""The web process: /metrics, /health, /ready and /debug/pprof, once for the whole server.

Strategy: everything that it tells is in the shared table of counters - the numbers, the workers' heartbeats, what is
not ready yet - so it asks no other process anything and a scrape costs the workers nothing. Its listening sockets are
opened by the template before it forks (`listen`) and kept by the supervisor (doors.py): whoever follows a web process
that dies, or is of the generation before, accepts on the same sockets whatever waits there. One that ends closes its
copies and answers whom it has accepted.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import metrics
from ..corefile.addresses import listen_fault
from ..errors import StartError
from ..listeners import ESSENTIAL
from . import control, exposition, process_metrics
from .http import Answer, Handler, Server, Tree

if TYPE_CHECKING:
    from .._cache import Segment
    from .._kept import Shelf
    from .._stats import Stats
    from ..plugin import Observer
    from .ctl import Control
    from .ctl_site import Site
    from .gate import Gate

Facts = dict[str, Any]


class Place(NamedTuple):
    """The listening sockets of an address, and what stands before them."""

    socks: list[socket.socket]
    gate: Gate | None = None


Sockets = dict[str, Place]

BACKLOG = 128
STALE_SECONDS = 3.0  # an idle worker beats each second
POLL_SECONDS = 1.0
POLL_TIMEOUT = 3.0
PATIENCE = 0.5  # of the time that it has to end: for who has connected and not asked yet
PATHS = {"metrics": "/metrics", "health": "/health", "ready": "/ready"}

HEALTH_DURATION = metrics.Histogram(
    "coredns_health_request_duration_seconds",
    "Time of the server's own health checks.",
    (),
    metrics.SLIM_TIME_BUCKETS,
)
HEALTH_FAILURES = metrics.Counter("coredns_health_request_failures_total", "Own health checks that failed.")


def split(address: str) -> tuple[str, str]:
    """Host and port of HOST:PORT or [HOST]:PORT."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def bind(address: str) -> list[socket.socket]:
    """Opens a listening socket for HOST:PORT: a name's first address, IPv4 preferred; no host is every address of both
    families. Raises StartError with Go's text."""
    host, port = split(address)
    if fault := listen_fault(port):  # the resolver would take a number modulo 65,536
        raise StartError(fault)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_SERVICE:
            raise StartError(f"listen tcp: lookup tcp/{port}: unknown port") from None
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            reason = "no such host"
        raise StartError(f"listen tcp: lookup {host}: {reason}") from None
    wanted = socket.AF_INET if host else socket.AF_INET6
    family, kind, proto, _, where = min(found, key=lambda entry: entry[0] != wanted)
    sock = None
    try:
        try:
            sock = socket.socket(family, kind, proto)
        except OSError as error:
            if host or error.errno != errno.EAFNOSUPPORT:
                raise
            # A kernel without IPv6: every address is every address of IPv4.
            family, kind, proto, _, where = next(entry for entry in found if entry[0] == socket.AF_INET)
            sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"listen tcp {address}: bind: {reason}") from None
    return [sock]


def listen(http: list[Facts], given: Mapping[str, list[socket.socket]] | None = None) -> Sockets:
    """Opens a socket for each address that any block asks for, unless it is among those `given`.

    Raises StartError for an address of `health` or `pprof`. One of `prometheus` or `ready` is logged and left out, as
    in CoreDNS.
    """
    sockets: Sockets = {}
    for facts in http:
        address = facts["address"]
        if address in sockets:
            continue
        try:
            sockets[address] = _open(facts, (given or {}).get(address))
        except StartError as error:
            if facts["service"] in ESSENTIAL:
                release(sockets)
                raise
            # Of `prometheus` CoreDNS logs it without the plugin's name.
            logging.getLogger("prometheus" if facts["service"] == "metrics" else "plugin/ready").error("%s", error)
    return sockets


def _open(facts: Facts, socks: list[socket.socket] | None) -> Place:
    """Opens one address, if it is not open. StartError with the line that CoreDNS logs."""
    service, address = facts["service"], facts["address"]
    # CoreDNS asks itself for /health by a URL.
    if service == "health" and (fault := listen_fault(split(address)[1], address)):
        raise StartError(fault)
    gate = open_gate(facts["tls"]) if facts.get("tls") else None
    try:
        return Place(bind(address) if socks is None else socks, gate)
    except StartError as error:
        if service == "pprof":
            logging.getLogger("plugin/pprof").error("Failed to start pprof handler: %s", error)
        if service in ESSENTIAL:
            raise
        raise StartError(f"Failed to start {service} handler: {error}") from None


def open_gate(path: str) -> Gate:
    """What `prometheus { tls PATH }` puts before the metrics. StartError in CoreDNS's words."""
    from .gate import Gate

    if not Path(path).exists():
        raise StartError(f"TLS config file does not exist: {path}")
    try:
        return Gate(path)
    except StartError as error:
        raise StartError(f"Failed to start HTTPS metrics server: {error}") from None


def release(sockets: Sockets) -> None:
    """Closes this process's copies."""
    for place in sockets.values():
        for sock in place.socks:
            sock.close()


class Web:
    """What the paths answer."""

    def __init__(self, http: list[Facts], listeners: Sequence[int], stats: Stats, segment: Segment | None,
                 generation: int, observer: Observer | None = None, shelf: Shelf | None = None) -> None:
        self.http = http
        self.listeners = listeners
        self.stats = stats
        self.segment = segment
        self.generation = generation
        self.observer = observer
        self.shelf = shelf
        self.draining = False
        self.runtime = any(facts.get("runtime_metrics") for facts in http)

    async def metrics(self) -> Answer:
        """The exposition of all counters and of the processes."""
        series = metrics.read(self.stats)
        if self.segment is not None:
            series += metrics.cache_entries(self.stats, self.segment, self.generation)
        series += metrics.kept_entries(self.shelf)
        if self.observer is not None:
            # Lists of many workers take a while, and /health shall be told meanwhile.
            series += await asyncio.to_thread(self.observer.series)
        series += process_metrics.read(os.getppid(), self.runtime)
        return Answer(200, exposition.render(series), exposition.CONTENT_TYPE)

    def healthy(self, now_ns: int) -> bool:
        """Whether each listener has a worker that beat lately: one of k sockets is read by workers 0 .. k - 1."""
        fresh = [index for index, beat in metrics.workers(self.stats).values()
                 if now_ns - beat < STALE_SECONDS * metrics.NANO]
        return bool(fresh) and all(any(index < sockets for index in fresh) for sockets in self.listeners)

    async def health(self) -> Answer:
        """OK, or 503 when a listener has nobody who reads it."""
        if self.healthy(time.monotonic_ns()):
            return Answer(200, b"OK")
        return Answer(503, b"no worker answers")

    async def ready(self) -> Answer:
        """OK, or 503 and the names of the plugins that are not ready."""
        if self.draining:
            return Answer(503, b"Shutting down")
        missing = metrics.unready(self.stats, self.generation)
        if not missing:
            return Answer(200, b"OK")
        names = ",".join(missing)
        logging.getLogger("plugin/ready").info('Plugins not ready: "%s"', names)
        return Answer(503, names.encode())

    def paths(self, address: str) -> dict[str, Handler]:
        """The paths that an address answers."""
        handlers: dict[str, Handler] = {"metrics": self.metrics, "health": self.health, "ready": self.ready}
        asked = {facts["service"] for facts in self.http if facts["address"] == address}
        return {PATHS[name]: handlers[name] for name in sorted(asked & PATHS.keys())}

    def trees(self, address: str, channel: control.Channel) -> list[Tree]:
        """What else it answers: profiles, for which the other processes are asked over the channel."""
        rates = [facts["rate"] for facts in self.http
                 if facts["address"] == address and facts["service"] == "pprof"]
        if not rates:
            return []
        from . import pprof

        profiler = pprof.Profiler(channel, rates[-1])
        return [Tree(pprof.PREFIX, profiler.answer, pprof.SECONDS_MAX + pprof.GRACE)]


async def fetch(sock: socket.socket) -> None:
    """One GET /health of a listening socket's own address. Raises OSError or TimeoutError."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await writer.drain()
        if not (await reader.readline()).startswith(b"HTTP/1.1 "):
            raise ConnectionError("no HTTP answer")
    finally:
        writer.close()


async def poll_health(address: str, sock: socket.socket) -> None:
    """Asks an own /health once a second and measures, as CoreDNS does; a slow answer tells of an overloaded machine."""
    log = logging.getLogger("plugin/health")
    url = f'"http://{address if split(address)[0] else "localhost" + address}/health"'
    while True:
        await asyncio.sleep(POLL_SECONDS)
        begin = time.monotonic()
        try:
            await asyncio.wait_for(fetch(sock), POLL_TIMEOUT)
        except (OSError, TimeoutError) as error:
            HEALTH_FAILURES.inc()
            log.warning("Local health request to %s failed: %s", url, error or "timeout")
        seconds = time.monotonic() - begin
        HEALTH_DURATION.observe(seconds)
        if seconds > 1.0:
            log.warning("Local health request to %s took more than 1s: %.6fs", url, seconds)


async def serve(web: Web, sockets: Sockets, channel: control.Channel, site: Site | None = None) -> None:
    """Serves until the channel says stop or closes."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[float] = loop.create_future()
    servers = []
    polls: list[asyncio.Task[None]] = []
    for address, place in sockets.items():
        server = Server(web.paths(address), place.gate, web.trees(address, channel))
        await server.start(place.socks)
        servers.append(server)
    for address in dict.fromkeys(facts["address"] for facts in web.http if facts["service"] == "health"):
        place = sockets.get(address, Place([]))
        polls += [loop.create_task(poll_health(address, sock)) for sock in place.socks]
    desk = Desk(site, channel)
    loop.add_reader(channel.fileno(), functools.partial(_told, web, channel, done, desk))
    channel.send({"started": "web"})
    seconds = await done
    loop.remove_reader(channel.fileno())
    for server in servers:
        server.close()
    for poll in polls:
        poll.cancel()
    await asyncio.gather(desk.close(), *polls, return_exceptions=True)
    await asyncio.gather(*(server.stop(seconds * PATIENCE) for server in servers))


class Desk:
    """The control socket, once the supervisor has given it to this process."""

    def __init__(self, site: Site | None, channel: control.Channel) -> None:
        self.site = site
        self.channel = channel
        self.control: Control | None = None

    def open(self, fd: int) -> None:
        """Serve it."""
        from .ctl import Control

        sock = socket.socket(fileno=fd)
        if self.site is None:
            sock.close()
        elif self.control is not None:
            self.control.listen_at(sock)
        else:
            self.control = Control(self.site, self.channel, sock)

    async def close(self) -> None:
        """Serve it no more."""
        if self.control is not None:
            await self.control.stop()


def _told(web: Web, channel: control.Channel, done: asyncio.Future[float], desk: Desk) -> None:
    stop: float | None = None
    try:
        for message, fds in channel.receive():
            if "control" in message and fds:
                desk.open(fds.pop(0))
            elif "control" in message and desk.control is not None:
                desk.control.accept_no_more()
            elif "told" in message and desk.control is not None:
                desk.control.told(message)
            control.close_all(fds)
            web.draining = web.draining or bool(message.get("draining"))
            if "stop" in message:
                stop = float(message["stop"])
    except control.Closed:
        stop = 1.0
    if stop is not None and not done.done():
        done.set_result(stop)


def run(
    http: list[Facts],
    sockets: Sockets,
    stats: Stats,
    segment: Segment | None,
    channel: control.Channel,
    row: int,
    generation: int,
    listeners: Sequence[int] = (),
    site: Site | None = None,
) -> None:
    """The process's life. `http` are the blocks' wishes, `sockets` what `listen` opened for them, `row` this
    process's own in `stats`, `listeners` the number of sockets of each DNS listener, `site` what the control socket
    tells of."""
    gc.enable()
    metrics.attach(stats, row)
    observer, shelf = (None, None) if site is None else (site.observer, site.shelf)
    web = Web(http, listeners, stats, segment, generation, observer, shelf)
    asyncio.run(serve(web, sockets, channel, site))
