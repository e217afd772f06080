# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Runs single functions of the hot path many times over, without Python in the loop: for measurements.

Strategy: each function here takes Python values, makes C ones of them, and repeats one operation of one module. It
returns what the repetitions came to, so that a caller can check that the work was done and a compiler cannot leave it
out.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport (
    CACHE_SUCCESS, CacheEntry, CacheKey, CacheTable, CacheView, Segment, cache_epoch, cache_hash,
    cache_put, cache_table,
)
from fastdns._count cimport Cell, cell_fill, count_query
from fastdns._inflight cimport (
    ASKS, NONE, Forward, ask_find, ask_insert, ask_remove, inflight_close, inflight_open, question_release,
    question_take, same_insert, same_remove, timer_clear, timer_set,
)
from fastdns._log cimport LOG_QUERY, QueryRecord, RingHandle, ring_commit, ring_reserve
from fastdns._stage cimport Api, Query, Worker
from fastdns._stats cimport Stats, stat_add, stat_observe
from fastdns._sys cimport calloc, fd_load_acquire, fd_store_release, free, malloc, memcpy, memset
from fastdns._wire cimport (
    ADMIT_OK, WIRE_MAX, WIRE_RECORDS_MAX, Finish, Message, Packet, Record, wire_admit, wire_compress, wire_finish,
    wire_limit, wire_lower, wire_name_text, wire_scan, wire_siphash13,
)

cdef enum:
    BOUNDS = 64                 # of a histogram
    RECORD_OCTETS = 32          # of the name in a log record
    TIMES = 16                  # bounds of the histogram of durations, as in _count
    SOCKETS_USED = 1024


cdef class _Room:
    # A message buffer, a scratch buffer and an index of records.
    cdef Message m
    cdef uint8_t *out
    cdef uint8_t *scratch

    def __cinit__(self):
        self.m.records = <Record *>calloc(WIRE_RECORDS_MAX, sizeof(Record))
        self.out = <uint8_t *>malloc(WIRE_MAX + 1)
        self.scratch = <uint8_t *>malloc(WIRE_MAX + 1)
        if self.m.records == NULL or self.out == NULL or self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.m.records)
        free(self.out)
        free(self.scratch)


# ---------------------------------------------------------------------------------------------- _wire

def admit(bytes wire not None, uint64_t repeat):
    """Judges and parses a message; returns how often it was admitted."""
    cdef Packet p
    cdef const uint8_t *data = wire
    cdef size_t n = len(wire)
    cdef uint64_t _turn, done = 0
    with nogil:
        for _turn in range(repeat):
            done += wire_admit(data, n, &p) == ADMIT_OK
    return done


def siphash(bytes name not None, uint64_t repeat):
    """Hashes octets, each time under a key that the last hash changed; returns the last hash."""
    cdef const uint8_t *data = name
    cdef size_t n = len(name)
    cdef uint64_t key[2]
    cdef uint64_t _turn, h = 0
    key[0] = 0x0706050403020100u
    key[1] = 0x0f0e0d0c0b0a0908u
    with nogil:
        for _turn in range(repeat):
            key[0] ^= h
            h = wire_siphash13(key, data, n)
    return h


def lower(bytes name not None, uint64_t repeat):
    """Folds a name's letters in place; returns the name."""
    cdef uint8_t out[256]
    cdef size_t n = len(name)
    cdef uint64_t _turn
    if n > sizeof(out):
        raise ValueError("a name has at most 255 octets")
    memcpy(out, <const uint8_t *>name, n)
    with nogil:
        for _turn in range(repeat):
            wire_lower(out, n)
            out[0] = <uint8_t>name[0]
    return <bytes>out[:n]


def name_text(bytes name not None, uint64_t repeat):
    """Writes a name as text; returns the characters of all."""
    cdef char text[1024]
    cdef const uint8_t *data = name
    cdef size_t n = len(name)
    cdef uint64_t _turn, done = 0
    if not 1 <= n <= 255:
        raise ValueError("a name has 1 to 255 octets")
    with nogil:
        for _turn in range(repeat):
            done += wire_name_text(data, n, text, sizeof(text))
    return done


def scan(bytes reply not None, uint64_t repeat):
    """Checks and indexes a whole message; returns the records of all. ValueError for a malformed one."""
    cdef _Room room = _Room()
    cdef const uint8_t *data = reply
    cdef size_t n = len(reply)
    cdef uint64_t _turn, done = 0
    if wire_scan(data, n, &room.m) < 0:
        raise ValueError("malformed message")
    with nogil:
        for _turn in range(repeat):
            wire_scan(data, n, &room.m)
            done += room.m.n
    return done


def compress(bytes reply not None, uint64_t repeat):
    """Writes a message anew with its names compressed; returns the octets of all. ValueError for a malformed one."""
    cdef _Room room = _Room()
    cdef const uint8_t *data = reply
    cdef bint cut = False
    cdef uint64_t _turn, done = 0
    if wire_scan(data, len(reply), &room.m) < 0:
        raise ValueError("malformed message")
    with nogil:
        for _turn in range(repeat):
            done += wire_compress(data, &room.m, room.out, WIRE_MAX, &cut)
    return done


def finish(bytes query not None, bytes reply not None, uint64_t repeat, bint udp=True):
    """Copies a reply and makes it the one to a query: OPT, size, TC. Returns the octets of all.

    ValueError for a query that is not admissible, or a malformed reply.
    """
    cdef _Room room = _Room()
    cdef Packet p
    cdef Finish f
    cdef const uint8_t *data = reply
    cdef size_t n = len(reply)
    cdef uint64_t _turn, done = 0
    if wire_admit(query, len(query), &p) != ADMIT_OK or wire_scan(data, n, &room.m) < 0:
        raise ValueError("no admissible query, or a malformed reply")
    memset(&f, 0, sizeof(f))
    f.rcode = room.m.rcode
    f.ulen = room.m.ulen
    f.limit = wire_limit(&p, udp)
    f.udp = udp
    with nogil:
        for _turn in range(repeat):
            memcpy(room.out, data, n)
            done += wire_finish(&p, &f, room.out, n, WIRE_MAX, &room.m, room.scratch)
    return done


# ---------------------------------------------------------------------------------------------- _stats, _count, _log

def add(Stats stats not None, uint32_t row, uint32_t slot, uint64_t repeat):
    """Adds one to a counter; returns its value in that row."""
    cdef uint64_t *words = stats.row(row)
    cdef uint64_t _turn
    if words == NULL or slot >= stats.slots:
        raise IndexError("no such row or slot")
    with nogil:
        for _turn in range(repeat):
            stat_add(words, slot, 1)
    return words[slot]


def observe(Stats stats not None, uint32_t row, uint32_t slot, list bounds not None, uint64_t repeat):
    """Notes values that fall into each place of a histogram in turn; returns how many were noted in that row."""
    cdef uint64_t *words = stats.row(row)
    cdef uint64_t limits[BOUNDS]
    cdef uint64_t values[BOUNDS]
    cdef uint64_t turn_
    cdef uint32_t n = <uint32_t>len(bounds)
    if words == NULL or not 0 < n <= BOUNDS or <size_t>slot + n + 3 > stats.slots:
        raise IndexError("no such row or slot, or too many bounds")
    for i, bound in enumerate(bounds):
        limits[i] = values[i] = bound
    with nogil:
        for turn_ in range(repeat):
            stat_observe(words, slot, limits, n, values[turn_ % n])
    return words[slot + n + 2]


def count(Stats stats not None, uint32_t row, slots, bytes wire not None, uint64_t repeat):
    """Counts a query and its reply in the cell that fastdns.metrics.cell gave as `slots`; returns those so far."""
    cdef Worker w
    cdef Query q
    cdef Cell cell
    cdef uint64_t _turn
    memset(&w, 0, sizeof(w))
    memset(&q, 0, sizeof(q))
    w.row = stats.row(row)
    w.shared = stats.row(0)
    if w.row == NULL or wire_admit(wire, len(wire), &q.pkt) != ADMIT_OK:
        raise ValueError("no such row, or no admissible query")
    cell_fill(&cell, slots)
    q.ulen = 120
    q.start_ns = 1
    with nogil:
        for _turn in range(repeat):
            count_query(&w, &cell, &q, 0, True, 100001)
    return w.row[cell.duration + TIMES + 2]


def log(RingHandle ring not None, uint64_t repeat):
    """Writes records of a query into a ring and takes them out unread; returns how many found room."""
    cdef QueryRecord *r
    cdef uint64_t _turn, done = 0
    with nogil:
        for _turn in range(repeat):
            r = <QueryRecord *>ring_reserve(&ring.ring, LOG_QUERY, sizeof(QueryRecord) + RECORD_OCTETS)
            if r == NULL:
                # The consumer's part: everything that was published is taken.
                fd_store_release(ring.ring.tail, fd_load_acquire(ring.ring.head))
                continue
            memset(r, 0, sizeof(QueryRecord) + RECORD_OCTETS)
            r.qname_len = RECORD_OCTETS
            ring_commit(&ring.ring)
            done += 1
    return done


# ---------------------------------------------------------------------------------------------- _cache

def put(Segment segment not None, uint32_t block, list names not None, bytes wire not None, list offsets not None,
        uint64_t rounds):
    """Inserts the same message under each of the names, `rounds` times; returns how many were stored.

    names: lower-cased wire form; offsets: of the message's TTL fields.
    """
    cdef CacheView view
    cdef CacheTable table
    cdef CacheEntry e
    cdef uint16_t ttls[16]
    cdef CacheKey *keys = <CacheKey *>calloc(len(names) or 1, sizeof(CacheKey))
    cdef Py_ssize_t i, n = len(names)
    cdef uint64_t _turn, now = 1, stored = 0
    cdef int evicted = 0
    cdef bytes name
    if keys == NULL:
        raise MemoryError
    try:
        memset(&view, 0, sizeof(view))
        memset(&e, 0, sizeof(e))
        segment.view(&view)
        if not cache_table(&view, block, &table) or len(offsets) > 16 or not 12 <= len(wire) <= WIRE_MAX:
            raise ValueError("no such block, or more than 16 offsets, or no message")
        for i in range(n):
            name = names[i]
            if not 1 <= len(name) <= 255:
                raise ValueError("a name has 1 to 255 octets")
            keys[i].block = block
            keys[i].qtype = keys[i].qclass = 1
            keys[i].name = name
            keys[i].name_len = <uint16_t>len(name)
        for i, offset in enumerate(offsets):
            if not 12 <= offset <= len(wire) - 4:
                raise ValueError("a TTL outside of the message")
            ttls[i] = offset
        e.orig_ttl = 3600
        e.kind = CACHE_SUCCESS
        e.ttls = <uint16_t>len(offsets)
        e.ttl_off = ttls
        e.wire = wire
        e.wire_len = <uint16_t>len(wire)
        with nogil:
            for _turn in range(rounds):
                now += 1
                for i in range(n):
                    keys[i].hash = cache_hash(&view, &keys[i])
                    e.stored_at = now
                    stored += cache_put(&view, &table, &keys[i], &e, now, cache_epoch(&table), &evicted)
    finally:
        free(keys)
    return stored


# ---------------------------------------------------------------------------------------------- _inflight

cdef uint64_t drawn(Worker *w) noexcept nogil:
    w.rng[0] = w.rng[0] * 6364136223846793005u + 1442695040888963407u
    return w.rng[0] ^ (w.rng[0] >> 29)


cdef bint enter(Worker *w, Forward *f, uint32_t octets) noexcept nogil:
    # A question with all that it hangs in: what a miss enters and leaves once.
    cdef uint32_t i = question_take(f, octets)
    if i == NONE:
        return False
    f.questions[i].hash = drawn(w)
    f.questions[i].asks[0].socket = <uint32_t>(drawn(w) % SOCKETS_USED)
    f.questions[i].asks[0].id = <uint16_t>drawn(w)
    same_insert(f, i)
    ask_insert(f, i * ASKS)
    timer_set(w, f, i, w.now_ns + 2000000000u)
    return True


cdef bint leave(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef bint found = ask_find(f, f.questions[i].asks[0].socket, f.questions[i].asks[0].id) != NONE
    ask_remove(f, i * ASKS)
    timer_clear(f, i)
    same_remove(f, i)
    question_release(f, i)
    return found


def in_flight(uint32_t held, uint64_t repeat, uint32_t octets=40):
    """With `held` questions in flight: the oldest place is left and taken again, `repeat` times, by questions of so
    many octets. Returns how often the one that left was found by its id."""
    cdef Worker w
    cdef Api api
    cdef Forward *f = <Forward *>calloc(1, sizeof(Forward))
    cdef uint32_t i
    cdef uint64_t _turn, found = 0
    cdef bint full = False
    if f == NULL:
        raise MemoryError
    memset(&w, 0, sizeof(w))
    memset(&api, 0, sizeof(api))
    api.random = drawn
    w.api = &api
    w.rng[0] = 1
    w.now_ns = 1 << 32
    try:
        if inflight_open(&w, f) < 0:
            raise MemoryError
        with nogil:
            for i in range(SOCKETS_USED):
                f.sockets[i].asks = NONE
            for _turn in range(held):
                full = full or not enter(&w, f, octets)
            if not full and held:
                i = 0
                for _turn in range(repeat):
                    found += leave(&w, f, i)
                    enter(&w, f, octets)    # into the slot that was left
                    i = i + 1 if i + 1 < held else 0
        inflight_close(f)
        if full or not held:
            raise ValueError("no question, or more than the table holds")
    finally:
        free(f)
    return found
