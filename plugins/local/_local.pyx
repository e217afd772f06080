# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of local: names of the local host are answered here (RFC 6303, RFC 6761 6.3).

Strategy: all of its names end in `localhost.` or `in-addr.arpa.`, or begin with `localhost.`, so that one look at
either end lets every other query pass. What is answered is written at once; owners of records have the letters of the
question, by pointing to it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._stage cimport (
    NEXT, RCODE, REPLY, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport memcmp, memcpy
from fastdns._wire cimport (
    CLASS_IN, RCODE_NOERROR, RCODE_NXDOMAIN, RCODE_SERVFAIL, SECTION_ANSWER, SECTION_AUTHORITY, TYPE_A, TYPE_AAAA,
    TYPE_NS, TYPE_PTR, TYPE_SOA, WIRE_HEADER, WIRE_MAX, Writer, put32, writer_reply, writer_rr,
)

cdef enum:
    TTL = 604800                # a week
    LOCALHOST = 11              # octets of the name localhost.
    ROOT_LOCALHOST = 16         # ... root.localhost.
    ARPA = 14                   # ... in-addr.arpa.
    LOOPBACK = 24               # ... 1.0.0.127.in-addr.arpa.

cdef const char *LOCALHOST_NAME = b"\x09localhost\x00"
cdef const char *ROOT_NAME = b"\x04root\x09localhost\x00"
cdef const char *ARPA_NAME = b"\x07in-addr\x04arpa\x00"
cdef const char *LOOPBACK_NAME = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\x00"


cdef struct Config:
    bint prefix
    uint32_t counter


cdef inline bint ends(const uint8_t *name, uint32_t n, const char *tail, uint32_t m) noexcept nogil:
    # Octets only: they may lie within a label.
    return n >= m and memcmp(name + n - m, tail, m) == 0


cdef uint32_t zone_of(const uint8_t *name, uint32_t n) noexcept nogil:
    # Octets before the zone that the name lies in; n: in none.
    cdef uint32_t at = 0
    cdef uint32_t left
    cdef bint host = ends(name, n, LOCALHOST_NAME, LOCALHOST)
    if not host and not ends(name, n, ARPA_NAME, ARPA):
        return n
    while at < n:
        left = n - at
        if host:
            if left <= LOCALHOST:
                return at if left == LOCALHOST else n
            at += <uint32_t>name[at] + 1
            continue
        if left == ARPA + 2 and name[at] == 1 and name[at + 1] == c'0':
            return at
        if left == ARPA + 4 and name[at] == 3 and (memcmp(name + at + 1, b"127", 3) == 0
                                                   or memcmp(name + at + 1, b"255", 3) == 0):
            return at
        if left <= ARPA:
            return n
        at += <uint32_t>name[at] + 1
    return n


cdef void soa(Writer *out, int section, const uint8_t *owner, uint32_t n) noexcept nogil:
    # Of the name at `owner`; NULL: of the question.
    cdef uint8_t rdata[LOCALHOST + ROOT_LOCALHOST + 20]
    memcpy(rdata, LOCALHOST_NAME, LOCALHOST)
    memcpy(rdata + LOCALHOST, ROOT_NAME, ROOT_LOCALHOST)
    put32(rdata + LOCALHOST + ROOT_LOCALHOST, 1)            # serial
    put32(rdata + LOCALHOST + ROOT_LOCALHOST + 4, 0)        # refresh
    put32(rdata + LOCALHOST + ROOT_LOCALHOST + 8, 0)        # retry
    put32(rdata + LOCALHOST + ROOT_LOCALHOST + 12, 0)       # expire
    put32(rdata + LOCALHOST + ROOT_LOCALHOST + 16, TTL)     # minimum
    writer_rr(out, section, owner, n, TYPE_SOA, CLASS_IN, TTL, rdata, sizeof(rdata))


cdef bint address(Writer *out, uint16_t qtype) noexcept nogil:
    cdef uint8_t v6[16]
    if qtype == TYPE_A:
        writer_rr(out, SECTION_ANSWER, NULL, 0, TYPE_A, CLASS_IN, TTL, b"\x7f\x00\x00\x01", 4)
        return True
    if qtype == TYPE_AAAA:
        memcpy(v6, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16)
        writer_rr(out, SECTION_ANSWER, NULL, 0, TYPE_AAAA, CLASS_IN, TTL, v6, 16)
        return True
    return False


cdef int answered(Query *q, Writer *out, int rcode) noexcept nogil:
    cdef uint32_t question = WIRE_HEADER + <uint32_t>q.pkt.qname_len + 4
    if out.bad:
        q.rcode = RCODE_SERVFAIL
        return RCODE
    q.rcode = <uint16_t>rcode
    q.reply_len = out.n
    q.ulen = out.n
    # The one record's owner is written out when it is not the question's.
    if q.reply[question] >= 0xC0:
        q.ulen += q.pkt.qname_len - 2
    q.has_opt = False
    q.options_len = 0
    return REPLY


cdef int below_localhost(Worker *w, const Config *c, Query *q) noexcept nogil:
    cdef Writer out
    stat_add(w.row, c.counter, 1)
    w.api.reply_room(w, q)
    writer_reply(&out, &q.pkt, q.reply, WIRE_MAX, 0, RCODE_NOERROR)
    if not address(&out, q.pkt.qtype):
        soa(&out, SECTION_AUTHORITY, NULL, 0)
    return answered(q, &out, RCODE_NOERROR)


cdef int in_zone(Worker *w, Query *q, uint32_t at) noexcept nogil:
    # The zone begins `at` octets into the name.
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    # As the client wrote it: the question holds no pointer.
    cdef const uint8_t *zone = q.pkt.wire + WIRE_HEADER + at
    cdef uint16_t qtype = q.pkt.qtype
    cdef int rcode = RCODE_NOERROR
    cdef Writer out
    w.api.reply_room(w, q)
    if at != 0 and not (n == LOOPBACK and memcmp(name, LOOPBACK_NAME, LOOPBACK) == 0):
        rcode = RCODE_NXDOMAIN
    writer_reply(&out, &q.pkt, q.reply, WIRE_MAX, 0, rcode)
    if at != 0:
        if rcode == RCODE_NOERROR and qtype == TYPE_PTR:
            writer_rr(&out, SECTION_ANSWER, NULL, 0, TYPE_PTR, CLASS_IN, TTL, <const uint8_t *>LOCALHOST_NAME,
                      LOCALHOST)
        else:
            soa(&out, SECTION_AUTHORITY, zone, n - at)
    elif qtype == TYPE_SOA:
        soa(&out, SECTION_ANSWER, NULL, 0)
    elif qtype == TYPE_NS:
        writer_rr(&out, SECTION_ANSWER, NULL, 0, TYPE_NS, CLASS_IN, TTL, <const uint8_t *>LOCALHOST_NAME, LOCALHOST)
    elif n != LOCALHOST or not address(&out, qtype):
        soa(&out, SECTION_AUTHORITY, NULL, 0)
    return answered(q, &out, rcode)


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef uint32_t at
    if n < LOCALHOST:
        return NEXT
    if c.prefix and n > LOCALHOST and memcmp(name, LOCALHOST_NAME, LOCALHOST - 1) == 0:
        return below_localhost(w, c, q)
    at = zone_of(name, n)
    if at == n:
        return NEXT
    if at and n - at == LOCALHOST:
        return below_localhost(w, c, q)
    return in_zone(w, q, at)


cdef StageOps OPS
OPS.name = b"local"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage(bint prefix, uint32_t counter) -> CompiledStage:
    """The stage that answers for the local host; `prefix`: names that begin with localhost. too. `counter`: the slot of
    those that do, or lie below localhost."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    config.prefix = prefix
    config.counter = counter
    return compiled_stage(&OPS, config, memory)
