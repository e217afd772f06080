# SPDX-License-Identifier: Apache-2.0
"""shed: which replies leave and which queries are dropped when a socket takes no more, and which lines are refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import A
from fastdns.plugin import BlockPlan
from fastdns.plugins.shed import Shed
from fastdns.plugins.shed.handler import WAITING
from fastdns.testing import Worker, question
from tests.faults.serving import wait_for
from tests.narrow import Loopback, loopback

STACK = 1024
SHED = ". {\nshed\nprometheus\nwhoami\n}\n"

needs_root = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")]


def dropped(worker: Worker, reason: str) -> int:
    return worker.counter("coredns_shed_dropped_total", reason=reason)


def received(worker: Worker) -> int:
    return worker.counter("fastdns_ingress_total", event="query")


@contextmanager
def narrow(corefile: str) -> Iterator[tuple[Loopback, Worker, socket.socket]]:
    """A worker whose UDP socket is stopped, and a client."""
    with loopback() as inside:
        worker = inside.run(lambda: Worker(corefile))
        client = inside.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        try:
            inside.narrow(worker.sockets[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            client.settimeout(2)
            client.connect(("127.0.0.1", worker.port))
            yield inside, worker, client
        finally:
            client.close()
            worker.stop()


def ask(worker: Worker, client: socket.socket, first: int, n: int) -> None:
    """n queries, numbered; returns once the server has all of them."""
    had = received(worker)
    for number in range(first, first + n):
        client.send(question("a.example.", A, id=number))
    wait_for(lambda: received(worker) == had + n, "all queries", 10)


def replies(client: socket.socket, n: int) -> list[int]:
    """The numbers of n replies, in the order in which they come; fewer when there are no more."""
    found = []
    try:
        while len(found) < n:
            found.append(int.from_bytes(client.recv(512)[:2], "big"))
    except TimeoutError:
        pass
    return found


class TestFullSocket:
    pytestmark = needs_root

    def test_the_newest_leave_first_and_queries_are_dropped_before_the_chain(self):
        with narrow(SHED) as (inside, worker, client):
            ask(worker, client, 0, 2000)
            wait_for(lambda: dropped(worker, "query") > 0, "drops")
            # Nothing that was dropped was counted as a request, and TCP is not touched.
            requests = worker.counter("coredns_dns_requests_total", server="dns://:53")
            assert requests == 2000 - dropped(worker, "query") >= STACK
            assert inside.run(lambda: worker.ask("b.example.", A, "tcp")).rcode == 0
            inside.open()
            found = replies(client, 2000 - dropped(worker, "query") - dropped(worker, "response"))
            # Each query was answered or is counted, and none twice.
            assert len(set(found)) == len(found) == 2000 - dropped(worker, "query") - dropped(worker, "response")
            # What the kernel had taken came first; then the stack, from its top.
            stack = found[-STACK:]
            assert stack == sorted(stack, reverse=True)
            assert worker.counter("fastdns_ingress_total", event="send_error") == 0
            # There is room again.
            assert inside.run(lambda: worker.ask("c.example.", A)).rcode == 0

    def test_the_oldest_gives_way(self):
        # Blocks without `shed` go on answering while the stack is full; their replies push out older ones.
        with narrow("a.example:53 {\nshed\nwhoami\n}\nexample:53 {\nwhoami\n}\n") as (inside, worker, client):
            ask(worker, client, 0, 1200)
            had = dropped(worker, "response")
            for number in range(10):
                client.send(question("b.example.", A, id=5000 + number))
            wait_for(lambda: dropped(worker, "response") == had + 10, "evictions")
            inside.open()
            found = replies(client, 1200)
            assert found[-STACK:][:10] == list(range(5009, 4999, -1))

    def test_a_worker_that_ends_first_sends_what_waits(self):
        with narrow(SHED) as (inside, worker, client):
            ask(worker, client, 0, 300)
            worker.engine.stop(20.0)
            inside.open()
            assert sorted(replies(client, 300)) == list(range(300))
            assert dropped(worker, "response") == 0

    def test_what_cannot_leave_before_the_end_is_counted(self):
        with narrow(SHED) as (inside, worker, client):
            ask(worker, client, 0, 300)
            worker.engine.stop(0.2)
            wait_for(lambda: dropped(worker, "response"), "the end")
            lost = dropped(worker, "response")
            assert lost < 300
            inside.open()
            assert len(replies(client, 300)) == 300 - lost

    def test_without_it_replies_are_lost_and_counted(self):
        with narrow(". {\nwhoami\n}\n") as (_, worker, client):
            ask(worker, client, 0, 100)
            wait_for(lambda: worker.counter("fastdns_ingress_total", event="send_error") > 0, "lost replies")


def test_what_is_asked_for_is_what_the_loop_keeps():
    text = (Path(__file__).parents[2] / "fastdns/_udp.pxd").read_text()
    assert f"BACKLOG = {WAITING} " in text
    plan = BlockPlan(3, (), ("shed",))
    Shed.plan((), plan)
    assert plan.asks == [("backlog", {"block": 3, "each": 4 << 20})]


def test_a_socket_that_keeps_up_drops_nothing():
    with Worker(SHED) as worker:
        for proto in ("udp", "tcp"):
            assert worker.ask("a.example.", A, proto).rcode == 0
        assert (dropped(worker, "query"), dropped(worker, "response")) == (0, 0)


def parse(text: str, *keys: str) -> list:
    return Shed.parse(Dispenser("Corefile", tokenize(text), keys or ("dns://.:53",), "shed"))


@pytest.mark.parametrize("text", ["shed", "shed {\n}"])
def test_lines_that_are_taken(text):
    assert parse(text, "dns://.:53", "dns://example.org.:54") == [()]


ERROR = "plugin/shed: Corefile:{} - Error during parsing: "


@pytest.mark.parametrize(("text", "message"), [
    ("shed extra", ERROR.format(1) + "Wrong argument count or unexpected line ending after 'extra'"),
    ("shed {\n depth 10\n}", ERROR.format(2) + "shed takes no options"),
    ("shed\nshed", "plugin/shed: this plugin can only be used once per Server Block"),
])  # fmt: skip
def test_lines_that_are_refused(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize("transport", ["tls", "https", "https3", "quic", "grpc"])
def test_only_plain_dns(transport):
    key = f"{transport}://.:853"
    with pytest.raises(ConfigError) as error:
        parse("shed", "dns://.:53", key)
    assert str(error.value) == (
        ERROR.format(1) + f'only plain DNS server blocks are supported; "{key}" uses transport "{transport}"')
