# SPDX-License-Identifier: Apache-2.0
"""A reload that is acknowledged is over: whoever asks from then on is answered by the new configuration.

Strategy: the two configurations differ in what `nsid` says. What makes workers of before slow to leave is made: a
plugin that keeps the interpreter's lock, so that a worker cannot hear that it is to stop, and clients that connected
and are silent.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdns import ctl
from tests.probes import installed

from .serving import Server, query, wait_for

COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket COUNT
    nsid NAME
    whoami
}
hold.test:{port} {
    bind 127.0.0.1
    multisocket COUNT
    probe
}
"""
HOLD = b"\4hold\4hold\4test\0"
ASKED = 400  # one worker of before that reads on would see half of them


def named(name: str, count: int = 2) -> str:
    return COREFILE.replace("NAME", name).replace("COUNT", str(count))


def with_nsid(number: int) -> bytes:
    """A question that asks who answers."""
    wire = bytearray(query(number))
    wire[11] = 1
    return bytes(wire) + b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\3\0\0"


def names(replies: list[bytes]) -> set[str]:
    return {name for reply in replies for name in ("old", "new") if name.encode() in reply}


def asked(port: int) -> list[bytes]:
    """The answers to many clients that ask once."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(ASKED)]
    for number, sock in enumerate(socks):
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        sock.send(with_nsid(number))
    found = [sock.recv(512) for sock in socks]
    for sock in socks:
        sock.close()
    return found


def told_by(sock: socket.socket) -> bytes:
    """The answer over a connection, which is closed then; nothing where the server has closed it."""
    wire = with_nsid(1)
    with sock:
        sock.settimeout(5)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return sock.recv(512)


def asked_by_tcp(port: int) -> bytes:
    """The answer over a connection of its own."""
    return told_by(socket.create_connection(("127.0.0.1", port)))


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with installed(tmp_path) as environ:
        monkeypatch.setenv("PYTHONPATH", environ["PYTHONPATH"])
        with Server(tmp_path, named("old"), "-control", str(tmp_path / "control.sock")) as server:
            assert names(asked(server.port)) == {"old"}
            yield server


def hold(server: Server) -> None:
    """A worker's interpreter is locked, or both workers': for three seconds in all, less than a worker has to hear that
    it is to stop."""
    for number in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(query(number, HOLD), ("127.0.0.1", server.port))


@pytest.mark.parametrize("way", ["SIGUSR1", "SIGUSR2", "ctl"])
def test_a_worker_that_is_slow_to_hear_is_waited_for(held: Server, way: str) -> None:
    held.write(named("new"))
    if way == "ctl":
        hold(held)
        out, err = io.StringIO(), io.StringIO()
        assert ctl.main(["--socket", str(held.corefile.parent / "control.sock"), "reload"], out, err) == 0
    else:
        if way == "SIGUSR1":
            hold(held)
        held.process.send_signal(getattr(signal, way))
        if way == "SIGUSR2":
            held.wait_line("Upgrading")
            hold(held)
        held.wait_line("Reloading complete" if way == "SIGUSR1" else "Upgrading complete")
    assert names(asked(held.port)) == {"new"}
    assert "killed" not in held.out


def test_a_connection_of_before_is_not_answered_by_what_was_replaced(tmp_path: Path) -> None:
    with Server(tmp_path, named("old").partition("hold.test")[0]) as server:
        assert names([asked_by_tcp(server.port)]) == {"old"}
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        server.write(named("new").partition("hold.test")[0])
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        # Each is closed, or answered by who serves now; a time-out fails the test.
        for sock in silent:
            reply = b""
            with contextlib.suppress(ConnectionError):
                reply = told_by(sock)
            assert not reply or names([reply]) == {"new"}
        assert names([asked_by_tcp(server.port)]) == {"new"}


def test_a_worker_that_never_hears_is_killed(held: Server, tmp_path: Path) -> None:
    (stopped, _, _) = held.children("worker")
    held.write(named("new"))
    held.process.send_signal(signal.SIGUSR1)
    held.wait_line("[INFO] Reloading\n")
    # Nothing asks it anything, so it is no hung worker while it serves.
    os.kill(stopped, signal.SIGSTOP)
    held.wait_line("Reloading complete")
    assert f"(pid {stopped}) was told to stop and may still read queries: killed" in held.out
    assert names(asked(held.port)) == {"new"}
