# SPDX-License-Identifier: Apache-2.0
#
# The shared cache: append-only rings of entries in a memfd, and per block a set-associative index.
#
# Strategy: see fastdns/_cache.pyx. A reader copies an entry out and checks it before it believes a single octet, so
# neither a torn read nor a lapped one nor a corrupted page becomes an answer. No locks, nothing to repair
# after a crash; a hit writes nothing shared but the first one's promotion.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CACHE_SUCCESS = 0
    CACHE_DENIAL = 1
    CACHE_MAIN = 0              # the ring of entries that were asked for again
    CACHE_PROBATION = 1         # the ring of entries that were not, yet
    CACHE_WAYS = 8              # words of a set: one cache line
    CACHE_TTLS_MAX = 5957       # WIRE_RECORDS_MAX
    CACHE_META_WORDS = 1536     # header, name and TTL offsets of the largest entry
    CACHE_MARK_FILE = 0x80      # bit of `mark`: the entry was loaded from a file
    CACHE_UPSTREAM_MAX = 0xfff

cdef struct CacheKey:
    # Everything that may change the answer. Compared whole on a hit; its hash is keyed per segment.
    uint32_t block              # block id allotted by the supervisor, never reused
    uint32_t view
    uint16_t qtype
    uint16_t qclass
    bint do_bit
    bint cd_bit
    bint aside                  # an entry beside the one of the same key (serve_stale_policy prefer_positive)
    uint16_t name_len           # 1..255
    uint64_t scope              # ECS scope where it is on, else 0
    const uint8_t *name         # lower-cased wire form
    uint64_t hash               # cache_hash()

cdef struct CacheEntry:
    # An entry as a caller offers it and as a reader gets it back.
    uint64_t stored_at          # CLOCK_BOOTTIME, nanoseconds
    uint32_t orig_ttl           # seconds that it lives
    uint16_t rcode
    uint16_t flags              # header word of the stored message
    uint32_t ulen               # octets uncompressed, without OPT
    uint8_t kind                # CACHE_SUCCESS or CACHE_DENIAL
    uint8_t mark                # the caller's bits
    uint16_t upstream           # whose answer it was (upstream_numbers), at most CACHE_UPSTREAM_MAX; 0: unknown
    uint16_t ttls               # TTL offsets, at most CACHE_TTLS_MAX
    uint16_t wire_len           # at least 12
    const uint16_t *ttl_off     # offsets in wire of the TTL fields, checked against wire_len by the reader
    const uint8_t *wire         # message without OPT
    uint64_t word               # the index word it was read from
    uint32_t slot               # the index slot it was read from

cdef struct CacheRing:
    uint8_t *map                # mapped twice in a row, so that no entry straddles the end
    uint64_t *head              # next position to reserve, shared
    uint64_t *limit             # units that have memory, shared: it grows as the head first comes there
    uint64_t *pool              # units that the segment may still take, shared by all rings
    uint32_t units              # of 64 octets
    uint32_t least              # units that are always this ring's
    uint32_t chunk              # units reserved at once
    uint64_t at                 # this process's chunk: next position
    uint32_t left               # ... and the units left

cdef struct CacheTable:
    # One block's index and rings, as one worker sees them. Copied by cache_table(), because it holds the worker's
    # chunks.
    uint64_t *words
    uint64_t *epoch             # flush epoch, shared
    uint64_t *hits              # per worker and slot: count and tag, last hit; NULL without prefetch
    uint32_t hit_rows
    uint32_t sets
    uint32_t slots
    uint32_t id                 # block id
    uint8_t limit[2]            # words of a set that each kind may take
    CacheRing ring[2]

cdef struct CacheView:
    # A process's private view of the segment.
    uint64_t seed[2]
    uint64_t *claims
    uint32_t claim_mask
    uint32_t tables
    CacheTable *table
    uint64_t *row               # the worker's counter row, NULL: not counted
    uint32_t slot_torn          # counter: reads refused by head or checksum
    uint32_t slot_promoted
    uint32_t slot_lost          # inserts dropped because another one won, or none fitted
    uint64_t meta[1536]         # header, name and TTL offsets of the entry read last

cdef uint64_t cache_hash(const CacheView *v, const CacheKey *k) noexcept nogil
cdef bint cache_table(const CacheView *v, uint32_t block_id, CacheTable *out) noexcept nogil
    # The table of a block; False: the segment has none.
cdef bint cache_get(CacheView *v, CacheTable *t, const CacheKey *k, int kind, CacheEntry *out,
                    uint8_t *wire) noexcept nogil
    # Finds the newest entry of that kind under the key. Its message is copied to wire (room for 65,535 octets and 8
    # more), the rest to v.meta, valid until the next cache_get or cache_put with the same view. Expired entries are
    # returned: the caller judges.
cdef void cache_promote(CacheView *v, CacheTable *t, const CacheEntry *e) noexcept nogil
    # After a hit by cache_get, the message untouched: copies an entry that lies in probation, or in the last eighth of
    # main's lap, to main's head.
cdef bint cache_put(CacheView *v, CacheTable *t, const CacheKey *k, const CacheEntry *e, uint64_t begun, uint64_t epoch,
                    int *evicted) noexcept nogil
    # Appends and publishes by compare-and-swap. An entry of the same kind stored after `begun` (CLOCK_BOOTTIME ns, when
    # the answer was asked for) is newer and stays. epoch: cache_epoch() of that moment. *evicted: 1 + kind of an entry
    # that gave way, else 0. False: not stored.
cdef void cache_drop(CacheView *v, CacheTable *t, const CacheKey *k, int kind) noexcept nogil
    # Removes the entries of that kind under the key.
cdef uint64_t cache_epoch(const CacheTable *t) noexcept nogil
cdef bint cache_claim(CacheView *v, uint64_t hash, uint64_t now_ns, uint64_t until_ns) noexcept nogil
    # Claims the refresh of a key until until_ns (CLOCK_BOOTTIME); False: somebody has it, or the table is full.
cdef void cache_claim_until(CacheView *v, uint64_t hash, uint64_t until_ns) noexcept nogil
    # Moves the claim's end: 0 releases it, RECHECK holds it.
cdef uint64_t cache_note_hit(CacheTable *t, const CacheEntry *e, uint32_t row, uint64_t now_ns,
                             uint64_t window_ns) noexcept nogil
    # Counts a hit in this worker's array. Returns its count since the last pause longer than window_ns.
cdef uint64_t cache_sum_hits(const CacheTable *t, const CacheEntry *e, uint64_t now_ns,
                             uint64_t window_ns) noexcept nogil
    # The hits of all workers.

cdef class Segment:
    cdef readonly int fd
    cdef uint8_t *map           # header, directory, index, hit arrays; the rings are mapped apart
    cdef size_t size            # octets of that part
    cdef readonly size_t octets
    cdef CacheTable *_tables
    cdef uint32_t _count
    cdef list _sizes            # (block id, success, denial, hit rows) by table
    cdef int _map_rings(self) except -1
    cdef int view(self, CacheView *v) except -1
        # Fills v, the counters aside. v must not outlive the segment.
    cdef CacheTable *_table(self, block_id) except NULL
    cdef list _written(self, const CacheTable *t)
