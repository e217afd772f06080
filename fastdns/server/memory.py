# SPDX-License-Identifier: Apache-2.0
"""What all processes share: counters, log rings, the cache, and who may write where.

Strategy: made by the supervisor before anything is forked, kept as long as the server lives; a reload keeps all of it
but a cache whose sizes changed. A pair of counter rows belongs to one living worker at a time, so that rows stay
single-writer while two generations overlap. A block's id in the cache comes from what its settings say,
so an unchanged block keeps its entries and a changed one can never see them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import StartError
from .control import close_all
from .kept import Kept

if TYPE_CHECKING:
    from fastdns._cache import Segment
    from fastdns._log import Rings
    from fastdns._stats import Stats

Counted = tuple["Rows", "Stats", "Rings", int]

# Raised with any change to what stands where in shared memory, log records included (tests/meta/test_layouts.py).
LAYOUTS = {"counters": 1, "rings": 2, "cache": 1}

Table = tuple[int, int, int, int]  # block id, success and denial capacity, rows of hit counters

# A (listener, zone) pair takes about 260 slots; memory is taken only for those that are counted.
SLOTS = 1 << 19
SPARE_PAIRS = 2  # beside twice the workers: one replacement in each generation
OWN_ROWS = 3  # keeper, web, supervisor: the last rows


def keeper_row(rows: int) -> int:
    """The keeper's row of counters in a table of `rows`."""
    return rows - 1


def web_row(rows: int) -> int:
    """The web process's row."""
    return rows - 2


def supervisor_row(rows: int) -> int:
    """The supervisor's row."""
    return rows - 3


class Rows:
    """Pairs of rows: the odd one is a hot thread's, the even one behind it its Python thread's."""

    def __init__(self, workers: int) -> None:
        self.pairs = max(2 * workers + SPARE_PAIRS, 10)
        self._number()

    @classmethod
    def of(cls, pairs: int, free: list[int]) -> Rows:
        """A table that exists: so many pairs, of which these hot rows are free. ValueError."""
        rows = cls(0)
        rows.pairs = pairs
        rows._number()
        if not set(free) <= set(rows._free):
            raise ValueError("the free rows of counters are none of the table's")
        rows._free = sorted(free, reverse=True)
        return rows

    def _number(self) -> None:
        self.total = 1 + 2 * self.pairs + OWN_ROWS
        self._free = [1 + 2 * i for i in range(self.pairs - 1, -1, -1)]

    def take(self) -> int:
        """The hot row of a free pair. StartError if there is none."""
        if not self._free:
            raise StartError(f"all {self.pairs} rows of counters are in use: restart to run more workers")
        return self._free.pop()

    def give(self, row: int) -> None:
        """Give a pair back; its counters stay."""
        self._free.append(row)
        self._free.sort(reverse=True)

    def free(self) -> list[int]:
        """The hot rows of free pairs."""
        return list(self._free)

    def room(self) -> int:
        """Free pairs."""
        return len(self._free)


class BlockIds:
    """Ids of server blocks for the shared cache: same settings, same id; an id is never used for others."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, int], int] = {}
        self._next = 1

    def allot(self, settings: list[str]) -> list[int]:
        """Ids for blocks in Corefile order. Two equal blocks of one Corefile get two."""
        ids, seen = [], dict[str, int]()
        for text in settings:
            seen[text] = seen.get(text, 0) + 1
            key = text, seen[text]
            if key not in self._ids:
                self._ids[key] = self._next
                self._next += 1
            ids.append(self._ids[key])
        return ids

    def save(self) -> list[list[Any]]:
        """All ids as [settings, how many of them, id]."""
        return [[text, number, at] for (text, number), at in self._ids.items()]

    def restore(self, saved: list[list[Any]]) -> None:
        """Go on where `save` was called."""
        self._ids = {(str(text), int(number)): int(at) for text, number, at in saved}
        self._next = 1 + max(self._ids.values(), default=0)


class Memory:
    """The shared memory of the server. `fds()` is what a template gets. `adopted`: the counters and rings are those of
    the supervisor before this one. `left`: its cache had another layout, and the one that follows begins empty."""

    def __init__(self, workers: int, counted: Counted | None = None) -> None:
        from fastdns._log import Rings
        from fastdns._stats import Stats

        self.stats: Stats
        self.rings: Rings
        self.adopted = counted is not None
        self.segment: Segment | None = None
        self.left = False
        self.kept = Kept()
        if counted is not None:
            self.rows, self.stats, self.rings, self.log_wake = counted
            return
        self.rows = Rows(workers)
        self.stats = Stats.create(self.rows.total, SLOTS)
        for row in range(1, self.rows.total):
            # Before anybody else writes to the table: a worker that could not get its word would look stuck.
            metrics.beat_slot(self.stats, row)
        self.rings = Rings.create(self.rows.total)
        self.log_wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def save(self, note: Callable[[int], int]) -> dict[str, Any]:
        """What `adopt` needs; `note` hears of every descriptor."""
        return {"layouts": LAYOUTS, "pairs": self.rows.pairs, "free": self.rows.free(), "stats": note(self.stats.fd),
                "rings": note(self.rings.fd), "log_wake": note(self.log_wake),
                "cache": -1 if self.segment is None else note(self.segment.fd), "kept": self.kept.save(note)}

    @classmethod
    def adopt(cls, words: dict[str, Any]) -> tuple[Memory, list[str]]:
        """The memory of the supervisor before this one, and notes for the log. What has another layout is left to those
        who still use it: this server begins with fresh counters, or with an empty cache."""
        from fastdns._cache import Segment
        from fastdns._log import Rings
        from fastdns._stats import Stats

        notes, theirs = [], words["layouts"]
        pairs = int(words["pairs"])
        try:
            for name in ("counters", "rings"):
                if theirs.get(name) != LAYOUTS[name]:
                    raise ValueError(f"layout {theirs.get(name)} of the {name}, this program has {LAYOUTS[name]}")
            counted = Rows.of(pairs, words["free"]), Stats.attach(words["stats"]), Rings.attach(words["rings"])
            memory = cls(0, (*counted, words["log_wake"]))
        except ValueError as error:
            notes.append(f"the counters start anew: {error}")
            memory = cls((pairs - SPARE_PAIRS) // 2)
            close_all([words["stats"], words["rings"], words["log_wake"]])
        metrics.declare(memory.stats)
        memory.kept.restore(words.get("kept", []))
        if words["cache"] >= 0:
            try:
                if theirs.get("cache") != LAYOUTS["cache"]:
                    raise ValueError(f"layout {theirs.get('cache')}, this program has {LAYOUTS['cache']}")
                memory.segment = Segment.attach(words["cache"])
            except ValueError as error:
                notes.append(f"the cache starts empty: {error}")
                memory.left = True
                # Its pages are freed with the last of those who use it.
                os.close(words["cache"])
        return memory, notes

    def segment_for(self, tables: list[Table], most: int | None = None) -> Segment | None:
        """The cache for blocks of these shapes: the present one if they are its own, if not a new one of at most `most`
        octets. StartError."""
        if not tables:
            return None
        if self.segment is not None and self.segment.blocks == tables:
            return self.segment
        from fastdns._cache import Segment

        try:
            return Segment.create(tables, most)
        except (ValueError, OSError, MemoryError) as error:
            raise StartError(f"the shared cache cannot be made: {error}") from None

    def release(self, row: int) -> None:
        """Give a dead worker's rows back, its gauges (queries in flight, connections) zeroed."""
        self.stats.reset_row(row)
        self.stats.reset_row(row + 1)
        metrics.serves(self.stats, row, None)
        self.rows.give(row)

    def fds(self, segment: Segment | None) -> list[int]:
        """Descriptors in the order that the template expects: counters, rings, the rings' wake-up, the cache, and
        where that is new the one whose entries it takes over."""
        fds = [self.stats.fd, self.rings.fd, self.log_wake]
        if segment is not None:
            fds.append(segment.fd)
            if self.segment is not None and self.segment is not segment:
                fds.append(self.segment.fd)
        return fds


def cache_tables(plan: dict[str, Any], ids: list[int], workers: int) -> list[Table]:
    """The cache's shape: a table for each block that asks for one. Rows of hit counters only where prefetch counts."""
    return [(ids[ask["block"]], ask["success"], ask["denial"], workers if ask.get("prefetch") else 0)
            for ask in plan["cache"]]


def cache_octets(tables: list[Table]) -> tuple[int, int]:
    """Octets of a cache of this shape: (at least, when it is full). StartError for sizes out of range."""
    if not tables:
        return 0, 0
    from fastdns._cache import Segment

    try:
        return Segment.least_for(tables), Segment.size_for(tables)
    except ValueError as error:
        raise StartError(f"the shared cache cannot be made: {error}") from None


def plugin_octets(plan: dict[str, Any]) -> tuple[int, int]:
    """Octets that plugins may come to take: (in all, each worker). An ask for more than will be touched says so,
    because a limit counts pages: what is only reserved costs address space, of which there is enough. `touched`: of a
    kept table, where that is not all of it; `each`: by a worker, of a table that equal keys share, or of what waits at
    the socket of a listener ("backlog"). The shelf of kept answers is counted where the generation may want it."""
    kept, backlogs = plan["asks"].get("kept", []), plan["asks"].get("backlog", [])
    each = sum({ask["key"]: ask["each"] for ask in kept if "each" in ask}.values())
    for at in plan["listeners"]:
        each += max((ask["each"] for ask in backlogs if ask["block"] in at["blocks"]), default=0)
    return sum(ask.get("touched", ask["octets"]) for ask in kept) + shelf_octets(plan.get("shelf", 0)), each


def shelf_octets(entries: int) -> int:
    """Octets of a shelf of kept answers when it is full."""
    if not entries:
        return 0
    from fastdns._kept import Shelf

    return Shelf.size_for(entries)
