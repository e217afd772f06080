# SPDX-License-Identifier: Apache-2.0
"""The service manager's protocols against real sockets: notifications, the watchdog, socket activation."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdns.server.listen import Listeners
from fastdns.server.systemd import Notify, Watchdog, listen_fds
from tests.machine import may, needs

from .serving import Server, ask, free_port, load, query, wait_for

ROOT = Path(__file__).resolve().parents[2]
SAME = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n"
LAMEDUCK = SAME.replace("whoami", "health 127.0.0.1:{port2} {\n  lameduck 1s\n }\n whoami")


class Manager:
    """The manager's end of the notification socket."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.setblocking(False)
        self.seen: list[dict[str, str]] = []

    def read(self) -> list[dict[str, str]]:
        with contextlib.suppress(BlockingIOError):
            while True:
                lines = self.sock.recv(65536).decode().split("\n")
                self.seen.append(dict(line.split("=", 1) for line in lines))
        return self.seen

    def states(self) -> list[str]:
        """The first name of each notification but the watchdog's."""
        return [next(iter(words)) for words in self.read() if "WATCHDOG" not in words]

    def wait(self, *states: str) -> None:
        wait_for(lambda: self.states() == list(states), f"{states}")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = str(tmp_path / "notify") if request.param == "path" else f"@fastdns-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    found = Manager(path.replace("@", "\0"))
    with found.sock:
        yield found


def test_a_life_as_the_manager_hears_it(tmp_path: Path, manager: Manager) -> None:
    with Server(tmp_path, LAMEDUCK, ports=2) as server:
        manager.wait("READY")
        assert manager.seen[-1]["MAINPID"] == str(server.process.pid)
        assert manager.seen[-1]["STATUS"] == "2 workers serve"
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: manager.states()[-1:] == ["READY"] and len(manager.seen) > 1, "the reload")
        reloading = [words for words in manager.seen if "RELOADING" in words]
        assert reloading
        assert all(before <= int(words["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                   for words in reloading)
        server.write("bad {")
        count = len(manager.seen)
        server.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: manager.states()[count:][-1:] == ["READY"], "the failed reload")
        assert manager.seen[-1]["STATUS"] == "reload failed"
        server.write(LAMEDUCK)
        count = len(manager.seen)
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("Upgrading complete")
        wait_for(lambda: manager.states()[count:][-1:] == ["READY"], "the upgrade")
        assert manager.states()[count] == "RELOADING"
        assert manager.seen[-1]["MAINPID"] == str(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: manager.states()[-1] == "STOPPING", "the end")
        # The lameduck period: said to stop, it answers on.
        assert ask(server.port) is not None
        assert server.stop() == 0
        assert manager.states().count("STOPPING") == 1
        assert manager.states()[-1] == "STOPPING"


def test_children_do_not_speak_for_the_server(tmp_path: Path, manager: Manager) -> None:
    with Server(tmp_path, SAME) as server:
        manager.wait("READY")
        for pid in server.children():
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_watchdog_hears_of_a_server_that_turns(
    tmp_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    with Server(tmp_path, SAME) as server:
        def beats() -> int:
            return sum("WATCHDOG" in words for words in manager.read())

        wait_for(lambda: beats() >= 3, "signs of life")
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("Upgrading complete")
        had = beats()
        wait_for(lambda: beats() >= had + 3, "signs of life of the program that followed")


def test_no_beat_no_sign_of_life(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with manager.sock:
        watchdog = Watchdog(Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")}), 4.0)
        for now, beats, sent in (
            (0.0, {1: 10, 2: 10}, 0),  # nothing to compare with
            (0.5, {1: 10, 2: 10}, 0),
            (1.0, {1: 10, 2: 11}, 1),  # one of two turned
            (1.5, {1: 12, 2: 11}, 1),  # too early to say so again
            (2.0, {1: 12, 2: 11}, 2),
            (9.0, {1: 12, 2: 11}, 2),
            (9.1, {3: 5}, 2),  # another worker began, which is no beat
            (9.2, {3: 6}, 3),
            (9.3, {}, 3),
            (99.0, {}, 3),
            (99.1, None, 4),  # workers whose beats cannot be read
        ):
            watchdog.tick(now, beats)
            assert len(manager.read()) == sent, now


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "-3"}, 0.0),
        ({"WATCHDOG_USEC": "³"}, 0.0),
        ({"WATCHDOG_USEC": "9" * 30}, 0.0),
        ({}, 0.0),
    ],
)
def test_whose_watchdog(words: dict[str, str], seconds: float) -> None:
    environ = dict(words)
    assert Notify(environ).watchdog.seconds == seconds
    assert environ == {}


def test_an_address_that_is_none_is_said() -> None:
    notify = Notify({"NOTIFY_SOCKET": "vsock:2:1234"})
    assert "vsock:2:1234" in notify.problem
    assert notify.send("READY=1") is False
    assert Notify({"NOTIFY_SOCKET": "/nowhere/at/all"}).send("READY=1") is False


# -- socket activation

# Opens what sockets.json says, as a service manager does, then becomes the server.
STARTER = """
import json, os, socket, sys
wanted, names, socks = json.load(open("sockets.json")), [], []
for name, kind, host, port in wanted:
    sock = socket.socket(socket.AF_INET, {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[kind])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    if kind == "tcp":
        sock.listen(100)
    names.append(name)
    socks.append(os.dup2(sock.fileno(), 200 + len(socks), True))
for at, fd in enumerate(socks):
    os.dup2(fd, 3 + at, True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(socks)), LISTEN_FDNAMES=":".join(names))
os.execv(sys.executable, [sys.executable, "-m", "fastdns", *sys.argv[1:]])
"""


def inodes(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(link.readlink()))
    return {text for text in found if text.startswith("socket:")}


def test_the_managers_sockets_are_used_come_and_go_and_are_upgraded(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    (tmp_path / "starter.py").write_text(STARTER)
    (tmp_path / "sockets.json").write_text(json.dumps([
        ["dns.socket", "udp", "127.0.0.1", ports[0]], ["dns.socket", "tcp", "127.0.0.1", ports[0]],
        ["dns.socket", "udp", "127.0.0.1", ports[0]], ["odd.socket", "udp", "127.0.0.1", ports[1]]]))
    here = f".:{ports[0]} {{\n bind 127.0.0.1\n multisocket 2\n whoami\n}}\n"
    there = f".:{ports[1]} {{\n bind 127.0.0.1\n multisocket 2\n whoami\n}}\n"
    with Server(tmp_path, here, program=("-m", "starter")) as server:
        server.wait_line("[WARNING] socket activation: odd.socket: no server block listens on udp "
                         f"127.0.0.1:{ports[1]}: nothing there is answered")
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        kept = inodes(server.process.pid)
        with load(ports[0]) as clients:
            clients.run(0.3, 1000.0)
            for number, signaled in enumerate((signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1)):
                server.process.send_signal(signaled)
                line = "Reloading complete" if signaled == signal.SIGUSR1 else "Upgrading complete"
                while server.out.count(line) < (1 if number < 2 else 2):
                    clients.run(0.1, 1000.0)
            assert clients.settle() == 0
        server.write(there)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete", 3)
        assert ask(ports[1]) is not None
        assert server.out.count("no server block listens on udp") == 4  # odd, odd of the new program, two now
        wait_for(lambda: len(server.children("worker")) == 3, "the old workers' end")
        server.write(here)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete", 4)
        assert ask(ports[0]) is not None
        wait_for(lambda: len(server.children("worker")) == 3, "the old workers' end")
        # The very sockets that the manager made, for ever.
        assert len(kept & inodes(server.process.pid)) >= 4


def bound(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    if kind == socket.SOCK_STREAM:
        sock.listen(5)
    return sock


@may("setuid")
def test_workers_share_a_socket_where_no_second_can_be_opened() -> None:
    port = free_port()
    with bound(socket.SOCK_DGRAM, port) as udp, bound(socket.SOCK_STREAM, port) as tcp:
        listeners = Listeners()
        listeners.activated.socks = [("a", udp), ("b", tcp)]
        key = ("dns", "127.0.0.1", udp.getsockname()[1])
        os.seteuid(65534)
        try:
            listeners.open([(key, 3)])
        finally:
            os.seteuid(0)
        listener = listeners.by_key[key]
        assert len(listener.udp) == len(listener.tcp) == 3
        assert listener.shared()
        assert sum("workers share 1 socket of 127.0.0.1:" in note for note in listeners.notes) == 2
        assert listeners.idle() == []
        # One that shares goes: what it shared is still read.
        for sock in listeners.retire([(key, 1)]):
            sock.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", udp.getsockname())
            wait_for(lambda: not listener.udp[0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "no error")
            listener.udp[0].settimeout(5)
            assert listener.udp[0].recv(10) == b"x"
        listeners.close()


def test_a_socket_too_many_leaves_its_group() -> None:
    port = free_port()
    with bound(socket.SOCK_DGRAM, port) as first, bound(socket.SOCK_DGRAM, port) as second:
        listeners = Listeners()
        listeners.activated.socks = [("a", first), ("a", second)]
        key = ("dns", "127.0.0.1", first.getsockname()[1])
        listeners.open([(key, 1)])
        assert ["more sockets than workers" in text for text in listeners.idle()] == [True]
        assert listeners.idle() == []
        with contextlib.ExitStack() as stack:
            for _ in range(64):
                client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                client.sendto(b"x", first.getsockname())
            for _ in range(64):
                listeners.by_key[key].udp[0].recv(10)
        listeners.close()


def test_a_socket_too_many_is_read_to_its_end_by_whom_had_it() -> None:
    port = free_port()
    with bound(socket.SOCK_STREAM, port) as first, bound(socket.SOCK_STREAM, port) as second:
        listeners = Listeners()
        listeners.activated.socks = [("a", first.dup()), ("a", second.dup())]
        key = ("dns", "127.0.0.1", first.getsockname()[1])
        listeners.open([(key, 2)])
        assert listeners.idle() == []
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]  # the backlog is 5
        # A reload to one worker; the other still accepts.
        assert listeners.last({key: 2}, {key: 1}) == {1: [0]}
        assert ["more sockets than workers" in text for text in listeners.surplus({key: 1})] == [True]
        leaving = listeners.retire([(key, 1)])
        assert listeners.idle() == []
        taken = 0
        for sock in (*leaving, listeners.by_key[key].tcp[0]):
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # one of them is for datagrams
                while True:
                    sock.accept()[0].close()
                    taken += 1
        assert taken == len(clients)
        # Then it refuses, in whatever process holds it; the one that stays does not.
        listeners.refuse(leaving)
        for _ in range(8):
            clients.append(socket.create_connection(("127.0.0.1", port)))
            listeners.by_key[key].tcp[0].settimeout(5)
            listeners.by_key[key].tcp[0].accept()[0].close()
        for sock in (*clients, *leaving, *(sock for _, sock in listeners.activated.socks)):
            sock.close()
        listeners.close()


# Sends queries and connects before anybody reads, as clients do that started the service.
EARLY = STARTER.replace("os.environ.update", """
from tests.faults.serving import query
port, held = wanted[0][3], []
for number in range(64):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(("127.0.0.1", port))
    client.send(query(number))
    held.append(client)
for number in range(16):
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(len(query(number)).to_bytes(2, "big") + query(number))
    held.append(client)
import threading
if os.fork() == 0:
    answered = [[], []]
    def read(client):
        client.settimeout(20)
        if len(client.recv(4096)) > 12:
            answered[client.type == socket.SOCK_STREAM].append(client)
    threads = [threading.Thread(target=read, args=(client,)) for client in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    open("answered", "w").write(json.dumps([len(found) for found in answered]))
    os._exit(0)
os.environ.update""")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_waits_in_sockets_that_are_too_many_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int,
) -> None:
    """A start by the clients' own packets, with more sockets than workers."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    port = free_port()
    (tmp_path / "starter.py").write_text(EARLY)
    (tmp_path / "sockets.json").write_text(json.dumps(
        [["dns.socket", kind, "127.0.0.1", port] for kind in ("udp", "tcp") for _ in range(4)]))
    corefile = f".:{port} {{\n bind 127.0.0.1\n multisocket {workers}\n whoami\n}}\n"
    with Server(tmp_path, corefile, program=("-m", "starter")) as server:
        wait_for((tmp_path / "answered").exists, "the clients' end")
        assert json.loads((tmp_path / "answered").read_text()) == [64, 16]
        assert server.out.count("more sockets than workers") == 2 * (4 - workers)
        # From now on everybody is sent to sockets that are read, over a reload and an upgrade too.
        for number, line in ((0, ""), (signal.SIGUSR1, "Reloading complete"), (signal.SIGUSR2, "Upgrading complete")):
            if number:
                server.process.send_signal(number)
                server.wait_line(line)
            with load(port, 64) as clients:
                clients.run(0.2, 1000.0)
                assert clients.settle() == 0
            for _ in range(16):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    client.sendall(b"\0\x1d" + query(1))
                    assert client.recv(4096)[2:4] == b"\0\1"


def test_descriptors_that_are_none_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listen_fds({"LISTEN_FDS": "2", "LISTEN_PID": "1"}) == ([], [])
    assert listen_fds({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == ([], [])
    assert listen_fds({"LISTEN_FDS": "99999999", "LISTEN_PID": str(os.getpid())}) == ([], [])
    assert listen_fds({}) == ([], [])


# -- the units


@needs("systemd-analyze")
def test_the_units_are_accepted(tmp_path: Path) -> None:
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    version = int(said.split()[1])
    program = tmp_path / "fastdns"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in sorted((ROOT / "deploy/systemd").iterdir()):
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text)
    for name in ("fastdns.service", "fastdns.socket"):
        run = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True,
                             text=True, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
        own = [line for line in run.stderr.splitlines() if "fastdns" in line]
        if version < 253:  # which has no notify-reload
            own = [line for line in own if "notify-reload" not in line and "ReloadSignal" not in line]
        assert (run.returncode, own) == (0, []), run.stderr
