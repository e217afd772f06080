# SPDX-License-Identifier: Apache-2.0
"""Twenty reloads and twenty upgrades under a steady load: nothing lost, nothing failed, every hit a hit.

Strategy: every query has a number; the answers' rcodes and the upstream's questions are counted. The configuration
of before is told by its upstream's address record.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from .serving import Load, Server, load, query, wait_for
from .upstream import Asked, Upstream, reply

RATE = 3000.0
TIMES = 20
COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket COUNT
    cache
    forward . 127.0.0.1:UP
}
"""
GUEST = ".:{port2} {\n bind 127.0.0.1\n whoami\n}\n"


class Checked(Load):
    """Counts answers that are no NOERROR."""

    failed = 0

    def took(self, reply: bytes) -> None:
        self.failed += bool(reply[3] & 15)


def steady(server: Server, clients: Checked, upstream: Upstream, number: int, line: str, corefile: str) -> None:
    """One reload or upgrade under load."""
    count = server.out.count(line)
    server.write(corefile)
    server.process.send_signal(number)
    while server.out.count(line) <= count:
        assert server.process.poll() is None, server.err
        assert "serves on" not in server.out
        assert "failed" not in server.out
        clients.run(0.05, RATE)
    clients.run(0.05, RATE)


@pytest.mark.slow
@pytest.mark.timeout(300)  # forty starts of an interpreter, maybe beside other tests
@pytest.mark.parametrize("way", ["reload", "upgrade"])
def test_twenty_times_nothing_is_lost(tmp_path: Path, way: str) -> None:
    number, line = ((signal.SIGUSR1, "Reloading complete") if way == "reload"
                    else (signal.SIGUSR2, "Upgrading complete"))
    with Upstream() as upstream:
        base = COREFILE.replace("UP", str(upstream.port))
        with Server(tmp_path, base.replace("COUNT", "4"), ports=2) as server, \
                load(server.port, kind=Checked) as clients:
            clients.run(0.2, RATE)
            clients.settle()
            asked = len(upstream.asked)
            for turn in range(TIMES):
                # 4 → 2 → 4 workers, and a listener that goes and comes.
                corefile = base.replace("COUNT", "2" if turn % 2 == 0 else "4") + (GUEST if turn % 2 == 0 else "")
                steady(server, clients, upstream, number, line, corefile)
            assert clients.settle() == 0
            assert (clients.failed, clients.doubled) == (0, 0)
            assert len(upstream.asked) == asked, "a hit became a miss"
            wait_for(lambda: len(server.children("worker")) == 5, "the old workers' end")
            assert "died" not in server.out


def named(last: int) -> Upstream:
    """An upstream whose answers end in `last`."""
    def script(asked: Asked) -> Sequence[bytes | float]:
        return [reply(asked)[:-1] + bytes([last])]

    return Upstream(script)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_no_answer_of_before_after_the_acknowledgement(tmp_path: Path, number: int) -> None:
    plain = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n forward . 127.0.0.1:UP\n}\n"
    line = "Reloading complete" if number == signal.SIGUSR1 else "Upgrading complete"
    with named(1) as old, named(2) as new, Server(tmp_path, plain.replace("UP", str(old.port))) as server, \
            load(server.port) as clients, socket.create_connection(("127.0.0.1", server.port)) as tcp:
        tcp.settimeout(10)
        assert over(tcp, 1)[-1] == 1
        server.write(plain.replace("UP", str(new.port)))
        server.process.send_signal(number)
        while line not in server.out:
            clients.run(0.02, 1000.0)
        clients.run(0.1, 1000.0)
        had = len(old.asked)
        clients.run(0.5, 1000.0)
        assert clients.settle() == 0
        assert len(old.asked) == had
        # A connection of before is closed, or answered by the new configuration: never by the old one.
        assert over(tcp, 2)[-1:] in (b"", b"\2")
        assert clients.answered == clients.sent


def over(sock: socket.socket, number: int) -> bytes:
    """One question over TCP; nothing where the connection is closed."""
    wire = query(number)
    try:
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return sock.recv(65535)
    except (ConnectionError, TimeoutError):
        return b""
