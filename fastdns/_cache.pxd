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
    CACHE_KEY_MAX = 24 + 255    # CacheKey's fixed part as stored, then the name

cdef struct CacheKey:
    # Everything that may change the answer. Compared whole on a hit; its hash is SipHash-1-3 keyed per segment.
    uint32_t block              # block id allotted by the supervisor, never reused
    uint32_t view
    uint16_t qtype
    uint16_t qclass
    uint8_t do_bit
    uint8_t cd_bit
    uint16_t name_len
    uint64_t scope              # ECS scope where it is on, else 0
    const uint8_t *name         # lower-cased wire form
    uint64_t hash               # cache_hash()

cdef struct CacheEntry:
    # An entry as a caller offers it and as a reader gets it back (pointers into the reader's private copy).
    uint64_t stored_at          # CLOCK_BOOTTIME, nanoseconds
    uint32_t duration           # seconds that it lives
    uint32_t orig_ttl           # seconds: what keepttl hands out
    uint16_t rcode
    uint16_t flags              # header word of the stored message
    uint32_t ulen               # octets uncompressed, without OPT
    uint8_t kind                # CACHE_SUCCESS or CACHE_DENIAL
    uint8_t mark                # the caller's bits (SERVFAIL, answers-the-question, prefetched, wildcard ...)
    uint16_t ttls               # TTL offsets
    uint32_t wire_len
    uint16_t extra_len          # metadata restored on a hit (zone/wildcard)
    const uint16_t *ttl_off     # offsets in wire of the TTL fields
    const uint8_t *wire         # message without OPT
    const uint8_t *extra
    uint64_t word               # the index word it was read from (for replace, promote, refresh)
    uint32_t slot               # index slot it was found in: subscript of private per-slot arrays

cdef struct CacheTable:
    # One block's index in the segment: sets of 8 words for each kind, power-of-two number of sets.
    uint64_t *words[2]
    uint32_t set_mask[2]
    uint32_t slots              # of both kinds together
    uint32_t slot_base[2]
    uint32_t id                 # block id

cdef struct CacheView:
    # A worker's private view of the segment.
    uint8_t *map
    uint64_t seed[2]
    uint64_t *head[3]           # probation, main, kept (in units of 64 octets)
    uint8_t *ring[3]            # each mapped twice in a row
    uint64_t units[3]
    uint64_t *epoch             # flush epoch, shared
    uint64_t chunk_at[3]        # reserved chunk: next unit
    uint64_t chunk_end[3]
    uint8_t *copy               # private copy of the entry read last (65,536 + room)
    uint64_t *row               # the worker's counter row
    uint32_t slot_torn          # counter: reads refused by head or checksum
    uint32_t slot_promoted
    uint32_t slot_lost          # inserts dropped because another one won

cdef uint64_t cache_hash(const CacheView *v, const CacheKey *k) noexcept nogil
cdef void cache_prefetch(const CacheTable *t, uint64_t hash) noexcept nogil
    # Starts loading the set's lines; called while a batch is parsed.
cdef bint cache_get(CacheView *v, const CacheTable *t, const CacheKey *k, int kind, CacheEntry *out) noexcept nogil
    # Finds the newest entry of that kind under the key. Copies it to v.copy, checks head and checksum; out points
    # into the copy, valid until the next cache_get with the same view. Expired entries are returned: the caller judges.
    # Also promotes: first hit on a probation entry, last half-lap of a main entry.
cdef bint cache_put(CacheView *v, const CacheTable *t, const CacheKey *k, const CacheEntry *e, uint64_t seen_word,
                    uint32_t *evicted) noexcept nogil
    # Appends and publishes by compare-and-swap from the word seen for that key (0: none); a loser drops its insert.
    # *evicted: 1 when a live word of another key gave way. False: not stored.
cdef uint64_t cache_peek(CacheView *v, const CacheTable *t, const CacheKey *k, int kind) noexcept nogil
    # The index word now under the key, 0 for none (for seen_word and for removal).
cdef bint cache_remove(CacheView *v, const CacheTable *t, uint64_t word, uint32_t slot) noexcept nogil
cdef bint cache_claim(CacheView *v, const CacheTable *t, uint32_t slot, uint64_t hash, uint64_t now_ns, uint64_t until_ns) noexcept nogil
    # Claims the refresh of a slot until until_ns in the small shared table of (slot, deadline); False: somebody has it.
cdef void cache_claim_until(CacheView *v, const CacheTable *t, uint32_t slot, uint64_t hash, uint64_t until_ns) noexcept nogil
    # Moves the claim's deadline: 0 releases it, RECHECK holds it.

cdef class Segment:
    cdef readonly int fd
    cdef void *map
    cdef size_t size
    cdef int view(self, CacheView *v) except -1
    cdef int table(self, uint32_t block_id, CacheTable *t) except -1
