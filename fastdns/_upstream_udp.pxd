# SPDX-License-Identifier: Apache-2.0
#
# UDP to upstreams: pools of connected sockets, batches out, batches in.

from libc.stdint cimport uint8_t, uint32_t

from fastdns._inflight cimport Forward, Upstream
from fastdns._stage cimport Worker
from fastdns._sys cimport sockaddr_in6

cdef struct Handlers:
    # What the datagrams, errors and failed sends of a socket mean is the forwarder's business.
    void (*answer)(Worker *w, Forward *f, uint32_t entry, const uint8_t *msg, uint32_t n) noexcept nogil
    void (*stray)(Worker *w, Forward *f, uint32_t socket, const uint8_t *msg, uint32_t n) noexcept nogil
    void (*refused)(Worker *w, Forward *f, uint32_t socket, int error) noexcept nogil
    void (*unsent)(Worker *w, Forward *f, uint32_t question, int error) noexcept nogil

cdef int udp_open(Worker *w, Forward *f, const Handlers *handlers) noexcept nogil
cdef uint32_t pool_of(Forward *f, const Upstream *u, const sockaddr_in6 *source, uint32_t source_len) noexcept nogil
cdef void pool_sizes(Forward *f) noexcept nogil
cdef int udp_ask(Worker *w, Forward *f, uint32_t question, uint32_t k, uint32_t pool, uint32_t avoid) noexcept nogil
    # Queues a question's message under a fresh id on the batch's socket, unless that is the one to avoid, in the ask k.
    # 0, or an errno.
cdef void udp_flush(Worker *w, Forward *f) noexcept nogil
cdef void udp_event(Worker *w, Forward *f, uint32_t socket) noexcept nogil
cdef void udp_sweep(Worker *w, Forward *f) noexcept nogil
cdef void udp_settle(Worker *w, Forward *f, uint32_t socket) noexcept nogil
    # Closes a retired socket that nothing listens on any more.
cdef void udp_close(Worker *w, Forward *f) noexcept nogil
