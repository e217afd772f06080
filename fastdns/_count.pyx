# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Counting queries in C: which slots a query and its reply add to, and what their duration is measured with.

Strategy: eleven additions to words of the worker's own row. Reading the clock costs more than all of them, so a reply
that never waited takes the time read for one of the seven before it in the same thread: its duration is exact to
the time that eight replies take, and never before the batch that brought it.
"""

from libc.stdint cimport uint32_t, uint64_t
from fastdns._chain cimport Program
from fastdns._stage cimport Query, Worker
from fastdns._stats cimport stat_add, stat_observe
from fastdns._sys cimport CLOCK_MONOTONIC, calloc, clock_gettime, fd_cas, fd_load_acquire, free, timespec
from fastdns._wire cimport FLAG_DO

cdef enum:
    TIMES = 16
    SIZES = 14
    TYPES = 20                  # 19 counted types and "other"
    RCODES = 24
    EXTRAS = 8
    CLOCK_EVERY = 8

cdef uint64_t time_bounds[TIMES]
cdef uint64_t size_bounds[SIZES]
cdef unsigned char type_index[260]
cdef uint32_t extra_words[EXTRAS]
cdef uint64_t clock_read = 0    # one hot thread per process
cdef uint32_t clock_age = 0


cdef _fill_tables():
    cdef uint64_t bound = 250000
    cdef int i
    for i in range(TIMES):
        time_bounds[i] = bound
        bound *= 2
    for i, octets in enumerate((0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)):
        size_bounds[i] = octets
    for i in range(260):
        type_index[i] = TYPES - 1
    for i, number in enumerate((1, 28, 15, 6, 5, 12, 16, 2, 33, 43, 48, 46, 47, 50, 65, 64, 251, 252, 255)):
        type_index[number] = i


_fill_tables()


cdef int cell_fill(Cell *c, slots) except -1:
    # `slots` is what fastdns.metrics.cell returns; a test holds the two layouts together.
    cdef int i
    c.requests = slots["requests"]
    c.wants_dnssec = slots["do"]
    c.duration = slots["duration"]
    c.request_size = slots["request_size"]
    c.response_size = slots["response_size"]
    c.written = slots["written"]
    c.unwritten = slots["unwritten"]
    for i in range(EXTRAS):
        extra_words[i] = slots["extra_rcodes"][i]
    return 0


cdef uint64_t count_clock(Worker *w, bint waited) noexcept nogil:
    global clock_read, clock_age
    cdef timespec ts
    clock_age += 1
    if waited or clock_age >= CLOCK_EVERY:
        clock_gettime(CLOCK_MONOTONIC, &ts)
        clock_read = <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec
        clock_age = 0
    return clock_read if clock_read > w.now_ns else w.now_ns


cdef uint32_t rcode_index(Worker *w, uint32_t rcode) noexcept nogil:
    # Rare rcodes take one of a few shared places, for good: the place's word in row 0 says whose it is.
    cdef uint32_t i
    cdef uint64_t owner
    if rcode < RCODES:
        return rcode
    for i in range(EXTRAS):
        owner = fd_load_acquire(w.shared + extra_words[i])
        if owner == 0 and fd_cas(w.shared + extra_words[i], 0, rcode + 1):
            return RCODES + i
        if owner == 0:
            owner = fd_load_acquire(w.shared + extra_words[i])
        if owner == rcode + 1:
            return RCODES + i
    return RCODES + EXTRAS


cdef void count_query(
    Worker *w, const Cell *c, const Query *q, int rcode, bint written, uint64_t now_ns
) noexcept nogil:
    cdef uint64_t *row = w.row
    cdef uint32_t proto = 1 if q.proto else 0
    cdef uint32_t family = 1 if q.family == 2 else 0
    # What a stage asked in the client's place counts, but for its size.
    cdef uint32_t qtype = q.asked.qtype if q.replaced else q.pkt.qtype
    cdef uint32_t kind = type_index[qtype] if qtype < 260 else TYPES - 1
    cdef uint64_t size = q.ulen if written else 0
    if c.requests == 0:
        return
    stat_add(row, c.requests + (proto * 2 + family) * TYPES + kind, 1)
    if (q.replaced and q.asked.wants_dnssec) or (not q.replaced and q.pkt.has_opt and q.pkt.opt_flags & FLAG_DO):
        stat_add(row, c.wants_dnssec, 1)
    stat_observe(row, c.duration, time_bounds, TIMES, now_ns - q.start_ns if now_ns > q.start_ns else 0)
    stat_observe(row, c.request_size + proto * (SIZES + 3), size_bounds, SIZES, q.pkt.end)
    stat_observe(row, c.response_size + proto * (SIZES + 3), size_bounds, SIZES, size)
    stat_add(row, (c.written if written else c.unwritten) + rcode_index(w, <uint32_t>rcode), 1)


cdef void dropped_reply(Worker *w, Query *q, int rcode) noexcept nogil:
    cdef const Cell *c = <const Cell *>w.listeners[q.listener].dropped_cell
    if c != NULL:
        count_query(w, c, q, rcode, False, count_clock(w, q.detached))


cdef class DroppedCells:
    """The cells of all listeners' own replies: made before the fork, kept by whoever runs the program."""

    cdef Cell *cells
    cdef Program program

    def __cinit__(self, program: Program, slots: list):
        cdef Program p = program
        cdef uint32_t i
        if len(slots) != p.listener_count:
            raise ValueError(f"counters of {len(slots)} listeners for {p.listener_count}")
        self.program = p
        self.cells = <Cell *>calloc(len(slots) + 1, sizeof(Cell))
        if self.cells == NULL:
            raise MemoryError
        for i in range(p.listener_count):
            cell_fill(&self.cells[i], slots[i])
            p.listeners[i].dropped_cell = &self.cells[i]

    def __dealloc__(self):
        free(self.cells)


def bind_dropped(program: Program, slots: list) -> DroppedCells:
    """Has the server's own replies counted: `slots` are fastdns.metrics.dropped_cells(...), by listener index.

    Keep what it returns as long as the program. The loop sets Worker.dropped to `dropped_reply`. Raises ValueError
    when there are not as many cells as listeners.
    """
    return DroppedCells(program, slots)


def bounds() -> tuple:
    """The buckets compiled in: (nanoseconds, octets)."""
    return tuple(time_bounds[i] for i in range(TIMES)), tuple(size_bounds[i] for i in range(SIZES))


def type_place(qtype: int) -> int:
    """Where a record type is counted: the index of its label."""
    return type_index[qtype] if 0 <= qtype < 260 else TYPES - 1
