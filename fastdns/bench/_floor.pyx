# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The floor: what any UDP server on recvmmsg and sendmmsg must pay per query.

Strategy: receive a batch, set QR in each message, send the batch back; no parsing, no table. Answers to clients that
went away are dropped one by one and the rest still leaves. Segmented, neighbours of equal size and peer leave as one
datagram (UDP_SEGMENT), which is what a server may gain from heavy clients. One thread, without the GIL.
"""

import socket

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._sys cimport (
    CMSG_LEN, CMSG_SPACE, EAGAIN, EINTR, MSG_WAITFORONE, SOL_UDP, UDP_SEGMENT, calloc, cmsghdr, errno, free,
    iovec, memcmp, mmsghdr, recvmmsg, sendmmsg, sockaddr_in6,
)

cdef enum:
    BATCH = 64
    SEGMENTS = 60
    OCTETS = 1232               # of a query; what is longer is answered cut
    CONTROL = 32
    QR = 0x80

cdef struct Floor:
    mmsghdr rx[BATCH]
    mmsghdr tx[BATCH]
    iovec iov[BATCH]
    sockaddr_in6 peers[BATCH]
    uint8_t control[BATCH][CONTROL]
    uint8_t octets[BATCH][OCTETS]
    uint64_t answered, failed


cdef void reset(Floor *f, uint32_t n) noexcept nogil:
    # What the kernel, or an answer, changed in the first n messages.
    cdef uint32_t i
    for i in range(n):
        f.iov[i].iov_base = f.octets[i]
        f.iov[i].iov_len = OCTETS
        f.rx[i].msg_hdr.msg_name = &f.peers[i]
        f.rx[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
        f.rx[i].msg_hdr.msg_iov = &f.iov[i]
        f.rx[i].msg_hdr.msg_iovlen = 1


cdef uint32_t train(const Floor *f, uint32_t i, uint32_t n) noexcept nogil:
    # How many messages from i on have one size and one peer.
    cdef uint32_t j = i + 1
    while (j < n and j - i < SEGMENTS and f.rx[j].msg_len == f.rx[i].msg_len
           and f.rx[j].msg_hdr.msg_namelen == f.rx[i].msg_hdr.msg_namelen
           and memcmp(&f.peers[j], &f.peers[i], f.rx[i].msg_hdr.msg_namelen) == 0):
        j += 1
    return j - i


cdef uint32_t segmented(Floor *f, uint32_t n) noexcept nogil:
    # Lays n answers out in trains; returns how many.
    cdef uint32_t i = 0, k = 0, length
    cdef cmsghdr *c
    while i < n:
        length = train(f, i, n)
        f.tx[k].msg_hdr = f.rx[i].msg_hdr
        f.tx[k].msg_hdr.msg_iovlen = length
        if length > 1:
            c = <cmsghdr *>&f.control[k][0]
            c.cmsg_level = SOL_UDP
            c.cmsg_type = UDP_SEGMENT
            c.cmsg_len = CMSG_LEN(2)
            (<uint16_t *>&f.control[k][CMSG_LEN(0)])[0] = <uint16_t>f.rx[i].msg_len
            f.tx[k].msg_hdr.msg_control = c
            f.tx[k].msg_hdr.msg_controllen = CMSG_SPACE(2)
        k += 1
        i += length
    return k


cdef int turns(Floor *f, int fd, bint segment) noexcept nogil:
    # Until a signal or an error: its errno.
    cdef int n, i, k
    cdef uint32_t done, messages
    cdef mmsghdr *out
    while True:
        n = recvmmsg(fd, f.rx, BATCH, MSG_WAITFORONE, NULL)
        if n < 0:
            return errno
        for i in range(n):
            f.octets[i][2] |= QR
            f.iov[i].iov_len = f.rx[i].msg_len
        out = &f.tx[0] if segment else &f.rx[0]
        messages = segmented(f, <uint32_t>n) if segment else <uint32_t>n
        done = 0
        while done < messages:
            k = sendmmsg(fd, out + done, messages - done, 0)
            if k > 0:
                done += <uint32_t>k
            elif errno != EINTR:
                # An error of an earlier datagram, or one that cannot leave: the others do.
                f.failed += 1
                done += 1
        f.answered += <uint32_t>n
        reset(f, <uint32_t>n)


def reflect(sock: socket.socket, segment: bool = False) -> None:
    """Answer on a bound UDP socket until a signal handler raises. OSError when the socket fails.

    Handlers run when a wait is interrupted or ends: a socket with SO_RCVTIMEO misses no signal for longer than that."""
    cdef Floor *f = <Floor *>calloc(1, sizeof(Floor))
    if f == NULL:
        raise MemoryError("the floor")
    cdef int fd = sock.fileno(), error
    cdef bint trains = segment
    sock.setblocking(True)
    reset(f, BATCH)
    try:
        while True:
            with nogil:
                error = turns(f, fd, trains)
            PyErr_CheckSignals()
            if error not in (EINTR, EAGAIN):
                raise OSError(error, "receiving")
    finally:
        free(f)
