# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of header: flags of the second word of a DNS header (RFC 1035 4.1.1).

Strategy: the rules come down to two masks for each direction, worked out at set-up. A query's flags are changed in its
parsed form, from which upstreams are asked and replies are made; a reply's in its octets.
"""

from libc.stdint cimport uint16_t

from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._wire cimport FLAG_AA, FLAG_RA, FLAG_RD, WIRE_HEADER, get16, put16

cdef struct Masks:
    uint16_t keep
    uint16_t set

cdef struct Config:
    Masks query
    Masks response


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Masks *m = &(<const Config *>s.config).query
    q.pkt.flags = (q.pkt.flags & m.keep) | m.set
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Masks *m = &(<const Config *>s.config).response
    if q.written and q.reply_len >= WIRE_HEADER:
        put16(q.reply + 2, (get16(q.reply + 2) & m.keep) | m.set)


cdef StageOps OPS
OPS.name = b"header"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.message = response
OPS.start = NULL
OPS.stop = NULL


cdef int fill(Masks *m, pair) except -1:
    cdef uint16_t flags = FLAG_AA | FLAG_RA | FLAG_RD
    set_, clear = pair
    if (set_ | clear) & ~flags or set_ & clear:
        raise ValueError("only AA, RA and RD, and each either set or cleared")
    m.keep = <uint16_t>(0xFFFF & ~clear)
    m.set = <uint16_t>set_
    return 0


def stage(query, response) -> CompiledStage:
    """The stage that changes flags of queries and of replies: (those to set, those to clear) of each. ValueError for
    other flags than AA, RA and RD."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    fill(&config.query, query)
    fill(&config.response, response)
    return compiled_stage(&OPS, config, memory)
