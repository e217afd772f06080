# SPDX-License-Identifier: Apache-2.0
"""demo: one address inside, another outside, no address of another type."""

import socket

import pytest

from fastdns.numbers import AAAA, MX, A
from fastdns.testing import Answer, Case, Server, Worker, question
from tests.machine import needs_ipv6


@pytest.fixture(scope="module")
def worker():
    with Worker("demo.test {\ndemo\n}\n") as worker:
        yield worker


@pytest.mark.parametrize(
    "case",
    [
        Case("demo.test", A, answer=["demo.test. 0 IN A 1.1.1.1"], additional=(), flags={"qr", "rd"}),
        Case("A.B.Demo.Test", A, answer=["A.B.Demo.Test. 0 IN A 1.1.1.1"], flags={"qr", "rd"}),
        Case("demo.test", AAAA, answer=(), flags={"qr", "rd"}),
        Case("demo.test", MX, answer=(), flags={"qr", "rd"}),
        Case("example.org", A, rcode=5, flags={"qr", "rd"}),
    ],
    ids=lambda case: f"{case.name}-{case.qtype}",
)
def test_answers(worker, case):
    worker.check(case)


def test_every_answer_is_counted(worker):
    before = worker.counter("coredns_demo_queries_total")
    for _ in range(5):
        worker.ask("demo.test", A)
    assert worker.counter("coredns_demo_queries_total") == before + 5


@needs_ipv6
def test_the_client_decides():
    # All of ::1 and 127.0.0.0/8 belong to this host: the one is outside, the other inside.
    with Server("demo.test {\nbind 127.0.0.1 ::1\ndemo\n}\n", bind=False) as server:
        for address, expected in (("127.0.0.1", "1.1.1.1"), ("::1", "8.8.8.8")):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.connect((address, server.port))
                sock.send(question("demo.test", A))
                assert Answer.of(sock.recv(512)).answer == [f"demo.test. 0 IN A {expected}"]
