# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""TSIG (RFC 8945): verifies signed queries, signs replies, and chains the signatures of a stream.

Strategy: the record is read by a cursor that checks every length, and what does not end where its RDATA ends cannot be
understood. Keys are sorted by name and found by bisection; each holds the state of all five MACs. The key is looked for
first, then the MAC is compared in constant time, and only then the clock is asked (RFC 8945 5.2), so that nobody
without the key learns more than that it was wrong.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._hmac cimport (
    HASH_MAX, HASHES, Hash, hash_add, hash_size, hmac_end, hmac_key, hmac_start, same_octets,
)
from fastdns._sys cimport calloc, free, memcmp, memcpy
from fastdns._wire cimport (
    ADMIT_OK, CLASS_ANY, TYPE_TSIG, WIRE_HEADER, WIRE_MAX, WIRE_NAME_MAX, Cursor, Packet, cursor_open, cursor_take,
    cursor_u16, cursor_u32, cursor_u8, get16, put16, put32, wire_admit, wire_lower, wire_name, wire_name_text,
)

ALGORITHMS = ("hmac-sha1.", "hmac-sha224.", "hmac-sha256.", "hmac-sha384.", "hmac-sha512.")

cdef enum:
    ALGORITHM_MAX = 16          # octets of the longest name of those, wire form
    RR_FIXED = 10               # type, class, TTL, RDLENGTH
    FIXED = 16                  # of the RDATA: time, fudge, the MAC's length, id, error, the other data's length
    OTHER_MAX = 6               # octets of other data that we send: a clock
    MAC_LEAST = 10              # octets that a cut MAC has at least, if half of it is not more (RFC 8945 5.2.2.1)

cdef struct Algorithm:
    uint8_t name[ALGORITHM_MAX]     # lower-cased wire form
    uint32_t len

cdef Algorithm NAMES[HASHES]

cdef struct Record:
    # A TSIG record as it stands in a message. Pointers lead into that.
    uint8_t owner[256]          # lower-cased
    uint32_t owner_len
    uint8_t algorithm[256]      # lower-cased
    uint32_t algorithm_len
    uint64_t time
    uint16_t fudge
    uint16_t mac_len
    const uint8_t *mac
    uint16_t id
    uint16_t error
    uint16_t other_len
    const uint8_t *other


def _fill():
    for i, text in enumerate(ALGORITHMS):
        label = text.rstrip(".").encode()
        name = bytes([len(label)]) + label + b"\0"
        NAMES[i].len = <uint32_t>len(name)
        memcpy(NAMES[i].name, <const uint8_t *>name, len(name))


_fill()


# ---- reading

cdef uint32_t take_name(Cursor *c, uint8_t *name) noexcept nogil:
    # A name without pointers, which has its octets to itself; 0: it is none. The names of algorithms are such.
    cdef uint32_t n = 0
    cdef uint32_t size
    cdef const uint8_t *label
    while not c.bad:
        size = cursor_u8(c)
        if c.bad or size > 63 or n + 1 + size > WIRE_NAME_MAX:
            return 0
        name[n] = <uint8_t>size
        n += 1
        if size == 0:
            wire_lower(name, n)
            return n
        label = cursor_take(c, size)
        if label == NULL:
            return 0
        memcpy(name + n, label, size)
        n += size
    return 0


cdef inline uint64_t take48(Cursor *c) noexcept nogil:
    cdef uint64_t high = cursor_u16(c)
    return high << 32 | cursor_u32(c)


cdef bint read_record(const Packet *pkt, Record *r) noexcept nogil:
    # The record that admission found; False: it cannot be understood.
    cdef Cursor c
    cdef size_t used = 0
    cdef uint32_t rdlen
    r.owner_len = <uint32_t>wire_name(pkt.wire, pkt.length, pkt.tsig_off, r.owner, &used)
    if r.owner_len == 0:
        return False
    wire_lower(r.owner, r.owner_len)
    cursor_open(&c, pkt.wire, pkt.tsig_off + <uint32_t>used, pkt.length)
    if cursor_u16(&c) != TYPE_TSIG or cursor_u16(&c) != CLASS_ANY or cursor_u32(&c) != 0:
        return False            # RFC 8945 4.2
    rdlen = cursor_u16(&c)
    if c.bad or c.end - c.at < rdlen:
        return False
    c.end = c.at + rdlen
    r.algorithm_len = take_name(&c, r.algorithm)
    r.time = take48(&c)
    r.fudge = cursor_u16(&c)
    r.mac_len = cursor_u16(&c)
    r.mac = cursor_take(&c, r.mac_len)
    r.id = cursor_u16(&c)
    r.error = cursor_u16(&c)
    r.other_len = cursor_u16(&c)
    r.other = cursor_take(&c, r.other_len)
    return r.algorithm_len != 0 and not c.bad and c.at == c.end


# ---- keys

cdef inline int order_of(const uint8_t *name, uint32_t n, const TsigKey *key) noexcept nogil:
    if n != key.name_len:
        return -1 if n < key.name_len else 1
    return memcmp(name, key.name, n)


cdef const TsigKey *find_key(const TsigKeys *keys, const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = keys.count
    cdef uint32_t middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        order = order_of(name, n, &keys.keys[middle])
        if order == 0:
            return &keys.keys[middle]
        if order < 0:
            high = middle
        else:
            low = middle + 1
    return NULL


cdef int find_hash(const uint8_t *name, uint32_t n) noexcept nogil:
    cdef int i
    for i in range(HASHES):
        if NAMES[i].len == n and memcmp(NAMES[i].name, name, n) == 0:
            return i
    return -1


# ---- what is signed

cdef inline void put48(uint8_t *p, uint64_t v) noexcept nogil:
    put16(p, <uint32_t>(v >> 32) & 0xFFFF)
    put32(p + 2, <uint32_t>v)


cdef void add_variables(Hash *h, const TsigKey *key, int algorithm, uint64_t time, uint32_t fudge, uint32_t error,
                        const uint8_t *other, uint32_t other_len) noexcept nogil:
    # RFC 8945 4.3.3.
    cdef uint8_t fixed[12]
    hash_add(h, key.name, key.name_len)
    put16(fixed, CLASS_ANY)
    put32(fixed + 2, 0)
    hash_add(h, fixed, 6)
    hash_add(h, NAMES[algorithm].name, NAMES[algorithm].len)
    put48(fixed, time)
    put16(fixed + 6, fudge)
    put16(fixed + 8, error)
    put16(fixed + 10, other_len)
    hash_add(h, fixed, 12)
    if other_len:
        hash_add(h, other, other_len)


cdef void add_query(Hash *h, const Packet *pkt, uint16_t id) noexcept nogil:
    # The query as it was before it was signed: with its first id, without the record (RFC 8945 4.3.2).
    cdef uint8_t head[WIRE_HEADER]
    memcpy(head, pkt.wire, WIRE_HEADER)
    put16(head, id)
    put16(head + 10, get16(head + 10) - 1)
    hash_add(h, head, WIRE_HEADER)
    hash_add(h, pkt.wire + WIRE_HEADER, pkt.tsig_off - WIRE_HEADER)


cdef int tsig_verify(const TsigKeys *keys, const Packet *pkt, uint64_t now, Signature *s) noexcept nogil:
    cdef Record r
    cdef Hash h
    cdef uint8_t mac[HASH_MAX]
    cdef uint64_t apart
    cdef uint32_t whole, least
    cdef int algorithm
    s.key = NULL
    s.mac_len = 0
    s.error = 0
    s.hash = 0
    s.time = 0
    if not pkt.has_tsig or pkt.tsig_off < WIRE_HEADER or not read_record(pkt, &r):
        return TSIG_FORMERR
    s.time = r.time
    algorithm = find_hash(r.algorithm, r.algorithm_len)
    s.key = find_key(keys, r.owner, r.owner_len)
    if s.key == NULL or algorithm < 0:
        s.key = NULL
        s.error = BADKEY
        return BADKEY
    s.hash = <uint8_t>algorithm
    whole = hash_size(algorithm)
    least = whole // 2 if whole // 2 > MAC_LEAST else MAC_LEAST
    if r.mac_len > whole or r.mac_len < least:
        return TSIG_FORMERR     # RFC 8945 5.2.2.1
    hmac_start(&h, &s.key.macs[algorithm], algorithm)
    add_query(&h, pkt, r.id)
    add_variables(&h, s.key, algorithm, r.time, r.fudge, r.error, r.other, r.other_len)
    hmac_end(&h, &s.key.macs[algorithm], mac)
    if not same_octets(mac, r.mac, r.mac_len):
        s.error = BADSIG
        return BADSIG
    s.mac_len = <uint8_t>r.mac_len
    memcpy(s.mac, mac, r.mac_len)
    apart = now - r.time if now > r.time else r.time - now
    if apart > r.fudge:
        s.error = BADTIME
    return s.error


# ---- signing

cdef uint32_t tsig_hash_size(const Signature *s) noexcept nogil:
    return hash_size(s.hash)


cdef inline bint is_signed(const Signature *s) noexcept nogil:
    # What is wrong with a key or a MAC is said without a MAC (RFC 8945 5.3.2).
    return s.error != BADKEY and s.error != BADSIG


cdef uint32_t tsig_room(const Signature *s, const Packet *pkt) noexcept nogil:
    cdef Record r
    if s.key == NULL:
        return r.owner_len + RR_FIXED + r.algorithm_len + FIXED if read_record(pkt, &r) else 0
    return (s.key.name_len + RR_FIXED + NAMES[s.hash].len + FIXED + (hash_size(s.hash) if is_signed(s) else 0)
            + (OTHER_MAX if s.error == BADTIME else 0))


cdef uint32_t put_record(uint8_t *p, const uint8_t *owner, uint32_t owner_len, const uint8_t *algorithm,
                         uint32_t algorithm_len, uint64_t time, const uint8_t *mac, uint32_t mac_len, uint32_t id,
                         uint32_t error, const uint8_t *other, uint32_t other_len) noexcept nogil:
    cdef uint32_t n = owner_len
    memcpy(p, owner, owner_len)
    put16(p + n, TYPE_TSIG)
    put16(p + n + 2, CLASS_ANY)
    put32(p + n + 4, 0)
    put16(p + n + 8, algorithm_len + FIXED + mac_len + other_len)
    n += RR_FIXED
    memcpy(p + n, algorithm, algorithm_len)
    n += algorithm_len
    put48(p + n, time)
    put16(p + n + 6, TSIG_FUDGE)
    put16(p + n + 8, mac_len)
    n += 10
    if mac_len:
        memcpy(p + n, mac, mac_len)
    n += mac_len
    put16(p + n, id)
    put16(p + n + 2, error)
    put16(p + n + 4, other_len)
    n += 6
    if other_len:
        memcpy(p + n, other, other_len)
    return n + other_len


cdef uint32_t tsig_sign(Signature *s, const Packet *pkt, uint8_t *msg, uint32_t n, uint64_t now,
                        bint later) noexcept nogil:
    cdef Record r
    cdef Hash h
    cdef uint8_t head[8]
    cdef uint8_t clock[OTHER_MAX]
    cdef uint32_t other_len = OTHER_MAX if s.error == BADTIME else 0
    cdef uint64_t time = now
    put48(clock, now)
    if s.key == NULL:
        if not read_record(pkt, &r):
            return n
        n += put_record(msg + n, r.owner, r.owner_len, r.algorithm, r.algorithm_len, time, NULL, 0, get16(msg), s.error,
                        NULL, 0)
        put16(msg + 10, get16(msg + 10) + 1)
        return n
    if s.error == BADTIME:
        time = s.time           # RFC 8945 5.2.3
    if is_signed(s):
        hmac_start(&h, &s.key.macs[s.hash], s.hash)
        put16(head, s.mac_len)
        hash_add(&h, head, 2)
        hash_add(&h, s.mac, s.mac_len)
        hash_add(&h, msg, n)
        if later:
            put48(head, time)
            put16(head + 6, TSIG_FUDGE)
            hash_add(&h, head, 8)
        else:
            add_variables(&h, s.key, s.hash, time, TSIG_FUDGE, s.error, clock, other_len)
        hmac_end(&h, &s.key.macs[s.hash], s.mac)
        s.mac_len = <uint8_t>hash_size(s.hash)
    else:
        s.mac_len = 0
    n += put_record(msg + n, s.key.name, s.key.name_len, NAMES[s.hash].name, NAMES[s.hash].len, time, s.mac, s.mac_len,
                    get16(msg), s.error, clock, other_len)
    put16(msg + 10, get16(msg + 10) + 1)
    return n


# ---- for Python

cdef class KeyTable:
    """The keys of a listener, ready to verify and sign with: {name in wire form, secret}."""

    def __init__(self, dict secrets not None):
        cdef TsigKey *key
        cdef bytes name, secret
        cdef uint8_t plain[256]
        cdef size_t used = 0
        cdef int i, n
        if len(secrets) > TSIG_KEYS_MAX:
            raise ValueError(f"a listener has at most {TSIG_KEYS_MAX:,} keys")
        self.table.keys = <TsigKey *>calloc(len(secrets) or 1, sizeof(TsigKey))
        if self.table.keys == NULL:
            raise MemoryError
        for name, secret in sorted(secrets.items(), key=_by_name):
            n = wire_name(name, len(name), 0, plain, &used)
            if n == 0 or used != <size_t>len(name) or n != len(name):
                raise ValueError(f"{name!r} is no name in wire form")
            if not 0 < len(secret) <= TSIG_SECRET_MAX:
                raise ValueError(f"a secret has 1 to {TSIG_SECRET_MAX} octets")
            wire_lower(plain, n)
            key = &self.table.keys[self.table.count]
            memcpy(key.name, plain, n)
            key.name_len = <uint16_t>n
            for i in range(HASHES):
                hmac_key(&key.macs[i], i, secret, len(secret))
            self.table.count += 1

    def __dealloc__(self):
        free(self.table.keys)

    def __len__(self):
        return self.table.count

    def verify(self, bytes wire not None, uint64_t now):
        """(0, an extended error, or -1 for what cannot be understood; the name of the key as text, or "")."""
        cdef Packet pkt
        cdef Signature s
        cdef char text[1024]
        cdef int result
        if wire_admit(wire, len(wire), &pkt) != ADMIT_OK or not pkt.has_tsig:
            raise ValueError("no admissible query with a TSIG record")
        result = tsig_verify(&self.table, &pkt, now, &s)
        if s.key == NULL:
            return result, ""
        n = wire_name_text(s.key.name, s.key.name_len, text, sizeof(text))
        return result, text[:n].decode("ascii")

    def sign(self, bytes wire not None, list replies not None, uint64_t now, uint64_t then, int error=-1):
        """The replies to a signed query, or the messages of a stream, each with its record. `now`: when the query is
        verified, `then`: when they are signed. `error` replaces what came of the query."""
        cdef Packet pkt
        cdef Signature s
        cdef uint8_t *out
        cdef bytes reply
        cdef uint32_t n
        if wire_admit(wire, len(wire), &pkt) != ADMIT_OK or not pkt.has_tsig:
            raise ValueError("no admissible query with a TSIG record")
        if tsig_verify(&self.table, &pkt, now, &s) == TSIG_FORMERR:
            raise ValueError("the TSIG record cannot be understood")
        if error >= 0:
            s.error = <uint16_t>error
        out = <uint8_t *>calloc(1, WIRE_MAX + 1)
        if out == NULL:
            raise MemoryError
        made = []
        try:
            for i, reply in enumerate(replies):
                if len(reply) < WIRE_HEADER or len(reply) + tsig_room(&s, &pkt) > WIRE_MAX:
                    raise ValueError("no reply, or too long a one")
                memcpy(out, <const uint8_t *>reply, len(reply))
                n = tsig_sign(&s, &pkt, out, <uint32_t>len(reply), then, i > 0)
                assert n == len(reply) + tsig_room(&s, &pkt)
                made.append(out[:n])
        finally:
            free(out)
        return made


def _by_name(item):
    return len(item[0]), item[0].lower()
