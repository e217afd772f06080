# SPDX-License-Identifier: Apache-2.0
"""How many workers, on which CPUs, and who gives way to whom.

Strategy: one pure function from (allowed CPUs, quota, memory, what `multisocket` asked for) to a Placement with a
sentence that says why; the log shows it. Workers are pinned one to a core when they fill the allowed set or when the
operator chose their number; under a quota on a large machine they keep the whole set, because every server on the
machine would pin the same first CPUs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from typing import NamedTuple

from .cgroup import Quota, cpu_quota, memory_limit

WORKER_OCTETS = 32 << 20  # private memory of one worker under load: pool, arena, tables, Python
BASE_OCTETS = 64 << 20  # supervisor, template, keeper, web, formatter and what they share


class Limits(NamedTuple):
    """What the machine allows: CPU numbers, a quota in CPUs (and in detail), memory in octets."""

    cpus: tuple[int, ...]
    quota: float | None = None
    memory: int | None = None
    group: Quota | None = None


class Placement(NamedTuple):
    """`workers` processes; worker i runs on `cpus[i]`, or anywhere where `cpus` is None. `why` goes to the log."""

    workers: int
    cpus: tuple[int, ...] | None
    why: str


def limits() -> Limits:
    """What this process may use now."""
    group = cpu_quota()
    return Limits(tuple(sorted(os.sched_getaffinity(0))), group.cpus if group else None, memory_limit(), group)


def usable_cpus(have: Limits) -> int:
    """CPUs by affinity and quota, the quota rounded up; at least 1."""
    if have.quota is None:
        return len(have.cpus)
    return max(1, min(len(have.cpus), math.ceil(have.quota - 1e-9)))


def default_workers(have: Limits, fixed: int = 0, each: int = 0) -> int:
    """Workers where no `multisocket` is given; `fixed` octets are taken whatever their number, `each` by every worker
    beside its own."""
    count = usable_cpus(have)
    if have.memory is not None:
        count = min(count, (have.memory - BASE_OCTETS - fixed) // (WORKER_OCTETS + each))
    return max(1, count)


def place(have: Limits, sockets: Collection[int], fixed: int = 0, each: int = 0) -> Placement:
    """Decide. `sockets` has one entry for each listener: what `multisocket` asked for, 0 where it asked nothing."""
    usual = default_workers(have, fixed, each)
    workers = max((count or usual for count in sockets), default=usual)
    asked = any(sockets)
    cpus = None
    if asked or workers == len(have.cpus):
        cpus = tuple(have.cpus[i % len(have.cpus)] for i in range(workers))
    return Placement(workers, cpus, _why(have, workers, usual, asked, cpus))


def _why(have: Limits, workers: int, usual: int, asked: bool, cpus: tuple[int, ...] | None) -> str:
    if asked and workers != usual:
        reason = "asked for by multisocket"
    elif usual < usable_cpus(have):
        reason = f"memory limit {have.memory} octets"
    elif have.quota is not None and usual < len(have.cpus):
        reason = f"CPU quota {have.quota:g}"
    else:
        reason = f"{len(have.cpus)} usable CPU{'s' if len(have.cpus) > 1 else ''}"
    where = "not pinned" if cpus is None else "pinned to CPU " + ",".join(map(str, sorted(set(cpus))))
    return f"{workers} worker{'s' if workers > 1 else ''} ({reason}), {where}"


def watched_quota(have: Limits) -> Quota | None:
    """The quota that workers keep an eye on, so that Python plugins do not spend it: one that the usable CPUs can
    exceed."""
    group = have.group
    return group if group is not None and group.usage and group.cpus < len(have.cpus) else None


def expected(have: Limits, least: int, full: int) -> int:
    """Octets that a cache is expected to take, when the number of workers is decided: what it may grow to, but no more
    than half the limit, because hundreds of blocks seldom fill theirs."""
    return full if have.memory is None else max(least, min(full, have.memory // 2))


def room(have: Limits, workers: int, tables: int = 0, each: int = 0) -> int | None:
    """Octets that are left for the cache beside everything else; None where nothing limits them."""
    return None if have.memory is None else have.memory - BASE_OCTETS - tables - workers * (WORKER_OCTETS + each)


def too_large(have: Limits, workers: int, fixed: int, each: int = 0) -> str | None:
    """Why a start cannot fit into the memory limit, with both figures; None where it can."""
    need = BASE_OCTETS + fixed + workers * (WORKER_OCTETS + each)
    if have.memory is None or need <= have.memory:
        return None
    return (f"not enough memory: {workers} workers and {fixed} octets of shared memory need {need} octets, "
            f"the limit is {have.memory}")
