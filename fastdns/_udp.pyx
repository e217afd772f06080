# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The loop of a worker: epoll, receive a batch, handle each, send a batch.

Strategy. Everything a datagram needs is allocated once: headers, buffers, query slots. Replies are gathered in the
arena and compacted into one array; at the flush, equal-sized ones with the same socket, peer and local address become
one segmented datagram (UDP_SEGMENT), the rest leave by one sendmmsg. A segmented send that fails is repeated datagram
by datagram; only a single datagram is ever given up, and counted. Nothing below this file touches a UDP socket of a
client. A listener with `shed` does not wait for a full socket (_udp_backlog.pxi). The loop knows the other modules
(TCP, forward, Python) only as tables of functions: event, tick, flush, sleep.

`Engine` (_udp_face.pxi) is the loop's Python face: made in the template process, started in the worker's, run by one
thread without the GIL until it is stopped.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stddef cimport size_t

from fastdns._bridge cimport bridge_open
from fastdns._cache cimport Segment
from fastdns._chain cimport Program, chain_drain_ready, worker_clock, worker_open
from fastdns._count cimport dropped_reply
from fastdns._ingress cimport (
    COUNT_SEGMENT_FALLBACK, COUNT_SEND_ERROR, COUNT_UDP_BATCHES, egress, identify, ingress,
)
from fastdns._ingress import NAMES
from fastdns._log cimport RingHandle, ring_wake
from fastdns._stage cimport (
    MOD_CONTROL, MOD_LISTEN, MODULES, ORIGIN_UDP, PROTO_UDP, Listener, Query, Stage, Worker,
)
from fastdns._stats cimport Stats, stat_add
from fastdns._sys cimport (
    AF_INET6, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, EAGAIN, EINTR, EINVAL, EIO, ENOBUFS,
    ENOPROTOOPT, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, IP_PKTINFO, MADV_DONTNEED,
    MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MSG_DONTWAIT, PROT_READ, PROT_WRITE, SIG_BLOCK, SOL_UDP, UDP_GRO,
    UDP_SEGMENT, c_close, c_getsockname, c_poll, c_read, c_sendmsg, c_setsockopt, c_write, calloc, cmsghdr,
    epoll_create1, epoll_event, epoll_wait, errno, fd_fence_seq_cst, fd_load_acquire32, fd_store_relaxed,
    fd_store_release32,
    in6_pktinfo, in_pktinfo, iovec, madvise, memcmp, memcpy, memset, mmap, msghdr, pollfd, POLLOUT, pthread_sigmask,
    recvmmsg, sendmmsg, sigfillset, sigset_t, sockaddr, sockaddr_in6, socklen_t,
)
from fastdns._tcp cimport tcp_connections, tcp_drain, tcp_listen, tcp_open, tcp_reads, tcp_take
from fastdns._wire cimport WIRE_QUERY_MAX

import os

cdef enum:
    END = 0xffff                # of a group's list
    ROUNDS = 4                  # full batches taken from one listener before the others have their turn
    LAST_TURNS = 256            # of so many batches, from a socket that leaves: more than a receive buffer holds
    EVENTS = 64
    IDLE_MS = 1000              # an idle loop beats at least so often
    SEND_WAITS = 10             # milliseconds that a full send buffer is waited for
    SEGMENT_PAUSE_S = 60        # seconds without segmentation after the kernel refused it
    PAGE_OCTETS = 4096


# ---------------------------------------------------------------------------------------------- receiving

cdef void rx_reset(Udp *u) noexcept nogil:
    # The kernel changed lengths in the headers it used, and in those only.
    cdef uint32_t i
    for i in range(u.rx_used):
        u.rx[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
        u.rx[i].msg_hdr.msg_controllen = CONTROL_OCTETS
    u.rx_used = 0


cdef uint32_t read_control(Query *q, msghdr *h, bint wildcard) noexcept nogil:
    # The address that the client asked, from the packet info; returns the size of a coalesced train's datagrams (0:
    # one).
    cdef cmsghdr *c = CMSG_FIRSTHDR(h)
    cdef in_pktinfo *v4
    cdef in6_pktinfo *v6
    cdef int size = 0
    while c != NULL:
        if c.cmsg_level == SOL_UDP and c.cmsg_type == UDP_GRO:
            memcpy(&size, CMSG_DATA(c), sizeof(int))
        elif not wildcard:
            c = CMSG_NXTHDR(h, c)
            continue
        elif c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_PKTINFO:
            v6 = <in6_pktinfo *>CMSG_DATA(c)
            if q.family == 1:
                q.local_len = 4
                memcpy(q.local_ip, &v6.ipi6_addr.s6_addr[12], 4)
            else:
                q.local_len = 16
                memcpy(q.local_ip, v6.ipi6_addr.s6_addr, 16)
                # Only a link-local peer needs the interface; elsewhere routing decides, or asymmetric routes break.
                if q.client_ip[0] == 0xfe and (q.client_ip[1] & 0xc0) == 0x80:
                    q.ifindex = v6.ipi6_ifindex
        elif c.cmsg_level == IPPROTO_IP and c.cmsg_type == IP_PKTINFO:
            v4 = <in_pktinfo *>CMSG_DATA(c)
            q.local_len = 4
            memcpy(q.local_ip, &v4.ipi_addr, 4)
        c = CMSG_NXTHDR(h, c)
    return <uint32_t>size if size > 0 else 0


cdef inline void handle_datagram(Worker *w, Udp *u, Query *q, const uint8_t *octets, uint32_t n) noexcept nogil:
    cdef size_t error
    if n > WIRE_QUERY_MAX:
        n = WIRE_QUERY_MAX      # what is cut off is missed: normally FORMERR
    if not ingress(w, q, octets, n, &error) and error:
        transmit(w, u, q, error)
    if w.ready_head != NULL:
        chain_drain_ready(w)


cdef void udp_receive(Worker *w, uint64_t data, uint32_t events) noexcept nogil:
    if events & <uint32_t>EPOLLOUT:
        send_kept(w, <Udp *>w.mod[MOD_LISTEN], <uint16_t>data)
        if events == <uint32_t>EPOLLOUT:
            return
    udp_receive_some(w, <uint32_t>data, w.listeners[<uint32_t>data].udp_fd)


cdef bint udp_receive_some(Worker *w, uint32_t listener, int fd) noexcept nogil:
    # Up to ROUNDS batches of a listener's socket; whether there may be more.
    cdef Udp *u = <Udp *>w.mod[MOD_LISTEN]
    cdef Socket *s = &u.sockets[listener]
    cdef Query *q = &u.slot
    cdef const uint8_t *octets
    cdef uint32_t left, size
    cdef int n, i, _turn
    q.origin = ORIGIN_UDP
    q.proto = PROTO_UDP
    q.listener = <uint16_t>listener
    for _turn in range(ROUNDS):
        rx_reset(u)
        n = recvmmsg(fd, u.rx, BATCH, MSG_DONTWAIT, NULL)
        if n <= 0:
            return False
        u.rx_used = <uint32_t>n
        worker_clock(w)
        stat_add(w.row, w.counts[COUNT_UDP_BATCHES], 1)
        for i in range(n):
            q.ifindex = 0
            q.peer = u.peers[i]
            identify(q, &q.peer, u.rx[i].msg_hdr.msg_namelen)
            q.local_len = s.local_len
            memcpy(q.local_ip, s.local_ip, 16)
            size = 0
            if u.rx[i].msg_hdr.msg_controllen:
                size = read_control(q, &u.rx[i].msg_hdr, s.local_len == 0)
            octets = <const uint8_t *>u.rx_iov[i].iov_base
            left = u.rx[i].msg_len
            while size and left > size:
                # A train of equal datagrams of one client, the last one perhaps shorter.
                handle_datagram(w, u, q, octets, size)
                octets += size
                left -= size
            handle_datagram(w, u, q, octets, left)
        flush_all(w)
        if n < BATCH:
            return False
    return True


# ---------------------------------------------------------------------------------------------- sending

cdef void transmit(Worker *w, Udp *u, const Query *q, size_t n) noexcept nogil:
    # Queues n octets at the arena's end for the flush.
    cdef Outgoing *o
    if u.tx_n == PENDING:
        # A full array is sent now; the reply that waits must move with the arena's new start.
        udp_send_pending(w, u)
        memcpy(w.arena, q.reply, n)
        w.arena_at = 0
    o = &u.tx[u.tx_n]
    o.octets = w.arena + w.arena_at
    o.len = <uint32_t>n
    o.listener = q.listener
    o.peer = q.peer
    o.peer_len = q.peer_len
    o.ifindex = q.ifindex
    o.local_len = q.local_len
    memcpy(o.local_ip, q.local_ip, 16)
    u.tx_n += 1
    w.arena_at += <uint32_t>((n + 7) & ~<size_t>7)


cdef void udp_sink(Worker *w, Query *q) noexcept nogil:
    cdef size_t n = egress(w, q)
    if n:
        transmit(w, <Udp *>w.mod[MOD_LISTEN], q, n)


cdef inline uint32_t destination_hash(const Outgoing *o) noexcept nogil:
    cdef const uint32_t *p = <const uint32_t *>&o.peer
    cdef uint64_t h = <uint64_t>p[0] * 0x9e3779b97f4a7c15ULL + p[1]
    h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9ULL + p[5] + o.len
    return <uint32_t>(h >> 40)


cdef bint same_destination(const Outgoing *a, const Outgoing *b) noexcept nogil:
    return (a.len == b.len and a.listener == b.listener and a.peer_len == b.peer_len
            and a.local_len == b.local_len and a.ifindex == b.ifindex
            and memcmp(&a.peer, &b.peer, a.peer_len) == 0 and memcmp(a.local_ip, b.local_ip, a.local_len) == 0)


cdef uint32_t group_replies(Worker *w, Udp *u) noexcept nogil:
    # Chains replies that may leave as one segmented datagram. Returns the number of groups.
    cdef uint32_t i, cell, groups = 0
    cdef uint16_t g
    cdef Outgoing *o
    memset(u.table, 0, sizeof(u.table))
    for i in range(u.tx_n):
        o = &u.tx[i]
        o.next = END
        if o.len <= SEGMENT_MAX and w.now_ns >= u.sockets[o.listener].segment_after_ns:
            cell = destination_hash(o) & 511
            while u.table[cell]:
                g = u.table[cell] - 1
                if same_destination(&u.tx[u.group_head[g]], o):
                    break
                cell = (cell + 1) & 511
            if u.table[cell]:
                g = u.table[cell] - 1
                if u.group_n[g] < SEGMENTS and (<uint32_t>u.group_n[g] + 1) * o.len <= SEGMENTED_OCTETS:
                    u.tx[u.group_tail[g]].next = <uint16_t>i
                    u.group_tail[g] = <uint16_t>i
                    u.group_n[g] += 1
                    continue
            u.table[cell] = <uint16_t>(groups + 1)
        u.group_head[groups] = u.group_tail[groups] = <uint16_t>i
        u.group_n[groups] = 1
        groups += 1
    return groups


cdef void address_control(const Outgoing *o, bint v6, msghdr *h, uint8_t *control, uint16_t segment) noexcept nogil:
    # Control messages of one send: the source address, and the size of a segment.
    cdef cmsghdr *c
    cdef in_pktinfo *p4
    cdef in6_pktinfo *p6
    cdef size_t at = 0
    if o.local_len and v6:
        c = <cmsghdr *>control
        c.cmsg_level = IPPROTO_IPV6
        c.cmsg_type = IPV6_PKTINFO
        c.cmsg_len = CMSG_LEN(sizeof(in6_pktinfo))
        p6 = <in6_pktinfo *>CMSG_DATA(c)
        p6.ipi6_ifindex = o.ifindex
        if o.local_len == 4:
            memcpy(p6.ipi6_addr.s6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)
            memcpy(&p6.ipi6_addr.s6_addr[12], o.local_ip, 4)
        else:
            memcpy(p6.ipi6_addr.s6_addr, o.local_ip, 16)
        at = CMSG_SPACE(sizeof(in6_pktinfo))
    elif o.local_len:
        c = <cmsghdr *>control
        c.cmsg_level = IPPROTO_IP
        c.cmsg_type = IP_PKTINFO
        c.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))
        p4 = <in_pktinfo *>CMSG_DATA(c)
        memset(p4, 0, sizeof(in_pktinfo))
        memcpy(&p4.ipi_spec_dst, o.local_ip, 4)
        at = CMSG_SPACE(sizeof(in_pktinfo))
    if segment:
        c = <cmsghdr *>(control + at)
        c.cmsg_level = SOL_UDP
        c.cmsg_type = UDP_SEGMENT
        c.cmsg_len = CMSG_LEN(2)
        (<uint16_t *>CMSG_DATA(c))[0] = segment
        at += CMSG_SPACE(2)
    h.msg_control = control if at else NULL
    h.msg_controllen = at


cdef uint32_t lay_out(Worker *w, Udp *u, uint32_t groups, uint16_t listener, uint32_t *iov_at) noexcept nogil:
    # Message headers for one listener's groups; returns how many. Newest first where some may have to wait.
    cdef uint32_t at, g, i, n = 0
    cdef bint newest_first = u.sockets[listener].backlog != NULL
    cdef Outgoing *o
    cdef msghdr *h
    cdef bint wildcard = u.sockets[listener].local_len == 0
    for at in range(groups):
        g = groups - 1 - at if newest_first else at
        o = &u.tx[u.group_head[g]]
        if o.listener != listener:
            continue
        h = &u.out[n].msg_hdr
        h.msg_name = &o.peer
        h.msg_namelen = o.peer_len
        h.msg_iov = &u.out_iov[iov_at[0]]
        h.msg_iovlen = u.group_n[g]
        h.msg_flags = 0
        i = u.group_head[g]
        while i != END:
            u.out_iov[iov_at[0]].iov_base = <void *>u.tx[i].octets
            u.out_iov[iov_at[0]].iov_len = u.tx[i].len
            iov_at[0] += 1
            i = u.tx[i].next
        if wildcard:
            address_control(o, u.sockets[listener].v6, h, u.out_control[n], o.len if u.group_n[g] > 1 else 0)
        elif u.group_n[g] > 1:
            h.msg_controllen = 0
            segment_control(h, u.out_control[n], <uint16_t>o.len)
        else:
            h.msg_control = NULL
            h.msg_controllen = 0
        u.out_group[n] = <uint16_t>g
        n += 1
    return n


cdef inline void segment_control(msghdr *h, uint8_t *control, uint16_t segment) noexcept nogil:
    cdef cmsghdr *c = <cmsghdr *>control
    c.cmsg_level = SOL_UDP
    c.cmsg_type = UDP_SEGMENT
    c.cmsg_len = CMSG_LEN(2)
    (<uint16_t *>CMSG_DATA(c))[0] = segment
    h.msg_control = control
    h.msg_controllen = CMSG_SPACE(2)


cdef bint wait_writable(int fd) noexcept nogil:
    cdef pollfd p
    p.fd = fd
    p.events = POLLOUT
    p.revents = 0
    return c_poll(&p, 1, 1) > 0


cdef void send_one_by_one(Worker *w, Udp *u, uint32_t g, int fd) noexcept nogil:
    # A group whose segmented send failed.
    cdef uint32_t i = u.group_head[g]
    cdef msghdr h
    cdef iovec v
    cdef uint8_t control[CONTROL_OCTETS]
    cdef Outgoing *o
    cdef Socket *s
    while i != END:
        o = &u.tx[i]
        s = &u.sockets[o.listener]
        v.iov_base = <void *>o.octets
        v.iov_len = o.len
        memset(&h, 0, sizeof(h))
        h.msg_name = &o.peer
        h.msg_namelen = o.peer_len
        h.msg_iov = &v
        h.msg_iovlen = 1
        if s.local_len == 0:
            address_control(o, s.v6, &h, control, 0)
        if c_sendmsg(fd, &h, MSG_DONTWAIT) < 0:
            if errno == EAGAIN and s.backlog != NULL:
                keep(w, u, o)
            else:
                lose(w, u, o.listener)
        i = o.next


cdef void send_all(Worker *w, Udp *u, uint16_t listener, uint32_t n) noexcept nogil:
    cdef int fd = w.listeners[listener].udp_fd
    cdef uint32_t done = 0
    cdef int k, error, waits = 0
    while done < n:
        k = sendmmsg(fd, u.out + done, n - done, MSG_DONTWAIT)
        if k > 0:
            done += <uint32_t>k
            continue
        error = errno
        if error == EINTR:
            continue
        if error == EAGAIN and u.sockets[listener].backlog != NULL:
            keep_rest(w, u, done, n)
            return
        if (error == EAGAIN or error == ENOBUFS) and waits < SEND_WAITS:
            waits += 1
            wait_writable(fd)
            continue
        # The first message of the rest cannot be sent: it alone is repeated or given up.
        if u.out[done].msg_hdr.msg_iovlen > 1:
            stat_add(w.row, w.counts[COUNT_SEGMENT_FALLBACK], 1)
            if error == EIO or error == EINVAL or error == ENOPROTOOPT:
                u.sockets[listener].segment_after_ns = w.now_ns + <uint64_t>SEGMENT_PAUSE_S * 1000000000u
            send_one_by_one(w, u, u.out_group[done], fd)
        else:
            lose(w, u, listener)
        done += 1


include "_udp_backlog.pxi"


cdef void udp_send_pending(Worker *w, Udp *u) noexcept nogil:
    cdef uint32_t groups, n, i, left, iov_at = 0
    cdef uint16_t listener
    if u.tx_n == 0:
        return
    groups = group_replies(w, u)
    left = groups
    listener = u.tx[0].listener
    i = 0
    while left:
        n = lay_out(w, u, groups, listener, &iov_at)
        send_all(w, u, listener, n)
        left -= n
        if not left:
            break
        # Replies of several listeners: each later one in turn, in the order of its first reply.
        while True:
            listener += 1
            if listener >= w.listener_count:
                listener = 0
            for i in range(groups):
                if u.tx[u.group_head[i]].listener == listener:
                    break
            else:
                continue
            break
    u.tx_n = 0


cdef void udp_flush(Worker *w) noexcept nogil:
    udp_send_pending(w, <Udp *>w.mod[MOD_LISTEN])
    w.arena_at = 0


# ---------------------------------------------------------------------------------------------- the turn

cdef void flush_all(Worker *w) noexcept nogil:
    cdef int m
    for m in range(MODULES):
        if w.on_flush[m] != NULL:
            w.on_flush[m](w)
    if w.ring != NULL:
        ring_wake(w.ring)


cdef int sleep_ms(const Worker *w, int64_t next_ns) noexcept nogil:
    cdef int64_t left
    if next_ns < 0:
        return IDLE_MS
    left = next_ns - <int64_t>w.now_ns
    if left <= 0:
        return 0
    left = (left + 999999) / 1000000
    return IDLE_MS if left > IDLE_MS else <int>left


cdef void loop(Worker *w, Leaving *leaving) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef Udp *u = <Udp *>w.mod[MOD_LISTEN]
    cdef int64_t next_ns, at
    cdef int n, i, m, timeout
    while True:
        next_ns = -1
        for m in range(MODULES):
            if w.on_tick[m] != NULL:
                at = w.on_tick[m](w)
                if at >= 0 and (next_ns < 0 or at < next_ns):
                    next_ns = at
        chain_drain_ready(w)
        flush_all(w)
        timeout = sleep_ms(w, next_ns)
        if fd_load_acquire32(&leaving.stop_word):
            if not w.draining:
                drain(w, leaving.last)
            if not leaving.quiet and not tcp_reads(w) and leaving.rest_gone == fd_load_acquire32(&leaving.rest_n):
                leaving.quiet = True
                tell(leaving.quiet_fd)
            if ((w.in_flight == 0 and leaving.quiet and tcp_connections(w) == 0 and u.waiting == 0)
                    or w.now_ns >= leaving.stop_by_ns):
                lose_kept(w, u)
                return
            timeout = 1 if timeout > 1 else timeout
        for m in range(MODULES):
            if w.on_sleep[m] != NULL and w.on_sleep[m](w, True):
                timeout = 0
        n = epoll_wait(w.epoll_fd, events, EVENTS, timeout)
        worker_clock(w)
        for m in range(MODULES):
            if w.on_sleep[m] != NULL:
                w.on_sleep[m](w, False)
        fd_store_relaxed(w.row + w.slot_beat, w.now_ns)
        for i in range(n):
            m = <int>(events[i].data.u64 >> 56)
            w.on_event[m](w, events[i].data.u64 & 0xffffffffffffffULL, events[i].events)
            chain_drain_ready(w)
        flush_all(w)


cdef void drain(Worker *w, const uint8_t *last) noexcept nogil:
    # Reads no more from clients; what was read is answered. Another process reads the sockets, which stay open. One
    # that nobody reads after us has left its group, so what it has queued is all that it will ever have: that is ours
    # to answer.
    cdef const Udp *u = <const Udp *>w.mod[MOD_LISTEN]
    cdef uint32_t i, turn
    w.draining = True
    for i in range(w.listener_count):
        if w.listeners[i].udp_fd < 0:
            continue
        turn = 0
        while last[i] and turn < LAST_TURNS and udp_receive_some(w, i, w.listeners[i].udp_fd):
            turn += 1
        watch_socket(w, <uint16_t>i, u.sockets[i].backlog != NULL and u.sockets[i].backlog.size > 0)
    tcp_drain(w, last)


cdef void tell(int fd) noexcept nogil:
    cdef uint64_t one = 1
    c_write(fd, &one, sizeof(one))


cdef void woken(Worker *w, uint64_t data, uint32_t events) noexcept nogil:
    # stop() or rest() wrote to the eventfd: the loop looks at the word itself.
    cdef uint64_t n
    c_read(<int>data, &n, sizeof(n))
    read_rest(w, <Leaving *>w.mod[MOD_CONTROL])


include "_udp_rest.pxi"


include "_udp_face.pxi"
