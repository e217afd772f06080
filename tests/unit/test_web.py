# SPDX-License-Identifier: Apache-2.0
"""The web process: paths, addresses, hostile clients, the self-poll, and the hand-over between two generations."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import http.client
import logging
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from fastdns import metrics
from fastdns._stats import Series, Stats
from fastdns.errors import StartError
from fastdns.plugin import Observer
from fastdns.server import control, web
from fastdns.server.http import Answer, Server, Tree
from tests.machine import needs_ipv6


def test_an_observer_is_read_beside_the_loop() -> None:
    class Lists(Observer):
        def series(self) -> list[Series]:
            self.thread = threading.get_ident()
            return [Series("lists_of_mine", (), "gauge", (), "Lists.", 0, (3,))]

    stats, lists = Stats.create(8), Lists()
    metrics.declare(stats)
    answer = asyncio.run(web.Web([], (), stats, None, 1, lists).metrics())
    assert b"lists_of_mine 3" in answer.body and lists.thread != threading.get_ident()


def test_who_asks_on_while_an_answer_takes_long_is_answered_in_turn() -> None:
    asked: list[str] = []
    cancelled: list[str] = []

    async def slowly(_path: str, query: str) -> Answer:
        asked.append(query)
        try:
            await asyncio.sleep(60 if query == "long" else 0.3)
        except asyncio.CancelledError:
            cancelled.append(query)
            raise
        return Answer(200, query.encode())

    def request(query: str) -> bytes:
        return f"GET /slow?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

    async def main() -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = Server({}, None, [Tree("/slow", slowly, 100.0)])
        await server.start([sock])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("one"))
        await asyncio.sleep(0.1)
        writer.write(request("two") + request("three"))
        for word in (b"one", b"two", b"three"):
            assert (await reader.readuntil(word)).endswith(word)
        writer.write(request("long"))
        while asked[-1] != "long":
            await asyncio.sleep(0.01)
        writer.close()
        while not cancelled:
            await asyncio.sleep(0.01)
        await server.stop()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert asked == ["one", "two", "three", "long"] and cancelled == ["long"]


class Running:
    """A web process in a thread: what `run` does, with a loop of its own."""

    def __init__(self, *services: str, stats: Stats | None = None, address: str = "127.0.0.1:0") -> None:
        self.stats = stats or Stats.create(8)
        metrics.declare(self.stats)
        metrics.attach(self.stats, 2)
        facts = [{"service": name, "address": address, "block": 0} for name in services]
        self.sockets = web.listen(facts)
        self.port = self.sockets[address].socks[0].getsockname()[1]
        self.channel, theirs = control.pair()
        self.theirs = control.Channel(theirs)
        self.web = web.Web(facts, (), self.stats, None, 1)
        self.thread = threading.Thread(
            target=lambda: asyncio.run(web.serve(self.web, self.sockets, self.theirs)), daemon=True
        )
        self.thread.start()
        assert self.channel.wait(10)[0] == {"started": "web"}

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        return reply.status, body, dict(reply.getheaders())

    def stop(self) -> None:
        if self.thread.is_alive():
            self.channel.send({"stop": 1.0})
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.channel.close()
        self.theirs.close()


@pytest.fixture
def served():
    running = Running("metrics", "health", "ready")
    yield running
    running.stop()


def test_metrics(served: Running) -> None:
    status, body, headers = served.get("/metrics")
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    names = {family.name for family in families(body.decode())}
    assert {"coredns_panics", "coredns_reload_failed", "process_cpu_seconds", "python_info"} <= names
    assert "go_goroutines" not in names


def test_metrics_compressed(served: Running) -> None:
    _, body, headers = served.get("/metrics", Accept_Encoding="br, gzip;q=1.0")
    assert headers["Content-Encoding"] == "gzip"
    assert b"coredns_panics_total 0" in gzip.decompress(body)
    assert "Content-Encoding" not in served.get("/metrics", Accept_Encoding="gzip;q=0")[2]


def test_paths(served: Running) -> None:
    assert served.get("/ready")[:2] == (200, b"OK")
    assert served.get("/ready?x=1")[:2] == (200, b"OK")
    assert served.get("/health")[0] == 503
    assert served.get("/ready", "POST")[:2] == (200, b"OK")
    assert served.get("/ready", "HEAD")[:2] == (200, b"")
    status, body, headers = served.get("/metrics/")
    assert (status, body, headers["X-Content-Type-Options"]) == (404, b"404 page not found\n", "nosniff")


def test_an_address_answers_only_what_was_asked_for() -> None:
    running = Running("ready")
    assert running.get("/metrics")[0] == 404
    running.stop()


def test_draining_is_told(served: Running) -> None:
    served.channel.send({"draining": True})
    deadline = time.monotonic() + 10
    while served.get("/ready")[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.get("/ready")[:2] == (503, b"Shutting down")


def test_healthy_with_a_fresh_worker_and_the_server_asks_itself(served: Running) -> None:
    metrics.serves(served.stats, 1, 0)
    slot = metrics.beat_slot(served.stats, 1)
    served.stats.set(1, slot, time.monotonic_ns())
    assert served.get("/health")[:2] == (200, b"OK")
    deadline = time.monotonic() + 15
    count = 0
    while not count and time.monotonic() < deadline:
        found = {s.name: s.values for s in metrics.read(served.stats)}
        count = found["coredns_health_request_duration_seconds"][-1]
        time.sleep(0.05)
    assert count >= 1
    assert found["coredns_health_request_failures_total"] == (0,)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00" * 100,
        b"GET /ready HTTP/1.1\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /" + b"a" * 40000,
        b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100000,
        b"GET /ready HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n",
    ],
)
def test_hostile_clients_do_no_harm(served: Running, octets: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        # The server may close while we are still sending.
        with contextlib.suppress(ConnectionError):
            sock.sendall(octets)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                continue
    assert served.get("/ready")[0] == 200


def test_connections_are_kept_and_pipelined(served: Running) -> None:
    request = b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        sock.sendall(request * 2 + request.replace(b"Host: a", b"Host: a\r\nConnection: close"))
        got = b""
        while block := sock.recv(65536):
            got += block
    assert got.count(b"HTTP/1.1 200") == 3


def test_a_slow_client_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdns.server.http.SECONDS", 0.2)
    running = Running("ready")
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        sock.sendall(b"GET /ready")
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(10) == b""
    assert running.get("/ready")[0] == 200
    running.stop()


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdns.server.http.CONNECTIONS", 2)
    running = Running("ready")
    held = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(2)]
    for sock in held:
        sock.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as third:
        with contextlib.suppress(ConnectionResetError):
            assert third.recv(1) == b""
    for sock in held:
        sock.close()
    running.stop()


def test_the_next_generation_takes_the_address_over() -> None:
    first = Running("ready")
    second = Running("ready", address=f"127.0.0.1:{first.port}")
    assert second.port == first.port
    first.stop()
    for _ in range(20):
        assert second.get("/ready")[0] == 200
    second.stop()


def test_a_request_on_its_way_is_answered_before_the_process_ends() -> None:
    running = Running("metrics")
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as idle,
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as asking,
    ):
        idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        asking.sendall(b"GET /metrics HTTP/1.1\r\n")
        running.get("/metrics")         # behind these two: both were taken
        running.channel.send({"stop": 1.0})
        with contextlib.suppress(ConnectionResetError):
            while idle.recv(65536):     # who has its answer is let go at once
                continue
        asking.sendall(b"Host: x\r\n\r\n")
        assert asking.recv(12) == b"HTTP/1.1 200"
    running.stop()


def test_a_handler_that_is_cut_off_ends_with_the_server() -> None:
    async def scene() -> float:
        async def never() -> Answer:
            await asyncio.sleep(60)
            return Answer(200, b"")

        server = Server({"/": never})
        (sock,) = web.bind("127.0.0.1:0")
        await server.start([sock])
        _reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        await server.stop()
        writer.close()
        return len(server._open)

    assert asyncio.run(scene()) == 0


@pytest.mark.parametrize(
    ("address", "family", "host"),
    [("127.0.0.1:0", socket.AF_INET, "127.0.0.1"), ("localhost:0", socket.AF_INET, "127.0.0.1"),
     pytest.param("[::1]:0", socket.AF_INET6, "::1", marks=needs_ipv6),
     pytest.param(":0", socket.AF_INET6, "::", marks=needs_ipv6)],
)  # fmt: skip
def test_addresses(address: str, family: socket.AddressFamily, host: str) -> None:
    (sock,) = web.bind(address)
    assert (sock.family, sock.getsockname()[0]) == (family, host)
    if not web.split(address)[0]:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
    assert not sock.get_inheritable()
    sock.close()


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def refused(family: int = -1, *args: int, **named: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **named)

    monkeypatch.setattr(web.socket, "socket", refused)
    (sock,) = web.bind(":0")
    assert sock.family == socket.AF_INET and sock.getsockname()[0] == "0.0.0.0"
    sock.close()
    with pytest.raises(StartError, match="address family not supported"):
        web.bind("[::1]:0")


def test_addresses_that_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartError) as caught:
        web.listen([{"service": "health", "address": "192.0.2.1:8080"}])
    assert str(caught.value) == "listen tcp 192.0.2.1:8080: bind: cannot assign requested address"
    for address, text in (
        ("127.0.0.1:nonsense", "listen tcp: lookup tcp/nonsense: unknown port"),
        (":99999", "listen tcp: address 99999: invalid port"),
        (":" + "9" * 5000, f"listen tcp: address {'9' * 5000}: invalid port"),
        ("no such host:80", "listen tcp: lookup no such host: no such host"),  # nobody is asked for a name with blanks
    ):
        with pytest.raises(StartError) as caught:
            web.bind(address)
        assert str(caught.value) == text
    with pytest.raises(StartError) as caught:
        web.listen([{"service": "health", "address": "127.0.0.1:http"}])
    assert str(caught.value) == 'parse "http://127.0.0.1:http": invalid port ":http" after host'
    with caplog.at_level(logging.ERROR):
        assert web.listen([{"service": "metrics", "address": "192.0.2.1:8080"}]) == {}
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("prometheus", "ERROR")
