# SPDX-License-Identifier: Apache-2.0
#
# Shared counters: one bounded table of 64-bit words for all processes of the server.
#
# Strategy: a memfd holds (1) a directory that interns a series - metric, labels, buckets - to a slot
# number, first come first served, never removed, and (2) one row of words per writing thread plus row 0
# for words that several processes change atomically. A writer touches its own row only, with plain
# relaxed stores, so a hit writes no line that another core writes. A reader sums the rows. When the directory is full,
# a series gets its family's overflow slot and `overflow` counts it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from fastdns._sys cimport fd_bump

cdef enum:
    STATS_SHARED_ROW = 0        # words changed with fd_add_*/fd_cas by many

cdef inline void stat_add(uint64_t *row, uint32_t slot, uint64_t by) noexcept nogil:
    # Adds to a counter of the calling thread's own row. Slots come from Stats.intern and are in range by construction.
    fd_bump(row + slot, by)

# A histogram of B bounds takes B + 3 slots: bucket 0 .. B-1 (not cumulative), +Inf, the sum's integer part in the
# metric's raw unit (nanoseconds for *_seconds, octets for *_bytes), the count.
cdef inline void stat_observe(
    uint64_t *row, uint32_t slot, const uint64_t *bounds, uint32_t n, uint64_t raw
) noexcept nogil:
    cdef uint32_t i = 0
    while i < n and raw > bounds[i]:
        i += 1
    fd_bump(row + slot + i, 1)
    fd_bump(row + slot + n + 1, raw)
    fd_bump(row + slot + n + 2, 1)

cdef class Stats:
    cdef readonly int fd
    cdef readonly uint32_t rows
    cdef readonly uint32_t slots
    cdef void *map
    cdef size_t size
    # private: see _stats.pyx
    cdef uint8_t *_log
    cdef uint64_t *_words
    cdef uint64_t _log_size
    cdef uint64_t _read         # octets of the log in the dictionaries
    cdef uint32_t _next         # first free slot, by what was read
    cdef uint32_t _limit
    cdef object _lock
    cdef dict _families
    cdef list _by_index
    cdef dict _series           # (name, label values) -> slot
    cdef list _order            # (family, label values, slot)
    cdef uint64_t *row(self, uint32_t index) noexcept
        # NULL when there is no such row.
    cdef uint64_t *shared(self, uint32_t slot) noexcept
        # The word of row 0; NULL when there is no such slot.
    cdef uint64_t *_at(self, row, slot) except NULL
    cdef int64_t _sum(self, uint32_t slot) noexcept nogil
    cdef _append(self, family, key)
    cdef _write_series(self, family, values)
    cdef bint _write(self, record) except -1
    cdef _refresh(self)
    cdef _learn_family(self, record)
    cdef _learn_series(self, record)
    cdef bint _take_lock(self) except -1
