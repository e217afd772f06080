# SPDX-License-Identifier: Apache-2.0
#
# Load over UDP: connected sockets, batches in both directions.
#
# Strategy: a batch of queries leaves by one sendmmsg; where segmentation is asked for, those of equal size lie side
# by side and leave as one datagram that the kernel cuts (UDP_SEGMENT). Of a reply only its head is copied out of the
# kernel; its true size is known nevertheless (MSG_TRUNC). A single query or reply takes the plain call, which is
# cheaper.


cdef int udp_open(Generator *g, Conn *c) noexcept nogil:
    cdef int size = BUFFER, error = 0
    cdef uint16_t family = (<sockaddr *>&g.peer).sa_family
    c.fd = c_socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if c.fd < 0:
        return errno
    # Beyond the system's limit if this process may, else up to it.
    if c_setsockopt(c.fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0:
        c_setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size))
    if c_setsockopt(c.fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0:
        c_setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size))
    if c_connect(c.fd, <sockaddr *>&g.peer, g.peer_len) < 0:
        error = errno
    else:
        error = watch(g, c, EPOLL_CTL_ADD, EPOLLIN)
    if error:
        close_conn(c)
        return error
    c.stage = OPEN
    return 0


cdef inline void segments_of(Generator *g, uint32_t i, uint32_t octets, uint32_t n) noexcept nogil:
    # Says of message i that it holds n queries of so many octets.
    cdef cmsghdr *control = <cmsghdr *>g.tx_control[i]
    g.tx_octets[i] = <uint16_t>octets
    if n == 1:
        g.tx[i].msg_hdr.msg_control = NULL
        g.tx[i].msg_hdr.msg_controllen = 0
        return
    control.cmsg_level = SOL_UDP
    control.cmsg_type = UDP_SEGMENT
    control.cmsg_len = CMSG_LEN(2)
    memcpy(g.tx_control[i] + CMSG_LEN(0), &g.tx_octets[i], 2)
    g.tx[i].msg_hdr.msg_control = control
    g.tx[i].msg_hdr.msg_controllen = CMSG_SPACE(2)


cdef uint32_t lay_out(Generator *g, Conn *c, uint32_t k) noexcept nogil:
    # Composes k queries, one in each message. Returns the number of messages.
    cdef uint32_t i, n, at = 0
    for i in range(k):
        n = compose(g, c, g.out + at)
        g.tx_iov[i].iov_base = g.out + at
        g.tx_iov[i].iov_len = n
        segments_of(g, i, n, 1)
        at += n
    return k


cdef uint32_t lay_out_by_size(Generator *g, Conn *c, uint32_t k) noexcept nogil:
    # Composes k queries, those of equal size in one message. Returns the number of messages.
    cdef uint32_t i, n, at = 0, messages = 0
    for i in range(k):
        n = upcoming(g, i).octets
        if g.of_size[n] == 0:
            g.sizes[messages] = <uint16_t>n
            messages += 1
        g.of_size[n] += 1
    for i in range(messages):
        n = g.sizes[i]
        g.size_at[n] = at
        g.tx_iov[i].iov_base = g.out + at
        g.tx_iov[i].iov_len = n * g.of_size[n]
        segments_of(g, i, n, g.of_size[n])
        at += n * g.of_size[n]
        g.of_size[n] = 0
    for i in range(k):
        n = upcoming(g, 0).octets
        compose(g, c, g.out + g.size_at[n])
        g.size_at[n] += n
    return messages


cdef bint wait_writable(int fd) noexcept nogil:
    cdef pollfd p
    p.fd = fd
    p.events = POLLOUT
    p.revents = 0
    return c_poll(&p, 1, 1) > 0


cdef bint may_repeat(Generator *g, Conn *c, int error, uint32_t *tries) noexcept nogil:
    # Whether a send that failed is worth another attempt.
    if error == EINTR:
        return True
    tries[0] += 1
    if error == EAGAIN or error == ENOBUFS:
        wait_writable(c.fd)
        return tries[0] <= SEND_WAITS
    if error == ECONNREFUSED:
        g.n.receive_errors += 1         # said of an earlier datagram; this one was not tried
        return tries[0] <= REFUSALS
    return False


cdef void post_singly(Generator *g, Conn *c, const uint8_t *queries, uint32_t octets, uint32_t size) noexcept nogil:
    # Queries of `size` octets that lie side by side, each by a call of its own.
    cdef uint32_t at = 0, tries = 0
    while at < octets:
        if c_send(c.fd, queries + at, size, MSG_DONTWAIT) < 0:
            if may_repeat(g, c, errno, &tries):
                continue
            refused(g, c, queries + at, size)
        tries = 0
        at += size


cdef void post(Generator *g, Conn *c, uint32_t n) noexcept nogil:
    # Sends n messages that were laid out.
    cdef uint32_t done = 0, tries = 0, size
    cdef const uint8_t *queries
    cdef int sent, error
    while done < n:
        queries = <const uint8_t *>g.tx_iov[done].iov_base
        size = g.tx_octets[done]
        if n - done == 1 and g.tx_iov[done].iov_len == size:
            post_singly(g, c, queries, size, size)
            return
        sent = sendmmsg(c.fd, g.tx + done, n - done, MSG_DONTWAIT)
        if sent > 0:
            done += <uint32_t>sent
            tries = 0
            continue
        error = errno
        if may_repeat(g, c, error, &tries):
            continue
        if g.tx_iov[done].iov_len > size and (
                error == EIO or error == EINVAL or error == ENOPROTOOPT or error == EMSGSIZE):
            c.segment = False           # this kernel, or this path, does not segment
        # The first of the rest cannot leave as it is: it alone is repeated or given up.
        post_singly(g, c, queries, <uint32_t>g.tx_iov[done].iov_len, size)
        tries = 0
        done += 1


cdef uint32_t udp_send(Generator *g, Conn *c, uint32_t n) noexcept nogil:
    cdef uint32_t k, drawn = 0
    n = drawable(g, c, n)
    while drawn < n:
        k = min(n - drawn, <uint32_t>BATCH)
        post(g, c, lay_out_by_size(g, c, k) if c.segment and k > 1 else lay_out(g, c, k))
        drawn += k
    return drawn


cdef void udp_event(Generator *g, Conn *c, uint32_t events) noexcept nogil:
    cdef int n, i, round
    for round in range(ROUNDS):
        if c.flying == 1:
            n = <int>c_recv(c.fd, g.rx_head[0], HEAD, MSG_DONTWAIT | MSG_TRUNC)
            if n >= 0:
                g.rx[0].msg_len = <uint32_t>n
                n = 1
        else:
            n = recvmmsg(c.fd, g.rx, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL)
        if n <= 0:
            if errno == ECONNREFUSED:
                g.n.receive_errors += 1
                continue
            return
        clock(g)
        for i in range(n):
            judge(g, c, g.rx_head[i], min(g.rx[i].msg_len, <uint32_t>HEAD), g.rx[i].msg_len)
        if n < BATCH:
            return
        refill(g, c)


cdef Transport UDP
UDP.open = udp_open
UDP.send = udp_send
UDP.event = udp_event
UDP.tend = NULL
UDP.close = NULL
