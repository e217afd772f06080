# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of cookie: server cookies that any server with the same secret makes alike (RFC 9018).

Strategy: nothing is remembered. A server cookie is version, time and a SipHash-2-4 of them, the client's cookie and
address; whoever has the secret can tell it again. All is decided on the way down: the query is told that its address
is proven (rrl reads that), and which cookie its reply shall bear (the common end of all replies writes it). What is
between a client and this server is none of an upstream's business (RFC 7873 4): the option, all of them if there are
several, is moved behind the end of the query, where no stage behind looks, and back on the way up, so that who reports
sees what came.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stage cimport (
    NEXT, PROTO_UDP, RCODE, REPLY, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage, stage_frame,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport CLOCK_REALTIME, calloc, clock_gettime, free, memcpy, memmove, timespec
from fastdns._wire cimport OPTION_COOKIE, RCODE_FORMERR, WIRE_MAX, get16, get32, put16, put32, wire_rcode

RESULTS = ("client", "good", "renewed", "bad", "malformed")

cdef enum:
    RCODE_BADCOOKIE = 23
    SECRETS = 4
    OPTION_HEAD = 4             # octets before an option's data: code and length
    CLIENT = 8                  # octets of a client cookie
    WHOLE = 24                  # ... and of both parts as RFC 9018 makes them
    VERSION = 1
    OLD = 3600                  # seconds after which a cookie is good no more (RFC 9018 4.3)
    AHEAD = 300                 # ... that another server's clock may be ahead
    RENEWED = 1800              # ... after which a good one is made anew

cdef enum:                      # in the order of RESULTS
    ALONE = 0
    GOOD = 1
    AGED = 2                    # good, and to be replaced
    BAD = 3
    MALFORMED = 4
    KINDS = 5

cdef struct Secret:
    uint64_t k0
    uint64_t k1

cdef struct Server:
    # Counter slots of one listener.
    uint32_t results[KINDS]
    uint32_t badcookie

cdef struct Config:
    Secret secrets[SECRETS]
    uint32_t count
    bint require
    uint32_t server_count
    Server *servers

cdef struct Frame:
    uint32_t octets             # of all COOKIE options, put aside; 0: they were left where they stood


cdef inline uint64_t turned(uint64_t v, int bits) noexcept nogil:
    return v << bits | v >> (64 - bits)


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = turned(v[1], 13) ^ v[0]
    v[0] = turned(v[0], 32)
    v[2] += v[3]
    v[3] = turned(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = turned(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = turned(v[1], 17) ^ v[2]
    v[2] = turned(v[2], 32)


cdef inline uint64_t little(const uint8_t *p, uint32_t n) noexcept nogil:
    cdef uint64_t v = 0
    cdef uint32_t i
    for i in range(n):
        v |= <uint64_t>p[i] << (8 * i)
    return v


cdef uint64_t siphash24(const Secret *key, const uint8_t *data, uint32_t n) noexcept nogil:
    # The tree's other SipHash has one round a word and three at the end; RFC 9018 4.4 wants two and four.
    cdef uint64_t v[4]
    cdef uint64_t m
    cdef uint32_t at = 0
    cdef int _round
    v[0] = key.k0 ^ <uint64_t>0x736f6d6570736575
    v[1] = key.k1 ^ <uint64_t>0x646f72616e646f6d
    v[2] = key.k0 ^ <uint64_t>0x6c7967656e657261
    v[3] = key.k1 ^ <uint64_t>0x7465646279746573
    while at + 8 <= n:
        m = little(data + at, 8)
        v[3] ^= m
        sip_round(v)
        sip_round(v)
        v[0] ^= m
        at += 8
    m = little(data + at, n - at) | <uint64_t>n << 56
    v[3] ^= m
    sip_round(v)
    sip_round(v)
    v[0] ^= m
    v[2] ^= 0xFF
    for _round in range(4):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef uint64_t made(const Secret *key, const uint8_t *cookie, const uint8_t *ip, uint32_t ip_len) noexcept nogil:
    # The hash that belongs behind the first sixteen octets of a cookie.
    cdef uint8_t octets[32]
    memcpy(octets, cookie, 16)
    memcpy(octets + 16, ip, ip_len)
    return siphash24(key, octets, 16 + ip_len)


cdef void make(const Secret *key, const uint8_t *ip, uint32_t ip_len, uint32_t now, uint8_t *out) noexcept nogil:
    # Writes the server cookie behind the client's, which is in out already.
    cdef uint64_t h
    cdef uint32_t i
    put32(out + CLIENT, <uint32_t>VERSION << 24)
    put32(out + CLIENT + 4, now)
    h = made(key, out, ip, ip_len)
    for i in range(8):
        out[CLIENT + 8 + i] = <uint8_t>(h >> (8 * i))


cdef int judge(const Config *c, const uint8_t *got, uint32_t n, const uint8_t *ip, uint32_t ip_len, uint32_t now,
               uint8_t *out) noexcept nogil:
    # What the n octets of a COOKIE option are worth; out: the WHOLE octets to answer with, unless it is MALFORMED.
    cdef int32_t age
    cdef uint32_t i
    if n != CLIENT and (n < 16 or n > 40):
        return MALFORMED        # RFC 7873 5.2.2
    memcpy(out, got, CLIENT)
    if n == WHOLE and got[CLIENT] == VERSION:
        age = <int32_t>(now - get32(got + CLIENT + 4))      # serial numbers, RFC 1982
        if -AHEAD <= age and age <= OLD:
            for i in range(c.count):
                if made(&c.secrets[i], got, ip, ip_len) == little(got + 16, 8):
                    if i == 0 and age <= RENEWED:
                        memcpy(out, got, WHOLE)
                        return GOOD
                    make(&c.secrets[0], ip, ip_len, now, out)
                    return AGED
    make(&c.secrets[0], ip, ip_len, now, out)
    return ALONE if n == CLIENT else BAD


cdef uint32_t option_at(const Query *q) noexcept nogil:
    # Where the first COOKIE option stands; admission has measured all of them.
    cdef uint32_t at = q.pkt.opt_rdata
    cdef uint32_t end = at + q.pkt.opt_rdlen
    while at + 4 <= end:
        if get16(q.pkt.wire + at) == OPTION_COOKIE:
            return at
        at += 4 + <uint32_t>get16(q.pkt.wire + at + 2)
    return 0


cdef void put_away(Worker *w, Query *q, Frame *f) noexcept nogil:
    # Moves every COOKIE option behind the end of the query: only the first was looked at, none is an upstream's
    # business. Where one stood is written over its code. A signed query, or an OPT that others follow, stays as it is.
    cdef uint8_t *wire = <uint8_t *>q.pkt.wire + q.pkt.opt_rdata
    cdef uint32_t n = q.pkt.opt_rdlen
    cdef uint32_t at = 0
    cdef uint32_t kept = 0
    cdef uint32_t aside = 0
    cdef uint32_t size
    if q.pkt.has_tsig or q.pkt.opt_rdata + n != q.pkt.end:
        return
    while at + OPTION_HEAD <= n:
        size = OPTION_HEAD + <uint32_t>get16(wire + at + 2)
        if get16(wire + at) == OPTION_COOKIE:
            memcpy(w.scratch + aside, wire + at, size)
            put16(w.scratch + aside, at)
            aside += size
            q.pkt.options -= 1
        else:
            memmove(wire + kept, wire + at, size)
            kept += size
        at += size
    memcpy(wire + kept, w.scratch, aside)
    q.pkt.opt_rdlen = <uint16_t>kept
    put16(wire - 2, kept)
    q.pkt.end -= aside
    f.octets = aside


cdef void put_back(Worker *w, Query *q, Frame *f) noexcept nogil:
    # In the order in which they stood, so that each finds the place that it had.
    cdef uint8_t *wire = <uint8_t *>q.pkt.wire + q.pkt.opt_rdata
    cdef uint32_t n = q.pkt.opt_rdlen
    cdef uint32_t at = 0
    cdef uint32_t place, size
    memcpy(w.scratch, wire + n, f.octets)
    while at < f.octets:
        place = get16(w.scratch + at)
        size = OPTION_HEAD + <uint32_t>get16(w.scratch + at + 2)
        memmove(wire + place + size, wire + place, n - place)
        memcpy(wire + place, w.scratch + at, size)
        put16(wire + place, OPTION_COOKIE)
        n += size
        at += size
        q.pkt.options += 1
    q.pkt.opt_rdlen = <uint16_t>n
    put16(wire - 2, n)
    q.pkt.end += f.octets
    q.pkt.option_codes |= 1U << OPTION_COOKIE
    f.octets = 0


cdef int refuse(Worker *w, const Server *server, Query *q) noexcept nogil:
    # BADCOOKIE with the right cookie (RFC 7873 5.2.3): the client comes again with it.
    stat_add(w.row, server.badcookie, 1)
    w.api.reply_room(w, q)
    q.reply_len = <uint32_t>wire_rcode(&q.pkt, RCODE_BADCOOKIE, q.reply, WIRE_MAX)
    q.ulen = q.reply_len
    q.rcode = RCODE_BADCOOKIE
    return REPLY


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const Server *server
    cdef timespec ts
    cdef uint32_t at, octets
    cdef int result
    if not q.pkt.has_opt or not q.pkt.option_codes & 1U << OPTION_COOKIE or q.background or q.depth:
        return NEXT
    at = option_at(q)
    if at == 0:
        return NEXT
    octets = get16(q.pkt.wire + at + 2)
    clock_gettime(CLOCK_REALTIME, &ts)
    result = judge(c, q.pkt.wire + at + 4, octets, q.client_ip, 16 if q.family == 2 else 4, <uint32_t>ts.tv_sec,
                   q.cookie)
    server = &c.servers[q.listener if q.listener < c.server_count else 0]
    stat_add(w.row, server.results[result], 1)
    q.pkt.option_codes &= <uint16_t>~(1U << OPTION_COOKIE)
    if result == MALFORMED:
        q.rcode = RCODE_FORMERR
        return RCODE
    q.cookie_len = WHOLE
    q.proven = result == GOOD or result == AGED
    if q.proto == PROTO_UDP and (result == BAD or (result == ALONE and c.require)):
        return refuse(w, server, q)
    put_away(w, q, <Frame *>stage_frame(s, q))
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *f = <Frame *>stage_frame(s, q)
    if f.octets:
        put_back(w, q, f)


cdef StageOps OPS
OPS.name = "cookie"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL


cdef int fill(Config *c, secrets) except -1:
    cdef bytes secret
    if not 0 < len(secrets) <= SECRETS:
        raise ValueError(f"1 to {SECRETS} secrets are needed")
    for i, secret in enumerate(secrets):
        if len(secret) != 16:
            raise ValueError("a secret has 16 octets")
        c.secrets[i].k0 = little(secret, 8)
        c.secrets[i].k1 = little(<const uint8_t *>secret + 8, 8)
    c.count = <uint32_t>len(secrets)
    return 0


cdef class _Memory:
    """Keeps a stage's configuration alive."""

    cdef Config config

    def __dealloc__(self):
        free(self.config.servers)


def stage(secrets, bint require, slots) -> CompiledStage:
    """The stage of one `cookie` directive.

    secrets: 16 octets each, the one that makes new cookies first. slots: for each listener those of RESULTS, and of
    BADCOOKIE. ValueError for a wrong number or length of secrets, MemoryError.
    """
    cdef _Memory memory = _Memory()
    cdef Config *c = &memory.config
    cdef int kind
    fill(c, secrets)
    c.require = require
    c.servers = <Server *>calloc(len(slots) or 1, sizeof(Server))
    if c.servers == NULL:
        raise MemoryError
    c.server_count = <uint32_t>len(slots)
    for i, row in enumerate(slots):
        for kind in range(KINDS):
            c.servers[i].results[kind] = row[kind]
        c.servers[i].badcookie = row[KINDS]
    return compiled_stage(&OPS, c, memory)


def judged(bytes cookie, bytes client, secrets, uint32_t now) -> tuple:
    """(what a cookie of `client`, an address of 4 or 16 octets, is at the second `now`: one of RESULTS, the cookie to
    answer with, empty where it is malformed)."""
    cdef Config c
    cdef uint8_t out[WHOLE]
    cdef int result
    fill(&c, secrets)
    if len(client) not in (4, 16):
        raise ValueError("an address has 4 or 16 octets")
    result = judge(&c, cookie, <uint32_t>len(cookie), client, <uint32_t>len(client), now, out)
    return RESULTS[result], b"" if result == MALFORMED else out[:WHOLE]
