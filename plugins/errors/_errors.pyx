# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of errors: one record for each query that a stage failed with a text.

Strategy: nothing is matched or counted here. The record says which directive it belongs to; the formatter, which sees
the records of all workers, renders or consolidates it.
"""

from libc.stdint cimport uint16_t, uint8_t, uint32_t
from fastdns._log cimport LOG_ERROR, ErrorRecord, ring_commit, ring_reserve
from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._sys cimport memcpy
from fastdns._wire cimport WIRE_HEADER, WIRE_NAME_MAX, wire_lower, wire_name


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef uint8_t name[256]
    cdef size_t used
    cdef int n
    cdef uint32_t text = q.error_len
    cdef ErrorRecord *r
    if text == 0 or w.ring == NULL:
        return
    if text > sizeof(q.error):
        text = sizeof(q.error)
    # The question that a stage asked in the client's place is the one that failed.
    if q.replaced:
        n = q.asked.name_len
        memcpy(name, q.asked.name, n)
    else:
        n = wire_name(q.pkt.wire, q.pkt.length, WIRE_HEADER, name, &used)
        if n <= 0 or n > WIRE_NAME_MAX:
            return
        wire_lower(name, n)
    r = <ErrorRecord *>ring_reserve(w.ring, LOG_ERROR, <uint32_t>(sizeof(ErrorRecord) + n + text))
    if r == NULL:
        return
    r.site = (<uint32_t *>s.config)[0]
    r.rcode = q.rcode
    r.qtype = q.asked.qtype if q.replaced else q.pkt.qtype
    r.qname_len = <uint16_t>n
    r.text_len = <uint16_t>text
    memcpy(<uint8_t *>r + sizeof(ErrorRecord), name, n)
    memcpy(<uint8_t *>r + sizeof(ErrorRecord) + n, q.error, text)
    ring_commit(w.ring)


cdef StageOps OPS
OPS.name = b"errors"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL


def stage(site: int) -> CompiledStage:
    """The reporting stage. `site` is the directive's number (fastdns.metrics.errors_site); 0: it has no patterns."""
    cdef Memory config = zeroed(sizeof(uint32_t))
    (<uint32_t *>config.at)[0] = site
    return compiled_stage(&OPS, config.at, config)
