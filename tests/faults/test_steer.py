# SPDX-License-Identifier: Apache-2.0
"""`multisocket { steer … }` in a whole server: which worker answers what, and that no reload loses a query."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from fastdns import metrics
from fastdns._stats import Stats
from tests.machine import needs_ipv6

from .serving import Server, load, wait_for

COREFILE = """.:{{port}} {{
    bind {address}
    multisocket {sockets} {{
        steer {steer}
    }}
    prometheus 127.0.0.1:{{port2}}
    whoami
}}
"""


def counters(server: Server) -> Stats:
    """The server's table of counters, from its supervisor."""
    folder = Path(f"/proc/{server.process.pid}/fd")
    number = next(path for path in folder.iterdir() if str(path.readlink()).startswith("/memfd:fastdns-stats"))
    fd = os.open(number, os.O_RDWR)
    try:
        return Stats.attach(fd)
    finally:
        os.close(fd)


def answered(stats: Stats) -> dict[int, int]:
    """Requests by worker; those that serve now."""
    slots = [series.slot for series in stats.snapshot() if series.name == "coredns_dns_requests_total"]
    rows = {row: index for row, (index, _) in metrics.workers(stats).items()}
    return {index: sum(stats.get_row(row, slot) for slot in slots) for row, index in rows.items()}


@pytest.mark.parametrize(("steer", "flows", "workers"), [("flow", 1, 1), ("random", 1, 3), ("flow", 64, 3)])
def test_who_answers(tmp_path: Path, steer: str, flows: int, workers: int) -> None:
    corefile = COREFILE.format(address="127.0.0.1", sockets=3, steer=steer)
    with Server(tmp_path, corefile, ports=2) as server, load(server.port, flows) as clients:
        stats = counters(server)
        clients.run(0.3, 1000.0)
        assert clients.settle() == 0
        found = answered(stats)
        assert sorted(found) == [0, 1, 2]
        assert sum(found.values()) == clients.sent
        assert sum(1 for count in found.values() if count) == workers


def test_by_cpu_the_worker_of_that_cpu_answers(tmp_path: Path) -> None:
    here = sorted(os.sched_getaffinity(0))
    corefile = COREFILE.format(address="127.0.0.1", sockets=len(here), steer="cpu")
    with Server(tmp_path, corefile, ports=2) as server, load(server.port, 16) as clients:
        stats = counters(server)
        os.sched_setaffinity(0, {here[-1]})
        try:
            clients.run(0.3, 1000.0)
            assert clients.settle() == 0
        finally:
            os.sched_setaffinity(0, here)
        found = answered(stats)
        assert found.pop(len(here) - 1) == clients.sent
        assert not any(found.values())


STEPS = [(2, "flow"), (3, "random"), (1, "random"), (4, "random"), (2, "cpu"), (3, "cpu"), (2, "flow")]


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1 127.0.0.1", marks=needs_ipv6)])
def test_reloads_that_change_number_and_way_lose_nothing(tmp_path: Path, address: str) -> None:
    def corefile(number: int) -> str:
        sockets, steer = STEPS[number]
        return COREFILE.format(address=address, sockets=sockets, steer=steer)

    with Server(tmp_path, corefile(0), ports=2) as server, load(server.port) as clients:
        for number in range(1, len(STEPS)):
            server.write(corefile(number))
            server.process.send_signal(signal.SIGUSR1)
            while server.out.count("[INFO] Reloading complete") < number:
                clients.run(0.1, 2000.0)
            clients.run(0.2, 2000.0)
        assert clients.settle() == 0
        assert clients.doubled == 0
        assert "died" not in server.out
        assert "refused" not in server.out


def test_a_dead_worker_s_place_is_taken(tmp_path: Path) -> None:
    corefile = COREFILE.format(address="127.0.0.1", sockets=2, steer="random")
    with Server(tmp_path, corefile, ports=2) as server, load(server.port, 1) as clients:
        stats = counters(server)
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        os.kill(server.children("worker")[0], signal.SIGKILL)
        server.wait_line(" died: ")
        wait_for(lambda: len(answered(stats)) == 2, "the new worker")
        before = answered(stats)
        clients.run(0.3, 1000.0)
        assert clients.settle() == 0
        after = answered(stats)
        assert all(after[index] > before[index] for index in (0, 1))
