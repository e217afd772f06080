# SPDX-License-Identifier: Apache-2.0
#
# A block's entries one by one: found by name, removed, written to records that outlive the machine's boot, and taken
# back out of them.
#
# Strategy: all work goes over the index in pieces that the caller bounds, so that a process that does it can do
# something else in between, and never over slots without memory. An entry is believed as a reader believes it: only
# after its checksum. A record holds the wall-clock time at which its entry was stored, because the boot clock says
# nothing to another boot. What comes back from a file is checked as a message from the network is, and then as an
# answer to the very question that it is stored under.

cdef enum:
    RECORD_FIXED = 48           # octets of a record's fixed part
    RECORD_MOST = 48 + 256 + 2 * 5957 + 65535 + 8
    TTL_MOST = 0x7fffffff
    BIT_DO = 1
    BIT_CD = 2
    BIT_ASIDE = 4
    BIT_DENIAL = 8

cdef struct Fixed:
    # The fixed part of a record. Its layout is the file's: little-endian, no holes.
    uint32_t octets             # of the whole record, a multiple of 8
    uint16_t wire_len
    uint16_t ttls
    uint64_t wall               # stored at, nanoseconds since 1970
    uint32_t orig_ttl
    uint32_t ulen
    uint64_t scope
    uint32_t view
    uint16_t qtype
    uint16_t qclass
    uint16_t flags
    uint16_t rcode
    uint8_t name_len
    uint8_t bits
    uint8_t mark
    uint8_t zero

RECORD_OCTETS_MAX = RECORD_MOST
"""Octets that one record has at most."""


cdef inline bint name_is_whole(const uint8_t *name, uint32_t n) noexcept nogil:
    # Uncompressed wire form of exactly n octets.
    cdef uint32_t at = 0
    while at < n and name[at]:
        if name[at] > 63:
            return False
        at += name[at] + 1u
    return at + 1 == n


cdef class Survey(Look):
    """A look that goes over a block's whole index, piece by piece.

    `first` and `end` of its methods are slots, out of `spans`. Times are nanoseconds: `boot` of CLOCK_BOOTTIME, `wall`
    of CLOCK_REALTIME, both of one moment.
    """

    cdef uint8_t name[256]
    cdef Message message
    cdef Record *records

    def __cinit__(self, segment: Segment, block_id: int, row: int = 0):
        self.records = <Record *>calloc(WIRE_RECORDS_MAX, sizeof(Record))
        if self.records == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.records)

    def spans(self, most: int = 16384) -> list:
        """(first, end) of the slots that have memory, in pieces of at most `most`."""
        cdef Segment s = self.segment
        return [(at, min(at + most, end)) for first, end in s._written(&self.table)
                for at in range(first, end, most)]

    cdef bint _at(self, uint32_t slot, CacheKey *k, CacheEntry *e, uint64_t *word) noexcept:
        # The living, undamaged entry of a slot: its key with the name in self.name, its message in self.wire.
        word[0] = fd_load_acquire(self.table.words + slot)
        if word[0] == 0 or not self._read_key(self, word[0], k) or k.block != self.table.id:
            return False
        memcpy(self.name, self.wire, 256)
        k.name = self.name
        return fetch(&self.view, &self.table, k, word[0], e, self.wire) == 1

    def page(self, uint32_t first, uint32_t end, uint64_t boot, uint64_t wall, size_t most = 1 << 18) -> tuple:
        """The records of the entries in some slots, until they have `most` octets: (slot to go on with, records, their
        number)."""
        cdef bytearray out = bytearray()
        cdef CacheKey k
        cdef CacheEntry e
        cdef Fixed f
        cdef uint64_t word
        cdef uint32_t slot = first
        cdef size_t at
        cdef uint8_t *to
        count = 0
        if end > self.table.slots:
            raise ValueError(f"the block has {self.table.slots} slots")
        while slot < end and <size_t>len(out) < most:
            if self._at(slot, &k, &e, &word):
                memset(&f, 0, sizeof(f))
                f.octets = (RECORD_FIXED + k.name_len + 2u * e.ttls + e.wire_len + 7u) & ~7u
                f.wire_len = e.wire_len
                f.ttls = e.ttls
                f.wall = wall - (boot - e.stored_at if boot > e.stored_at else 0)
                f.orig_ttl = e.orig_ttl
                f.ulen = e.ulen
                f.scope = k.scope
                f.view = k.view
                f.qtype = k.qtype
                f.qclass = k.qclass
                f.flags = e.flags
                f.rcode = e.rcode
                f.name_len = <uint8_t>k.name_len
                f.bits = <uint8_t>((BIT_DO if k.do_bit else 0) | (BIT_CD if k.cd_bit else 0)
                                   | (BIT_ASIDE if k.aside else 0) | (BIT_DENIAL if e.kind else 0))
                f.mark = e.mark
                at = len(out)
                out.extend(bytes(f.octets))
                to = <uint8_t *>out + at
                memcpy(to, &f, RECORD_FIXED)
                memcpy(to + RECORD_FIXED, self.name, k.name_len)
                memcpy(to + RECORD_FIXED + k.name_len, e.ttl_off, 2 * <size_t>e.ttls)
                memcpy(to + RECORD_FIXED + k.name_len + 2 * <size_t>e.ttls, self.wire, e.wire_len)
                count += 1
            slot += 1
        return slot, bytes(out), count

    def take(self, bytes records not None, uint64_t boot, uint64_t wall, uint32_t stale = 0) -> tuple:
        """Stores the entries of records: (stored, expired, refused). Expired is what ended more than `stale` seconds
        ago; refused are records that make no sense, that come from the future, or that a newer entry keeps out.
        ValueError for what is no row of records."""
        cdef const uint8_t *data = records
        cdef size_t left = len(records)
        cdef Fixed f
        cdef int status
        stored = expired = refused = 0
        while left:
            if left < RECORD_FIXED:
                raise ValueError("a record is cut off")
            memcpy(&f, data, RECORD_FIXED)
            if (f.octets > left or f.octets & 7 or f.octets
                    != ((RECORD_FIXED + f.name_len + 2u * f.ttls + f.wire_len + 7u) & ~7u)):
                raise ValueError("a record has another length than it says")
            status = self._take_one(&f, data, boot, wall, stale)
            stored += status == 1
            expired += status == 0
            refused += status < 0
            data += f.octets
            left -= f.octets
        return stored, expired, refused

    cdef int _take_one(self, const Fixed *f, const uint8_t *data, uint64_t boot, uint64_t wall,
                       uint32_t stale) noexcept:
        # 1 stored, 0 expired, -1 refused.
        cdef const uint8_t *name = data + RECORD_FIXED
        cdef const uint8_t *ttls = name + f.name_len
        cdef const uint8_t *wire = ttls + 2 * <size_t>f.ttls
        cdef uint16_t ttl_off[CACHE_TTLS_MAX]
        cdef CacheKey k
        cdef CacheEntry e
        cdef uint64_t age, before
        cdef uint32_t ttl = f.orig_ttl
        cdef int evicted = 0
        if f.ttls > CACHE_TTLS_MAX or f.wire_len < WIRE_HEADER or f.orig_ttl > TTL_MOST or f.wall > wall:
            return -1
        memcpy(ttl_off, ttls, 2 * <size_t>f.ttls)
        if not self._fits(f, name, ttl_off, wire):
            return -1
        age = wall - f.wall
        if age // 1000000000u >= <uint64_t>ttl + stale:
            return 0
        memset(&e, 0, sizeof(e))
        if age < boot:
            e.stored_at = boot - age
        else:
            # Older than this boot: its life begins with the boot, as much shorter.
            before = (age - boot) // 1000000000u + 1
            if before >= ttl:
                return 0
            ttl -= <uint32_t>before
            e.stored_at = 1
        memset(&k, 0, sizeof(k))
        k.block = self.table.id
        k.view = f.view
        k.scope = f.scope
        k.qtype = f.qtype
        k.qclass = f.qclass
        k.do_bit = f.bits & BIT_DO
        k.cd_bit = (f.bits & BIT_CD) != 0
        k.aside = (f.bits & BIT_ASIDE) != 0
        k.name = name
        k.name_len = f.name_len
        k.hash = cache_hash(&self.view, &k)
        e.orig_ttl = ttl
        e.rcode = f.rcode
        e.flags = f.flags
        e.ulen = f.ulen
        e.kind = 1 if f.bits & BIT_DENIAL else 0
        e.mark = f.mark | CACHE_MARK_FILE
        e.ttls = f.ttls
        e.ttl_off = ttl_off
        e.wire = wire
        e.wire_len = f.wire_len
        return 1 if cache_put(&self.view, &self.table, &k, &e, e.stored_at, cache_epoch(&self.table), &evicted) else -1

    cdef bint _fits(self, const Fixed *f, const uint8_t *name, const uint16_t *ttl_off, const uint8_t *wire) noexcept:
        # Whether a message is well-formed, without OPT, of that very question, with TTLs where the offsets say.
        cdef Message *m = &self.message
        cdef uint32_t i
        if f.name_len == 0 or f.zero or f.bits > 15 or not name_is_whole(name, f.name_len):
            return False
        if <uint32_t>f.wire_len < WIRE_HEADER + <uint32_t>f.name_len + 4:
            return False
        memcpy(self.name, wire + WIRE_HEADER, f.name_len)
        wire_lower(self.name, f.name_len)
        if memcmp(self.name, name, f.name_len) != 0:
            return False
        memset(m, 0, sizeof(Message))
        m.records = self.records
        if wire_scan(wire, f.wire_len, m) != 0 or m.counts[0] != 1 or m.has_opt or m.has_tsig or m.end != f.wire_len:
            return False
        if m.qtype != f.qtype or m.qclass != f.qclass or m.n != f.ttls:
            return False
        for i in range(m.n):
            if m.records[i].ttl_off != ttl_off[i]:
                return False
        return True

    cdef bint _wanted(self, const CacheKey *k, const uint8_t *name, uint32_t length, bint below, int qtype) noexcept:
        if qtype >= 0 and k.qtype != qtype:
            return False
        if length == 0:
            return True
        if below:
            return wire_name_under(k.name, k.name_len, name, length)
        return k.name_len == length and memcmp(k.name, name, length) == 0

    def matching(self, uint32_t first, uint32_t end, bytes name not None = b"", bint below = False, int qtype = -1,
                 uint32_t most = 1000) -> list:
        """At most `most` entries in some slots under a name (empty: any), or `below` it too, of a type (-1: any):
        (name, type, class, DO, CD, aside, denial, rcode, stored at, TTL, mark, upstream, octets of the message, octets
        in the cache, ring)."""
        cdef CacheKey k
        cdef CacheEntry e
        cdef uint64_t word
        cdef uint32_t slot
        found = []
        if end > self.table.slots:
            raise ValueError(f"the block has {self.table.slots} slots")
        for slot in range(first, end):
            if <uint32_t>len(found) >= most:
                break
            if self._at(slot, &k, &e, &word) and self._wanted(&k, name, len(name), below, qtype):
                taken = 8 * (HEADER_WORDS + (k.name_len + 7) // 8 + (e.ttls + 3) // 4) + ((e.wire_len + 7) & ~7)
                found.append((self.name[:k.name_len], k.qtype, k.qclass, bool(k.do_bit), bool(k.cd_bit),
                              bool(k.aside), bool(e.kind), e.rcode, e.stored_at, e.orig_ttl, e.mark, e.upstream,
                              e.wire_len, -(-taken // UNIT) * UNIT, (word >> RING_SHIFT) & 1))
        return found

    def forbid(self) -> None:
        """Answers that were asked for before now are not stored any more. Before `remove`, so that none comes back."""
        fd_add_acq_rel(self.table.epoch, 1)
        fd_fence_seq_cst()

    def remove(self, uint32_t first, uint32_t end, bytes name not None = b"", bint below = False,
               int qtype = -1) -> int:
        """Removes what `matching` would find; returns how many."""
        cdef CacheKey k
        cdef CacheEntry e
        cdef uint64_t word
        cdef uint32_t slot
        removed = 0
        if end > self.table.slots:
            raise ValueError(f"the block has {self.table.slots} slots")
        for slot in range(first, end):
            # A hit may move the entry meanwhile, and then the slot has another word: a few looks are enough.
            for _ in range(8):
                if not self._at(slot, &k, &e, &word) or not self._wanted(&k, name, len(name), below, qtype):
                    break
                if fd_cas(self.table.words + slot, word, 0):
                    removed += 1
                    break
        return removed
