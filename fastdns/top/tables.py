# SPDX-License-Identifier: Apache-2.0
"""The figures as a headline and tables of short texts: what the plain and the live view both show.

Strategy: every text is made here, so the two views cannot differ, and nothing that comes from a query reaches a
terminal unchecked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..ctl_talk import plain
from .figures import LISTS

Figures = dict[str, Any]
NONE = "-"


class Table(NamedTuple):
    """`left`: how many of the first columns are words, and stand left; the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1


def rate(value: float | None) -> str:
    """So many in a second."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def part(value: float | None) -> str:
    """A part of one as per cent."""
    return NONE if value is None else f"{100 * value:.1f}%"


def milliseconds(value: float | None) -> str:
    """A time in milliseconds."""
    return NONE if value is None else f"{1000 * value:.2f}" if value < 0.1 else f"{1000 * value:,.0f}"


def span(seconds: int) -> str:
    """A time since: `3d 4h`, `5m 6s`."""
    for size, unit, small, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            return f"{seconds // size}{unit} {seconds % size // small}{below}"
    return f"{seconds}s"


def headline(figures: Figures) -> str:
    """One line on the whole server."""
    latency = figures["latency"] or {}
    words = [f"up {span(figures['uptime_seconds'])}", f"generation {figures['generation']}",
             f"{rate(figures['queries_per_second'])} queries/s", f"hits {part(figures['hit_ratio'])}"]
    if latency:
        words.append(f"p50 {milliseconds(latency['p50'])} ms, p99 {milliseconds(latency['p99'])} ms (from buckets)")
    return "fastdns: " + ", ".join(words)


def workers(figures: Figures) -> Table:
    """Every worker, and what the other processes use."""
    rows = [(f"worker {one.get('index', NONE)}", str(one["pid"]), rate(one.get("queries_per_second")), part(one["cpu"]))
            for one in figures["workers"]]
    rows += [(plain(one["role"]), str(one["pid"]), "", part(one["cpu"])) for one in figures["others"]]
    return Table("processes", ("PROCESS", "PID", "QUERIES/S", "CPU"), rows)


def rcodes(figures: Figures) -> Table:
    """Answers by response code, the usual ones first."""
    found = sorted((figures["rcodes"] or {}).items(), key=lambda pair: (-pair[1], pair[0]))
    return Table("response codes", ("RCODE", "ANSWERS/S"), [(plain(name), rate(value)) for name, value in found])


def upstreams(figures: Figures, count: int) -> Table:
    """The slowest upstreams first."""
    rows = []
    for one in figures["upstreams"][:count]:
        state = "drained" if one["drained"] else "failing" if one["failing_checks"] else "up"
        rows.append((plain(one["to"]), state, milliseconds(one["mean"]), milliseconds(one["p99"]),
                     rate(one["answers_per_second"]), rate(one["servfails_per_second"]), str(one["checks_failed"])))
    head = ("UPSTREAM", "STATE", "MEAN-MS", "P99-MS", "ANSWERS/S", "SERVFAIL/S", "BAD-CHECKS")
    return Table("upstreams, the slowest first", head, rows, 2)


def lists(figures: Figures) -> list[Table]:
    """The lists of `top`. UP-TO is what the rate may be at most: the sketch is sure of the rate itself."""
    found = figures["lists"]
    if found is None:
        return []
    titles = {"clients": "busiest clients", "names": "busiest names", "suffixes": "NXDOMAIN by suffix"}
    out = []
    for kind, label in LISTS.items():
        rows = [(plain(row[label]), rate(row["queries_per_second"]), part(row["share"]),
                 rate(row["most"] / found["seconds"])) for row in found[kind]]
        out.append(Table(f"{titles[kind]}, {found['seconds']:.0f} s",
                         (label.upper(), "QUERIES/S", "SHARE", "UP-TO"), rows))
    return out


def tables(figures: Figures, count: int) -> list[Table]:
    """All that have anything to show."""
    every = [workers(figures), rcodes(figures), *lists(figures), upstreams(figures, count)]
    return [table for table in every if table.rows]


def text(figures: Figures, count: int) -> list[str]:
    """Everything as lines."""
    lines = [headline(figures), *(plain(note) for note in figures["notes"])]
    for table in tables(figures, count):
        rows = [table.head, *table.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
        lines += ["", table.title]
        lines += ["  ".join(cell.ljust(width) if i < table.left else cell.rjust(width)
                            for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]
    return lines
