# SPDX-License-Identifier: Apache-2.0
#
# The attempts of a question.

from libc.stdint cimport uint32_t

from fastdns._inflight cimport Config, Forward
from fastdns._stage cimport Worker
from fastdns._upstream_tcp cimport TcpHandlers
from fastdns._upstream_udp cimport Handlers

cdef enum:
    TIMES = 16                  # bounds of the duration histograms
    DIAL_MAX_MS = 30000
    DIAL_START_MS = 15000       # the average that a dial timeout starts from

cdef void attempt_handlers(Handlers *udp, TcpHandlers *tcp) noexcept nogil
cdef bint advance(Worker *w, Forward *f, uint32_t i) noexcept nogil
    # Starts a question's next attempt; False when there is none.
cdef void fire(Worker *w, Forward *f, uint32_t i) noexcept nogil
    # A question's timer has run out.
cdef void leave(Worker *w, const Config *c) noexcept nogil
    # A query is in flight no more (max_concurrent).
