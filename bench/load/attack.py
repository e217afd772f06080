# SPDX-License-Identifier: Apache-2.0
"""What becomes of a server's clients while it is attacked: each turn is measured without the attack and with it.

Strategy: three attacks, one figure each, which a scenario bounds (`holds`). All clients of the measurement ask for
names that the cache holds, or a plugin answers.

    overload: more is asked than the server can answer. Good answers a second in time, over the most that it gave to
        clients of the same kind, who ask whether or not they were answered. (Those that wait for answers are not: their
        queries come in trains and their answers leave in trains, which cost a fraction each.)
    names: another client asks for ten times as many names that nobody asked before. Share of the queries answered.
    trickle: a thousand TCP connections send their queries octet by octet. The 99th percentile, over that without.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Self

from fastdns.bench._load import Load
from fastdns.bench.cpu import CoreMeter, CpuMeter
from fastdns.bench.tally import Tally
from fastdns.bench.turns import Shape

from .arms import Arm, Measured, Plan
from .ask import Names
from .flood import Flooding
from .scenario import Scenario

TIMES = 3.0  # what is asked under overload, of what can be answered
STEPS = (0.3, 0.45, 0.6, 0.8, 1.0)  # rates at which the most is looked for, of what waiting clients were answered
PATIENCE = 2.0  # seconds that a client waits
NAMES_RATE = 1500.0  # queries a second for cached names, and ten times as many for others
FLOODED = 10.0
CALM_RATE = 5000.0  # queries a second beside the connections
CONNECTIONS = 1000
OCTETS_RATE = 1000  # a second, over all connections: each waits a second for its next
LEAD = 1.0  # seconds of the attack before the measurement
SPARE = 2.0  # seconds that a flood's questions last longer


def attacked(arm: Arm, scenario: Scenario, plan: Plan, shape: Shape, names: Names) -> Measured:
    """A turn without the attack, with the figure of one with it."""
    run = {"overload": overload, "names": flooded, "trickle": trickled}[scenario.attack]
    load = generator(arm, plan, shape, names, 0.0 if scenario.attack == "overload" else CALM_RATE)
    with CoreMeter() as cores, CpuMeter(arm.target.pids()) as cpu:
        calm = load.run(plan.seconds)
    load.close()
    arm.rate = max(calm.qps, 1000.0)
    stolen = max((core.stolen for core in cores.cores.values()), default=0.0)
    return Measured(calm, cpu.seconds, stolen, held=run(arm, plan, shape, names, calm))


def generator(arm: Arm, plan: Plan, shape: Shape, names: Names, rate: float) -> Load:
    """Clients of cached names: closed loops, or `rate` queries a second."""
    assert names.warm is not None
    return Load(arm.target.address, arm.target.port, names.warm, sockets=shape.sockets, in_flight=shape.in_flight,
                rate=rate, timeout=PATIENCE, cpu=plan.load_cpu)


def good(tally: Tally) -> int:
    """Answers that were what was asked for."""
    return tally.completed - tally.wrong_rcode


def overload(arm: Arm, plan: Plan, shape: Shape, names: Names, calm: Tally) -> float:
    """Good answers in time, over the most there were."""
    seconds = plan.seconds / 2
    most = max(asked_at(step * arm.rate, seconds, arm, plan, shape, names) for step in STEPS)
    return asked_at(TIMES * most, plan.seconds, arm, plan, shape, names) / max(1.0, most)


def asked_at(rate: float, seconds: float, arm: Arm, plan: Plan, shape: Shape, names: Names) -> float:
    """Good answers a second while `rate` queries a second are asked, whether or not they are answered."""
    load = generator(arm, plan, shape, names, rate)
    # What is asked first fills queues; the figure is about what lasts.
    load.run(LEAD)
    tally = load.run(seconds)
    load.close()
    return good(tally) / tally.seconds


def flooded(arm: Arm, plan: Plan, shape: Shape, names: Names, calm: Tally) -> float:
    """The share of queries for cached names that were answered."""
    rate = FLOODED * NAMES_RATE
    count = round(rate * (LEAD + plan.seconds + SPARE))
    others = Load(arm.target.address, arm.target.port, names.flood(count, gone=False), sockets=shape.sockets, rate=rate,
                  timeout=PATIENCE, loop=False, cpu=plan.upstream_cpu)
    load = generator(arm, plan, shape, names, NAMES_RATE)
    with Flooding(others, LEAD):
        tally = load.run(plan.seconds)
    load.close()
    return good(tally) / max(1, tally.sent)


def trickled(arm: Arm, plan: Plan, shape: Shape, names: Names, calm: Tally) -> float:
    """The 99th percentile beside connections that trickle, over that without."""
    assert names.warm is not None
    load = generator(arm, plan, shape, names, CALM_RATE)
    with Trickle(arm.target.address, arm.target.port, names.warm.wire(0)):
        time.sleep(LEAD)
        tally = load.run(plan.seconds)
    load.close()
    return tally.latency.percentile(99) / max(1e-9, calm.latency.percentile(99))


class Trickle:
    """Connections that send a query again and again, an octet at a time; one that the server closes is made anew."""

    def __init__(self, address: str, port: int, wire: bytes) -> None:
        self.where = (address, port)
        self.octets = len(wire).to_bytes(2, "big") + wire
        self.connections: list[socket.socket | None] = [None] * CONNECTIONS
        self.at = [0] * CONNECTIONS
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        for number in range(CONNECTIONS):
            self.connect(number)
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.ending.set()
        self.thread.join()
        for connection in self.connections:
            if connection is not None:
                connection.close()

    def connect(self, number: int) -> None:
        """Makes a connection, if that can be had."""
        self.connections[number] = None
        self.at[number] = 0
        with contextlib.suppress(OSError):
            connection = socket.create_connection(self.where, 1.0)
            connection.setblocking(False)
            self.connections[number] = connection

    def run(self) -> None:
        """Sends octets until the end."""
        number = 0
        while not self.ending.wait(10 / OCTETS_RATE):
            for _ in range(10):
                self.step(number)
                number = (number + 1) % CONNECTIONS

    def step(self, number: int) -> None:
        """One octet of one connection; its answers are read and thrown away."""
        connection = self.connections[number]
        try:
            if connection is None:
                raise ConnectionError
            connection.send(self.octets[self.at[number]:self.at[number] + 1])
            self.at[number] = (self.at[number] + 1) % len(self.octets)
            with contextlib.suppress(BlockingIOError):
                if not connection.recv(4096):
                    raise ConnectionError
        except BlockingIOError:
            return
        except OSError:
            if connection is not None:
                connection.close()
            self.connect(number)
