# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a scenario, and where each of them runs.

Strategy: servers on one core, all of them up at once; load on another; the upstream on a third if there is one. A
server has a folder of its own for what it writes, and a control group of its own where the scenario has a quota.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from bench.peers import COREFILE, PEERS, environment
from fastdns.bench._load import Load, Questions
from fastdns.bench.target import Target, TargetError
from fastdns.bench.turns import Shape, Turn
from fastdns.ports import free_port

from .ask import warm_name
from .quota import quota
from .report import FLOOR, US
from .scenario import Scenario
from .upstream import Upstream, upstream

LOG = "queries"  # what the peers' configurations in `observed` call it
REFUSED = IPv4Address("172.16.0.0")  # where the networks that `acl` refuses begin: no client has such an address
GUESS = 150_000.0  # answers a second to be ready for, before a server has shown its rate


class Skipped(RuntimeError):
    """A scenario that cannot be run here; the text says why."""


class Plan(NamedTuple):
    """How to measure: `rounds` that count, `seconds` each, `warm` seconds before, and who runs where."""

    rounds: int
    seconds: float
    warm: float
    server_cpu: int
    load_cpu: int
    upstream_cpu: int


@dataclass
class Measured(Turn):
    """A turn, with what went on beside it."""

    others: int = 0
    """Answers to a flood meanwhile: they cost the server too."""
    asked: float | None = None
    """Questions to the upstream per answer, where they were counted."""
    held: float | None = None
    """The figure of an attack."""

    @property
    def cpu_us_per_answer(self) -> float:
        answers = self.tally.completed + self.others
        return self.cpu_seconds * 1e6 / answers if answers else 0.0


@dataclass
class Arm:
    """A server that takes part: how it is told to read its configuration again, and what its turns gave."""

    name: str
    target: Target
    folder: Path
    reload: signal.Signals | None = None
    rate: float = GUESS
    turns: list[Measured] = field(default_factory=list)

    def generator(
        self, questions: Questions, shape: Shape, plan: Plan, timeout: float, loop: bool = True, spin: bool = False
    ) -> Load:
        """The load of one turn, on fresh sockets."""
        return Load(
            self.target.address,
            self.target.port,
            questions,
            protocol="udp" if self.name == FLOOR else shape.protocol,
            sockets=shape.sockets,
            in_flight=shape.in_flight,
            segment=shape.segment,
            timeout=timeout,
            loop=loop,
            cpu=plan.load_cpu,
            spin=spin,
        )

    def forget_log(self) -> None:
        """Empties the log, which would grow by gigabytes in a long run: standard output, or the file of a peer's."""
        for path in (self.folder / LOG, Path(f"/proc/{self.target.process.pid if self.target.process else 0}/fd/1")):
            with contextlib.suppress(OSError):
                os.truncate(path, 0)


def cores() -> list[int]:
    """The CPUs that may be used, one of each core; all of them where that leaves only one."""
    usable = sorted(os.sched_getaffinity(0))
    first: dict[str, int] = {}
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(siblings.read_text().strip() if siblings.exists() else str(cpu), cpu)
    return list(first.values()) if len(first) > 1 else usable


def plan_for(rounds: int, seconds: float, warm: float) -> Plan:
    """Servers on the first core that may be used, load on the second, the upstream on the third if there is one.
    Raises Skipped where there is only one CPU."""
    cpus = cores()
    if len(cpus) < 2:
        raise Skipped("two CPUs are needed: one for the server, one for the load")
    return Plan(rounds, seconds, warm, cpus[0], cpus[1], cpus[2] if len(cpus) > 2 else cpus[1])


def spins(scenario: Scenario, plan: Plan) -> bool:
    """Whether the load may keep its core for itself and never sleep: else each answer of a server that sends one by one
    costs it the waking of the load, which no server does for its clients in a network. Where there are two cores,
    the upstream and a flood need the load's."""
    alone = plan.upstream_cpu != plan.load_cpu
    return alone or not (scenario.questions.fresh or scenario.flood or scenario.reload)


def start_upstream(scenario: Scenario, plan: Plan, folder: Path, stack: contextlib.ExitStack) -> Upstream | None:
    """The server behind the caches, or None where the scenario needs none."""
    if scenario.upstream == "none":
        return None
    place = folder / "upstream"
    place.mkdir()
    return stack.enter_context(upstream(scenario.upstream, place, str(plan.upstream_cpu)))


def write_hosts(file: Path, names: int) -> str:
    """Writes a hosts file of all names that are asked again; its path, which Corefiles read as {$HOSTS}."""
    with file.open("w") as out:
        out.writelines(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255} {warm_name(n)}\n" for n in range(names))
    return str(file)


def write_prefixes(file: Path, prefixes: int) -> str:
    """Writes rules of `acl` that refuse so many networks of 16 addresses; its path, which Corefiles read as {$ACL}."""
    with file.open("w") as out:
        out.writelines(f"block net {REFUSED + 16 * n}/28\n" for n in range(prefixes))
    return str(file)


def start_arms(
    scenario: Scenario, plan: Plan, folder: Path, behind: Upstream | None, stack: contextlib.ExitStack
) -> tuple[list[Arm], dict[str, str]]:
    """Starts the floor, our own server and every peer of the scenario that is installed; and why some did not start."""
    upstream_port = behind.port if behind else 0
    hosts = write_hosts(folder / "hosts", scenario.questions.names) if scenario.hosts else ""
    rules = write_prefixes(folder / "acl", scenario.prefixes) if scenario.prefixes else ""

    def start(name: str, command: Callable[[Path, int], Sequence[str]], reload: signal.Signals | None = None) -> Arm:
        place = folder / name
        place.mkdir()
        port = free_port()
        before = stack.enter_context(quota(name, scenario.quota)) if scenario.quota else []
        target = Target(
            [*before, *command(place, port)],
            port,
            cpus=str(plan.server_cpu),
            environment={**environment(port, upstream_port, free_port()), "HOSTS": hosts, "ACL": rules},
        )
        return Arm(name, stack.enter_context(target), place, reload)

    corefile = str(scenario.folder / COREFILE)
    arms = [
        start(FLOOR, lambda place, port: [sys.executable, "-m", "fastdns.bench.floor", str(port)]),
        start(US, lambda place, port: [sys.executable, "-m", "fastdns", "-conf", corefile], signal.SIGUSR1),
    ]
    left_out = {}
    for name in scenario.peers:
        peer = PEERS[name]
        if peer.path():
            try:
                arms.append(start(name, functools.partial(peer.prepare, scenario.folder, upstream_port), peer.reload))
            except TargetError as error:
                left_out[name] = str(error)
    return arms, left_out
