# SPDX-License-Identifier: Apache-2.0
"""Whoever asks for metrics, health or readiness while a server is reloaded or upgraded is answered.

Strategy: clients that make a connection for each request, clients that keep theirs, and some that connect and take
their time; each request counts, whichever web process had it.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from .serving import Server, free_port, wait_for

COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket 2
    prometheus 127.0.0.1:{port2}
    health 127.0.0.1:{port3}
    nsid turn-0
    whoami
}
"""
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Scraper(threading.Thread):
    """Asks until it is stopped; `failures` says what was no answer."""

    def __init__(self, port: int, path: str, pause: float = 0.0) -> None:
        super().__init__(daemon=True)
        self.port, self.path, self.pause = port, path, pause
        self.ended = threading.Event()
        self.answered = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
                    time.sleep(self.pause)
                    sock.sendall(REQUEST.replace(b"/metrics", self.path.encode()))
                    reply = http.client.HTTPResponse(sock)
                    reply.begin()
                    body = reply.read()
                assert reply.status in (200, 503) and body
                self.answered += 1
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def stop(self) -> None:
        self.ended.set()
        self.join(20)
        assert not self.is_alive()


def turned(server: Server, turn: int, number: signal.Signals) -> None:
    """A reload or an upgrade to its end."""
    line = "Reloading complete" if number == signal.SIGUSR1 else "Upgrading complete"
    had = server.out.count(line)
    server.write(COREFILE.replace("turn-0", f"turn-{turn}"))
    server.process.send_signal(number)
    server.wait_line(line, had + 1)


def test_no_request_fails_over_reloads_and_upgrades(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE, ports=3) as server:
        scrapers = [Scraper(server.ports[1], "/metrics"), Scraper(server.ports[1], "/metrics", 0.2),
                    Scraper(server.ports[2], "/health"), Scraper(server.ports[2], "/health", 0.05)]
        for scraper in scrapers:
            scraper.start()
        for turn in range(1, 13):
            turned(server, turn, signal.SIGUSR2 if turn % 4 == 0 else signal.SIGUSR1)
        wait_for(lambda: len(server.children("web")) == 1, "the end of the web processes of before")
        for scraper in scrapers:
            scraper.stop()
        assert [scraper.failures for scraper in scrapers] == [[], [], [], []]
        assert all(scraper.answered > 10 for scraper in scrapers)


def test_a_client_that_keeps_its_connection_hears_that_it_ends(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE, ports=3) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports[1], timeout=10)
        connection.request("GET", "/metrics")
        assert connection.getresponse().read()
        turned(server, 1, signal.SIGUSR1)
        wait_for(lambda: len(server.children("web")) == 1, "the end of the web process of before")
        with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
            connection.request("GET", "/metrics")
            pytest.fail(f"an old process answers: {connection.getresponse().status}")
        connection.close()
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 200
        connection.close()


def test_an_address_that_is_given_up_refuses_and_one_that_stays_does_not(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE, ports=3) as server:
        other = free_port()
        server.write(COREFILE.replace("{port2}", str(other)))
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")

        def refused() -> bool:
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", server.ports[1])) != 0

        wait_for(refused, "the end of the address")
        for port, path in ((other, "/metrics"), (server.ports[2], "/health")):
            scraper = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            scraper.request("GET", path)
            assert scraper.getresponse().status == 200
            scraper.close()


# Generations after the first fail when their web process has been accepting for a while.
FAILING = """import time
from fastdns.server.generation import Generation
give = Generation.give
def given(self):
    if self.number > 1 and self.phase == "taking":
        time.sleep(0.3)
        self.fail("no worker for the test")
    else:
        give(self)
Generation.give = given
from fastdns.cli import entry
entry()
"""


def test_a_reload_that_fails_ends_nobodys_request(tmp_path: Path) -> None:
    (tmp_path / "prog.py").write_text(FAILING)
    with Server(tmp_path, COREFILE, ports=3, program=("-m", "prog")) as server:
        scrapers = [Scraper(server.ports[1], "/metrics"), Scraper(server.ports[1], "/metrics", 0.1)]
        for scraper in scrapers:
            scraper.start()
        for number in range(1, 4):
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("no worker for the test", 2 * number)
        wait_for(lambda: len(server.children("web")) == 1, "the end of the web processes that failed")
        for scraper in scrapers:
            scraper.stop()
        assert [scraper.failures for scraper in scrapers] == [[], []]
        assert all(scraper.answered > 10 for scraper in scrapers)
