# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The shared cache: one memfd, mapped by every process of the server, read and written without locks.

Strategy. Each block has an index, whose sets are one cache line of eight words, and two rings of entries, main and
probation (a tenth). A position is (lap << 32) | unit, so that it only grows and its unit needs no division; the head is
the next one to be reserved, and an entry is alive while the head is at most a lap ahead. An index word is `unit | lap
(15 bits) | ring | kind | tag (15 bits)`; the entry itself holds its whole position and so never repeats.

A writer reserves a chunk by moving the head, fills an entry with atomic stores and publishes it by compare-and-swap of
the index word it saw; who loses drops its insert. A reader copies the entry while it sums a keyed checksum over it,
then looks whether the head has overtaken it. Whatever fails is a miss: a writer that slept through a lap, one that died
half-way, a torn read and a damaged page all end there. Lengths are clamped before anything is copied; the rings are
mapped twice in a row.

Memory is taken as it is used: a ring begins with what is always its own, and when its head comes to the end of that,
more is taken out of a pool that all rings of the segment share and that bounds what the segment may take. Where the
pool is empty the head goes on with the next lap: the ring is as large as it has become.

New entries go to probation, and the first hit copies them to main. A name that is stored again while the index still
remembers it goes to main at once, and so does everything while main is in its first lap: only names that were never
seen pass through the small ring. Hits in the last eighth of main's lap copy the entry to the head (earlier copies would
lap the others sooner: with a working set of the whole capacity, half a lap loses 2 to 10 % of hits, an eighth less than
2). So a flood of new names cannot push out what is asked for, and a working set within the capacity stays.
"""

import errno as errno_names
import fcntl
import os

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, PROT_WRITE, calloc, fd_add_acq_rel, fd_cas,
    fd_fence_acquire, fd_fence_release, fd_fence_seq_cst, fd_load_acquire, fd_load_relaxed, fd_store_relaxed, free,
    memcmp, memcpy, memset, mmap, munmap,
)
from fastdns._wire cimport (
    WIRE_HEADER, WIRE_NAME_MAX, WIRE_RECORDS_MAX, Message, Record, wire_lower, wire_name_under, wire_scan,
    wire_siphash13,
)

cdef enum:
    UNIT = 64
    HEADER_WORDS = 8
    ALONE = 4                   # an entry takes at most this share of a ring
    RENEW = 8                   # a hit in the last eighth of a lap copies the entry to the head
    CHUNKS = 32                 # of a ring, at least
    GROWTH = 4096               # units that a ring takes at once: 256 KiB
    CLAIM_WAYS = 4
    LAP_BITS = 15
    LAP_SHIFT = 17
    RING_SHIFT = 16
    KIND_SHIFT = 15
    NAME_SHIFT = 32             # bits of header word 6
    ENTRY_KIND = 40
    ENTRY_DO = 41
    ENTRY_CD = 42
    ENTRY_ASIDE = 43
    ENTRY_MARK = 44
    ENTRY_UPSTREAM = 52

cdef extern from *:
    # Constants of 64 bits, which an enum does not hold and a module's variable would not let the compiler fold.
    """
    #define CACHE_LAP ((uint64_t)1 << 32)
    #define CACHE_LOW32 ((uint64_t)0xffffffff)
    #define CACHE_KEY_BITS (((uint64_t)0xff << 32) | ((uint64_t)7 << 41))
    """
    const uint64_t LAP "CACHE_LAP"
    const uint64_t LOW32 "CACHE_LOW32"
    # The bits of header word 6 that belong to the key: octets of the name, DO, CD, aside.
    const uint64_t KEY_BITS "CACHE_KEY_BITS"

cdef struct Mix:
    # Four lanes, so that one multiplication need not wait for the one before.
    uint64_t a
    uint64_t b
    uint64_t c
    uint64_t d

cdef struct Pattern:
    # A key as the entry's words hold it.
    uint64_t owner              # block and view
    uint64_t scope
    uint64_t question           # type and class: the low half of word 5
    uint64_t bits               # of word 6
    uint32_t words              # of the name
    uint64_t name[32]


# ---------------------------------------------------------------------------------------------- checksum

cdef inline uint64_t stir(uint64_t lane, uint64_t word) noexcept nogil:
    # The rotation brings high bits down: without it two flips of top bits in one lane would cancel.
    lane ^= word
    lane = (lane << 29) | (lane >> 35)
    return lane * 0x9e3779b97f4a7c15ULL


cdef inline void mix_open(Mix *m, const uint64_t *seed, uint64_t position) noexcept nogil:
    m.a = seed[0] ^ position
    m.b = seed[1]
    m.c = ~seed[0]
    m.d = ~seed[1]


cdef inline void mix_header(Mix *m, const uint64_t *h) noexcept nogil:
    # Word 0 is the position, which opened the sum; word 1 is the sum.
    m.b = stir(m.b, h[2])
    m.c = stir(m.c, h[3])
    m.d = stir(m.d, h[4])
    m.a = stir(m.a, h[5])
    m.b = stir(m.b, h[6])
    m.c = stir(m.c, h[7])


cdef inline uint64_t mix_close(const Mix *m) noexcept nogil:
    cdef uint64_t h = stir(stir(stir(m.a, m.b), m.c), m.d)
    return h ^ (h >> 32)


cdef inline uint64_t word_at(const uint8_t *p) noexcept nogil:
    cdef uint64_t w
    memcpy(&w, p, 8)
    return w


cdef inline void copy_out(Mix *m, uint8_t *to, const uint64_t *ring, uint32_t words) noexcept nogil:
    """From a ring to private memory, summing."""
    cdef uint64_t x
    cdef uint32_t i = 0
    while i + 4 <= words:
        x = fd_load_relaxed(ring + i)
        memcpy(to + 8 * <size_t>i, &x, 8)
        m.a = stir(m.a, x)
        x = fd_load_relaxed(ring + i + 1)
        memcpy(to + 8 * <size_t>i + 8, &x, 8)
        m.b = stir(m.b, x)
        x = fd_load_relaxed(ring + i + 2)
        memcpy(to + 8 * <size_t>i + 16, &x, 8)
        m.c = stir(m.c, x)
        x = fd_load_relaxed(ring + i + 3)
        memcpy(to + 8 * <size_t>i + 24, &x, 8)
        m.d = stir(m.d, x)
        i += 4
    while i < words:
        x = fd_load_relaxed(ring + i)
        memcpy(to + 8 * <size_t>i, &x, 8)
        m.a = stir(m.a, x)
        i += 1


cdef inline void copy_in(Mix *m, uint64_t *ring, const uint8_t *from_, size_t octets) noexcept nogil:
    """From private memory to a ring, padded to whole words, summing in the order of copy_out."""
    cdef uint32_t words = <uint32_t>((octets + 7) >> 3)
    cdef uint32_t whole = <uint32_t>(octets >> 3)
    cdef uint32_t fours = words & ~3u
    cdef uint64_t x
    cdef uint32_t i
    for i in range(words):
        if i < whole:
            x = word_at(from_ + 8 * <size_t>i)
        else:
            x = 0
            memcpy(&x, from_ + 8 * <size_t>i, octets - 8 * <size_t>i)
        fd_store_relaxed(ring + i, x)
        if i >= fours or i & 3 == 0:
            m.a = stir(m.a, x)
        elif i & 3 == 1:
            m.b = stir(m.b, x)
        elif i & 3 == 2:
            m.c = stir(m.c, x)
        else:
            m.d = stir(m.d, x)


# ---------------------------------------------------------------------------------------------- positions

cdef inline uint64_t advance(uint64_t position, uint32_t units, uint32_t of) noexcept nogil:
    cdef uint64_t unit = (position & LOW32) + units
    if unit >= of:
        return (position & ~LOW32) + LAP + (unit - of)
    return (position & ~LOW32) | unit


cdef inline bint alive(uint64_t position, uint64_t head) noexcept nogil:
    return position < head and head - position <= LAP


cdef inline uint64_t resolve(uint64_t word, uint64_t head, uint32_t units) noexcept nogil:
    # The whole position of an index word, which keeps the low bits of its lap. 0: no such unit.
    cdef uint64_t laps = head >> 32
    cdef uint64_t short_lap = (word >> LAP_SHIFT) & ((1 << LAP_BITS) - 1)
    if word >> 32 >= units:
        return 0
    return ((laps - ((laps - short_lap) & ((1 << LAP_BITS) - 1))) << 32) | (word >> 32)


cdef inline uint64_t word_of(uint64_t position, int ring, int kind, uint64_t hash) noexcept nogil:
    return (((position & LOW32) << 32) | (((position >> 32) & ((1 << LAP_BITS) - 1)) << LAP_SHIFT)
            | (<uint64_t>ring << RING_SHIFT) | (<uint64_t>kind << KIND_SHIFT) | (hash & 0x7fff))


cdef inline uint64_t behind(uint64_t position, uint64_t head, uint32_t units) noexcept nogil:
    """Units from a living position to the head."""
    return ((head >> 32) - (position >> 32)) * units + (head & LOW32) - (position & LOW32)


cdef inline uint64_t *set_of(const CacheTable *t, uint64_t hash) noexcept nogil:
    return t.words + (((hash >> 32) * t.sets) >> 32) * CACHE_WAYS


cdef inline uint32_t limit_of(const CacheRing *r) noexcept nogil:
    # The units of a ring that are in use. What a damaged word says is not believed: all of them are mapped.
    cdef uint64_t limit = fd_load_relaxed(r.limit)
    return <uint32_t>limit if r.least <= limit <= r.units else r.units


cdef bint grow(CacheRing *r, uint32_t limit) noexcept nogil:
    """Takes more of the pool, unless another process has just done it. A process that dies in here loses some of it."""
    cdef uint64_t step = GROWTH if r.units - limit > GROWTH else r.units - limit
    cdef uint64_t pool = fd_load_relaxed(r.pool)
    while pool >= step:
        if fd_cas(r.pool, pool, pool - step):
            if not fd_cas(r.limit, limit, limit + step):
                fd_add_acq_rel(r.pool, step)
            return True
        pool = fd_load_relaxed(r.pool)
    return False


cdef uint64_t reserve(CacheRing *r, uint32_t units) noexcept nogil:
    """Room for an entry: its position, from this worker's chunk while that has not been lapped, else from a new one."""
    cdef uint64_t head = fd_load_acquire(r.head)
    cdef uint64_t position = r.at
    cdef uint32_t take, limit
    if r.left >= units and alive(position, head):
        r.at = advance(position, units, r.units)
        r.left -= units
        return position
    while True:
        limit = limit_of(r)
        # A ring that could not grow is cut into as many chunks as a whole one, or its writers would lap each other.
        take = limit // CHUNKS if limit // CHUNKS < r.chunk else r.chunk
        if units > take:
            take = units
        if head & LOW32 >= r.units:
            # A damaged word: on with the next lap, where no entry can be taken for one of this.
            fd_cas(r.head, head, (head & ~LOW32) + LAP)
        elif limit < r.units and (head & LOW32) + take > limit:
            # Only a whole ring is mapped twice in a row, so in a part of one the rest of the lap stays unused.
            if grow(r, limit):
                continue
            if fd_cas(r.head, head, (head & ~LOW32) + LAP + take):
                head = (head & ~LOW32) + LAP
                break
        elif fd_cas(r.head, head, advance(head, take, r.units)):
            break
        head = fd_load_acquire(r.head)
    fd_fence_release()
    if units < take:
        r.at = advance(head, units, r.units)
        r.left = take - units
    return head


# ---------------------------------------------------------------------------------------------- keys

cdef uint64_t cache_hash(const CacheView *v, const CacheKey *k) noexcept nogil:
    # The name is hashed with the secret key; the rest is folded in, one-to-one for a given name.
    cdef uint64_t h = wire_siphash13(v.seed, k.name, k.name_len)
    h ^= (<uint64_t>k.qtype | (<uint64_t>k.qclass << 16) | (<uint64_t>k.do_bit << 32) | (<uint64_t>k.cd_bit << 33)
          | (<uint64_t>k.aside << 34))
    h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ULL
    h ^= (<uint64_t>k.block << 32 | k.view) ^ k.scope * 0x9e3779b97f4a7c15ULL
    h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ULL
    return h ^ (h >> 32)


cdef void pattern_of(const CacheKey *k, Pattern *p) noexcept nogil:
    p.owner = <uint64_t>k.block | (<uint64_t>k.view << 32)
    p.scope = k.scope
    p.question = <uint64_t>k.qtype | (<uint64_t>k.qclass << 16)
    p.bits = ((<uint64_t>k.name_len << NAME_SHIFT) | (<uint64_t>(k.do_bit != 0) << ENTRY_DO)
              | (<uint64_t>(k.cd_bit != 0) << ENTRY_CD) | (<uint64_t>(k.aside != 0) << ENTRY_ASIDE))
    p.words = (k.name_len + 7u) >> 3
    p.name[p.words - 1] = 0
    memcpy(p.name, k.name, k.name_len)


cdef bint is_under(const CacheTable *t, uint64_t word, const Pattern *p, uint64_t *stored_at) noexcept nogil:
    """Whether a word leads to a living entry with that key. Not checksummed: good for replacing, not for answering."""
    cdef const CacheRing *r = &t.ring[(word >> RING_SHIFT) & 1]
    cdef uint64_t head = fd_load_acquire(r.head)
    cdef uint64_t position = resolve(word, head, r.units)
    cdef const uint64_t *e
    cdef uint32_t i
    if not alive(position, head):
        return False
    e = <const uint64_t *>(r.map + (position & LOW32) * UNIT)
    if (fd_load_relaxed(e) != position or fd_load_relaxed(e + 3) != p.owner or fd_load_relaxed(e + 4) != p.scope
            or (fd_load_relaxed(e + 5) & LOW32) != p.question or (fd_load_relaxed(e + 6) & KEY_BITS) != p.bits):
        return False
    for i in range(p.words):
        if fd_load_relaxed(e + HEADER_WORDS + i) != p.name[i]:
            return False
    stored_at[0] = fd_load_relaxed(e + 2)
    return True


# ---------------------------------------------------------------------------------------------- reading

cdef int fetch(CacheView *v, const CacheTable *t, const CacheKey *k, uint64_t word, CacheEntry *out,
               uint8_t *wire) noexcept nogil:
    """Copies the entry behind a word out and checks it. 1: it is the key's; 0: it is not; -1: it is not to be
    believed."""
    cdef const CacheRing *r = &t.ring[(word >> RING_SHIFT) & 1]
    cdef uint64_t head = fd_load_acquire(r.head)
    cdef uint64_t position = resolve(word, head, r.units)
    cdef const uint64_t *e
    cdef uint64_t *h = v.meta
    cdef uint32_t i, name_words, ttls, ttl_words
    cdef Mix m
    if not alive(position, head):
        return 0
    e = <const uint64_t *>(r.map + (position & LOW32) * UNIT)
    for i in range(HEADER_WORDS):
        h[i] = fd_load_relaxed(e + i)
    if (h[0] != position or h[3] != (<uint64_t>k.block | (<uint64_t>k.view << 32)) or h[4] != k.scope
            or (h[5] & LOW32) != (<uint64_t>k.qtype | (<uint64_t>k.qclass << 16)) or (h[6] & KEY_BITS) !=
            ((<uint64_t>k.name_len << NAME_SHIFT) | (<uint64_t>(k.do_bit != 0) << ENTRY_DO)
             | (<uint64_t>(k.cd_bit != 0) << ENTRY_CD) | (<uint64_t>(k.aside != 0) << ENTRY_ASIDE))):
        return 0
    out.wire_len = <uint16_t>h[6]
    ttls = <uint32_t>(h[6] >> 16) & 0xffff
    if ttls > CACHE_TTLS_MAX or out.wire_len < WIRE_HEADER:
        return -1
    # Bounded by now: at most 8 + 32 + 1,490 words of meta and 65,536 octets of message, less than a quarter of any
    # ring.
    name_words = (k.name_len + 7u) >> 3
    ttl_words = (ttls + 3) >> 2
    mix_open(&m, v.seed, position)
    mix_header(&m, h)
    copy_out(&m, <uint8_t *>(h + HEADER_WORDS), e + HEADER_WORDS, name_words)
    copy_out(&m, <uint8_t *>(h + HEADER_WORDS + name_words), e + HEADER_WORDS + name_words, ttl_words)
    copy_out(&m, wire, e + HEADER_WORDS + name_words + ttl_words, (out.wire_len + 7u) >> 3)
    fd_fence_acquire()
    if mix_close(&m) != h[1] or not alive(position, fd_load_relaxed(r.head)):
        return -1
    if memcmp(h + HEADER_WORDS, k.name, k.name_len) != 0:
        return 0
    out.stored_at = h[2]
    out.flags = <uint16_t>(h[5] >> 32)
    out.rcode = <uint16_t>(h[5] >> 48)
    out.kind = <uint8_t>((h[6] >> ENTRY_KIND) & 1)
    out.mark = <uint8_t>(h[6] >> ENTRY_MARK)
    out.upstream = <uint16_t>(h[6] >> ENTRY_UPSTREAM)
    out.ulen = <uint32_t>h[7]
    out.orig_ttl = <uint32_t>(h[7] >> 32)
    out.ttls = <uint16_t>ttls
    out.ttl_off = <const uint16_t *>(h + HEADER_WORDS + name_words)
    out.wire = wire
    out.word = word
    return 1


cdef bint cache_get(CacheView *v, CacheTable *t, const CacheKey *k, int kind, CacheEntry *out,
                    uint8_t *wire) noexcept nogil:
    cdef uint64_t *words = set_of(t, k.hash)
    cdef uint64_t tag = (k.hash & 0x7fff) | (<uint64_t>kind << KIND_SHIFT)
    cdef uint64_t word
    cdef uint64_t best = 0
    cdef uint64_t best_at = 0
    cdef uint64_t last = 0
    cdef uint32_t slot = <uint32_t>(words - t.words)
    cdef uint32_t best_slot = 0
    cdef int i, status
    for i in range(CACHE_WAYS):
        word = fd_load_acquire(words + i)
        if (word & 0xffff) != tag or word == 0:
            continue
        status = fetch(v, t, k, word, out, wire)
        last = word
        if status < 0 and v.row != NULL:
            stat_add(v.row, v.slot_torn, 1)
        if status == 1 and out.kind == kind and (best == 0 or out.stored_at >= best_at):
            best = word
            best_at = out.stored_at
            best_slot = slot + <uint32_t>i
    if best == 0:
        return False
    out.slot = best_slot
    if best == last:
        return True
    # Two words had the tag, and the one read last is not the one to use.
    return fetch(v, t, k, best, out, wire) == 1


# ---------------------------------------------------------------------------------------------- writing

cdef uint64_t append(CacheView *v, CacheTable *t, int ring, const uint8_t *wire, uint64_t hash,
                     int kind) noexcept nogil:
    """Writes the entry in v.meta and wire to a ring. The index word to publish, 0 when there is none."""
    cdef uint64_t *h = v.meta
    cdef uint32_t wire_len = <uint32_t>h[6] & 0xffff
    cdef uint32_t words = (HEADER_WORDS + ((<uint32_t>(h[6] >> NAME_SHIFT) & 0xff) + 7u) // 8
                           + ((<uint32_t>(h[6] >> 16) & 0xffff) + 3u) // 4)
    cdef uint32_t name_words = ((<uint32_t>(h[6] >> NAME_SHIFT) & 0xff) + 7u) // 8
    cdef uint32_t units = (words * 8 + ((wire_len + 7u) & ~7u) + UNIT - 1) // UNIT
    cdef CacheRing *r
    cdef uint64_t position
    cdef uint64_t *e
    cdef uint32_t i
    cdef Mix m
    if ring == CACHE_PROBATION and units * ALONE > limit_of(&t.ring[CACHE_PROBATION]):
        ring = CACHE_MAIN
    r = &t.ring[ring]
    if units * ALONE > limit_of(r):
        return 0
    position = reserve(r, units)
    e = <uint64_t *>(r.map + (position & LOW32) * UNIT)
    h[0] = position
    mix_open(&m, v.seed, position)
    mix_header(&m, h)
    copy_in(&m, e + HEADER_WORDS, <const uint8_t *>(h + HEADER_WORDS), 8 * <size_t>name_words)
    copy_in(&m, e + HEADER_WORDS + name_words, <const uint8_t *>(h + HEADER_WORDS + name_words),
            8 * <size_t>(words - HEADER_WORDS - name_words))
    copy_in(&m, e + words, wire, wire_len)
    h[1] = mix_close(&m)
    for i in range(HEADER_WORDS):
        fd_store_relaxed(e + i, h[i])
    if not alive(position, fd_load_acquire(r.head)):
        return 0
    return word_of(position, ring, kind, hash)


cdef void cache_promote(CacheView *v, CacheTable *t, const CacheEntry *e) noexcept nogil:
    cdef const CacheRing *r = &t.ring[CACHE_MAIN]
    cdef uint64_t head, word
    cdef uint32_t limit
    if not (e.word >> RING_SHIFT) & 1:
        head = fd_load_relaxed(r.head)
        limit = limit_of(r)
        if behind(v.meta[0], head, limit) * RENEW <= <uint64_t>limit * (RENEW - 1):
            return
    word = append(v, t, CACHE_MAIN, e.wire, e.word, e.kind)
    if word != 0 and fd_cas(t.words + e.slot, e.word, word) and v.row != NULL:
        stat_add(v.row, v.slot_promoted, 1)


cdef uint64_t staleness(const CacheTable *t, uint64_t word) noexcept nogil:
    """How readily a word gives way: what its ring has written since its entry, in 1,024ths of a lap; more than 1,024
    when the entry is gone. The words of entries that are gone tell names that come back from new ones, so the oldest
    goes."""
    cdef const CacheRing *r = &t.ring[(word >> RING_SHIFT) & 1]
    cdef uint64_t head = fd_load_relaxed(r.head)
    cdef uint64_t position = resolve(word, head, r.units)
    cdef uint32_t limit = limit_of(r)
    if word == 0:
        return 1 << 40
    if position == 0 or position >= head:
        return 1 << 30          # damaged
    return (behind(position, head, limit) * 1024 + limit - 1) // limit


cdef int victim(const CacheTable *t, const uint64_t *seen, int kind) noexcept nogil:
    """The way of a set that a new entry takes: a free one, one whose entry is gone, the oldest; its own kind's when
    that has all the words it may have."""
    cdef uint32_t own = 0
    cdef uint64_t worst = 0
    cdef uint64_t age
    cdef int i, found = 0
    for i in range(CACHE_WAYS):
        if seen[i] != 0 and <int>((seen[i] >> KIND_SHIFT) & 1) == kind:
            own += 1
    for i in range(CACHE_WAYS):
        if own >= t.limit[kind] and (seen[i] == 0 or <int>((seen[i] >> KIND_SHIFT) & 1) != kind):
            continue
        age = staleness(t, seen[i]) + 1
        if age > worst:
            worst = age
            found = i
    return found


cdef void stage_entry(CacheView *v, const CacheEntry *e, const Pattern *p) noexcept nogil:
    # The entry's words in v.meta, position and checksum aside.
    cdef uint64_t *h = v.meta
    cdef uint32_t ttl_words = (e.ttls + 3u) >> 2
    h[2] = e.stored_at
    h[3] = p.owner
    h[4] = p.scope
    h[5] = p.question | (<uint64_t>e.flags << 32) | (<uint64_t>e.rcode << 48)
    h[6] = (<uint64_t>e.wire_len | (<uint64_t>e.ttls << 16) | p.bits | (<uint64_t>e.kind << ENTRY_KIND)
            | (<uint64_t>e.mark << ENTRY_MARK) | (<uint64_t>e.upstream << ENTRY_UPSTREAM))
    h[7] = <uint64_t>e.ulen | (<uint64_t>e.orig_ttl << 32)
    memcpy(h + HEADER_WORDS, p.name, 8 * <size_t>p.words)
    if ttl_words:
        h[HEADER_WORDS + p.words + ttl_words - 1] = 0
        memcpy(h + HEADER_WORDS + p.words, e.ttl_off, 2 * <size_t>e.ttls)


cdef bint lose(CacheView *v) noexcept nogil:
    if v.row != NULL:
        stat_add(v.row, v.slot_lost, 1)
    return False


cdef bint cache_put(CacheView *v, CacheTable *t, const CacheKey *k, const CacheEntry *e, uint64_t begun, uint64_t epoch,
                    int *evicted) noexcept nogil:
    cdef uint64_t *words = set_of(t, k.hash)
    cdef uint64_t tag = (k.hash & 0x7fff) | (<uint64_t>e.kind << KIND_SHIFT)
    cdef uint64_t seen[CACHE_WAYS]
    cdef uint64_t stored_at = 0
    cdef uint64_t word
    cdef uint32_t twins = 0             # ways of older entries under the key, beside the one to be replaced
    cdef int i, way = -1, ghost = -1
    cdef Pattern p
    evicted[0] = 0
    if e.ttls > CACHE_TTLS_MAX or e.wire_len < WIRE_HEADER or not 0 < k.name_len <= WIRE_NAME_MAX:
        return False
    pattern_of(k, &p)
    for i in range(CACHE_WAYS):
        seen[i] = fd_load_acquire(words + i)
        if (seen[i] & 0xffff) != tag or seen[i] == 0:
            continue
        ghost = i
        if is_under(t, seen[i], &p, &stored_at):
            if stored_at > begun:
                return lose(v)
            if way >= 0:
                twins |= 1u << i
            else:
                way = i
    if epoch != fd_load_acquire(t.epoch):
        return False
    stage_entry(v, e, &p)
    word = append(v, t, CACHE_MAIN if ghost >= 0 or fd_load_relaxed(t.ring[CACHE_MAIN].head) < 2 * LAP else
                  CACHE_PROBATION, e.wire, k.hash, e.kind)
    if way < 0:
        if ghost >= 0 and staleness(t, seen[ghost]) > 1024:
            way = ghost
        else:
            way = victim(t, seen, e.kind)
            if seen[way] != 0:
                evicted[0] = 1 + <int>((seen[way] >> KIND_SHIFT) & 1)
    if word == 0 or not fd_cas(words + way, seen[way], word):
        evicted[0] = 0
        return lose(v)
    # A flush raises the epoch first and clears the words then: either it sees this word, or this look sees its epoch.
    fd_fence_seq_cst()
    if epoch != fd_load_acquire(t.epoch):
        fd_cas(words + way, word, 0)
        return False
    for i in range(CACHE_WAYS):
        if twins & (1u << i):
            fd_cas(words + i, seen[i], 0)
    return True


cdef void cache_drop(CacheView *v, CacheTable *t, const CacheKey *k, int kind) noexcept nogil:
    cdef uint64_t *words = set_of(t, k.hash)
    cdef uint64_t tag = (k.hash & 0x7fff) | (<uint64_t>kind << KIND_SHIFT)
    cdef uint64_t word
    cdef uint64_t stored_at = 0
    cdef int i
    cdef Pattern p
    pattern_of(k, &p)
    for i in range(CACHE_WAYS):
        word = fd_load_acquire(words + i)
        if (word & 0xffff) == tag and word != 0 and is_under(t, word, &p, &stored_at):
            fd_cas(words + i, word, 0)


cdef uint64_t cache_epoch(const CacheTable *t) noexcept nogil:
    return fd_load_acquire(t.epoch)


# ---------------------------------------------------------------------------------------------- refreshes

cdef inline uint64_t claim_word(uint64_t hash, uint64_t until_ns) noexcept nogil:
    # 24 bits of the key's hash, and the end of the claim in milliseconds: 34 years.
    return (hash << 40) | ((until_ns // 1000000) & 0xffffffffffULL)


cdef bint cache_claim(CacheView *v, uint64_t hash, uint64_t now_ns, uint64_t until_ns) noexcept nogil:
    cdef uint64_t *cells = v.claims + ((hash >> 32) & v.claim_mask & ~<uint64_t>(CLAIM_WAYS - 1))
    cdef uint64_t now_ms = now_ns // 1000000
    cdef uint64_t seen[CLAIM_WAYS]
    cdef int i, free_way = -1
    for i in range(CLAIM_WAYS):
        seen[i] = fd_load_acquire(cells + i)
        if (seen[i] & 0xffffffffffULL) <= now_ms:
            free_way = i
        elif seen[i] >> 40 == hash & 0xffffff:
            return False
    return free_way >= 0 and fd_cas(cells + free_way, seen[free_way], claim_word(hash, until_ns))


cdef void cache_claim_until(CacheView *v, uint64_t hash, uint64_t until_ns) noexcept nogil:
    cdef uint64_t *cells = v.claims + ((hash >> 32) & v.claim_mask & ~<uint64_t>(CLAIM_WAYS - 1))
    cdef uint64_t word
    cdef int i
    for i in range(CLAIM_WAYS):
        word = fd_load_acquire(cells + i)
        if word != 0 and word >> 40 == hash & 0xffffff:
            fd_cas(cells + i, word, claim_word(hash, until_ns) if until_ns else 0)
            return


cdef uint64_t cache_note_hit(CacheTable *t, const CacheEntry *e, uint32_t row, uint64_t now_ns,
                             uint64_t window_ns) noexcept nogil:
    cdef uint64_t *cell
    cdef uint64_t count = 1
    if t.hits == NULL:
        return 0
    cell = t.hits + 2 * (<size_t>(row % t.hit_rows) * t.slots + e.slot)
    # Another key that took the slot has another tag; the same key refreshed keeps what it had.
    if (fd_load_relaxed(cell) & 0xffff) == (e.word & 0xffff) and fd_load_relaxed(cell + 1) + window_ns >= now_ns:
        count = (fd_load_relaxed(cell) >> 16) + 1
    fd_store_relaxed(cell, (count << 16) | (e.word & 0xffff))
    fd_store_relaxed(cell + 1, now_ns)
    return count


cdef uint64_t cache_sum_hits(const CacheTable *t, const CacheEntry *e, uint64_t now_ns,
                             uint64_t window_ns) noexcept nogil:
    cdef const uint64_t *cell
    cdef uint64_t total = 0
    cdef uint32_t row
    if t.hits == NULL:
        return 0
    for row in range(t.hit_rows):
        cell = t.hits + 2 * (<size_t>row * t.slots + e.slot)
        if (fd_load_relaxed(cell) & 0xffff) == (e.word & 0xffff) and fd_load_relaxed(cell + 1) + window_ns >= now_ns:
            total += fd_load_relaxed(cell) >> 16
    return total


cdef bint cache_table(const CacheView *v, uint32_t block_id, CacheTable *out) noexcept nogil:
    cdef uint32_t i
    for i in range(v.tables):
        if v.table[i].id == block_id:
            out[0] = v.table[i]
            return True
    return False


include "_cache_face.pxi"
include "_cache_snapshot.pxi"
