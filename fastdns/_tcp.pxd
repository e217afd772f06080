# SPDX-License-Identifier: Apache-2.0
#
# Plain TCP to clients, on the hot thread: same ingress, same chain as UDP.

from libc.stdint cimport uint8_t, uint32_t

from fastdns._stage cimport Worker

cdef enum:
    TCP_CONNECTIONS = 4096      # open connections of a worker
    TCP_IN_FLIGHT = 128         # queries of one connection that wait for their answers
    TCP_UNSENT = 131072         # octets of answers that a connection may leave unread before we stop reading it
    TCP_STREAM = 65536          # ... before a stream waits: below TCP_UNSENT, so that queries beside it are still read
    TCP_TURN = 32               # messages taken from one connection in one turn of the loop

cdef int tcp_open(Worker *w, uint32_t first_query_ms, uint32_t idle_ms, uint32_t write_ms) except -1
cdef bint tcp_listen(Worker *w, uint32_t listener) noexcept nogil
cdef void tcp_drain(Worker *w, const uint8_t *last) noexcept nogil
cdef void tcp_take(Worker *w, uint32_t listener, int fd) noexcept nogil
cdef bint tcp_reads(const Worker *w) noexcept nogil
cdef uint32_t tcp_connections(const Worker *w) noexcept nogil
