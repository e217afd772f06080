# SPDX-License-Identifier: Apache-2.0
#
# What `shed` makes of a socket that takes no more: replies wait here instead of holding up the loop, the newest leaves
# first, and once all cells are used the oldest gives way. A part of _udp.
#
# Strategy: only what the kernel refused is copied, so a socket that keeps up costs one test for each send. The socket
# is then watched for writing, and the new replies of later batches are tried before those that wait: a client that has
# waited longest has most likely asked again, or gone.

cdef void lose(Worker *w, const Udp *u, uint16_t listener) noexcept nogil:
    # A reply that cannot be sent.
    stat_add(w.row, w.counts[COUNT_SEND_ERROR], 1)
    if u.sockets[listener].backlog != NULL:
        stat_add(w.row, w.listeners[listener].lost, 1)


cdef void watch_socket(Worker *w, uint16_t listener, bint writing) noexcept nogil:
    cdef uint32_t events = 0 if w.draining else <uint32_t>EPOLLIN
    if writing:
        events |= <uint32_t>EPOLLOUT
    if events:
        w.api.watch(w, w.listeners[listener].udp_fd, MOD_LISTEN, listener, events)
    else:
        w.api.unwatch(w, w.listeners[listener].udp_fd)


cdef void keep(Worker *w, Udp *u, const Outgoing *o) noexcept nogil:
    # As the newest that waits.
    cdef Listener *at = &w.listeners[o.listener]
    cdef Backlog *b = u.sockets[o.listener].backlog
    cdef Outgoing *cell = &b.items[b.next]
    cdef uint8_t *room = b.room + <size_t>b.next * BACKLOG_OCTETS
    if b.size == BACKLOG:
        stat_add(w.row, at.lost, 1)
    else:
        if b.size == 0:
            watch_socket(w, o.listener, True)
        b.size += 1
        u.waiting += 1
        at.full = b.size == BACKLOG
    memcpy(room, o.octets, o.len)
    cell[0] = o[0]
    cell.octets = room
    b.wide |= o.len > PAGE_OCTETS
    b.next = (b.next + 1) & (BACKLOG - 1)


cdef void keep_rest(Worker *w, Udp *u, uint32_t done, uint32_t n) noexcept nogil:
    # The messages of a send from the first that the kernel refused. They are laid out newest first.
    cdef uint32_t i
    while n > done:
        n -= 1
        i = u.group_head[u.out_group[n]]
        while i != END:
            keep(w, u, &u.tx[i])
            i = u.tx[i].next


cdef void took(Worker *w, Udp *u, uint16_t listener, uint32_t n) noexcept nogil:
    # The n newest have left.
    cdef Backlog *b = u.sockets[listener].backlog
    b.next = (b.next - n) & (BACKLOG - 1)
    b.size -= n
    u.waiting -= n
    w.listeners[listener].full = False
    if b.size == 0:
        watch_socket(w, listener, False)
        if b.wide:
            b.wide = False
            madvise(b.room, <size_t>BACKLOG * BACKLOG_OCTETS, MADV_DONTNEED)


cdef void send_kept(Worker *w, Udp *u, uint16_t listener) noexcept nogil:
    # The socket can be written to again.
    cdef Socket *s = &u.sockets[listener]
    cdef Backlog *b = s.backlog
    cdef Outgoing *o
    cdef msghdr *h
    cdef uint32_t i, n
    cdef int sent, error
    while b != NULL and b.size:
        n = b.size if b.size < BATCH else BATCH
        for i in range(n):
            o = &b.items[(b.next - 1 - i) & (BACKLOG - 1)]
            u.out_iov[i].iov_base = <void *>o.octets
            u.out_iov[i].iov_len = o.len
            h = &u.out[i].msg_hdr
            memset(h, 0, sizeof(msghdr))
            h.msg_name = &o.peer
            h.msg_namelen = o.peer_len
            h.msg_iov = &u.out_iov[i]
            h.msg_iovlen = 1
            if s.local_len == 0:
                address_control(o, s.v6, h, u.out_control[i], 0)
        sent = sendmmsg(w.listeners[listener].udp_fd, u.out, n, MSG_DONTWAIT)
        if sent > 0:
            took(w, u, listener, <uint32_t>sent)
            continue
        error = errno
        if error == EAGAIN:
            return
        if error != EINTR:
            lose(w, u, listener)    # the newest, for a reason of its own
            took(w, u, listener, 1)


cdef void lose_kept(Worker *w, Udp *u) noexcept nogil:
    # The end, with a socket that took no more.
    cdef uint32_t i
    for i in range(w.listener_count):
        if u.sockets[i].backlog != NULL:
            stat_add(w.row, w.listeners[i].lost, u.sockets[i].backlog.size)
            u.sockets[i].backlog.size = 0
    u.waiting = 0
