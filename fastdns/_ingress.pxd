# SPDX-License-Identifier: Apache-2.0
#
# The one compiled ingress, and the common end of every answer: what UDP and TCP share.

from libc.stdint cimport uint8_t, uint32_t
from libc.stddef cimport size_t

from fastdns._stage cimport Query, Worker
from fastdns._sys cimport sockaddr_in6

cdef enum:
    # Counters, in the order of ingress.NAMES, slots in Worker.counts.
    COUNT_OK = 0
    COUNT_SHORT = 1
    COUNT_RESPONSE = 2
    COUNT_NOTIMP = 3
    COUNT_FORMERR = 4
    COUNT_BADVERS = 5
    COUNT_UNSENDABLE = 6
    COUNT_SILENT = 7
    COUNT_SEND_ERROR = 8
    COUNT_SEGMENT_FALLBACK = 9
    COUNT_TCP_ACCEPTED = 10
    COUNT_TCP_EVICTED = 11
    COUNT_TCP_PAUSED = 12
    COUNT_TCP_TIMEOUT = 13
    COUNT_UDP_BATCHES = 14
    COUNTS = 15

cdef bint ingress(Worker *w, Query *q, const uint8_t *octets, size_t n, size_t *error) noexcept nogil
    # Judges octets and, when they are a query, runs it: True, and the sink of its origin is called exactly once, now or
    # later. Otherwise False, and *error octets of an error reply are at q.reply (arena room); 0: silence.
cdef size_t egress(Worker *w, Query *q) noexcept nogil
    # Finishes a query's answer at q.reply: octets to send, 0 for silence.
cdef void identify(Query *q, const sockaddr_in6 *peer, uint32_t peer_len) noexcept nogil
    # Takes client address, port and family from a socket address (v4-mapped addresses become IPv4).
