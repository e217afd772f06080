# SPDX-License-Identifier: Apache-2.0
"""Reloads and upgrades at half of what the server can do: nothing is lost, no hit becomes a miss, nobody hears of the
old configuration 100 ms after it is said to be replaced.

Strategy: the generator of `fastdns bench` measures the most that this machine does with hits, then asks half as much
while the configuration is changed twenty times: 4 sockets, 2, 4, and a listener that goes and comes. Beside it a few
questions a millisecond ask a block whose `nsid` tells the turn. Server and load have CPUs of their own, as in all
measurements: on one together the load takes away what the server is asked to have left. For a quiet machine
(`make reloads`, about three minutes); the figures are printed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from fastdns.bench._load import Load, Questions
from fastdns.bench.questions import synthetic
from fastdns.bench.scaling_run import together
from fastdns.bench.tally import Tally

from .serving import Server, query, wait_for
from .upstream import Upstream

TURNS = int(os.environ.get("FASTDNS_TURNS", "20"))
NAMES = 1000
SECONDS = 3.0
PROMISE_SECONDS = 0.1
PROBES = 64  # sockets, so that every socket of a group is asked
PROBE_SECONDS = 0.002
COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket COUNT
    cache 3600
    forward . 127.0.0.1:UP
}
who.test:{port} {
    bind 127.0.0.1
    multisocket COUNT
    nsid turn-TURN.
    whoami
}
"""
GUEST = ".:{port2} {\n bind 127.0.0.1\n multisocket 1\n whoami\n}\n"
WHO = b"\3who\4test\0"


def with_nsid(number: int) -> bytes:
    """A question that asks who answers."""
    wire = bytearray(query(number, WHO))
    wire[11] = 1
    return bytes(wire) + b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\3\0\0"


class Probe(threading.Thread):
    """Asks all the time which turn it is. `found`: (when it was asked, turn)."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.found: list[tuple[float, int]] = []
        self.sent = 0
        self.ended = threading.Event()
        self.socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(PROBES)]
        for sock in self.socks:
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)

    def run(self) -> None:
        poller = select.poll()
        by_fd = {sock.fileno(): sock for sock in self.socks}
        for fd in by_fd:
            poller.register(fd, select.POLLIN)
        asked: dict[tuple[int, int], float] = {}
        last = time.monotonic() + 2.0
        while not self.ended.is_set() or (asked and time.monotonic() < last):
            if not self.ended.is_set():
                sock, number = self.socks[self.sent % PROBES], self.sent & 0xffff
                asked[sock.fileno(), number] = time.monotonic()
                sock.send(with_nsid(number))
                self.sent += 1
                last = time.monotonic() + 2.0
            for fd, _ in poller.poll(PROBE_SECONDS * 1000):
                reply = by_fd[fd].recv(4096)
                when = asked.pop((fd, int.from_bytes(reply[:2], "big")))
                self.found.append((when, int(reply.partition(b"turn-")[2].partition(b".")[0])))

    def stop(self) -> int:
        """Ends; returns how many had no answer."""
        self.ended.set()
        self.join(10)
        for sock in self.socks:
            sock.close()
        return self.sent - len(self.found)


def halves() -> tuple[list[int], list[int]]:
    """CPUs for the server, and for everybody else; the same where there is one alone."""
    cpus = sorted(os.sched_getaffinity(0))
    middle = (len(cpus) + 1) // 2
    return cpus[:middle], cpus[middle:] or cpus


@contextlib.contextmanager
def on(cpus: Collection[int]) -> Iterator[None]:
    """What is started inside may use these CPUs alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def loads(port: int, questions: Questions, rate: float = 0.0) -> list[Load]:
    """A thread of load for each CPU that this thread may use."""
    cpus = sorted(os.sched_getaffinity(0))
    return [Load("127.0.0.1", port, questions, sockets=64, rate=rate / len(cpus), first=NAMES * at // len(cpus),
                 cpu=cpu)
            for at, cpu in enumerate(cpus)]


def asked_for(port: int, questions: Questions, rate: float = 0.0) -> Tally:
    """Some seconds at a rate; 0: as many as can be had."""
    own = loads(port, questions, rate)
    tally = together(own, SECONDS)
    for one in own:
        one.close()
    return tally


@pytest.mark.nightly
@pytest.mark.unsanitized
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["reload", "upgrade"])
def test_twenty_times_at_half_of_the_most(tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    number, line = ((signal.SIGUSR1, "Reloading complete") if way == "reload"
                    else (signal.SIGUSR2, "Upgrading complete"))
    questions = synthetic(NAMES)
    serving, asking = halves()

    with on(asking), Upstream() as upstream:
        def corefile(turn: int) -> str:
            text = COREFILE.replace("UP", str(upstream.port)).replace("TURN", str(turn))
            return text.replace("COUNT", "2" if turn % 2 else "4") + (GUEST if turn % 2 else "")

        with contextlib.ExitStack() as stack:
            with on(serving):
                server = stack.enter_context(Server(tmp_path, corefile(0), ports=2))
            asked_for(server.port, questions)  # which fills the cache
            rate = asked_for(server.port, questions).qps / 2
            quiet = asked_for(server.port, questions, rate)
            asked = len(upstream.asked)
            tallies: list[Tally] = []
            ended = threading.Event()
            own = loads(server.port, questions, rate)
            threads = [threading.Thread(target=lambda one=one: tallies.append(  # type: ignore[misc]
                one.run(3600.0, lambda _tally: not ended.is_set(), 0.1))) for one in own]
            probe = Probe(server.port)
            for thread in (*threads, probe):
                thread.start()
            acknowledged: list[float] = []
            try:
                for turn in range(1, TURNS + 1):
                    server.write(corefile(turn))
                    server.process.send_signal(number)
                    server.wait_line(line, turn)
                    acknowledged.append(time.monotonic())
                    time.sleep(0.5)
            finally:
                ended.set()
                silent = probe.stop()
                for thread in threads:
                    thread.join()
                for one in own:
                    one.close()
            tally = sum(tallies, Tally())
            late = [when for when, turn in probe.found
                    if turn < sum(when > at + PROMISE_SECONDS for at in acknowledged)]
            with capsys.disabled():
                print(f"\n{way}: {TURNS} times at {rate:,.0f} queries a second of {2 * rate:,.0f}: "
                      f"{tally.sent:,} sent, {tally.lost} lost ({tally.late} came late), "
                      f"rcodes {tally.rcodes}, {tally.unsent} unsent, "
                      f"p99 {tally.latency.percentile(99) * 1000:.2f} ms (without: "
                      f"{quiet.latency.percentile(99) * 1000:.2f} ms), "
                      f"{len(upstream.asked) - asked} hits became misses; {probe.sent} probes, {silent} silent, "
                      f"{len(late)} answers of before")
            wait_for(lambda: len(server.children("templat")) == 1, "the old generations' end")
            assert "died" not in server.out and "killed" not in server.out
            assert (tally.lost, tally.send_errors, silent) == (0, 0, 0)
            assert set(tally.rcodes) == {0}
            assert len(upstream.asked) == asked, "a hit became a miss"
            assert late == []
