# SPDX-License-Identifier: Apache-2.0
"""A reload that is acknowledged is over: whoever asks from then on is answered by the new configuration.

Strategy: the two configurations differ in what `nsid` says. What makes workers of before slow to leave is made: a
plugin that keeps the interpreter's lock, so that a worker cannot hear that it is to stop, and clients that connected
and are silent.
"""

from __future__ import annotations

import io
import os
import select
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
READ, IN_FLIGHT = 2048, 128  # fastdns/_tcp: octets of a receive buffer, queries of a connection that wait
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


def over_tcp(sock: socket.socket) -> bytes:
    """The answer over a connection that is closed then; nothing if it has ended."""
    wire = with_nsid(1)
    sock.settimeout(5)
    try:
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return sock.recv(512)
    except ConnectionError:
        return b""
    finally:
        sock.close()


def test_a_connection_of_before_is_not_answered_by_what_was_replaced(tmp_path: Path) -> None:
    with Server(tmp_path, named("old").partition("hold.test")[0]) as server:
        assert names([over_tcp(socket.create_connection(("127.0.0.1", server.port)))]) == {"old"}
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        server.write(named("new").partition("hold.test")[0])
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        # Each has ended, unless the new configuration took it over before anybody had accepted it.
        assert not [reply for sock in silent if (reply := over_tcp(sock)) and names([reply]) != {"new"}]
        assert names([over_tcp(socket.create_connection(("127.0.0.1", server.port)))]) == {"new"}


def test_what_a_connection_asked_before_is_answered_even_if_it_was_held_back(tmp_path: Path) -> None:
    """A client that pipelines more than may be in flight: the rest waits in the receive buffer when reading ends."""
    wires = [query(number, b"\3%03d\0" % number) for number in range(300)]  # no two alike
    each = len(wires[0]) + 2
    read = 2 * (READ // each)  # what two reads of the buffer's size hold
    assert IN_FLIGHT < read < len(wires)
    got = b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(5)
        corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n forward . 127.0.0.1:UP {\n  prefer_udp\n }\n}\n"
        corefile = corefile.replace("UP", str(upstream.getsockname()[1]))
        with Server(tmp_path, corefile) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
            wait_for(lambda: len(server.children("worker")) == 2, "the spare")
            client.sendall(b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires))
            waiting = [upstream.recvfrom(512) for _ in range(IN_FLIGHT)]
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("Reloading complete")
            poller = select.poll()
            poller.register(upstream, select.POLLIN)
            poller.register(client, select.POLLIN)
            while True:
                for wire, address in waiting:
                    upstream.sendto(wire[:2] + b"\x81\x80" + wire[4:], address)
                waiting.clear()
                ready = [fd for fd, _ in poller.poll(20000)]
                assert ready
                if upstream.fileno() in ready:
                    waiting.append(upstream.recvfrom(512))
                if client.fileno() in ready:
                    try:
                        data = client.recv(65536)
                    except ConnectionResetError:
                        break
                    if not data:
                        break
                    got += data
    ids = []
    while got:
        size = int.from_bytes(got[:2], "big")
        ids.append(int.from_bytes(got[2:4], "big"))
        got = got[2 + size:]
    assert sorted(ids) == list(range(read))


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
