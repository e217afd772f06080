# SPDX-License-Identifier: Apache-2.0
#
# What a plugin in Python decided and the hot thread may decide again: kept answers, and the shelf that they lie on.
#
# Strategy: see fastdns/_kept.pyx. The shelf is a small cache (_cache) of its own, made before the fork where a plugin
# declares what its answers depend on, shared by all workers of the generation and gone with it. A compiled half that
# keeps something else (rewrite: decisions by name) takes a lane of the same shelf.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._cache cimport CacheEntry, CacheKey, CacheTable, CacheView, Segment
from fastdns._stage cimport Query, Worker

cdef enum:                      # what of a query a plugin reads, by fact: fastdns/facts.py
    READS_NAME = 1
    READS_CASE = 2              # the letters of the name as they were written
    READS_CLIENT = 4
    READS_FAMILY = 8
    READS_PORT = 16
    READS_PROTO = 32
    READS_SERVER = 64           # the address that was asked
    READS_AD = 128
    READS_DO = 256
    READS_EDNS = 512            # whether there is an OPT, and the size in it
    READS_LABELS = 1024
    READS_MORE = 2048           # what no key holds

cdef enum:                      # first octet of a kept answer's note; behind it (slot, number) of what was counted
    NOTE_CASED = 1              # the reply's octets may depend on letter case
    NOTE_NAMED = 2              # ... and on the name, though nobody read it
    NOTE_COUNTS = 16            # series that a plugin may have counted

cdef enum:
    KEPT_BLOCK = 1              # the one block of a shelf's segment
    KEPT_OPTIONS = 512          # octets of a kept answer's own options
    KEPT_MOST = 8192            # octets of an entry

cdef struct Kept:
    # A worker's own view of a shelf.
    CacheView view
    CacheTable table
    uint8_t options[KEPT_OPTIONS]   # of the answer given last; they outlive its way to the sink

cdef class Shelf:
    cdef readonly Segment segment
    cdef readonly object stats
    cdef readonly uint32_t lanes
    cdef Kept empty             # what a worker starts with, its row aside

cdef Kept *kept_open(const Kept *empty, Worker *w) noexcept nogil
    # In each worker, once for a stage: `empty` is a shelf's. NULL: no memory.
cdef void kept_key(const Kept *k, uint32_t lane, const uint8_t *name, uint16_t name_len, CacheKey *key) noexcept nogil
    # The key of something that is kept by a name alone.
cdef bint kept_get(Kept *k, const CacheKey *key, CacheEntry *e, uint8_t *wire) noexcept nogil
    # Room for 65,535 octets and 8 more at wire.
cdef bint kept_put(Kept *k, Worker *w, const CacheKey *key, const uint8_t *octets, uint32_t n, uint32_t ulen,
                   uint16_t rcode) noexcept nogil
    # n: 12 to KEPT_MOST.
