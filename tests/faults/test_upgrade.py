# SPDX-License-Identifier: Apache-2.0
"""Upgrades in place: the process id, the sockets, the cache and the counters stay, and nothing is lost."""

from __future__ import annotations

import signal
from pathlib import Path

from .serving import Server, ask, load, wait_for

SAME = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n"


def test_upgrades_under_load_lose_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, SAME, "-pidfile", "pid") as server, load(server.port) as clients:
        for number in range(1, 4):
            server.process.send_signal(signal.SIGUSR2)
            while server.out.count("[INFO] SIGUSR2: Upgrading complete: fastdns-") < number:
                assert server.process.poll() is None, server.err
                clients.run(0.1, 2000.0)
        assert clients.settle() == 0
        assert clients.doubled == 0
        wait_for(lambda: len(server.children("worker")) == 3, "the old workers' end")
        wait_for(lambda: len(server.children("templat")) == 1, "the old templates' end")
        assert "died" not in server.out
        assert (tmp_path / "pid").read_text() == f"{server.process.pid}\n"
        assert server.stop() == 0
        assert not (tmp_path / "pid").exists()
