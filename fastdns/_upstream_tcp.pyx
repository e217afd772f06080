# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""TCP to upstreams: connections that are kept, one question at a time on each, as CoreDNS does.

Strategy: a fixed table of connections; each stanza keeps for each upstream a list of idle ones, taken oldest first. A
connection that was idle may have been closed by the other side a moment ago, so its failure before an answer is no
failure of the upstream: the question is sent on the next connection at once. Nothing blocks: a dial and a partly
written question are finished by epoll. What arrives on an idle connection is an EOF or nonsense, and ends it.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._inflight cimport (
    CONNECTIONS, COUNT_CONNECTIONS_FULL, NONE, Conn, Forward, Question, Stanza, TcpPool, Upstream, question_frame,
)
from fastdns._stage cimport MOD_FORWARD, Worker
from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    EAGAIN, EINPROGRESS, EINTR, EMFILE, ENOMEM, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, IPPROTO_TCP, MSG_DONTWAIT,
    MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SO_ERROR, TCP_NODELAY, c_bind, c_close,
    c_connect, c_getsockopt, c_recv, c_send, c_setsockopt, c_socket, errno, free, memmove, realloc, sockaddr,
    socklen_t,
)
from fastdns._wire cimport get16, put16

cdef enum:
    TAG = 1                     # epoll data: 1 << 48 | generation << 32 | connection
    FIRST = 2048                # octets of a fresh buffer
    KEEP = 16384                # a larger one is given back with its answer

cdef TcpHandlers handle


cdef void tcp_setup(const TcpHandlers *handlers) noexcept nogil:
    """Says who handles what arrives."""
    global handle
    handle = handlers[0]


# ---------------------------------------------------------------------------------------------- idle lists

cdef void idle_append(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef Conn *c = &f.conns[i]
    cdef TcpPool *p = &c.stanza.tcp[c.upstream]
    c.idle = True
    c.used_ns = w.now_ns
    c.next = NONE
    c.prev = p.idle_tail
    if p.idle_tail != NONE:
        f.conns[p.idle_tail].next = i
    else:
        p.idle_head = i
    p.idle_tail = i
    p.idle += 1


cdef void idle_remove(Forward *f, uint32_t i) noexcept nogil:
    cdef Conn *c = &f.conns[i]
    cdef TcpPool *p = &c.stanza.tcp[c.upstream]
    if c.prev != NONE:
        f.conns[c.prev].next = c.next
    else:
        p.idle_head = c.next
    if c.next != NONE:
        f.conns[c.next].prev = c.prev
    else:
        p.idle_tail = c.prev
    c.idle = False
    p.idle -= 1


cdef void conn_close(Forward *f, uint32_t i) noexcept nogil:
    cdef Conn *c = &f.conns[i]
    if c.idle:
        idle_remove(f, i)
    c_close(c.fd)
    free(c.buf)
    c.buf = NULL
    c.have = c.cap = 0
    c.fd = -1
    c.gen += 1
    c.question = NONE
    c.next = f.free_conn
    f.free_conn = i
    f.open_conns -= 1


cdef inline bint outlived(const Worker *w, const Conn *c) noexcept nogil:
    return (w.now_ns - c.used_ns > c.stanza.config.expire_ns
            or (c.stanza.config.max_age_ns and w.now_ns - c.born_ns > c.stanza.config.max_age_ns))


cdef void tcp_sweep(Worker *w, Forward *f) noexcept nogil:
    """Closes idle connections that have outlived expire or max_age."""
    cdef uint32_t i
    for i in range(f.used_conns):
        if f.conns[i].fd >= 0 and f.conns[i].idle and outlived(w, &f.conns[i]):
            conn_close(f, i)


cdef void tcp_close_all(Worker *w, Forward *f) noexcept nogil:
    """Closes every connection."""
    cdef uint32_t i
    for i in range(f.used_conns):
        if f.conns[i].fd >= 0:
            conn_close(f, i)


# ---------------------------------------------------------------------------------------------- asking

cdef uint32_t conn_slot(Worker *w, Forward *f) noexcept nogil:
    # A free place in the table; the connection that was idle longest makes room.
    cdef uint32_t i, best = NONE
    if f.free_conn == NONE and f.used_conns == CONNECTIONS:
        for i in range(CONNECTIONS):
            if f.conns[i].idle and (best == NONE or f.conns[i].used_ns < f.conns[best].used_ns):
                best = i
        if best == NONE:
            stat_add(w.row, f.slot_events + COUNT_CONNECTIONS_FULL, 1)
            return NONE
        conn_close(f, best)
    if f.free_conn != NONE:
        i = f.free_conn
        f.free_conn = f.conns[i].next
        return i
    f.used_conns += 1
    return f.used_conns - 1


cdef bint interest(Worker *w, uint32_t i, const Conn *c, uint32_t events) noexcept nogil:
    return w.api.watch(w, c.fd, MOD_FORWARD, (<uint64_t>TAG << 48) | (<uint64_t>c.gen << 32) | i, events)


cdef int dial(Worker *w, Forward *f, Stanza *z, uint16_t upstream, uint32_t question) noexcept nogil:
    cdef const Upstream *u = &z.config.upstreams[upstream]
    cdef uint32_t i
    cdef Conn *c
    cdef int one = 1
    cdef int error = 0
    cdef int fd = c_socket(u.addr.sin6_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    stat_add(w.row, u.slot_misses[1], 1)
    if fd < 0:
        return errno
    c_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    if z.config.source_len and c_bind(fd, <sockaddr *>&z.config.source, z.config.source_len) < 0:
        error = errno
    elif c_connect(fd, <sockaddr *>&u.addr, u.addr_len) < 0 and errno != EINPROGRESS:
        error = errno
    if error == 0:
        i = conn_slot(w, f)
        if i == NONE:
            error = EMFILE
    if error:
        c_close(fd)
        return error
    c = &f.conns[i]
    c.fd = fd
    c.dialing = True
    c.cached = c.idle = False
    c.stanza = z
    c.upstream = upstream
    c.question = question
    c.sent = 0
    c.have = 0
    c.born_ns = w.now_ns
    f.open_conns += 1
    if not interest(w, i, c, EPOLLOUT):
        error = errno
        conn_close(f, i)
        return error
    f.questions[question].conn = i
    return 0


cdef int tcp_ask(Worker *w, Forward *f, Stanza *z, uint16_t upstream, uint32_t question) noexcept nogil:
    cdef const Upstream *u = &z.config.upstreams[upstream]
    cdef TcpPool *p = &z.tcp[upstream]
    cdef uint32_t i
    cdef Conn *c
    while p.idle_head != NONE:
        i = p.idle_head
        c = &f.conns[i]
        if outlived(w, c):
            conn_close(f, i)
            continue
        idle_remove(f, i)
        c.cached = True
        c.question = question
        c.sent = 0
        c.have = 0
        stat_add(w.row, u.slot_hits[1], 1)
        if send_frame(w, f, i) == 0:
            f.questions[question].conn = i
            handle.connected(w, f, question)
            return 0
        conn_close(f, i)
    return dial(w, f, z, upstream, question)


cdef int send_frame(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Sends what is left of the frame; 0 or an errno. The id is drawn with the first octet.
    cdef Conn *c = &f.conns[i]
    cdef Question *q = &f.questions[c.question]
    cdef uint8_t *frame = question_frame(q)
    cdef ssize_t n
    if c.sent == 0:
        c.id = <uint16_t>w.api.random(w)
        put16(frame, q.len)
        put16(frame + 2, c.id)
    while c.sent < q.len + 2:
        n = c_send(c.fd, frame + c.sent, q.len + 2 - c.sent, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n >= 0:
            c.sent += <uint32_t>n
        elif errno == EAGAIN:
            return 0 if interest(w, i, c, EPOLLIN | EPOLLOUT) else errno
        elif errno != EINTR:
            return errno
    return 0


cdef void tcp_forget(Worker *w, Forward *f, uint32_t question) noexcept nogil:
    cdef uint32_t i = f.questions[question].conn
    if i != NONE:
        f.questions[question].conn = NONE
        conn_close(f, i)


# ---------------------------------------------------------------------------------------------- events

cdef void lose(Worker *w, Forward *f, uint32_t i, int error) noexcept nogil:
    # The connection is of no use any more. What waits on it learns why; a kept one's end is no failure of the upstream.
    cdef Conn *c = &f.conns[i]
    cdef uint32_t question = c.question
    cdef Stanza *z = c.stanza
    cdef uint16_t upstream = c.upstream
    cdef bint again = c.cached and c.have == 0
    cdef int status
    if question == NONE:
        conn_close(f, i)
        return
    f.questions[question].conn = NONE
    c.question = NONE
    if not again:
        handle.failed(w, f, question, i, error)
        conn_close(f, i)
        return
    conn_close(f, i)
    if w.now_ns - f.questions[question].try_ns < z.config.read_timeout_ns:
        status = tcp_ask(w, f, z, upstream, question)
    else:
        # Each kept one may hang up as late as this one did: no more of them.
        status = dial(w, f, z, upstream, question)
    if status:
        handle.failed(w, f, question, NONE, status)


cdef void dialled(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef Conn *c = &f.conns[i]
    cdef TcpPool *p = &c.stanza.tcp[c.upstream]
    cdef int error = 0
    cdef socklen_t n = sizeof(error)
    # CoreDNS moves its average for failed dials too.
    p.dial_ns = p.dial_ns + (w.now_ns - c.born_ns) // 4 - p.dial_ns // 4
    if c_getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0:
        error = errno
    if error:
        lose(w, f, i, error)
        return
    c.dialing = False
    if not interest(w, i, c, EPOLLIN):
        lose(w, f, i, errno)
        return
    error = send_frame(w, f, i)
    if error:
        lose(w, f, i, error)
        return
    handle.connected(w, f, c.question)


cdef void take_frames(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Hands complete messages on until one has the id asked with.
    cdef Conn *c = &f.conns[i]
    cdef uint32_t at = 0
    cdef uint32_t n, question = c.question
    cdef uint16_t gen = c.gen
    while c.have - at >= 2:
        n = get16(c.buf + at)
        if c.have - at - 2 < n:
            break
        at += n + 2
        if n >= 2 and get16(c.buf + at - n) != c.id:
            continue            # of a question that was given up
        handle.answer(w, f, question, c.buf + at - n, n)
        if c.gen != gen:
            return              # it was no answer
        c.question = NONE
        if at != c.have or (c.stanza.config.max_idle and c.stanza.tcp[c.upstream].idle >= c.stanza.config.max_idle):
            conn_close(f, i)    # more than was asked for, or more than is kept
            return
        c.have = 0
        if c.cap > KEEP:
            free(c.buf)
            c.buf = NULL
            c.cap = 0
        idle_append(w, f, i)
        return
    if at:
        memmove(c.buf, c.buf + at, c.have - at)
        c.have -= at


cdef void readable(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef Conn *c = &f.conns[i]
    cdef uint32_t want = FIRST
    cdef uint8_t *grown
    cdef ssize_t n
    if c.question == NONE:
        conn_close(f, i)
        return
    if c.have >= 2 and <uint32_t>get16(c.buf) + 2 > want:
        want = <uint32_t>get16(c.buf) + 2
    if c.cap < want:
        grown = <uint8_t *>realloc(c.buf, want)
        if grown == NULL:
            lose(w, f, i, ENOMEM)
            return
        c.buf = grown
        c.cap = want
    n = c_recv(c.fd, c.buf + c.have, c.cap - c.have, MSG_DONTWAIT)
    if n > 0:
        c.have += <uint32_t>n
        take_frames(w, f, i)
    elif n == 0:
        lose(w, f, i, 0)
    elif errno != EAGAIN and errno != EINTR:
        lose(w, f, i, errno)


cdef void tcp_event(Worker *w, Forward *f, uint32_t conn, uint16_t gen, uint32_t events) noexcept nogil:
    """Goes on with a connection; events of one that is closed meanwhile are ignored."""
    cdef Conn *c = &f.conns[conn]
    cdef int error
    if c.fd < 0 or c.gen != gen:
        return
    if c.dialing:
        dialled(w, f, conn)
        return
    if events & EPOLLOUT and c.question != NONE:
        error = send_frame(w, f, conn)
        if error == 0 and c.sent == f.questions[c.question].len + 2 and not interest(w, conn, c, EPOLLIN):
            error = errno
        if error:
            lose(w, f, conn, error)
            return
    if events & (EPOLLIN | EPOLLERR | EPOLLHUP):
        readable(w, f, conn)
