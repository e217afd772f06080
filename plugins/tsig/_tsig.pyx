# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of tsig: what becomes of a query by its signature.

Strategy: the signature was verified at the ingress and the reply's is made at the common end of all replies, the same
on every transport (fastdns/_tsig.pyx); this stage only acts on the result. It refuses what should be signed and is not,
answers NOTAUTH to what is signed and wrong, and takes the record off what is signed and right, so that no stage behind
sees one. A query that needs no signature and has none costs a look at two bits.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._stage cimport (
    NEXT, REPLY, CompiledStage, Query, Stage, StageOps, Worker, block_signs, compiled_stage, query_signs,
    query_sized,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport calloc, free, memset
from fastdns._tsig cimport BADKEY, BADTIME, BADTRUNC, TSIG_CUT, TSIG_SEEN, TSIG_SIGN, TSIG_SIZED
from fastdns._wire cimport (
    RCODE_FORMERR, RCODE_NOTAUTH, RCODE_NOTIMP, RCODE_REFUSED, RCODE_SERVFAIL, WIRE_MAX, get16, put16, wire_rcode,
)

cdef enum:                      # in the order of metrics.RESULTS
    VERIFIED = 0
    UNSIGNED = 1
    KEY = 2
    SIGNATURE = 3
    TIME = 4
    TRUNCATED = 5
    RESULTS = 6

cdef struct Server:
    # Counter slots of one listener.
    uint32_t results[RESULTS]

cdef struct Config:
    uint64_t types[1024]        # a bit for each that must be signed
    uint32_t opcodes            # ... and for each opcode
    bint whole                  # a cut MAC is not enough
    uint32_t server_count
    Server *servers


cdef inline bint required(const Config *c, const Query *q) noexcept nogil:
    return c.types[q.pkt.qtype >> 6] >> (q.pkt.qtype & 63) & 1 or c.opcodes >> q.pkt.opcode & 1


cdef inline void count(Worker *w, const Config *c, const Query *q, int result) noexcept nogil:
    cdef const Server *server = &c.servers[q.listener if q.listener < c.server_count else 0]
    stat_add(w.row, server.results[result], 1)


cdef int written(Worker *w, Query *q, int rcode) noexcept nogil:
    # A reply without records.
    w.api.reply_room(w, q)
    q.reply_len = <uint32_t>wire_rcode(&q.pkt, rcode, q.reply, WIRE_MAX)
    q.ulen = q.reply_len
    q.rcode = <uint8_t>rcode
    q.has_opt = False
    q.options_len = 0
    return REPLY


cdef inline void add_size(Query *q) noexcept nogil:
    # What log and metrics say of the reply's size is with the record, of a stream's messages with all of theirs.
    cdef uint64_t n = query_sized(q)
    if q.streamed:
        n *= q.streamed
    q.ulen = <uint32_t>(q.ulen + n) if q.ulen + n < 0xffffffffu else 0xffffffffu
    q.tsig |= TSIG_SIZED


cdef void take_off(Query *q) noexcept nogil:
    # The record is the last one: it ends up behind the end, where the reply's may still look at it.
    cdef uint8_t *wire = <uint8_t *>q.pkt.wire
    if q.pkt.has_tsig:
        put16(wire + 10, get16(wire + 10) - 1)
        q.pkt.end = q.pkt.tsig_off
        q.pkt.has_tsig = False


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef int result
    if q.background:
        return NEXT
    if not q.tsig & TSIG_SEEN:
        if not required(c, q) or not block_signs(q.block, q.pkt.qname, q.pkt.qname_len):
            return NEXT
        count(w, c, q, UNSIGNED)
        return written(w, q, RCODE_REFUSED)
    if not q.tsig & TSIG_SIGN:
        return NEXT
    take_off(q)
    if q.signature.error == 0 and c.whole and q.tsig & TSIG_CUT:
        q.signature.error = BADTRUNC
    if q.signature.error == 0:
        count(w, c, q, VERIFIED)
        return NEXT
    if q.signature.error == BADKEY:
        result = KEY
    elif q.signature.error == BADTIME:
        result = TIME
    elif q.signature.error == BADTRUNC:
        result = TRUNCATED
    else:
        result = SIGNATURE
    count(w, c, q, result)
    written(w, q, RCODE_NOTAUTH)
    add_size(q)
    return REPLY


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    if not q.tsig or not query_signs(q) or q.background:
        return
    if not q.written:
        # CoreDNS's tsig writes what the server would: the stages before see a reply.
        if q.dropped or not (q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_REFUSED or q.rcode == RCODE_FORMERR
                             or q.rcode == RCODE_NOTIMP):
            return
        written(w, q, q.rcode)
        q.written = True
        q.writer = <uint8_t>(s.index + 1 if s.index < 255 else 255)
    add_size(q)


cdef StageOps OPS
OPS.name = "tsig"
OPS.frame_size = 0
OPS.request = request
OPS.response = response


cdef class _Memory:
    """Keeps a stage's configuration alive."""

    cdef Config config

    def __dealloc__(self):
        free(self.config.servers)


def stage(types, opcodes, bint whole, slots) -> CompiledStage:
    """The stage of one `tsig` directive.

    types, opcodes: the numbers that must be signed, None: all. whole: a cut MAC is BADTRUNC. slots: for each listener
    those of metrics.RESULTS. ValueError for numbers that there are not, MemoryError.
    """
    cdef _Memory memory = _Memory()
    cdef Config *c = &memory.config
    cdef int number, kind
    c.whole = whole
    if types is None:
        memset(c.types, 0xff, sizeof(c.types))
    if opcodes is None:
        c.opcodes = 0xffff
    for number in types or ():
        if not 0 <= number <= 65535:
            raise ValueError("types have 16 bits")
        c.types[number >> 6] |= <uint64_t>1 << (number & 63)
    for number in opcodes or ():
        if not 0 <= number <= 15:
            raise ValueError("opcodes have 4 bits")
        c.opcodes |= 1U << number
    c.servers = <Server *>calloc(len(slots) or 1, sizeof(Server))
    if c.servers == NULL:
        raise MemoryError
    c.server_count = <uint32_t>len(slots)
    for i, row in enumerate(slots):
        for kind in range(RESULTS):
            c.servers[i].results[kind] = row[kind]
    return compiled_stage(&OPS, c, memory)
