# SPDX-License-Identifier: Apache-2.0
"""The end of the server: what SIGTERM and the first SIGINT do, step by step.

Strategy: the end is a generator of steps (condition, seconds at most); the supervisor's loop moves it on, so that
workers are still watched and replaced while a lameduck period runs. Exit codes are CoreDNS's: 0, 4 if a hook failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .children import FORMATTER, KEEPER, TEMPLATE, WEB, WORKER, Child
from .generation import DRAIN_SECONDS, GRACE_SECONDS

if TYPE_CHECKING:
    from .supervisor import Supervisor

Step = tuple[Callable[[], bool], float]

HOOK_SECONDS = 5.0
HOOK_FAILED = 4


def never() -> bool:
    """A step that takes its whole time."""
    return False


def hook_seconds(plan: dict[str, Any]) -> float:
    """How long an event of the end may take: what plugins ask for; None, a command that an operator wants to be waited
    for (`on shutdown`), is for ever."""
    asked = [facts["seconds"] for facts in plan["asks"].get("slow_end", [])]
    return math.inf if None in asked else max([HOOK_SECONDS, *asked])


def hooks(host: Supervisor) -> Iterator[Step]:
    """The shutdown events of plugins, then `lameduck`: the servers go on answering meanwhile."""
    current = host.current
    if current is None:
        return
    host.tell(WEB, {"draining": True})
    for event in ("shutdown", "final_shutdown"):
        host.pending_event = event
        keeper = current.member(KEEPER)
        if not host.tell(KEEPER, {"event": event}):
            host.pending_event = ""

        def heard(keeper: Child | None = keeper) -> bool:
            # A keeper that has died meanwhile, or is on its way out, will not say that it is done.
            return not host.pending_event or keeper is None or keeper.state == "leaving" or not keeper.pid

        yield heard, hook_seconds(current.plan)
    lameduck = float(current.plan.get("lameduck") or 0)
    if lameduck > 0:
        yield never, lameduck


def end(host: Supervisor) -> Iterator[Step]:
    """Hooks, then everything that was read is answered, unless a SIGINT asked for the end or comes meanwhile: it spares
    the answers, and no hook runs twice."""
    yield from hooks(host)
    host.pidfile.remove()
    if not host.interrupts:
        for generation in host.generations:
            generation.retire((WORKER, TEMPLATE))
        yield (lambda: host.interrupts > 0 or not host.alive(WORKER)), DRAIN_SECONDS + GRACE_SECONDS
    if host.interrupts:
        host.kill(WORKER)
    yield from last(host)


def last(host: Supervisor) -> Iterator[Step]:
    """Keeper and web, then the formatter, which writes what all others have logged."""
    for generation in host.generations:
        generation.retire((KEEPER, WEB, TEMPLATE), 1.0)
    yield (lambda: not host.alive(KEEPER, WEB)), 2.0
    for generation in host.generations:
        generation.retire((FORMATTER,), 1.0)
    yield (lambda: not host.alive(FORMATTER)), 2.0
    host.exit_status = HOOK_FAILED if host.hook_failed else 0
