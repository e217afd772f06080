# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""UDP to upstreams: pools of connected sockets, batches out, batches in.

Strategy. A forger must guess port and id. A socket drawn for each query is the safest and costs twice as much as all
the rest of a forwarded query; one socket for all queries can be found. So each upstream address has a pool of up to
1,024 sockets, each bound to a port drawn from the worker's kernel-seeded generator, and every batch draws one of them;
none is asked through for longer than ten seconds. A batch's questions of one size leave as one segmented datagram
(UDP_SEGMENT). Sockets are connected: the kernel drops what comes from elsewhere, and tells us of ICMP errors. They are
opened when drawn and watched by epoll from then on, so a query costs no epoll_ctl.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._inflight cimport (
    ASKS, COUNT_SEGMENT_FALLBACK, COUNT_SEND_ERROR, COUNT_SOCKET_ERROR, NONE, POOL_SOCKETS, QUEUE, RX, RX_OCTETS,
    Ask, Forward, Pool, Question, Socket, Upstream, ask_find, ask_insert, question_frame,
)
from fastdns._stage cimport MOD_FORWARD, Worker
from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    AF_INET6, CMSG_DATA, CMSG_LEN, CMSG_SPACE, EADDRINUSE, EAGAIN, ECONNREFUSED, EINTR, EINVAL, EIO, EMFILE,
    ENOPROTOOPT, EPOLLIN, MAP_ANONYMOUS, MAP_PRIVATE, MSG_DONTWAIT, MSG_NOSIGNAL, PROT_READ, PROT_WRITE,
    SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOL_SOCKET, SOL_UDP, SO_RCVBUF, UDP_SEGMENT, c_bind, c_close,
    c_connect, c_recv, c_send, c_setsockopt, c_socket, cmsghdr, errno, free, htons, iovec, memcmp, memset, mmap,
    msghdr, munmap, realloc, recvmmsg, sendmmsg, sockaddr, sockaddr_in, sockaddr_in6,
)
from fastdns._wire cimport get16, put16

cdef enum:
    LIFE_S = 10                 # seconds that a socket is asked through
    PORT_LOW = 10240            # ports drawn: 55,296 of them, above those that services bind
    PORT_COUNT = 55296
    BIND_TRIES = 16
    RECEIVE_OCTETS = 1 << 20    # of a socket's buffer, as far as the kernel allows: the answers to a batch
    DRAW_TRIES = 8
    ID_TRIES = 32
    SEGMENTS = 32               # questions of one segmented send
    SEGMENT_MAX = 1232          # octets of a question that may be segmented
    SEGMENT_PAUSE_S = 60        # seconds without segmentation after the kernel refused it
    ROUNDS = 4                  # full receives from one socket before the others have their turn
    SIZES = 64                  # sizes told apart in one batch, a power of two

cdef Handlers handle


cdef int udp_open(Worker *w, Forward *f, const Handlers *handlers) noexcept nogil:
    """Allocates the receive buffers (-1: no memory) and says who handles what arrives."""
    global handle
    cdef uint32_t i
    handle = handlers[0]
    f.rx_octets = <uint8_t *>mmap(NULL, RX * RX_OCTETS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if f.rx_octets == <uint8_t *>-1:
        return -1
    for i in range(RX):
        f.rx_iov[i].iov_base = f.rx_octets + i * RX_OCTETS
        f.rx_iov[i].iov_len = 65536
        f.rx[i].msg_hdr.msg_iov = &f.rx_iov[i]
        f.rx[i].msg_hdr.msg_iovlen = 1
    return 0


cdef uint32_t pool_of(Forward *f, const Upstream *u, const sockaddr_in6 *source, uint32_t source_len) noexcept nogil:
    """The pool of an address and source, made when it is new; NONE when there is no memory."""
    cdef uint32_t i
    cdef Pool *p
    for i in range(f.pool_n):
        p = &f.pools[i]
        if (p.addr_len == u.addr_len and memcmp(&p.addr, &u.addr, u.addr_len) == 0 and p.source_len == source_len
                and memcmp(&p.source, source, source_len) == 0):
            return i
    if f.pool_n == f.pool_room:
        p = <Pool *>realloc(f.pools, (f.pool_room + 8) * sizeof(Pool))
        if p == NULL:
            return NONE
        f.pools = p
        f.pool_room += 8
    p = &f.pools[f.pool_n]
    memset(p, 0, sizeof(Pool))
    p.addr = u.addr
    p.addr_len = u.addr_len
    p.source = source[0]
    p.source_len = source_len
    p.drawn = p.queue = p.queue_tail = NONE
    for i in range(POOL_SOCKETS):
        p.sockets[i] = NONE
    f.pool_n += 1
    return f.pool_n - 1


cdef void pool_sizes(Forward *f) noexcept nogil:
    """Shares out the descriptors among the pools: half of them, because retired sockets are still read."""
    cdef uint32_t i, size
    for i in range(f.pool_n):
        size = f.max_sockets // 2 // f.pool_n
        if size > POOL_SOCKETS:
            size = POOL_SOCKETS
        f.pools[i].size = size if size > 1 else 1


# ---------------------------------------------------------------------------------------------- sockets

cdef int bind_port(Worker *w, int fd, const Pool *p) noexcept nogil:
    # Binds to a random port of the source address. The kernel's own choice is the last resort.
    cdef sockaddr_in6 sa
    cdef uint32_t length = sizeof(sockaddr_in6) if p.addr.sin6_family == AF_INET6 else sizeof(sockaddr_in)
    cdef int i
    if p.source_len:
        sa = p.source
    else:
        memset(&sa, 0, sizeof(sa))
        sa.sin6_family = p.addr.sin6_family
    for i in range(BIND_TRIES + 1):
        # The port is at the same place in both families.
        sa.sin6_port = htons(<uint16_t>(PORT_LOW + w.api.random(w) % PORT_COUNT)) if i < BIND_TRIES else 0
        if c_bind(fd, <sockaddr *>&sa, length) == 0:
            return 0
        if errno != EADDRINUSE:
            return errno
    return EADDRINUSE


cdef int socket_make(Worker *w, Pool *p) noexcept nogil:
    # A bound, connected, empty socket, or -errno.
    cdef uint8_t byte
    cdef int error
    cdef int room = RECEIVE_OCTETS
    cdef int fd = c_socket(p.addr.sin6_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd < 0:
        return -errno
    c_setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room))
    error = bind_port(w, fd, p)
    if error == 0 and c_connect(fd, <sockaddr *>&p.addr, p.addr_len) < 0:
        error = errno
    if error:
        c_close(fd)
        return -error
    # Between bind and connect anybody could send to it; no question has left it yet, so nothing in it is an answer.
    while c_recv(fd, &byte, 1, MSG_DONTWAIT) >= 0:
        pass
    return fd


cdef uint32_t socket_open(Worker *w, Forward *f, uint32_t pool, uint32_t place, int *error) noexcept nogil:
    cdef Pool *p = &f.pools[pool]
    cdef Socket *s
    cdef uint32_t i
    cdef int fd
    fd = socket_make(w, p) if f.open_sockets < f.max_sockets else -EMFILE
    if fd < 0:
        error[0] = -fd
        stat_add(w.row, f.slot_events + COUNT_SOCKET_ERROR, 1)
        return NONE
    if f.free_socket != NONE:
        i = f.free_socket
        f.free_socket = f.sockets[i].place
    else:
        i = f.used_sockets      # below max_sockets, which is at most SOCKETS
        f.used_sockets += 1
    s = &f.sockets[i]
    if not w.api.watch(w, fd, MOD_FORWARD, i, EPOLLIN):
        error[0] = errno
        c_close(fd)
        s.fd = -1
        s.place = f.free_socket
        f.free_socket = i
        return NONE
    s.fd = fd
    s.asks = NONE
    s.pending = 0
    s.pool = pool
    s.place = place
    s.born_ns = w.now_ns
    p.sockets[place] = i
    p.live += 1
    f.open_sockets += 1
    return i


cdef void socket_close(Forward *f, uint32_t i) noexcept nogil:
    cdef Socket *s = &f.sockets[i]
    c_close(s.fd)               # which ends epoll's watch: nobody else holds the descriptor
    s.fd = -1
    s.place = f.free_socket
    f.free_socket = i
    f.open_sockets -= 1


cdef void socket_retire(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Out of the pool; read until its last question is answered or given up.
    cdef Socket *s = &f.sockets[i]
    cdef Pool *p = &f.pools[s.pool]
    p.sockets[s.place] = NONE
    p.live -= 1
    s.place = NONE
    udp_settle(w, f, i)


cdef void udp_settle(Worker *w, Forward *f, uint32_t socket) noexcept nogil:
    cdef Socket *s = &f.sockets[socket]
    if s.place == NONE and s.pending == 0 and s.fd >= 0 and socket != f.reading:
        socket_close(f, socket)


cdef uint32_t draw(Worker *w, Forward *f, uint32_t pool, uint32_t avoid, int *error) noexcept nogil:
    # A socket at random, opened or renewed where needed.
    cdef Pool *p = &f.pools[pool]
    cdef uint32_t place, i, k
    cdef uint32_t _turn
    for _turn in range(DRAW_TRIES):
        place = <uint32_t>(w.api.random(w) % p.size)
        i = p.sockets[place]
        if i != NONE and i == avoid and p.size > 1:
            continue
        if i != NONE and w.now_ns - f.sockets[i].born_ns < <uint64_t>LIFE_S * 1000000000u:
            return i
        if i != NONE:
            socket_retire(w, f, i)
        i = socket_open(w, f, pool, place, error)
        if i != NONE:
            return i
        if p.live == 0:
            return NONE
    # No descriptor or no port left: whichever socket lives.
    for k in range(p.size):
        i = p.sockets[(place + k) % p.size]
        if i != NONE:
            return i
    return NONE


cdef void udp_sweep(Worker *w, Forward *f) noexcept nogil:
    """Closes sockets that have outlived their ten seconds without being drawn."""
    cdef uint32_t n, k, i
    cdef Pool *p
    for n in range(f.pool_n):
        p = &f.pools[n]
        if p.live == 0:
            continue
        for k in range(p.size):
            i = p.sockets[k]
            if i != NONE and i != p.drawn and w.now_ns - f.sockets[i].born_ns >= <uint64_t>LIFE_S * 1000000000u:
                socket_retire(w, f, i)


cdef void udp_close(Worker *w, Forward *f) noexcept nogil:
    """Closes every socket and gives the buffers back."""
    cdef uint32_t i
    for i in range(f.used_sockets):
        if f.sockets[i].fd >= 0:
            socket_close(f, i)
    munmap(f.rx_octets, RX * RX_OCTETS)
    free(f.pools)


# ---------------------------------------------------------------------------------------------- sending

cdef int udp_ask(Worker *w, Forward *f, uint32_t question, uint32_t k, uint32_t pool, uint32_t avoid) noexcept nogil:
    cdef Pool *p = &f.pools[pool]
    cdef Question *q = &f.questions[question]
    cdef Ask *a = &q.asks[k]
    cdef uint64_t bits
    cdef int error = EMFILE
    cdef int _turn
    if q.queued:
        udp_flush(w, f)         # its octets are about to change
    if p.drawn != NONE and p.drawn == avoid:
        pool_flush(w, f, p)
    if p.drawn == NONE:
        p.drawn = draw(w, f, pool, avoid, &error)
        if p.drawn == NONE:
            return error
        f.drawn_pools += 1
    bits = w.api.random(w)
    a.id = <uint16_t>bits
    for _turn in range(ID_TRIES):
        if ask_find(f, p.drawn, a.id) == NONE:
            break
        a.id = <uint16_t>w.api.random(w)
    else:
        return EAGAIN
    a.socket = p.drawn
    a.sent_ns = w.now_ns
    a.refused = False
    ask_insert(f, question * ASKS + k)
    put16(question_frame(q) + 2, a.id)
    q.queue_next = NONE
    q.queued = True
    if p.queue_tail != NONE:
        f.questions[p.queue_tail].queue_next = question
    else:
        p.queue = question
    p.queue_tail = question
    p.queued += 1
    if p.queued == QUEUE:
        send_queue(w, f, p)
    return 0


cdef void pool_flush(Worker *w, Forward *f, Pool *p) noexcept nogil:
    # Ends the pool's batch.
    if p.queue != NONE:
        send_queue(w, f, p)
    p.drawn = NONE
    f.drawn_pools -= 1


cdef void udp_flush(Worker *w, Forward *f) noexcept nogil:
    """Sends what the batch has gathered; the next batch draws its sockets anew."""
    cdef uint32_t i
    if f.drawn_pools == 0:
        return
    for i in range(f.pool_n):
        if f.pools[i].drawn != NONE:
            pool_flush(w, f, &f.pools[i])


cdef uint32_t lay_out(Worker *w, Forward *f, Pool *p) noexcept nogil:
    # The queue as message headers: questions of one size are neighbours and share a header, up to SEGMENTS of them.
    cdef uint32_t head[SIZES]
    cdef uint32_t tail[SIZES]
    cdef uint32_t size[SIZES]
    cdef uint32_t n = 0, groups = 0, iov = 0, g, i, at, run
    cdef Question *q
    cdef msghdr *h
    cdef cmsghdr *c
    cdef bint plain = w.now_ns < p.plain_until_ns
    at = p.queue
    while at != NONE:
        q = &f.questions[at]
        q.queued = False
        f.out[n] = at
        f.out_next[n] = NONE
        for g in range(groups):
            if size[g] == q.len:
                f.out_next[tail[g]] = n
                tail[g] = n
                break
        else:
            if groups < SIZES:
                head[groups] = tail[groups] = n
                size[groups] = q.len
                groups += 1
            else:
                # More sizes than we tell apart: the last group takes all, and is sent one by one.
                size[SIZES - 1] = 0
                f.out_next[tail[SIZES - 1]] = n
                tail[SIZES - 1] = n
        n += 1
        at = q.queue_next
    n = 0
    for g in range(groups):
        i = head[g]
        run = SEGMENTS
        while i != NONE:
            q = &f.questions[f.out[i]]
            if run == SEGMENTS or plain or size[g] == 0 or q.len > SEGMENT_MAX:
                h = &f.tx[n].msg_hdr
                h.msg_iov = &f.tx_iov[iov]
                h.msg_iovlen = 0
                h.msg_control = NULL
                h.msg_controllen = 0
                n += 1
                run = 0
            f.tx_iov[iov].iov_base = question_frame(q) + 2
            f.tx_iov[iov].iov_len = q.len
            f.tx_question[iov] = f.out[i]
            iov += 1
            run += 1
            h.msg_iovlen += 1
            if run == 2:
                h.msg_control = &f.tx_control[n - 1][0]
                h.msg_controllen = CMSG_SPACE(2)
                c = <cmsghdr *>h.msg_control
                c.cmsg_level = SOL_UDP
                c.cmsg_type = UDP_SEGMENT
                c.cmsg_len = CMSG_LEN(2)
                (<uint16_t *>CMSG_DATA(c))[0] = <uint16_t>q.len
            i = f.out_next[i]
    return n


cdef void send_one(Worker *w, Forward *f, int fd, const iovec *v, uint32_t question) noexcept nogil:
    # A datagram of its own. A socket's pending error is told once and has nothing to do with what is sent.
    cdef int _turn
    for _turn in range(3):
        if c_send(fd, v.iov_base, v.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
            return
        if errno != EINTR and errno != ECONNREFUSED:
            break
    stat_add(w.row, f.slot_events + COUNT_SEND_ERROR, 1)
    handle.unsent(w, f, question, errno)


cdef void send_again(Worker *w, Forward *f, Pool *p, int fd, uint32_t m, int error) noexcept nogil:
    # A header that failed as a whole goes out datagram by datagram.
    cdef msghdr *h = &f.tx[m].msg_hdr
    cdef uint32_t first = <uint32_t>(h.msg_iov - &f.tx_iov[0])
    cdef uint32_t k
    if h.msg_iovlen > 1:
        stat_add(w.row, f.slot_events + COUNT_SEGMENT_FALLBACK, 1)
        if error == EIO or error == EINVAL or error == ENOPROTOOPT:
            p.plain_until_ns = w.now_ns + <uint64_t>SEGMENT_PAUSE_S * 1000000000u
    for k in range(<uint32_t>h.msg_iovlen):
        send_one(w, f, fd, &f.tx_iov[first + k], f.tx_question[first + k])


cdef void send_queue(Worker *w, Forward *f, Pool *p) noexcept nogil:
    cdef int fd = f.sockets[p.drawn].fd
    cdef uint32_t n = lay_out(w, f, p)
    cdef uint32_t done = 0
    cdef int sent
    p.queue = p.queue_tail = NONE
    p.queued = 0
    while done < n:
        sent = sendmmsg(fd, &f.tx[done], n - done, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent > 0:
            done += <uint32_t>sent
        elif errno != EINTR:
            send_again(w, f, p, fd, done, errno)
            done += 1


# ---------------------------------------------------------------------------------------------- receiving

cdef void udp_event(Worker *w, Forward *f, uint32_t socket) noexcept nogil:
    """Reads a socket: answers, strays, errors."""
    cdef Socket *s = &f.sockets[socket]
    cdef uint32_t entry
    cdef const uint8_t *msg
    cdef int n, i, _turn
    if s.fd < 0:
        return
    f.reading = socket          # which keeps it open meanwhile
    for _turn in range(ROUNDS):
        n = recvmmsg(s.fd, f.rx, RX, MSG_DONTWAIT, NULL)
        if n < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                break
            handle.refused(w, f, socket, errno)
            continue
        for i in range(n):
            msg = <const uint8_t *>f.rx_iov[i].iov_base
            entry = NONE
            if f.rx[i].msg_len >= 2:
                entry = ask_find(f, socket, get16(msg))
            if entry != NONE:
                handle.answer(w, f, entry, msg, f.rx[i].msg_len)
            else:
                handle.stray(w, f, socket, msg, f.rx[i].msg_len)
        if n < RX:
            break
    f.reading = NONE
    udp_settle(w, f, socket)
