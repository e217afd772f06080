# SPDX-License-Identifier: Apache-2.0
"""Ids and ports that forwarded questions leave under: random, unlike in every process, and changing.

Strategy: a scripted upstream notes what it sees. Figures are set where a sound generator fails less than once in 10^9
runs and a broken one (a counter, a seed that forked processes share) fails always.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest

from fastdns.plugins.forward import handler
from fastdns.testing import Server, Worker, exchange, question
from tests.faults.upstream import Upstream, reply

A = 1
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
COREFILE = ". {{\n  multisocket 2\n  forward . 127.0.0.1:{}\n}}\n"


def ask_many(port: int, prefix: str, number: int) -> None:
    for n in range(number):
        assert exchange(question(f"{prefix}{n}.test.", A), port)[3] & 15 == 0


def chi_square(values: list[int], low: int, high: int, bins: int) -> float:
    found = Counter((value - low) * bins // (high - low) for value in values)
    expected = len(values) / bins
    return sum((found[n] - expected) ** 2 / expected for n in range(bins))


def test_no_two_processes_share_a_stream() -> None:
    runs = []
    with Upstream() as up:
        for run in range(3):
            with Server(COREFILE.format(up.port)) as server:
                ask_many(server.port, f"r{run}x", 400)
            runs.append([(one.id, one.port) for one in up.asked])
            up.asked.clear()
    asked = [pair for run in runs for pair in run]
    assert len(asked) == 1200
    # Two workers, three starts: a shared stream would repeat hundreds of ids; 11 repeats are expected of chance.
    assert len({id for id, _ in asked}) > 1200 - 60
    assert len({port for _, port in asked}) > 900
    assert chi_square([id for id, _ in asked], 0, 65536, 16) < 80
    assert chi_square([port for _, port in asked], 10240, 65536, 16) < 80
    steps = [(b - a) % 65536 for run in runs for (a, _), (b, _) in pairwise(run)]
    assert Counter(steps).most_common(1)[0][1] < 8
    assert chi_square(steps, 0, 65536, 16) < 80


def test_a_batch_shares_a_socket_and_batches_do_not() -> None:
    with Upstream(lambda asked: [0.05, reply(asked)]) as up, Worker(COREFILE.format(up.port)) as server:
        ask_many(server.port, "n", 60)
        assert len({one.port for one in up.asked}) > 50


def trains(sock: socket.socket, questions: int) -> list[tuple[int, int, int]]:
    """What arrives at an upstream that takes trains whole: octets, octets of each question, source port."""
    found = []
    sock.settimeout(5)
    while questions:
        octets, control, _, peer = sock.recvmsg(65535, 64)
        size = next((int.from_bytes(data[:2], sys.byteorder) for level, _, data in control if level == SOL_UDP), 0)
        found.append((len(octets), size or len(octets), peer[1]))
        questions -= -(-len(octets) // found[-1][1])
    return found


def test_a_batch_leaves_in_trains_of_at_most_32() -> None:
    """Sixty questions that arrive at once: equal ones share a datagram on their way down to the device."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as up:
        up.bind(("127.0.0.1", 0))
        try:
            up.setsockopt(SOL_UDP, UDP_GRO, 1)
        except OSError:
            pytest.skip("no UDP_GRO here")
        with Worker(f".:0 {{\n  forward . 127.0.0.1:{up.getsockname()[1]}\n}}\n") as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(("127.0.0.1", server.port))
                wires = [question(f"n{n:02}.test.", A) for n in range(60)]
                client.setsockopt(SOL_UDP, UDP_SEGMENT, len(wires[0]))
                client.send(b"".join(wires))
                client.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
                found = trains(up, len(wires))
        assert len({port for _, _, port in found}) == 1
        assert sorted(octets // size for octets, size, _ in found) == [28, 32]


def test_no_socket_is_asked_through_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "raise_descriptors", lambda: 16)
    with Upstream() as up, Worker(COREFILE.format(up.port)) as server:
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert exchange(question(f"n{len(up.asked)}.test.", A), server.port)[3] & 15 == 0
            time.sleep(0.01)
        used: dict[int, list[float]] = {}
        for one in up.asked:
            used.setdefault(one.port, []).append(one.at)
        assert 8 < len(used) <= 24
        assert max(max(at) - min(at) for at in used.values()) < 10.5


def test_few_descriptors_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen sockets for as many questions as there are: whichever lives is asked through."""
    monkeypatch.setattr(handler, "raise_descriptors", lambda: 16)
    with Upstream(lambda asked: [0.3, reply(asked)]) as up, Worker(COREFILE.format(up.port)) as server:
        failed: list[str] = []

        def ask(n: int) -> None:
            if exchange(question(f"n{n}.test.", A), server.port)[3] & 15:
                failed.append(f"n{n}")

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len({one.port for one in up.asked}) <= 16
