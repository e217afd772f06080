# SPDX-License-Identifier: Apache-2.0
#
# From an admitted query to its finished answer: router, runner, in-flight pool.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._stage cimport Block, Listener, Query, Stage, Worker, Zone

cdef enum:
    POOL_SLOTS = 16384          # detached queries of a worker
    POOL_WIRE = 512             # request octets kept inside a slot; longer ones are allocated
    ARENA_OCTETS = 1 << 20      # replies of one flush
    DEPTH_MAX = 8               # nested look-ups of the server's own
    LABELS = 64                 # metadata labels that a block keeps

cdef struct Candidate:
    # A block that a zone's queries may belong to.
    uint32_t block
    uint16_t zone               # index in block.zones
    bint last                   # of its zone

cdef struct Route:
    uint32_t hash
    uint16_t len
    uint16_t zone               # index in block.zones
    uint32_t block
    const uint8_t *name
    uint32_t first              # of its candidates, where the listener has views

cdef struct Router:
    # A listener's zones: open addressing, a power-of-two number of cells, at most half full.
    Route *cells
    uint32_t mask
    uint32_t max_labels         # labels of the longest zone: longer suffixes are not looked up
    uint32_t zones
    Candidate *candidates       # NULL: each zone has one block, and no query is filtered

cdef class Program:
    cdef Listener *listeners
    cdef uint32_t listener_count
    cdef Block *blocks
    cdef uint32_t block_count
    cdef uint32_t frame_octets
    cdef list owners            # whatever keeps the stages' memory alive
    cdef list python_stages     # per block: {position: plugin instance}
    cdef list labels            # per block: names of the metadata labels that it keeps
    cdef list routes            # per listener: {zone wire: [(block, zone index), ...]}
    cdef list filters           # per block: what Python has to be asked before a query enters, or None
    cdef int listener_room
    cdef int block_room
    cdef bint _filtered(self, uint32_t block) noexcept

cdef int worker_open(Worker *w, Program program) except -1
cdef void worker_reseed(Worker *w) noexcept nogil
cdef void worker_clock(Worker *w) noexcept nogil
cdef void chain_start(Worker *w, Query *q) noexcept nogil
cdef void chain_drain_ready(Worker *w) noexcept nogil
cdef void stream_room(Worker *w, Query *q) noexcept nogil
cdef void query_identity(Query *q, const Query *parent) noexcept nogil
