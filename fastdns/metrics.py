# SPDX-License-Identifier: Apache-2.0
"""Metrics: how a series is declared and counted from Python, and the families that CoreDNS's core exports.

A plugin declares its metrics once, at module level, and counts:

    LOOKUPS = Counter("coredns_example_lookups_total", "Look-ups made.", ("server",))
    LOOKUPS.inc("dns://:53")

Strategy: a declaration is only a shape. Its series live in the server's shared table (`_stats`), so one scrape sees
every process. `attach` says, once per process, which table and which row that is; without it (a script, a unit test)
a private table is made on first use. Times are given in seconds and kept in nanoseconds, everything else in whole
numbers. Compiled code asks for slot numbers here at set-up and counts by arithmetic.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastdns._log import RCODES, TYPES
from fastdns._stats import OVERFLOW_LABEL, Series, Stats

if TYPE_CHECKING:
    from fastdns._cache import Segment
    from fastdns._kept import Shelf

NANO = 1_000_000_000

# CoreDNS's buckets: time and slim time in seconds, sizes in octets.
TIME_BUCKETS = tuple(0.00025 * 2**i for i in range(16))
SLIM_TIME_BUCKETS = tuple(0.00025 * 10**i for i in range(5))
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)

PROTOS = ("udp", "tcp")
FAMILIES = ("1", "2")
OTHER_TYPE = "other"
COUNTED_TYPES = (1, 28, 15, 6, 5, 12, 16, 2, 33, 43, 48, 46, 47, 50, 65, 64, 251, 252, 255)
TYPE_LABELS = (*(TYPES[t] for t in COUNTED_TYPES), OTHER_TYPE)
RCODE_TABLE = 24  # rcodes with a slot of their own; larger ones share EXTRA_RCODES, first come first served
EXTRA_RCODES = 8
EXTRA_MARK = "\x01"
EXTRA_WORD = "fastdns_extra_rcode"
CACHE_WORD = "fastdns_cache_block"
CACHE_ENTRIES = "coredns_cache_entries"
CACHE_HELP = "Entries of the cache."
DROPPED = "dropped"


def rcode_label(rcode: int) -> str:
    """The `rcode` label of a response code."""
    return RCODES.get(rcode) or f"RCODE{rcode}"


RCODE_LABELS = (
    *(rcode_label(n) for n in range(RCODE_TABLE)),
    *(f"{EXTRA_MARK}{i}" for i in range(EXTRA_RCODES)),
    OVERFLOW_LABEL,
)


class _Process:
    """The table and the row of this process's Python threads."""

    stats: Stats | None = None
    row = 2


def attach(stats: Stats, row: int) -> None:
    """Says where this process counts: `row` belongs to its Python threads, and to them alone."""
    _Process.stats = stats
    _Process.row = row


class Recorder:
    """Notes what one thread counts for a while: an answer that is kept counts again what its plugin has counted.

    `begin` takes a list for (slot, number); `end` says whether that is all: gauges and histograms, and a log line, are
    not done again, so an answer that came with one is not kept.
    """

    def __init__(self) -> None:
        self.thread = 0
        self.whole = True
        self.counts: list[tuple[int, int]] = []

    def begin(self, counts: list[tuple[int, int]]) -> None:
        """From here on what the calling thread counts is noted."""
        self.counts = counts
        self.whole = True
        self.thread = threading.get_ident()

    def end(self) -> bool:
        """It is not any more."""
        self.thread = 0
        return self.whole

    def counted(self, slot: int, by: int) -> None:
        """A counter was raised."""
        if self.thread == threading.get_ident():
            self.counts.append((slot, by))

    def spoil(self) -> None:
        """Something happened that is not done again."""
        if self.thread == threading.get_ident():
            self.whole = False

    def filter(self, _: logging.LogRecord) -> bool:
        """Of a plugin's logger: each line is heard of, and passes."""
        if self.thread:
            self.spoil()
        return True


RECORDER = Recorder()
"""The one of this process."""


def table() -> Stats:
    """The table this process counts in."""
    if _Process.stats is None:
        _Process.stats = Stats.create(4)
    return _Process.stats


WITHOUT_LABELS: list[Metric] = []
"""Every family without labels that this process knows: what its plugins declared."""


class Metric:
    """A family: name, help text and label names."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.help = help
        self.labels = tuple(labels)
        self.bounds: tuple[int, ...] = ()
        self._slots: dict[tuple[str, ...], int] = {}
        self._home: Stats | None = None
        if not self.labels:
            WITHOUT_LABELS.append(self)

    @property
    def unit(self) -> int:
        """Raw units per unit of the metric: nanoseconds per second for times, else 1."""
        return NANO if self.name.removesuffix("_total").endswith("_seconds") else 1

    def slot(self, *values: str, stats: Stats | None = None) -> int:
        """The slot of the series with these label values. Raises ValueError when their number is wrong."""
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {len(values)} values")
        stats = stats or table()
        if stats is not self._home:
            self._home, self._slots = stats, {}
        slot = self._slots.get(values)
        if slot is None:
            pairs = tuple(zip(self.labels, values, strict=True))
            slot = stats.intern(self.name, pairs, self.kind, self.bounds, self.help)
            if len(self._slots) < 4096:
                self._slots[values] = slot
        return slot

    def grid(self, stats: Stats, values: Sequence[str], axes: tuple[tuple[str, tuple[str, ...]], ...]) -> int:
        """The first slot of the product of `axes`, the last labels, under `values` of the first (`Stats.grid`)."""
        fixed = self.labels[: len(values)]
        if fixed + tuple(name for name, _ in axes) != self.labels:
            raise ValueError(f"{self.name} has the labels {self.labels}")
        return stats.grid(self.name, tuple(zip(fixed, values, strict=True)), axes, self.kind, self.bounds, self.help)

    def declare(self, stats: Stats) -> None:
        """Makes the series exist from now on; a family with labels appears when one of its series does."""
        if not self.labels:
            stats.intern(self.name, (), self.kind, self.bounds, self.help)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, labels={self.labels})"


class Counter(Metric):
    """A number that only grows."""

    def inc(self, *values: str, by: int = 1) -> None:
        """Adds `by` to the series with these label values."""
        slot = self.slot(*values)
        table().add(_Process.row, slot, by)
        if RECORDER.thread:
            RECORDER.counted(slot, by)


class Gauge(Metric):
    """A number that goes up and down: what the server has now."""

    kind = "gauge"

    def set(self, value: float, *values: str) -> None:
        """Sets the one value that the server has; the last process to set it wins."""
        slot = self.slot(*values)
        table().set_shared(slot, round(value * self.unit))
        if RECORDER.thread:
            RECORDER.spoil()

    def add(self, by: int, *values: str) -> None:
        """Adds to this process's share; the value is the sum of all shares and ends with the process."""
        slot = self.slot(*values)
        table().add(_Process.row, slot, by * self.unit)
        if RECORDER.thread:
            RECORDER.spoil()


class Histogram(Metric):
    """Observations counted by size. `buckets` are upper bounds in seconds or octets."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()) -> None:
        super().__init__(name, help, labels)
        self.bounds = tuple(round(b * self.unit) for b in buckets or TIME_BUCKETS)

    def observe(self, value: float, *values: str) -> None:
        """Counts one observation, in seconds or octets."""
        slot = self.slot(*values)
        table().observe(_Process.row, slot, self.bounds, round(value * self.unit))
        if RECORDER.thread:
            RECORDER.spoil()


BLOCK = ("server", "zone", "view")

BUILD_INFO = Gauge(
    "coredns_build_info", "1, labelled by what the server was built from.", ("version", "revision", "goversion")
)
PANICS = Counter("coredns_panics_total", "Exceptions of plugins that cost a query its answer.")
PLUGIN_ENABLED = Gauge("coredns_plugin_enabled", "1 for each plugin of a block's chain.", (*BLOCK, "name"))
REQUESTS = Counter("coredns_dns_requests_total", "Queries.", (*BLOCK, "proto", "family", "type"))
DURATION = Histogram("coredns_dns_request_duration_seconds", "Time to answer.", BLOCK, TIME_BUCKETS)
REQUEST_SIZE = Histogram(
    "coredns_dns_request_size_bytes", "Octets of queries, uncompressed.", (*BLOCK, "proto"), SIZE_BUCKETS
)
DO_REQUESTS = Counter("coredns_dns_do_requests_total", "Queries with the DO bit.", BLOCK)
RESPONSE_SIZE = Histogram(
    "coredns_dns_response_size_bytes", "Octets of replies, uncompressed, before EDNS.", (*BLOCK, "proto"), SIZE_BUCKETS
)
RESPONSES = Counter("coredns_dns_responses_total", "Replies by response code.", (*BLOCK, "plugin", "rcode"))

# CoreDNS exports its series without labels whether or not their plugin is configured, so they cannot wait for it.
FROM_THE_START: tuple[Metric, ...] = (
    PANICS,
    Counter("coredns_forward_healthcheck_broken_total", "Queries for which all upstreams were unhealthy."),
    Counter("coredns_forward_max_concurrent_rejects_total", "Queries rejected because too many were in flight."),
    Histogram(
        "coredns_health_request_duration_seconds", "Time of the server's own health checks.", (), SLIM_TIME_BUCKETS
    ),
    Counter("coredns_health_request_failures_total", "Own health checks that failed."),
    Gauge("coredns_hosts_reload_timestamp_seconds", "When the hosts file was read last."),
    Counter("coredns_local_localhost_requests_total", "Queries for localhost names."),
    Counter("coredns_reload_failed_total", "Reloads that failed."),
)


def declare_plugins(stats: Stats) -> None:
    """Interns the families without labels of the plugins that were imported: they are exported before they count."""
    for metric in WITHOUT_LABELS:
        metric.declare(stats)


def declare(stats: Stats) -> None:
    """Interns what every server exports from its start; called once by whoever creates the table."""
    for metric in FROM_THE_START:
        metric.declare(stats)
    for index in range(EXTRA_RCODES):
        extra_rcode_slot(stats, index)


# ---- words: numbers in the table that are not exported


def extra_rcode_slot(stats: Stats, index: int) -> int:
    """The word that says which rcode has taken the shared slots number `index`: rcode + 1, or 0 for none."""
    return stats.intern(EXTRA_WORD, (("index", str(index)),), "word")


def beat_slot(stats: Stats, row: int) -> int:
    """The word of its own row in which a thread writes the time (CLOCK_MONOTONIC, nanoseconds) on each of its turns."""
    return stats.intern("fastdns_worker_beat", (("row", str(row)),), "word")


def log_format(stats: Stats, text: str) -> int:
    """The number under which the formatter knows a FORMAT of `log`; the text itself is kept in the table."""
    return stats.intern("fastdns_log_format", (("format", text),), "word")


def errors_site(stats: Stats, text: str) -> int:
    """The number under which the formatter knows an `errors` directive that consolidates; `text` is its JSON."""
    return stats.intern("fastdns_errors_site", (("site", text),), "word")


def serves(stats: Stats, row: int, index: int | None) -> None:
    """Says in a worker's own row which of the workers it is: number `index` (None: no more). /health reads it."""
    stats.set(row, _worker_slot(stats), 0 if index is None else index + 1)


def workers(stats: Stats) -> dict[int, tuple[int, int]]:
    """The workers that serve, by row: (index, time of the last beat in CLOCK_MONOTONIC nanoseconds)."""
    slot = _worker_slot(stats)
    found = {}
    for row in range(1, stats.rows, 2):
        index = stats.get_row(row, slot)
        if index:
            found[row] = (index - 1, stats.get_row(row, beat_slot(stats, row)))
    return found


def _worker_slot(stats: Stats) -> int:
    return stats.intern("fastdns_worker_index", (), "word")


def set_log_level(stats: Stats, level: int) -> None:
    """Chooses the least level of the lines that the server logs in Python: 0 debug .. 4 fatal."""
    stats.set_shared(stats.intern("fastdns_log_level", (), "word"), level + 1)


def log_level(stats: Stats) -> int | None:
    """What `set_log_level` chose; None: nothing."""
    chosen = stats.get(stats.intern("fastdns_log_level", (), "word"))
    return chosen - 1 if chosen else None


def set_ready(stats: Stats, generation: int, plugin: str, ready: bool) -> None:
    """Says whether a plugin of a generation is ready. One word per plugin name: the newest generation's."""
    stats.set_shared(stats.intern("fastdns_ready", (("plugin", plugin),), "word"), generation * 2 + ready + 2)


def unready(stats: Stats, generation: int) -> list[str]:
    """Names of a generation's plugins that are not ready yet, sorted."""
    words = [s for s in stats.snapshot(words=True) if s.name == "fastdns_ready"]
    return sorted(s.labels[0][1] for s in words if s.values[0] == generation * 2 + 2)


def cache_site(stats: Stats, generation: int, block_id: int, server: str, zones: str, view: str) -> None:
    """Has `coredns_cache_entries` exported with these labels: the entries of a block of the shared cache."""
    labels = (("block", str(block_id)), ("server", server), ("zones", zones), ("view", view))
    stats.set_shared(stats.intern(CACHE_WORD, labels, "word"), generation + 1)


def cache_entries(stats: Stats, segment: Segment, generation: int) -> list[Series]:
    """`coredns_cache_entries` of a generation's blocks, where there are any."""
    out = []
    for word in stats.snapshot(words=True):
        if word.name == CACHE_WORD and word.values[0] == generation + 1:
            (_, block), *labels = word.labels
            counts = segment.entries(int(block))
            for kind, count in zip(("success", "denial"), counts, strict=True):
                series = Series(CACHE_ENTRIES, (*labels, ("type", kind)), "gauge", (), CACHE_HELP, 0, (count,))
                out += [series] if any(counts) else []
    return out


def kept_entries(shelf: Shelf | None) -> list[Series]:
    """`fastdns_kept_entries`, where answers of plugins are kept."""
    if shelf is None:
        return []
    return [Series("fastdns_kept_entries", (), "gauge", (), "Kept answers and decisions.", 0, (shelf.entries,))]


# ---- the layout of the core's counters of one (server, zone, view), for compiled code


def cell(stats: Stats, server: str, zone: str, view: str, plugin: str) -> dict[str, int | list[int]]:
    """Interns everything that counting a query of one (server, zone, view) needs; `plugin` is the label of a reply.

    Returns first slots: requests[proto][family][type], do, duration, request_size[proto], response_size[proto],
    written[rcode] (label `plugin`), unwritten[rcode] (label empty); and the words of the rare rcodes.
    """
    block = (server, zone, view)
    proto = (("proto", PROTOS),)
    rcode = (("rcode", RCODE_LABELS),)
    return {
        "requests": REQUESTS.grid(stats, block, (*proto, ("family", FAMILIES), ("type", TYPE_LABELS))),
        "do": DO_REQUESTS.slot(*block, stats=stats),
        "duration": DURATION.slot(*block, stats=stats),
        "request_size": REQUEST_SIZE.grid(stats, block, proto),
        "response_size": RESPONSE_SIZE.grid(stats, block, proto),
        "written": RESPONSES.grid(stats, (*block, plugin), rcode),
        "unwritten": RESPONSES.grid(stats, (*block, ""), rcode),
        "extra_rcodes": [extra_rcode_slot(stats, i) for i in range(EXTRA_RCODES)],
    }


def dropped_cells(stats: Stats, servers: Sequence[str]) -> list[dict[str, int | list[int]]]:
    """The cells of the server's own replies, one for each listener's label (`_count.bind_dropped`)."""
    return [cell(stats, server, DROPPED, "", "") for server in servers]


def read(stats: Stats) -> list[Series]:
    """A snapshot for export: words are gone, and the shared slots of rare rcodes carry the rcode that took them."""
    series = stats.snapshot(words=True)
    taken = {s.labels[0][1]: s.values[0] for s in series if s.name == EXTRA_WORD}
    return [_with_rcode(s, taken) for s in series if s.kind != "word"]


def _with_rcode(series: Series, taken: dict[str, int]) -> Series:
    for i, (name, value) in enumerate(series.labels):
        if name == "rcode" and value.startswith(EXTRA_MARK):
            rcode = taken.get(value[len(EXTRA_MARK) :], 0)
            label = rcode_label(rcode - 1) if rcode else OVERFLOW_LABEL
            return dataclasses.replace(series, labels=(*series.labels[:i], (name, label), *series.labels[i + 1 :]))
    return series
