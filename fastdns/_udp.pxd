# SPDX-License-Identifier: Apache-2.0
#
# The loop of a worker: UDP batches in and out, and the turn that everything else hangs on.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport CacheView
from fastdns._chain cimport Program
from fastdns._stage cimport Query, Worker
from fastdns._sys cimport iovec, mmsghdr, sockaddr_in6

cdef enum:
    BATCH = 64                  # datagrams of one recvmmsg
    PENDING = 256               # replies gathered before a send
    SLOT_OCTETS = 65536 + 192   # a receive buffer: one coalesced train (UDP_GRO); the odd size spreads the cache sets
    CONTROL_OCTETS = 128        # control message room of a datagram: packet info of both families and a segment size
    SEGMENTS = 60               # of one segmented send
    SEGMENTED_OCTETS = 60000
    SEGMENT_MAX = 1232          # octets of a reply that may be segmented
    BACKLOG = 1024              # replies that wait for one socket: CoreDNS's number
    BACKLOG_OCTETS = 65536      # room of each; only what is filled is ever touched
    RESTS = 256                 # sockets that a worker reads to their end

cdef struct Outgoing:
    # A finished reply in the arena, waiting for the flush.
    const uint8_t *octets
    uint32_t len
    uint16_t listener
    uint16_t next               # in its group, 0xffff: last
    uint32_t peer_len
    uint32_t ifindex
    sockaddr_in6 peer
    uint8_t local_len
    uint8_t local_ip[16]

cdef struct Backlog:
    # Replies that a socket did not take, of a listener that keeps them: a ring without a head. The newest is before
    # `next`; when all cells are used the oldest is at `next`, and the next one takes its place.
    Outgoing items[BACKLOG]
    uint8_t *room               # BACKLOG_OCTETS of each
    uint32_t next
    uint32_t size
    bint wide                   # one was longer than a page: the memory goes back once all have left

cdef struct Socket:
    # Per listener.
    uint8_t local_len           # of a specific address; 0: wildcard, the packet info tells
    uint8_t local_ip[16]
    bint v6
    uint64_t segment_after_ns   # no segmented sends before
    Backlog *backlog            # NULL: what a socket does not take is waited for, and lost

cdef struct Udp:
    mmsghdr rx[BATCH]
    iovec rx_iov[BATCH]
    uint8_t rx_control[BATCH][CONTROL_OCTETS]
    uint8_t *octets             # BATCH receive buffers; only what traffic fills is ever touched
    uint8_t *frames
    sockaddr_in6 peers[BATCH]
    uint32_t rx_used            # headers that the last receive changed
    Query slot                  # queries run one after the other: one slot stays in the nearest cache
    Outgoing tx[PENDING]
    uint32_t tx_n
    uint16_t group_head[PENDING]
    uint16_t group_tail[PENDING]
    uint16_t group_n[PENDING]
    uint16_t table[512]         # group number + 1 by hash of destination and size
    mmsghdr out[PENDING]
    iovec out_iov[PENDING]
    uint8_t out_control[PENDING][CONTROL_OCTETS]
    uint16_t out_group[PENDING]
    Socket *sockets
    uint32_t waiting            # replies in all backlogs

cdef struct Rest:
    # A socket that this worker reads to its end for nobody else does.
    int fd                      # -1: done
    uint32_t listener
    bint stream
    uint64_t until_ns

cdef struct Leaving:
    # How the loop ends. `last` is written before `stop_word`, and read behind it.
    uint32_t stop_word          # 0 run, 1 drain
    uint64_t stop_by_ns
    uint8_t *last               # by listener: 1, nobody reads its sockets after this worker
    int quiet_fd                # an eventfd, written once nothing more is read from clients
    bint quiet
    Rest rest[RESTS]
    uint32_t rest_n             # cells that are written
    uint32_t rest_seen          # ... that the loop has looked at
    uint32_t rest_gone          # ... that are done
    int rest_fd                 # an eventfd, written when all of them are

cdef class Engine:
    cdef Worker w
    cdef CacheView view
    cdef readonly Program program
    cdef readonly object stats
    cdef readonly object segment
    cdef readonly object ring
    cdef readonly object bridge
    cdef int wake_fd            # written by stop()
    cdef Leaving leaving
    cdef bint started
    cdef readonly uint32_t row
    cdef dict options
    cdef int count(self, object stats) except -1
    cdef int udp_open(self) except -1
    cdef int own_address(self, Udp *u, uint32_t i) except -1
    cdef int start_stages(self) except -1
    cdef int open_backlogs(self) except -1
    cdef int stop_stages(self) except -1
