# SPDX-License-Identifier: Apache-2.0
"""A quota that is nearly spent, as the bridge takes it: new queries wait, those that were begun go on.

Strategy: the group's use is a file of ours, which a thread writes on and on as if all of the quota were used; a period
is so long that nothing is refused for waiting.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from pathlib import Path

import pytest

from fastdns.numbers import A
from fastdns.testing import Worker, question
from tests.faults.serving import wait_for
from tests.faults.upstream import Asked, Upstream, reply
from tests.probes import installed

PERIOD, SHORT = 4_000_000_000, 400_000_000
QUOTA = 1_000_000  # nanoseconds: of which Python has used its floor, whatever it does


class Spent:
    """A file that says that the quota is used up, until `stop`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text("0\n")
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        used = 0
        while not self.ends.wait(0.01):
            used += 100 * QUOTA
            self.path.write_text(f"{used}\n")
            sum(range(20000))

    def stop(self) -> None:
        self.ends.set()
        self.thread.join()


class Watched(Worker):
    """A worker with a quota."""

    def __init__(self, corefile: str, spent: Spent, period: int = PERIOD) -> None:
        self.spent = spent
        self.period = period
        super().__init__(corefile)

    async def _main(self) -> None:
        self.engine.bridge.limit(self.spent.path, 1, QUOTA, self.period, 1)
        await super()._main()


def test_what_was_begun_goes_on_and_new_queries_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def script(asked: Asked) -> list[bytes | float]:
        release.wait(20)
        return [reply(asked)]

    spent = Spent(tmp_path / "use")
    with installed(tmp_path), Upstream(script) as up:
        import fastdns_probes  # type: ignore[import-not-found]

        monkeypatch.setattr(fastdns_probes.Relay, "deadline", 60.0)
        with Watched(f". {{\nrelay\nforward . 127.0.0.1:{up.port}\n}}\n", spent) as worker:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.connect(("127.0.0.1", worker.port))
                sock.settimeout(20)

                def send(number: int) -> None:
                    sock.send(question(f"n{number}.test.", A, id=number))

                send(0)
                wait_for(lambda: up.asked, "the first")
                spent.thread.start()
                sent = 1
                while worker.engine.bridge.waiting == 0:
                    assert sent < 200, "nothing waits"
                    send(sent)
                    sent += 1
                    time.sleep(0.05)
                begun = worker.counter("fastdns_python_queries_total")
                for _ in range(20):
                    send(sent)
                    sent += 1
                # The quota is used up all the time: those that were begun are answered, in whatever order.
                release.set()
                answered = {int.from_bytes(sock.recv(512)[:2], "big") for _ in range(begun)}
                assert answered == set(range(begun))
                assert worker.counter("fastdns_python_queries_total") == begun
                wait_for(lambda: worker.engine.bridge.waiting == sent - begun, "those that wait")
                poller = select.poll()
                poller.register(sock, select.POLLIN)
                assert not poller.poll(200)
                spent.stop()
                left = [int.from_bytes(sock.recv(512)[:2], "big") for _ in range(sent - begun)]
                assert sorted(left) == list(range(begun, sent))
                assert worker.engine.bridge.waiting == 0
                assert worker.counter("fastdns_python_quota_total") == 0


def test_what_waits_a_period_keeps_others_out(tmp_path: Path) -> None:
    spent = Spent(tmp_path / "use")
    spent.thread.start()
    with installed(tmp_path), Watched(". {\nrelay\nwhoami\n}\n", spent, SHORT) as worker:
        try:
            rcodes = set()
            deadline = time.monotonic() + 60
            while 2 not in rcodes:
                assert time.monotonic() < deadline, "nothing is refused"
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(0.2)
                    sock.connect(("127.0.0.1", worker.port))
                    sock.send(question("a.test.", A))
                    try:
                        rcodes.add(sock.recv(512)[3] & 15)
                    except TimeoutError:
                        continue
            assert worker.counter("fastdns_python_quota_total") >= 1
            assert worker.engine.bridge.waiting > 0
        finally:
            spent.stop()
