# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of any: one HINFO record for whoever asks for everything (RFC 8482 4.2).

Strategy: one comparison for every other query; the answer is made of constants.
"""

from libc.stdint cimport uint8_t

from fastdns._stage cimport NEXT, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage, query_replied
from fastdns._wire cimport (
    CLASS_IN, RCODE_NOERROR, SECTION_ANSWER, TYPE_ANY, WIRE_MAX, Writer, writer_reply, writer_rr,
)

cdef enum:
    TYPE_HINFO = 13
    TTL = 8482
    RDATA = 27                  # octets of both strings

cdef const uint8_t *HINFO = b"\x0dANY obsoleted\x0cSee RFC 8482"


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Writer out
    if q.pkt.qtype != TYPE_ANY:
        return NEXT
    w.api.reply_room(w, q)
    writer_reply(&out, &q.pkt, q.reply, WIRE_MAX, 0, RCODE_NOERROR)
    # Class IN whatever the question's, as CoreDNS does.
    writer_rr(&out, SECTION_ANSWER, NULL, 0, TYPE_HINFO, CLASS_IN, TTL, HINFO, RDATA)
    return query_replied(q, &out, out.n - 2 + q.pkt.qname_len)


cdef StageOps OPS
OPS.name = b"any"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage() -> CompiledStage:
    """The stage; it has no configuration."""
    return compiled_stage(&OPS, NULL, None)
