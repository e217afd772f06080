# SPDX-License-Identifier: Apache-2.0
"""Hits on a server that has some cores of this machine, from load on others: what `fastdns bench --scaling` measures.

Strategy: over loopback, a server of its own for each number of cores, with as many sockets and workers, bound one to a
core. An upstream in this process answers the few questions that are no hits. Each core of load runs in a thread
without the interpreter's lock.
"""

from __future__ import annotations

import socket
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ..errors import FastdnsError
from ..ports import free_port
from ._load import Load, Questions
from .cpu import CoreMeter, CpuMeter
from .questions import synthetic
from .tally import Tally
from .target import LOOPBACK, Target, TargetError

NAMES = 1000
WARM_SECONDS = 1.0
STARTS = 3
IN_USE = "address already in use"
LOADS_PER_CORE = 2  # cores of load by core of server: more do not help
COREFILE = """. {{
    bind {address}
    multisocket {sockets}
    errors
    prometheus {address}:{metrics}
    cache 3600
    forward . {address}:{upstream}
}}
"""
RECORD = b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\xc0\0\2\1"  # the question's name, A, IN, 3600 s, 192.0.2.1


class ScalingError(FastdnsError):
    """Cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Measured:
    """One number of cores in one round, or the median of its rounds."""

    cores: int
    load_cores: int
    flows: int
    qps: float
    cpu_us: float
    """Microseconds of all of the server's processes per answer."""
    busy: float
    """Of a core, on average over the server's cores."""
    busiest: float
    """The busiest of them as a multiple of that average."""
    lost: int

    @property
    def capacity(self) -> float:
        """Queries per second of so many busy cores at this cost."""
        return self.cores * 1e6 / self.cpu_us


@contextmanager
def upstream() -> Iterator[int]:
    """A server that knows one address for every name, for what is asked once; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((LOOPBACK, 0))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    octets, client = sock.recvfrom(4096)
                    if len(octets) < 17:
                        return
                    end = octets.index(0, 12) + 5
                    flags = bytes([octets[2] | 0x80, 0x80])
                    sock.sendto(octets[:2] + flags + b"\0\1\0\1\0\0\0\0" + octets[12:end] + RECORD, client)

        thread = threading.Thread(target=serve, name="upstream", daemon=True)
        thread.start()
        try:
            yield int(sock.getsockname()[1])
        finally:
            # A datagram too short to be a question ends it.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bell:
                bell.sendto(b"", sock.getsockname())
            thread.join(5)


def together(loads: Sequence[Load], seconds: float) -> Tally:
    """All loads at once, each in a thread of its own. ScalingError when one fails."""
    tallies: list[Tally] = []
    errors: list[Exception] = []

    def run(load: Load) -> None:
        try:
            tallies.append(load.run(seconds))
        except (OSError, RuntimeError) as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(load,), name="load", daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise ScalingError(f"the load failed: {errors[0]}")
    total = sum(tallies, Tally())
    total.seconds = max(tally.seconds for tally in tallies)
    return total


@contextmanager
def running(cpus: Sequence[int], upstream: int) -> Iterator[Target]:
    """A server on these CPUs. TargetError."""
    server = started(cpus, upstream)
    try:
        yield server
    finally:
        server.stop()


def started(cpus: Sequence[int], upstream: int) -> Target:
    """A server that runs on these CPUs, to be stopped. TargetError.

    A port that was free may be somebody's by the time it is bound, as all of loopback draws from the same ports: then
    others are tried.
    """
    for _ in range(STARTS - 1):
        server = _server(cpus, upstream)
        try:
            return server.start()
        except TargetError as error:
            if IN_USE not in str(error):
                raise
    return _server(cpus, upstream).start()


def _server(cpus: Sequence[int], upstream: int) -> Target:
    text = COREFILE.format(address=LOOPBACK, sockets=len(cpus), metrics=free_port(), upstream=upstream)
    return Target.fastdns(text, cpus=",".join(map(str, cpus)))


def measure(
    cpus: Sequence[int], load_cpus: Sequence[int], *, seconds: float = 3.0, sockets: int = 64, in_flight: int = 4,
    warm: float = WARM_SECONDS,
) -> Measured:
    """Hits on a server on `cpus`, from `sockets` sockets with `in_flight` queries each on every load CPU. ScalingError,
    TargetError."""
    with upstream() as port:
        with running(cpus, port) as server:
            names: Questions = synthetic(NAMES)
            loads = [
                Load(server.address, server.port, names, sockets=sockets, in_flight=in_flight, cpu=cpu,
                     first=NAMES * number // len(load_cpus))
                for number, cpu in enumerate(load_cpus)
            ]
            together(loads, warm)
            with CoreMeter() as cores, CpuMeter(server.pids()) as cpu_time:
                tally = together(loads, seconds)
            for load in loads:
                load.close()
    if not tally.completed:
        raise ScalingError("no query was answered")
    shares = [cores.cores[cpu].busy if cpu in cores.cores else 0.0 for cpu in cpus]
    mean = statistics.fmean(shares)
    return Measured(
        cores=len(cpus),
        load_cores=len(load_cpus),
        flows=sockets * len(load_cpus),
        qps=tally.qps,
        cpu_us=cpu_time.seconds * 1e6 / tally.completed,
        busy=cpu_time.seconds / tally.seconds / len(cpus),
        busiest=max(shares) / mean if mean else 1.0,
        lost=tally.lost,
    )


def median(rounds: Sequence[Measured]) -> Measured:
    """Figure by figure; losses are summed."""
    numbers = {name: statistics.median(getattr(one, name) for one in rounds)
               for name in ("qps", "cpu_us", "busy", "busiest")}
    first = rounds[0]
    return Measured(first.cores, first.load_cores, first.flows, **numbers, lost=sum(one.lost for one in rounds))


def places(cores: int, usable: Sequence[int]) -> tuple[list[int], list[int]]:
    """CPUs of the server and of the load. ScalingError where no core is left for the load."""
    if not 0 < cores < len(usable):
        raise ScalingError(f"{cores} cores for the server leave none of {len(usable)} for the load")
    server, rest = list(usable[:cores]), list(usable[cores:])
    return server, rest[: LOADS_PER_CORE * cores]
