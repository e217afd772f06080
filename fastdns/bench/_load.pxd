# SPDX-License-Identifier: Apache-2.0
#
# The load generator: its memory, and the seam between it and a transport.
#
# Strategy: one thread, one `Generator`, a fixed number of sockets (`Conn`). Each socket has a table of flights; a
# query's id is the flight's place, with the number of times that this place was used above it, under a mask drawn per
# socket. So a reply finds its query by one index, the table is as small as what is in flight (it stays in the CPU's
# cache), and an id comes again only after all 65,536 were used. Places are taken in the order in which they became
# free. A place whose query was lost rests for two more timeouts, so a late answer is known as such and never taken
# for another's.
#
# A transport is five functions. It carries octets and knows nothing of questions; what it received goes to `judge`,
# what it sends comes from `compose`.

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._sys cimport epoll_event, iovec, mmsghdr, sockaddr_in6
from fastdns.bench._histogram cimport Distribution

cdef enum:
    BATCH = 64                  # datagrams of one system call, segments of one datagram (the kernel's limit is 64)
    QUERY_MAX = 512             # octets of a query
    HEAD = 320                  # octets of a reply that are looked at: header and the longest question
    CONTROL = 32                # octets of control messages: one UDP_SEGMENT
    EVENTS = 64
    SCRATCH = 65536             # one read from a stream
    OUT = 16384                 # octets that wait on a stream to be sent

# What became of a flight's last query.
cdef enum:
    UNUSED
    FLYING
    LOST                        # and its place rests
    GONE                        # lost, and its place is free again
    DONE

cdef enum:
    SHUT
    OPENING
    OPEN

cdef struct Question:
    uint32_t at                 # in Questions.octets
    uint16_t octets             # of the query
    uint16_t end                # of its question section
    int16_t rcode               # expected; -1: any

cdef struct Flight:
    uint64_t due_ns             # when it should have left: latency counts from here
    uint64_t sent_ns            # when it left: the timeout counts from here
    uint32_t question
    uint16_t raw                # its id before the mask
    uint8_t state

cdef struct Counters:
    uint64_t sent, completed, in_window, lost, late, duplicates, wrong_id, wrong_question, wrong_rcode, malformed
    uint64_t truncated, octets_sent, octets_received, send_errors, receive_errors, connect_errors, reconnects
    uint64_t rcodes[16]

cdef struct Stream:             # what a connection has more than a socket
    uint64_t retry_ns           # when to connect again, while it is shut
    uint64_t answers            # on this connection
    uint32_t out_at, out_end    # what of `out` waits to be sent
    uint32_t want, have, left   # the message that is being received: its length, octets kept, octets to come
    uint8_t length_octets       # of the length in front, that arrived
    bint blocked                # waits until it can send
    uint8_t head[HEAD]
    uint8_t out[OUT]

cdef struct Conn:
    int fd
    uint8_t stage
    bint segment                # the kernel takes segmented sends here
    uint16_t mask               # of ids
    uint32_t places             # a power of two
    uint32_t flying, resting
    uint32_t free_at, free_n    # in `ring`
    uint64_t check_ns           # no flight's time is up before
    Flight *flights
    uint16_t *ring              # free places, in the order in which they became free
    Stream *stream              # NULL: datagrams

cdef struct Transport:
    int (*open)(Generator *g, Conn *c) noexcept nogil                   # 0, or errno
    uint32_t (*send)(Generator *g, Conn *c, uint32_t n) noexcept nogil  # up to n queries; how many it drew
    void (*event)(Generator *g, Conn *c, uint32_t events) noexcept nogil
    void (*tend)(Generator *g, Conn *c) noexcept nogil                  # now and then
    void (*close)(Generator *g, Conn *c) noexcept nogil                 # at the end of a run

cdef struct Generator:
    const Transport *transport
    Conn *conns
    uint32_t conn_n
    uint32_t turn               # the socket whose turn it is at a fixed rate
    uint32_t in_flight          # on each socket, in the closed loop
    int epoll
    const Question *questions
    const uint8_t *octets
    uint32_t question_n
    uint32_t cursor             # the next question
    bint again                  # from the first one after the last
    bint segment
    bint spin
    bint sending
    double rate                 # queries per second; 0: closed loop
    uint64_t drawn              # queries of this run, sent or refused by the kernel
    uint64_t timeout_ns, sweep_every_ns
    uint64_t now_ns, start_ns, end_ns, stopped_ns, sweep_ns, answer_ns
    uint64_t flying
    Counters n
    Distribution latency        # its buckets belong to a Histogram
    sockaddr_in6 peer
    uint32_t peer_len
    epoll_event events[EVENTS]
    mmsghdr tx[BATCH]
    iovec tx_iov[BATCH]
    uint8_t tx_control[BATCH][CONTROL]
    uint16_t tx_octets[BATCH]   # of each query of that datagram
    mmsghdr rx[BATCH]
    iovec rx_iov[BATCH]
    uint8_t rx_head[BATCH][HEAD]
    uint16_t sizes[BATCH]       # different sizes of a batch of queries ...
    uint16_t of_size[QUERY_MAX + 1]     # ... how many of each ...
    uint32_t size_at[QUERY_MAX + 1]     # ... and where the next of that size goes
    uint8_t out[BATCH * QUERY_MAX]
    uint8_t scratch[SCRATCH]


cdef class Questions:
    cdef Question *table
    cdef uint8_t *octets
    cdef uint32_t n


cdef class Load:
    cdef Generator *g
    cdef readonly Questions questions
    cdef readonly str protocol
    cdef readonly str address
    cdef readonly int port
    cdef readonly int cpu
    cdef bint running
    cdef object histogram
    cdef double cpu_start
    cdef begin(self, double seconds)
    cdef turns(self, tick, double interval)
    cdef end(self)
    cdef tally(self, bint final)
