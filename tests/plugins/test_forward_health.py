# SPDX-License-Identifier: Apache-2.0
"""forward's health checks: what is asked, what counts as health, when they end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from fastdns import metrics
from fastdns._stats import Stats
from fastdns.plugins.forward.health import HealthChecks, Target
from fastdns.plugins.forward.metrics import upstream_slots
from fastdns.plugins.forward.upstreams import Upstream as Address
from fastdns.testing import free_port
from tests.faults.upstream import CLOSE, Asked, Upstream, reply


class Checks(HealthChecks):
    """The checks of one upstream, with the means of a worker to ask for them."""

    def __init__(self, port: int, *, tcp: bool = False, recurse: bool = True, question: bytes = b"\0") -> None:
        stats = Stats.create(4)
        metrics.attach(stats, 2)
        to = f"127.0.0.1:{port}"
        slots = upstream_slots(stats, 1, 0, to)
        fails, check = slots["fails"], slots["check"]
        assert isinstance(fails, int) and isinstance(check, int)
        self.target = Target(Address("127.0.0.1", port, to), fails, check)
        super().__init__(
            stats, [self.target], interval=0.02, question=question, recurse=recurse, tcp=tcp, source="127.0.0.1"
        )

    def wanted(self) -> None:
        self.stats.set_shared(self.target.check, 1)
        os.eventfd_write(self.wake_fd, 1)

    @property
    def words(self) -> tuple[int, int]:
        return self.stats.get(self.target.fails), self.stats.get(self.target.check)

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    def failures(self) -> int:
        name = "coredns_proxy_healthcheck_failures_total"
        return sum(s.values[0] for s in self.stats.snapshot() if s.name == name)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("recurse", [False, True])
def test_question(tcp: bool, recurse: bool) -> None:
    async def run(up: Upstream) -> None:
        checks = Checks(up.port, tcp=tcp, recurse=recurse, question=b"\4test\0")
        checks.start()
        checks.wanted()
        await checks.wait(lambda: checks.words == (0, 0) and not checks.running)
        await checks.stop()

    with Upstream() as up:
        asyncio.run(run(up))
    (one,) = up.asked
    assert one.proto == ("tcp" if tcp else "udp")
    assert one.wire[2:] == bytes((recurse, 0, 0, 1)) + bytes(6) + b"\4test\0" + b"\0\2\0\1"


def test_until_it_answers() -> None:
    async def run() -> None:
        port = free_port()
        checks = Checks(port)
        checks.start()
        checks.wanted()
        await checks.wait(lambda: checks.words[0] >= 3)
        assert checks.words[1] == 1 and checks.failures() >= 3
        checks.wanted()
        assert len(checks.running) == 1
        with Upstream(port=port):
            await checks.wait(lambda: checks.words == (0, 0))
        await checks.stop()

    asyncio.run(run())


ANSWERS: dict[str, tuple[Callable[[Asked], list[bytes | float]], bool]] = {
    "refused": (lambda q: [reply(q, rcode=5, answers=0)], True),
    "header": (lambda q: [reply(q)[:12]], True),
    "not a response": (lambda q: [q.wire], True),
    "wrong id first": (lambda q: [reply(q, id=q.id ^ 1), reply(q)], True),
    "wrong id": (lambda q: [reply(q, id=q.id ^ 1)], False),
    "short": (lambda q: [q.wire[:11]], False),
    "silence": (lambda q: [], False),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_health_over_udp(what: str) -> None:
    script, healthy = ANSWERS[what]
    with Upstream(script) as up:
        checks = Checks(up.port)
        assert asyncio.run(checks.answers(checks.target.upstream)) is healthy


@pytest.mark.parametrize(("script", "healthy"), [(lambda q: [reply(q)], True), (lambda q: [CLOSE], False)])
def test_health_over_tcp(script: Callable[[Asked], list[bytes | float]], healthy: bool) -> None:
    with Upstream(script) as up:
        checks = Checks(up.port, tcp=True)
        assert asyncio.run(checks.answers(checks.target.upstream)) is healthy


def test_a_keeper_that_starts_anew_forgets() -> None:
    async def run() -> None:
        checks = Checks(free_port())
        checks.stats.set_shared(checks.target.fails, 7)
        checks.stats.set_shared(checks.target.check, 1)
        checks.start()
        assert checks.words == (0, 0)
        await checks.stop()

    asyncio.run(run())
