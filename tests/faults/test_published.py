# SPDX-License-Identifier: Apache-2.0
"""A template dies, then workers: those that come after them have what the keeper published, without a reload, and the
keeper hears of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from fastdns.ports import free_port
from tests.probes import installed

from .serving import Server, counted, query, wait_for

COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket 1
    hosts hosts {
        reload 50ms
        fallthrough
    }
    bulletin
}
"""
A, TXT = 1, 16


def ask(port: int, name: bytes, qtype: int) -> bytes:
    """The reply to one question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5.0)
        sock.connect(("127.0.0.1", port))
        sock.send(query(1, name, qtype))
        return sock.recv(65535)


def address(port: int) -> str:
    """What `hosts` answers for a.x."""
    reply = ask(port, b"\1a\1x\0", A)
    return ".".join(map(str, reply[-4:])) if reply[7] else f"rcode {reply[3] & 15}"


def edition(port: int) -> bytes:
    """What `bulletin`, which Python serves, has for its text; empty before it has anything."""
    return ask(port, b"\1b\1x\0", TXT).partition(b"edition ")[2]


def kill(server: Server, role: str, others: int) -> None:
    """The oldest process of a role; returns when it is gone and `others` are there again."""
    old = server.children(role)[0]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: old not in (now := server.children(role)) and len(now) == others, f"another {role}")


def test_what_a_dead_template_had_is_had_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 a.x\n")
    with installed(tmp_path) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with Server(tmp_path, COREFILE) as server:
            wait_for(lambda: len(server.children("worker")) == 2, "a spare")
            keeper = server.children("keeper")
            for turn in range(1, 4):
                kill(server, "templat", 1)
                # The first death brings the spare, whom the template before has forked; the second one of its own.
                for _ in range(2):
                    kill(server, "worker", 2)
                    assert address(server.port) == f"10.0.0.{turn}"
                # Its first edition is a panic, the others are not: a worker that comes late begins with the newest.
                assert edition(server.port)
                assert server.children("keeper") == keeper  # nobody else published it
                hosts.write_text(f"10.0.0.{turn + 1} a.x\n#{'x' * turn}")
                wait_for(lambda now=turn + 1: address(server.port) == f"10.0.0.{now}", "the file's new words")
            assert server.out.count("died") == 9


def test_workers_of_the_next_template_are_heard(tmp_path: Path) -> None:
    corefile = f"""
    .:{{port}} {{
        bind 127.0.0.1
        multisocket 1
        prometheus 127.0.0.1:{{port2}}
        forward . 127.0.0.1:{free_port()} {{
            health_check 50ms
        }}
    }}
    """
    with Server(tmp_path, corefile, ports=2) as server:
        wait_for(lambda: len(server.children("worker")) == 2, "a spare")
        kill(server, "templat", 1)
        for _ in range(2):
            kill(server, "worker", 2)
        assert counted(server.ports[1], "coredns_proxy_healthcheck_failures_total") == 0
        assert ask(server.port, b"\1a\1x\0", A)[3] & 15 == 2
        wait_for(lambda: counted(server.ports[1], "coredns_proxy_healthcheck_failures_total") > 2, "checks")


def test_a_keeper_that_dies_is_followed(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 a.x\n")
    with Server(tmp_path, COREFILE.replace("    bulletin\n", "")) as server:
        for turn in range(2, 5):
            kill(server, "keeper", 1)
            assert address(server.port) == f"10.0.0.{turn - 1}"
            hosts.write_text(f"10.0.0.{turn} a.x\n#{'x' * turn}")
            wait_for(lambda now=turn: address(server.port) == f"10.0.0.{now}", "what the next keeper read")


def test_files_are_given_back_with_their_configuration(tmp_path: Path) -> None:
    def boards() -> int:
        found = 0
        for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # one that was closed meanwhile
                found += "fastdns-published" in str(link.readlink())
        return found

    (tmp_path / "hosts").write_text("10.0.0.1 a.x\n")
    corefile = COREFILE.replace("    bulletin\n", "")
    with Server(tmp_path, corefile) as server:
        assert boards() == 1
        for turn in range(1, 4):
            server.write(corefile + "\n" * turn)
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("Reloading complete", turn)
            wait_for(lambda: boards() == 1, "one configuration's files")
            assert address(server.port) == "10.0.0.1"
        server.write(corefile + "x {")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Restart failed")
        assert address(server.port) == "10.0.0.1" and boards() == 1
        server.write(corefile)
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("Upgrading complete")
        wait_for(lambda: boards() == 1, "the files of the program that took over")
        kill(server, "templat", 1)
        for _ in range(2):
            kill(server, "worker", 2)
            assert address(server.port) == "10.0.0.1"
