# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Shared counters: the directory that hands out slots, and the rows of words.

Strategy: a memfd of three parts: one header page; a directory, which is an append-only log of JSON records (families,
then series) whose end is one word; and the rows. An entry is appended under a POSIX record lock, which the kernel
releases when its holder dies, and is published by moving the end, so a process killed half-way leaves nothing
behind. Every process keeps a dictionary of what it has read of the log and reads on when it misses. A *grid* is one
record for many series: the product of some axes of label values occupies consecutive slots, so that C code
finds a series by arithmetic. What does not fit goes to the family's overflow series, and slot 1 counts it.
"""

import fcntl
import itertools
import json
import os
import threading
import time
from dataclasses import dataclass

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from fastdns._sys cimport (
    MAP_SHARED, PROT_READ, PROT_WRITE, fd_add_acq_rel, fd_bump, fd_load_acquire, fd_load_relaxed, fd_store_relaxed,
    fd_store_release, memcpy, mmap, munmap,
)

cdef enum:
    PAGE = 4096
    MAGIC = 0x54535446          # "FTST"
    SINK = 1024                 # slots at the end of a row for what fits nowhere: written, never read
    FIRST = 2                   # first slot handed out
    SLOT_OVERFLOW = 1

# Words of the header page.
cdef enum:
    H_MAGIC = 0
    H_ROWS = 1
    H_SLOTS = 2
    H_LOG_SIZE = 3
    H_LOG_END = 4               # octets of the log that are published

WIDTH_MAX = SINK
OVERFLOW_LABEL = "overflow"
KINDS = ("counter", "gauge", "histogram", "word")
LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a snapshot.

    `bounds` are a histogram's upper bounds in raw units (nanoseconds, octets), else empty. `values` is one number, or
    for a histogram of B bounds B + 3: the buckets (not cumulative, the last is +Inf), the sum in raw units, the count.
    """

    name: str
    labels: tuple
    kind: str
    bounds: tuple
    help: str
    slot: int
    values: tuple


class _Family:
    """A metric: what all its series share."""

    __slots__ = ("name", "kind", "help", "bounds", "labels", "axes", "width", "overflow")

    def __init__(self, name, kind, help, bounds, labels, axes):
        self.name = name
        self.kind = kind
        self.help = help
        self.bounds = bounds
        self.labels = labels
        self.axes = axes
        self.width = _width(kind, bounds)
        for _, values in axes:
            self.width *= len(values)
        self.overflow = 0

    def same(self, other):
        return (self.kind, self.bounds, self.labels, self.axes) == (other.kind, other.bounds, other.labels, other.axes)


def _width(kind, bounds):
    return len(bounds) + 3 if kind == "histogram" else 1


cdef class Stats:
    """The server's counters in shared memory. `fd` may be sent to other processes, which `attach` it.

    Row 0 holds words that several processes change atomically; every other row has one writing thread.
    """

    def __cinit__(self):
        self.fd = -1
        self._next = FIRST
        self._lock = threading.Lock()
        self._families = {}
        self._by_index = []
        self._series = {}
        self._order = []

    def __dealloc__(self):
        if self.map != NULL:
            munmap(self.map, self.size)

    @classmethod
    def create(cls, rows: int, slots: int = 16384):
        """A new segment of `rows` rows with room for `slots` words each; memory is taken only as it is written.

        Raises ValueError for sizes out of bounds, OSError when the kernel refuses the memory.
        """
        if not 4 <= rows <= 65536:
            raise ValueError(f"rows must be in 4..65536, not {rows}")
        if not 64 <= slots <= 1 << 22:
            raise ValueError(f"slots must be in 64..4194304, not {slots}")
        total = -(-(slots + SINK) // 512) * 512
        log = -(-total * 64 // PAGE) * PAGE
        size = PAGE + log + rows * total * 8
        fd = os.memfd_create("fastdns-stats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
            head = b"".join(int(v).to_bytes(8, "little") for v in (MAGIC, rows, total, log, 0))
            os.pwrite(fd, head, 0)
            stats = cls.attach(fd)
        except BaseException:
            os.close(fd)
            raise
        stats.intern("fastdns_stats_overflow_total", help="Series that found no room in the table of counters.")
        return stats

    @classmethod
    def attach(cls, fd: int):
        """Maps the segment behind `fd`, which stays open while the object lives. Raises ValueError if it is none."""
        cdef Stats self = cls.__new__(cls)
        size = os.fstat(fd).st_size
        head = os.pread(fd, 32, 0)
        if size < PAGE or len(head) < 32:
            raise ValueError("not a segment of counters")
        magic, rows, slots, log = (int.from_bytes(head[i:i + 8], "little") for i in range(0, 32, 8))
        cdef uint64_t log_size
        if magic != MAGIC or size != PAGE + log + rows * slots * 8:
            raise ValueError("not a segment of counters")
        cdef void *where = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {size} octets of counters")
        self.map = where
        self.size = size
        self.fd = fd
        self.rows = rows
        self.slots = slots
        self._log = <uint8_t *>where + PAGE
        log_size = log
        self._log_size = log_size
        self._words = <uint64_t *>(<uint8_t *>where + PAGE + log_size)
        self._limit = slots - SINK
        with self._lock:
            self._refresh()
        return self

    # ---- words

    cdef uint64_t *row(self, uint32_t index) noexcept:
        return self._words + <size_t>index * self.slots if index < self.rows else NULL

    cdef uint64_t *shared(self, uint32_t slot) noexcept:
        return self._words + slot if slot < self.slots else NULL

    cdef uint64_t *_at(self, row, slot) except NULL:
        if not 0 <= row < self.rows or not 0 <= slot < self.slots:
            raise IndexError(f"row {row}, slot {slot}")
        return self._words + <size_t>row * self.slots + <size_t>slot

    cdef int64_t _sum(self, uint32_t slot) noexcept nogil:
        cdef uint64_t total = 0
        cdef uint32_t r
        for r in range(self.rows):
            total += fd_load_relaxed(self._words + <size_t>r * self.slots + slot)
        return <int64_t>total

    def get(self, slot: int) -> int:
        """The sum over all rows, signed."""
        self._at(0, slot)
        return self._sum(slot)

    def get_row(self, row: int, slot: int) -> int:
        """One row's word, signed."""
        return <int64_t>fd_load_acquire(self._at(row, slot))

    def add(self, row: int, slot: int, value: int = 1) -> None:
        """Adds to a word of a row that the calling process owns; atomically in row 0."""
        cdef uint64_t by = <uint64_t>(value & 0xFFFFFFFFFFFFFFFF)
        cdef uint64_t *word = self._at(row, slot)
        if row == 0:
            fd_add_acq_rel(word, by)
        else:
            fd_bump(word, by)

    def set(self, row: int, slot: int, value: int) -> None:
        """Sets a word of a row that the calling process owns (a gauge's share)."""
        fd_store_release(self._at(row, slot), <uint64_t>(value & 0xFFFFFFFFFFFFFFFF))

    def set_shared(self, slot: int, value: int) -> None:
        """Sets a word of row 0: a gauge that one process keeps for all, or a word."""
        self.set(0, slot, value)

    def observe(self, row: int, slot: int, bounds: tuple, raw: int) -> None:
        """Counts one observation of a histogram, `raw` in its raw unit (nanoseconds, octets)."""
        self._at(row, slot + len(bounds) + 2)
        raw = max(0, raw)
        i = 0
        while i < len(bounds) and raw > bounds[i]:
            i += 1
        self.add(row, slot + i, 1)
        self.add(row, slot + len(bounds) + 1, raw)
        self.add(row, slot + len(bounds) + 2, 1)

    def reset_row(self, row: int) -> None:
        """Zeroes the gauges of a row whose writer is gone; counters stay."""
        with self._lock:
            self._refresh()
            for family, _, slot in self._order:
                if family.kind == "gauge":
                    for i in range(family.width):
                        fd_store_relaxed(self._at(row, slot + i), 0)

    def clear(self, name: str) -> None:
        """Zeroes all series of a gauge in all rows (one that is set anew after a reload)."""
        with self._lock:
            self._refresh()
            for family, _, slot in self._order:
                if family.name == name and family.kind == "gauge":
                    for row in range(self.rows):
                        for i in range(family.width):
                            fd_store_relaxed(self._at(row, slot + i), 0)

    # ---- the directory

    def intern(self, name: str, labels: tuple = (), kind: str = "counter", bounds: tuple = (), help: str = "") -> int:
        """The first slot of a series, the same for everyone who asks.

        `labels` are (name, value) pairs in a fixed order; `bounds` a histogram's upper bounds in raw units, ascending.
        When the table is full the answer is the family's overflow series. Raises ValueError when a series of that
        name has another kind, other label names or other bounds.
        """
        return self.grid(name, labels, (), kind, bounds, help)

    def grid(
        self, name: str, labels: tuple, axes: tuple, kind: str = "counter", bounds: tuple = (), help: str = ""
    ) -> int:
        """Interns the product of `axes`, (label name, values) pairs, under `labels` at once.

        The series of the values i, j, k of three axes starts at slot + ((i * J + j) * K + k) * W, where W is 1, or
        len(bounds) + 3 for a histogram. Series that were never counted are not exported.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r} of {name}")
        bounds = tuple(int(b) for b in bounds)
        if (kind == "histogram") != bool(bounds) or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"{name}: a histogram, and only one, has ascending bounds")
        axes = tuple((str(n), tuple(str(v) for v in values)) for n, values in axes)
        family = _Family(name, kind, help, bounds, tuple(str(n) for n, _ in labels), axes)
        if not 0 < family.width <= WIDTH_MAX:
            raise ValueError(f"{name}: {family.width} words are more than {WIDTH_MAX}")
        key = (name, tuple(str(v) for _, v in labels))
        with self._lock:
            known = self._families.get(name)
            if known is None or key not in self._series:
                self._append(family, key)
                known = self._families.get(name)
            if known is not None and not known.same(family):
                raise ValueError(f"{name} is declared twice, with different kind, labels or bounds")
            slot = self._series.get(key)
            if slot is None:
                fd_add_acq_rel(self._words + SLOT_OVERFLOW, 1)
                slot = known.overflow if known is not None and known.overflow else self.slots - SINK
            return slot

    cdef _append(self, family, key):
        # Reads on, then writes what is missing: the family with its overflow series, and the series.
        if not self._take_lock():
            self._refresh()
            return
        try:
            self._refresh()
            known = self._families.get(family.name)
            if known is None:
                if self._write({"n": family.name, "k": family.kind, "h": family.help, "b": family.bounds,
                                "l": family.labels, "a": family.axes}):
                    known = self._families[family.name]
                    if known.labels:
                        self._write_series(known, (OVERFLOW_LABEL,) * len(known.labels))
            if known is not None and known.same(family) and key not in self._series:
                self._write_series(known, key[1])
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    cdef _write_series(self, family, values):
        # The slot numbers 1 and up are handed out in order; a series that finds no room writes nothing.
        cdef uint32_t slot = SLOT_OVERFLOW if not self._order else self._next
        if slot + <uint32_t>family.width <= self._limit:
            self._write({"f": self._by_index.index(family), "v": values, "s": slot})

    cdef bint _write(self, record) except -1:
        cdef bytes text = json.dumps(record, separators=(",", ":")).encode()
        cdef uint64_t end = fd_load_acquire(<uint64_t *>self.map + H_LOG_END)
        cdef uint32_t size = <uint32_t>len(text)
        if end + 4 + size > self._log_size:
            return False
        memcpy(self._log + end, &size, 4)
        memcpy(self._log + end + 4, <char *>text, size)
        fd_store_release(<uint64_t *>self.map + H_LOG_END, end + 4 + size)
        self._refresh()
        return True

    cdef _refresh(self):
        # Reads the log's new records.
        cdef uint64_t end = fd_load_acquire(<uint64_t *>self.map + H_LOG_END)
        cdef uint32_t size = 0
        if end > self._log_size:
            raise ValueError("the table of counters is damaged")
        while self._read < end:
            if end - self._read < 4:
                raise ValueError("the table of counters is damaged")
            memcpy(&size, self._log + self._read, 4)
            if size > end - self._read - 4:
                raise ValueError("the table of counters is damaged")
            record = json.loads((<char *>self._log + self._read + 4)[:size])
            if "n" in record:
                self._learn_family(record)
            else:
                self._learn_series(record)
            self._read += 4 + size

    cdef _learn_family(self, record):
        axes = tuple((name, tuple(values)) for name, values in record["a"])
        family = _Family(record["n"], record["k"], record["h"], tuple(record["b"]), tuple(record["l"]), axes)
        self._families[family.name] = family
        self._by_index.append(family)

    cdef _learn_series(self, record):
        family = self._by_index[record["f"]]
        values = tuple(record["v"])
        slot = record["s"]
        if slot + family.width > self._limit:
            raise ValueError("the table of counters is damaged")
        if family.labels and values == (OVERFLOW_LABEL,) * len(family.labels):
            family.overflow = slot
        self._series[(family.name, values)] = slot
        self._order.append((family, values, slot))
        self._next = max(self._next, slot + family.width)

    cdef bint _take_lock(self) except -1:
        # Bounded: a stopped process that holds the lock must not stop the others; they overflow instead.
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.001)

    def snapshot(self, words: bool = False) -> list:
        """Every series that was counted, families together in the order of their first series, as `Series`.

        Labelled counters and histograms that are still 0 are left out, unlabelled ones and gauges outside grids are
        not. Words are included only on request.
        """
        with self._lock:
            self._refresh()
            order = list(self._order)
        out = {}
        for family, values, slot in order:
            if family.kind == "word" and not words:
                continue
            into = out.setdefault(family.name, [])
            width = _width(family.kind, family.bounds)
            fixed = tuple(zip(family.labels, values))
            spare = family.labels and slot == family.overflow
            for i, cell in enumerate(itertools.product(*[[(n, v) for v in vs] for n, vs in family.axes])):
                at = slot + i * width
                numbers = tuple(self._sum(at + w) for w in range(width))
                shown = not fixed and not cell or (family.kind in ("gauge", "word") and not cell and not spare)
                if shown or (numbers[width - 1] if family.kind == "histogram" else numbers[0]):
                    into.append(Series(family.name, fixed + cell, family.kind, family.bounds, family.help, at, numbers))
        return [series for group in out.values() for series in group]
