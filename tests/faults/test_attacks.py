# SPDX-License-Identifier: Apache-2.0
"""Floods, as counts: who asks for what the server has, or can make, is served while others ask for too much.

Strategy: names that an upstream never answers fill every table; a plugin that takes a millisecond is asked for three
times what it can give; a thousand connections send a query octet by octet. How fast all of this is, bench/load measures
(`overload`, `random_names`, `trickle`).
"""

from __future__ import annotations

import os
import resource
import socket
import time
from pathlib import Path

import psutil
import pytest

from fastdns.bench._load import Load, Questions
from fastdns.numbers import A
from fastdns.testing import Worker, question, receive
from tests.faults.serving import Server, counted, readable, wait_for
from tests.faults.upstream import Asked, Upstream, reply
from tests.probes import installed

POOL = 16384  # queries of a worker that wait
SERVFAIL = 2
MIB = 1 << 20


def silent(asked: Asked) -> list[bytes | float]:
    """Answers nothing that begins with x."""
    return [] if asked.name.startswith("x") else [reply(asked)]


FORWARDS = """.:{port} {
    bind 127.0.0.1
    multisocket 1
    prometheus 127.0.0.1:{port2}
    cache {
        success 1024
        denial 1024
    }
    forward . 127.0.0.1:UP
}
"""


class Clients:
    """Asks for names that are never answered, and for cached ones on another socket."""

    def __init__(self, port: int) -> None:
        self.flood, self.calm = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (self.flood, self.calm):
            sock.connect(("127.0.0.1", port))
        self.number = 0

    def ask(self, name: str) -> bool:
        """One cached name; whether the answer is there."""
        self.calm.send(question(name, A, id=self.number & 0xffff))
        return readable(self.calm, 1.0) and self.calm.recv(512)[3] & 15 == 0

    def run(self, floods: int) -> int:
        """Ten new names to each cached one; how many of these were answered."""
        answered = 0
        for _ in range(floods // 10):
            for _ in range(10):
                self.flood.send(question(f"x{self.number}.example.", A, id=self.number & 0xffff))
                self.number += 1
            answered += self.ask(f"c{self.number // 10 % 100}.example.")
        return answered

    def close(self) -> None:
        self.flood.close()
        self.calm.close()


def test_random_names_take_nothing_from_cached_ones(tmp_path: Path) -> None:
    with Upstream(silent) as up, Server(tmp_path, FORWARDS.replace("UP", str(up.port)), ports=2) as server:
        clients = Clients(server.port)
        try:
            assert all(clients.ask(f"c{number}.example.") for number in range(100))
            (worker, *_) = server.children("worker")
            first = clients.run(POOL + 4000)
            assert first >= 0.95 * (POOL + 4000) / 10
            # More were asked than can wait, unless the machine was slow; the tables have been full, so no memory is to
            # come.
            before = psutil.Process(worker).memory_full_info().uss
            for _ in range(2):
                assert clients.run(POOL) >= 0.95 * POOL / 10
            assert psutil.Process(worker).memory_full_info().uss < before + 4 * MIB
            assert server.children("worker")[0] == worker
        finally:
            clients.close()


def test_a_thousand_slow_connections_take_nothing_from_udp(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    wire = question("c0.example.", A)
    octets = len(wire).to_bytes(2, "big") + wire
    with Upstream() as up, Server(tmp_path, FORWARDS.replace("UP", str(up.port)), ports=2) as server:
        clients = Clients(server.port)
        connections: list[socket.socket] = []
        try:
            assert clients.ask("c0.example.")
            connections += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1000)]
            for at in range(2):
                for number, connection in enumerate(connections):
                    connection.send(octets[at:at + 1])
                    assert number % 10 or clients.ask("c0.example.")
            # One that sends its query is served among them.
            with socket.create_connection(("127.0.0.1", server.port), 10) as quick:
                quick.sendall(octets)
                assert receive(quick, 2) == bytes([0, len(wire) + 16])
            # Octets do not keep a connection: what has sent no query is closed.
            wait_for(lambda: counted(server.ports[1], "fastdns_ingress_total", event="tcp_timeout") == 1000,
                     "their end", 30)
            assert clients.ask("c0.example.")
        finally:
            clients.close()
            for connection in connections:
                connection.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.unsanitized
@pytest.mark.parametrize("plugins", ["probe", "eager\nprobe", "plain\neager\nprobe"])
def test_three_times_what_a_plugin_can_do(tmp_path: Path, plugins: str) -> None:
    """A millisecond of CPU each, and 0.6 s of deadline: first come, first served would make all of them late.
    `overload_python` in bench/load holds more than is asked for here, on a machine that does nothing else."""
    names = Questions([question(f"burn.n{number}.test.", A, id=0) for number in range(100)])
    corefile = f".:{{port}} {{\nbind 127.0.0.1\nmultisocket 1\n{plugins}\n}}\n"
    with installed(tmp_path) as environ:
        os.environ.update(environ)
        try:
            with Server(tmp_path, corefile) as server:
                most = Load("127.0.0.1", server.port, names, sockets=8, in_flight=4, timeout=2.0)
                calm = most.run(2.0)
                most.close()
                much = Load("127.0.0.1", server.port, names, sockets=8, rate=3 * calm.qps, timeout=2.0)
                flooded = much.run(4.0)
                much.close()
        finally:
            del os.environ["PYTHONPATH"]
    good = [tally.rcodes.get(0, 0) / tally.seconds for tally in (calm, flooded)]
    assert good[1] > 0.4 * good[0]
    # Whoever is not served is told so at once, and asks somebody else.
    assert flooded.rcodes.get(SERVFAIL, 0) > 0 and flooded.lost < 0.01 * flooded.sent


def test_what_can_only_be_late_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []

    async def block(_plugin: object, query: object, _next: object) -> object:
        began.append("block")
        time.sleep(1.5)  # longer than the deadline of what waits behind it
        return query.reply()  # type: ignore[attr-defined]

    async def noted(_plugin: object, query: object, _next: object) -> object:
        began.append("noted")
        return query.reply()  # type: ignore[attr-defined]

    with installed(tmp_path):
        import fastdns_probes  # type: ignore[import-not-found]

        monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "block", block)
        monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "noted", noted)
        monkeypatch.setattr(fastdns_probes.Eager, "deadline", 0.6)
        with Worker(". {\neager\nprobe\n}\n") as worker, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", worker.port))
            sock.settimeout(10)

            def send(name: str, number: int) -> None:
                sock.send(question(name, A, id=number))

            send("block.test.", 1)
            wait_for(lambda: began, "the first")
            send("noted.test.", 2)  # waits, and is too late in the end
            time.sleep(0.3)
            for number in (3, 4):  # a quarter of the deadline is over: refused
                send("noted.test.", number)
            found = [sock.recv(512) for _ in range(4)]
            codes = {int.from_bytes(one[:2], "big"): one[3] & 15 for one in found}
            assert codes == {2: SERVFAIL, 3: SERVFAIL, 4: SERVFAIL} | {1: codes[1]}
            assert [one[1] for one in found[:2]] == [3, 4]
            assert worker.counter("fastdns_python_shed_total") == 2
            wait_for(lambda: worker.ask("noted.test.", A).rcode == 0, "Python")
        # The second was answered for Python meanwhile, and not begun when that was free again.
        assert began == ["block", "noted"]
