# SPDX-License-Identifier: Apache-2.0
#
# Counting queries: the core's counters of one (listener, zone), as offsets into a row.
#
# Strategy: fastdns/metrics.py interns all series of a cell at set-up; a query is then counted by array arithmetic in
# the worker's own row. Used by the prometheus stage for the queries of its blocks, and by the loop for the replies that
# the server itself makes (zone "dropped").

from libc.stdint cimport uint32_t, uint64_t
from fastdns._stage cimport Query, Worker

cdef struct Cell:
    # First slots, laid out as fastdns/metrics.py:cell says. All 0: nothing is counted.
    uint32_t requests           # [proto][family][type]
    uint32_t wants_dnssec
    uint32_t duration
    uint32_t request_size       # [proto]
    uint32_t response_size      # [proto]
    uint32_t written            # [rcode]
    uint32_t unwritten          # [rcode]

cdef int cell_fill(Cell *c, slots) except -1
    # From the dictionary that fastdns.metrics.cell returns.
cdef void count_query(Worker *w, const Cell *c, const Query *q, int rcode, bint written, uint64_t now_ns) noexcept nogil
    # One query and its reply; rcode is what the label says; duration is now_ns - q.start_ns.
cdef uint64_t count_clock(Worker *w, bint waited) noexcept nogil
    # CLOCK_MONOTONIC for durations: read anew for queries that waited and for every eighth of the others.
cdef void dropped_reply(Worker *w, Query *q, int rcode) noexcept nogil
    # What Worker.dropped points at: counts a reply of the server's own. Cells come from bind_dropped.
