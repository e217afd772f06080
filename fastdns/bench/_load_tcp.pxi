# SPDX-License-Identifier: Apache-2.0
#
# Load over TCP: connections with several queries on their way (RFC 7766 6.2.1.1), answers in any order.
#
# Strategy: queries gather in a connection's buffer and leave by one send; what does not fit waits until the socket is
# writable. Answers are cut out of one common read buffer; of one that is cut by the end of a read only the head that
# `judge` looks at is kept, so 512 connections take no more memory for the longest answers than for short ones. A
# connection that ends loses what was under way on it and is made again: at once if it answered anything, else after a
# pause.


cdef void stream_reset(Stream *s) noexcept nogil:
    s.answers = 0
    s.out_at = s.out_end = 0
    s.want = s.have = s.left = 0
    s.length_octets = 0
    s.blocked = False


cdef int tcp_open(Generator *g, Conn *c) noexcept nogil:
    cdef int yes = 1, error
    cdef uint16_t family = (<sockaddr *>&g.peer).sa_family
    stream_reset(c.stream)
    c.fd = c_socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if c.fd < 0:
        return errno
    c_setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
    if c_connect(c.fd, <sockaddr *>&g.peer, g.peer_len) < 0 and errno != EINPROGRESS:
        g.n.connect_errors += 1
        later(g, c)             # what refuses now may accept in a while
        return 0
    error = watch(g, c, EPOLL_CTL_ADD, EPOLLOUT)
    if error:
        close_conn(c)
        return error
    c.stage = OPENING
    return 0


cdef void later(Generator *g, Conn *c) noexcept nogil:
    close_conn(c)
    c.stream.retry_ns = g.now_ns + RETRY_NS


cdef void reopen(Generator *g, Conn *c) noexcept nogil:
    if tcp_open(g, c):
        g.n.connect_errors += 1
        later(g, c)


cdef void broken(Generator *g, Conn *c) noexcept nogil:
    # The connection ended before the run did.
    cdef bint was_useful = c.stream.answers > 0
    abandon(g, c)
    later(g, c)
    if g.sending:
        g.n.reconnects += 1
        if was_useful:
            reopen(g, c)


cdef void tcp_tend(Generator *g, Conn *c) noexcept nogil:
    if c.stage == SHUT and g.sending and g.now_ns >= c.stream.retry_ns:
        reopen(g, c)


cdef bint connected(Generator *g, Conn *c) noexcept nogil:
    cdef int error = 0
    cdef socklen_t n = sizeof(error)
    if c_getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 or error:
        g.n.connect_errors += 1
        later(g, c)
        return False
    c.stage = OPEN
    watch(g, c, EPOLL_CTL_MOD, EPOLLIN)
    return True


cdef bint tcp_flush(Generator *g, Conn *c) noexcept nogil:
    # Sends what waits, as far as the socket takes it; False: the connection is broken.
    cdef Stream *s = c.stream
    cdef ssize_t n
    while s.out_at < s.out_end:
        n = c_send(c.fd, s.out + s.out_at, s.out_end - s.out_at, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n >= 0:
            s.out_at += <uint32_t>n
        elif errno == EAGAIN:
            break
        elif errno != EINTR:
            return False
    if s.out_at == s.out_end:
        s.out_at = s.out_end = 0
    if s.blocked != (s.out_end > 0):
        s.blocked = s.out_end > 0
        watch(g, c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT if s.blocked else EPOLLIN)
    return True


cdef uint32_t tcp_send(Generator *g, Conn *c, uint32_t n) noexcept nogil:
    cdef Stream *s = c.stream
    cdef uint32_t drawn = 0, octets
    if c.stage != OPEN:
        return 0
    n = drawable(g, c, n)
    while drawn < n:
        if s.out_end + 2 + QUERY_MAX > OUT and s.out_at:
            memmove(s.out, s.out + s.out_at, s.out_end - s.out_at)
            s.out_end -= s.out_at
            s.out_at = 0
        if s.out_end + 2 + QUERY_MAX > OUT:
            if s.blocked:
                break                   # the rest has to wait: the server does not read
            if not tcp_flush(g, c):
                broken(g, c)
                return drawn
            continue
        octets = compose(g, c, s.out + s.out_end + 2)
        put16(s.out + s.out_end, octets)
        s.out_end += 2 + octets
        drawn += 1
    if drawn and not s.blocked and not tcp_flush(g, c):
        broken(g, c)
    return drawn


cdef void take_messages(Generator *g, Conn *c, const uint8_t *octets, uint32_t n) noexcept nogil:
    # Cuts messages out of n octets that arrived, whatever the cuts of the reads.
    cdef Stream *s = c.stream
    cdef uint32_t taken, kept
    while n:
        if s.length_octets < 2:
            s.want = (s.want << 8 | octets[0]) & 0xffff
            s.length_octets += 1
            octets += 1
            n -= 1
            if s.length_octets == 2:
                s.left = s.want
                s.have = 0
                if s.want == 0:
                    judge(g, c, s.head, 0, 0)
                    s.length_octets = 0
            continue
        taken = min(n, s.left)
        s.left -= taken
        if taken == s.want:
            judge(g, c, octets, taken, taken)
        else:
            kept = min(taken, <uint32_t>HEAD - s.have)
            memcpy(s.head + s.have, octets, kept)
            s.have += kept
            if s.left == 0:
                judge(g, c, s.head, s.have, s.want)
        octets += taken
        n -= taken
        if s.left == 0:
            s.length_octets = 0
            s.answers += 1


cdef void tcp_event(Generator *g, Conn *c, uint32_t events) noexcept nogil:
    cdef ssize_t n
    cdef int round
    if c.stage == SHUT or (c.stage == OPENING and not connected(g, c)):
        return
    if events & EPOLLOUT and not tcp_flush(g, c):
        broken(g, c)
        return
    if not events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        return
    for round in range(ROUNDS):
        n = c_recv(c.fd, g.scratch, SCRATCH, MSG_DONTWAIT)
        if n < 0 and errno == EINTR:
            continue
        if n == 0 or (n < 0 and errno != EAGAIN):
            broken(g, c)
            return
        if n < 0:
            return
        clock(g)
        take_messages(g, c, g.scratch, <uint32_t>n)
        if n < SCRATCH:
            return


cdef void tcp_close(Generator *g, Conn *c) noexcept nogil:
    close_conn(c)


cdef Transport TCP
TCP.open = tcp_open
TCP.send = tcp_send
TCP.event = tcp_event
TCP.tend = tcp_tend
TCP.close = tcp_close
