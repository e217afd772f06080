# SPDX-License-Identifier: Apache-2.0
#
# TCP to upstreams: connections that are kept, one question at a time on each.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._inflight cimport Forward, Stanza
from fastdns._stage cimport Worker

cdef struct TcpHandlers:
    void (*answer)(Worker *w, Forward *f, uint32_t question, const uint8_t *msg, uint32_t n) noexcept nogil
        # A message with the id asked with. Taken, the connection is kept; if it is no answer, tcp_forget closes it.
    void (*failed)(Worker *w, Forward *f, uint32_t question, uint32_t conn, int error) noexcept nogil
        # The connection is closed right after. error 0: the upstream closed it.
    void (*connected)(Worker *w, Forward *f, uint32_t question) noexcept nogil

cdef void tcp_setup(const TcpHandlers *handlers) noexcept nogil
cdef int tcp_ask(Worker *w, Forward *f, Stanza *z, uint16_t upstream, uint32_t question) noexcept nogil
    # Sends a question on an idle connection or dials one: 0, or an errno. The question's conn is set.
cdef void tcp_forget(Worker *w, Forward *f, uint32_t question) noexcept nogil
    # Closes the connection that a question waits on.
cdef void tcp_event(Worker *w, Forward *f, uint32_t conn, uint16_t gen, uint32_t events) noexcept nogil
cdef void tcp_sweep(Worker *w, Forward *f) noexcept nogil
cdef void tcp_close_all(Worker *w, Forward *f) noexcept nogil
