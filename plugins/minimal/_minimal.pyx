# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of minimal: a positive answer ends behind its answer section.

Strategy: records stand in the order of their sections and names point backwards, so a reply is cut where the authority
section begins. Most replies have nothing to cut, which three words of the header say. Denials and delegations need
their authority section and pass, and so do replies with signatures that are not valid now, as in CoreDNS.
"""

from libc.stdint cimport int64_t, uint32_t

from fastdns._stage cimport NEXT, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage
from fastdns._sys cimport CLOCK_REALTIME, clock_gettime, timespec
from fastdns._wire cimport (
    OPCODE_NOTIFY, RCODE_NOERROR, SECTION_ANSWER, SECTION_AUTHORITY, TYPE_AXFR, TYPE_IXFR, TYPE_NS, TYPE_RRSIG,
    TYPE_SOA, WIRE_HEADER, Message, get16, get32, put16, wire_scan,
)

cdef enum:
    OPCODE_UPDATE = 5
    SERIAL_BITS = 31            # RRSIG times are serial numbers around the present (RFC 4034 3.1.5)


cdef bint outside_validity(const Query *q, const Message *m) noexcept nogil:
    # Whether any signature is not valid now.
    cdef int64_t now = 0
    cdef int64_t year68 = <int64_t>1 << SERIAL_BITS
    cdef int64_t start, end
    cdef timespec ts
    cdef uint32_t i
    for i in range(m.n):
        if m.records[i].rtype != TYPE_RRSIG or m.records[i].rdlen < 18:
            continue
        if now == 0:
            clock_gettime(CLOCK_REALTIME, &ts)
            now = ts.tv_sec
        end = get32(q.reply + m.records[i].rdata + 8)
        start = get32(q.reply + m.records[i].rdata + 12)
        end += (end - now) / year68 * year68
        start += (start - now) / year68 * year68
        if now < start or now > end:
            return True
    return False


cdef bint answers(const Query *q, const Message *m) noexcept nogil:
    # Whether the reply is neither a denial nor a delegation nor of a kind of its own.
    cdef int opcode = (m.flags >> 11) & 15
    cdef uint32_t i
    if opcode == OPCODE_NOTIFY or opcode == OPCODE_UPDATE:
        return False
    if m.counts[0] and (m.qtype == TYPE_AXFR or m.qtype == TYPE_IXFR):
        return False
    if q.has_opt and q.set_do and outside_validity(q, m):
        return False
    if m.counts[1]:
        return True
    for i in range(m.n):
        if m.records[i].section == SECTION_AUTHORITY and (m.records[i].rtype == TYPE_SOA
                                                          or m.records[i].rtype == TYPE_NS):
            return False
    return True


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef uint32_t i
    if not q.written or q.streamed or q.rcode != RCODE_NOERROR or q.reply_len < WIRE_HEADER:
        return
    if not q.has_opt and get16(q.reply + 8) == 0 and get16(q.reply + 10) == 0:
        return
    if wire_scan(q.reply, q.reply_len, w.scan) != 0 or not answers(q, w.scan):
        return
    for i in range(w.scan.n):
        if w.scan.records[i].section != SECTION_ANSWER:
            q.reply_len = w.scan.records[i].owner
            put16(q.reply + 8, 0)
            put16(q.reply + 10, 0)
            break
    # The upstream's OPT lay in the additional section; the server makes the client's anew.
    q.has_opt = False
    q.set_do = False
    q.options_len = 0
    if wire_scan(q.reply, q.reply_len, w.scan) == 0:
        q.ulen = w.scan.ulen


cdef StageOps OPS
OPS.name = b"minimal"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL


def stage() -> CompiledStage:
    """The stage; it has no configuration."""
    return compiled_stage(&OPS, NULL, None)
