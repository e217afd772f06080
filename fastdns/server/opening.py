# SPDX-License-Identifier: Apache-2.0
"""What a plan needs before its processes can exist: a number of workers, shared memory, sockets.

Strategy: everything that can fail fails here, before anything that serves is touched; the order is cheapest first, and
sockets, which others can see, come last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import StartError
from ..published import make
from . import placement
from .listen import Key
from .memory import Memory, cache_octets, cache_tables, plugin_octets

if TYPE_CHECKING:
    from .generation import Generation
    from .supervisor import Supervisor

Words = tuple[dict[str, Any], list[int]]


class NotYetError(Exception):
    """Workers that leave still have the counter rows that the plan needs."""


def open_for(host: Supervisor, generation: Generation, plan: dict[str, Any]) -> tuple[placement.Placement, Words]:
    """(placement, the message and descriptors that let the template build). StartError, NotYetError."""
    have = placement.limits()
    wanted = [placement.usable_cpus(have) if at["sockets"] < 0 else at["sockets"] for at in plan["listeners"]]
    ids = host.blocks.allot([block["settings"] for block in plan["blocks"]])
    least, full = cache_octets(cache_tables(plan, ids, max(placement.usable_cpus(have), *wanted)))
    tables, each = plugin_octets(plan)
    fixed = placement.expected(have, least, full) + tables
    place = placement.place(have, wanted, fixed, each)
    if (text := placement.too_large(have, place.workers, least + tables, each)) is not None:
        raise StartError(text)
    usual = placement.default_workers(have, fixed, each)
    counts = [((at["scheme"], at["address"], at["port"]), count or usual)
              for at, count in zip(plan["listeners"], wanted, strict=True)]
    if host.current is None:
        host.memory = Memory(place.workers)
        metrics.declare(host.memory.stats)
    elif (lack := place.workers + 1 - host.memory.rows.room()) > 0:
        leaving = [child for one in host.generations for child in one.members if child.rows >= 0
                   and child.state == "leaving"]
        if lack > len(leaving):
            raise StartError(f"{place.workers} workers beside the old ones need more counter rows than this server was "
                             f"started with: restart it")
        raise NotYetError
    room = placement.room(have, place.workers, tables, each)
    if room is not None and host.current is not None and host.memory.segment is not None:
        room = max(least, room - host.memory.segment.taken)  # while both live
    generation.segment = host.memory.segment_for(cache_tables(plan, ids, place.workers), room)
    generation.sockets = dict(counts)
    generation.steering = {key: at["steer"] for (key, _), at in zip(counts, plan["listeners"], strict=True)}
    generation.added = host.listeners.open(counts, quietly=host.current is not None)
    host.say_notes()
    host.log("INFO", place.why)
    if room is not None and full > room:
        host.log("WARNING", f"the caches may grow to {room} octets of memory; their capacities would take {full}")
    words, fds = _words(host, generation, ids, [key for key, _ in counts])
    if (quota := placement.watched_quota(have)) is not None:
        words["quota"] = [quota.usage, quota.scale, quota.cpu_us * 1000, quota.period_us * 1000, place.workers]
    return place, (words, fds)


def _words(host: Supervisor, generation: Generation, ids: list[int], keys: list[Key]) -> Words:
    fds: list[int] = []
    shape = []
    for key in keys:
        listener, count = host.listeners.by_key[key], generation.sockets[key]
        udp, tcp = listener.udp[:count], listener.tcp[:count]
        shape.append([len(udp), len(tcp)])
        fds += [sock.fileno() for sock in udp + tcp]
    shared = host.memory.fds(generation.segment)
    kept = host.memory.kept.open(generation.plan["asks"].get("kept", []))
    boards = generation.plan["boards"]
    for _ in boards:
        generation.boards.append(make(generation.number))  # one by one: what was made is closed when the next cannot be
    words = {"listeners": shape, "block_ids": ids, "shared": len(shared), "kept": len(kept), "boards": boards,
             "generation": generation.number, "fresh": host.memory.left}
    return words, shared + kept + generation.boards + fds
