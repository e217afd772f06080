# SPDX-License-Identifier: Apache-2.0
"""Reports made without a measurement, for the tests of what is done with one."""

import random
from typing import Any

from fastdns.bench.report import SCHEMA, Arm, Machine, Point, Report, Round, Scenario
from fastdns.bench.tally import Histogram, Tally

SECONDS = 5.0


def latency(body: float, tail: float, count: int = 3_000, seed: int = 1) -> Histogram:
    """A log-normal body around `body` seconds, and one answer of a hundred up to `tail` seconds later."""
    rng = random.Random(seed)
    histogram = Histogram()
    for _ in range(count):
        late = tail * rng.random() if rng.random() < 0.01 else 0.0
        histogram.record(body * rng.lognormvariate(0, 0.35) + late)
    return histogram


def one_round(qps: float, cpu_us: float, body: float = 120e-6, seed: int = 1, **changes: Any) -> Round:
    """A round at about `qps` answers per second and `cpu_us` microseconds of server CPU each."""
    rng = random.Random(seed)
    n = int(qps * SECONDS)
    tally = Tally(
        seconds=SECONDS, sent=n, completed=n, in_window=n, rcodes={0: n}, octets_sent=n * 45, octets_received=n * 61,
        cpu_seconds=4.2, latency=latency(body, body * 50, seed=seed),
    )
    made = Round(
        tally=tally, server_cpu=n * cpu_us / 1e6, cores={0: 0.99, 1: 0.86}, stolen=0.0,
        course=[Point(step / 2, qps * rng.uniform(0.97, 1.03)) for step in range(1, 11)],
    )
    for name, value in changes.items():
        setattr(tally if hasattr(tally, name) else made, name, value)
    return made


def report(qps: float = 200_000, cpu_us: float = 4.8, floor: bool = True, **changes: Any) -> Report:
    """Three rounds and, if asked for, three of the floor; `changes` are set in every round of the server."""
    server = [one_round(qps * f, cpu_us / f, 120e-6, seed, **changes) for seed, f in enumerate((1.0, 1.01, 0.99))]
    below = [one_round(qps * 2, cpu_us / 2, 60e-6, seed) for seed in range(9, 12)]
    return Report(
        schema=SCHEMA, taken="2026-01-02T03:04:05Z",
        machine=Machine(
            cpu="A Processor 3 GHz", family="Maker/6/106/6", mhz="3000.000", cores=2, usable_cores=2,
            governor="performance", architecture="x86_64", kernel="6.1.0", python="CPython 3.11.2",
            compiler="12.2.0", libc="glibc 2.36", virtual="no", fastdns="0.1.0",
        ),
        scenario=Scenario(
            server="corefile", corefile="c" * 64, protocol="udp", sockets=64, in_flight=4, segment=False, spin=False,
            rate=0.0, timeout=2.0, questions="d" * 64, count=1000, once=False, duration=SECONDS, warm=2.0,
            server_cpus=[0], load_cpus=[1],
        ),
        server=Arm(server), floor=Arm(below) if floor else None,
    )
