# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Plain TCP to clients, on the hot thread: framing, connections, timeouts (RFC 7766).

Strategy: a fixed table of connections, each with a receive buffer and a send buffer that grow with need and
bound. Messages are taken from the receive buffer a few at a time, so that a pipelining client cannot hold up UDP;
answers are appended to the send buffer in the order in which they are ready and leave once per turn, prefix and
message in one write. A connection whose client does not read, or has too many queries waiting, is not read from.
A stream's messages are answers like any other, in the order in which they come (_tcp_stream.pxi). One that breaks off
takes the connection along, once what else was asked there is answered.
CoreDNS's timeouts, unless `timeouts` says otherwise: 3 s to the first query, 10 s to each later one, then a silent
close. A client that leaves its answers unread has 5 s. Where we end a connection that the client has not (a number of
queries, a stream that broke off), our side is shut first and what still comes is thrown away for a second. What
happens to connections whose worker leaves is _tcp_leave.pxi.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._ingress cimport (
    COUNT_TCP_ACCEPTED, COUNT_TCP_EVICTED, COUNT_TCP_PAUSED, COUNT_TCP_TIMEOUT, egress, identify, ingress,
)
from fastdns._chain cimport chain_drain_ready, stream_room
from fastdns._stage cimport (
    MOD_TCP, ORIGIN_TCP, PROTO_TCP, STREAM_GO, STREAM_GONE, STREAM_UNFIT, STREAM_WAIT, Query, Worker,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    EAGAIN, ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT,
    IPPROTO_TCP, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK, TCP_NODELAY, c_accept4, c_close,
    c_getsockname, c_recv, c_send, c_setsockopt, c_shutdown, calloc, errno, free, memcpy, memmove, realloc, sockaddr,
    sockaddr_in6, socklen_t,
)
from fastdns._wire cimport FLAG_TC, get16, put16

cdef enum:
    NONE = 0xffffffff
    READ_FIRST = 2048           # octets of a fresh receive buffer
    READ_KEEP = 16384           # a larger buffer is given back once it is empty
    ACCEPT_TURN = 64
    LEAVE_NS = 500000000        # for a first query, when the worker is about to leave; then nothing more is read
    LAST_NS = 200000000         # for handshakes that were under way at a listener that nobody reads after us
    SWEEP_NS = 100000000        # how often deadlines are looked at
    SCRATCH_OCTETS = 65536      # of the worker's
    LINGER_NS = 1000000000      # for a client to see that we have ended a connection
    LINGER_OCTETS = 262144      # ... and of what it may still send
    LISTENER_TAG = 1 << 30      # epoll data: listener, not connection

cdef struct Conn:
    int fd                      # -1: free
    uint32_t gen
    uint32_t next_free
    uint32_t next_work
    uint32_t in_flight
    uint16_t listener
    bint queued                 # in the list of connections with unread messages
    bint dirty                  # in the list of connections with unsent octets
    bint eof                    # no more is read: the client has ended, or we have
    bint ours                   # ... we have
    uint32_t thrown             # 1 + octets thrown away since our end was sent; 0: it was not
    bint paused                 # not read from until answers have left
    bint watching_out
    bint spoke                  # a message has come
    uint32_t left               # messages that are still taken; 0: any number
    uint32_t next_dirty
    uint64_t deadline_ns
    uint64_t active_ns
    uint8_t *rbuf
    uint32_t rat
    uint32_t rlen
    uint32_t rcap
    uint8_t *wbuf
    uint32_t wat
    uint32_t wlen
    uint32_t wcap
    Query *streams              # whose messages go here, linked by stream_next
    sockaddr_in6 peer
    uint32_t peer_len
    uint8_t local_len
    uint8_t local_ip[16]

cdef struct Tcp:
    Conn conns[TCP_CONNECTIONS]
    uint32_t used               # slots ever taken
    uint32_t free_head
    uint32_t open
    uint32_t work_head
    uint32_t work_tail
    uint32_t dirty_head
    uint64_t sweep_ns
    uint64_t resume_accept_ns   # 0: accepting
    uint64_t first_ns
    uint64_t idle_ns
    uint64_t write_ns
    bint draining
    bint deaf                   # nothing more is read from any client
    uint64_t deaf_ns            # when that begins
    uint64_t accept_ns          # until when listeners of `last` are still accepted at; 0: they are not
    const uint8_t *last         # by listener: nobody reads its sockets after this worker
    Query slot
    uint8_t *frames


cdef int tcp_open(Worker *w, uint32_t first_query_ms, uint32_t idle_ms, uint32_t write_ms) except -1:
    """Allocates the table. Times in milliseconds."""
    cdef Tcp *t = <Tcp *>calloc(1, sizeof(Tcp))
    if t == NULL:
        raise MemoryError
    t.frames = <uint8_t *>calloc(1, w.frame_octets + 8)
    if t.frames == NULL:
        free(t)
        raise MemoryError
    t.free_head = NONE
    t.work_head = t.work_tail = t.dirty_head = NONE
    t.first_ns = <uint64_t>first_query_ms * 1000000u
    t.idle_ns = <uint64_t>idle_ms * 1000000u
    t.write_ns = <uint64_t>write_ms * 1000000u
    w.mod[MOD_TCP] = t
    w.on_event[MOD_TCP] = tcp_event
    w.on_tick[MOD_TCP] = tcp_tick
    w.on_flush[MOD_TCP] = tcp_flush
    w.sink[ORIGIN_TCP] = tcp_sink
    w.part[ORIGIN_TCP] = tcp_part
    return 0


cdef bint tcp_listen(Worker *w, uint32_t listener) noexcept nogil:
    return w.api.watch(w, w.listeners[listener].tcp_fd, MOD_TCP, LISTENER_TAG | listener, EPOLLIN)


cdef void tcp_take(Worker *w, uint32_t listener, int fd) noexcept nogil:
    """Accepts what waits at a socket of a listener that nobody reads."""
    accept_some(w, <Tcp *>w.mod[MOD_TCP], listener, fd)


include "_tcp_leave.pxi"


cdef uint32_t tcp_connections(const Worker *w) noexcept nogil:
    """Open connections."""
    return (<Tcp *>w.mod[MOD_TCP]).open


# ---------------------------------------------------------------------------------------------- connections

cdef void conn_close(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    cdef Conn *c = &t.conns[i]
    w.api.unwatch(w, c.fd)
    c_close(c.fd)
    free(c.rbuf)
    free(c.wbuf)
    c.rbuf = NULL
    c.wbuf = NULL
    c.rat = c.rlen = c.rcap = c.wat = c.wlen = c.wcap = 0
    c.fd = -1
    c.gen += 1
    c.in_flight = 0
    streams_wake(w, c, True)
    t.open -= 1
    left_list(t, i)


cdef inline uint64_t idle_of(const Worker *w, const Tcp *t, const Conn *c) noexcept nogil:
    return w.listeners[c.listener].idle_ns or t.idle_ns


cdef void left_list(Tcp *t, uint32_t i) noexcept nogil:
    # A closed connection may still stand in the work or dirty list; it goes back to the free list once it left both.
    cdef Conn *c = &t.conns[i]
    if c.fd < 0 and not c.queued and not c.dirty:
        c.next_free = t.free_head
        t.free_head = i


cdef void interest(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    # What we wait for on this connection, from its state.
    cdef Conn *c = &t.conns[i]
    cdef uint32_t events = 0
    if not c.eof and not c.paused and not c.queued:
        events |= EPOLLIN
    if c.watching_out:
        events |= EPOLLOUT
    w.api.watch(w, c.fd, MOD_TCP, i, events)


cdef void settle(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    # Closes a connection that is done; otherwise stops or resumes reading by its bounds.
    cdef Conn *c = &t.conns[i]
    cdef uint32_t unsent = c.wlen - c.wat
    cdef bint full
    if c.fd < 0:
        return
    if (c.eof or (t.draining and c.spoke and c.rlen == c.rat)) and c.in_flight == 0 and unsent == 0 \
            and not c.queued and not message_ready(c):
        if c.ours and not t.draining:
            say_goodbye(w, t, i)
        else:
            conn_close(w, t, i)
        return
    full = c.in_flight >= TCP_IN_FLIGHT or unsent >= TCP_UNSENT
    if full != c.paused:
        c.paused = full
        if not full and c.rlen > c.rat:
            enqueue(t, i)
        interest(w, t, i)


cdef void say_goodbye(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    # Ends our side. To close with something unread would be a reset, which may reach the client before it has read
    # its answers (RFC 1122 4.2.2.13); so what still comes is thrown away, for a bounded time.
    cdef Conn *c = &t.conns[i]
    if c.thrown:
        return
    if c_shutdown(c.fd, SHUT_WR) < 0:
        conn_close(w, t, i)
        return
    c.thrown = 1
    c.deadline_ns = w.now_ns + LINGER_NS
    w.api.watch(w, c.fd, MOD_TCP, i, EPOLLIN)


cdef void throw_away(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    cdef Conn *c = &t.conns[i]
    cdef ssize_t n = c_recv(c.fd, w.scratch, SCRATCH_OCTETS, MSG_DONTWAIT)
    if n < 0 and (errno == EAGAIN or errno == EINTR):
        return
    if n > 0:
        c.thrown += <uint32_t>n
    if n <= 0 or c.thrown > LINGER_OCTETS:
        conn_close(w, t, i)


cdef void enqueue(Tcp *t, uint32_t i) noexcept nogil:
    cdef Conn *c = &t.conns[i]
    if c.queued:
        return
    c.queued = True
    c.next_work = NONE
    if t.work_tail != NONE:
        t.conns[t.work_tail].next_work = i
    else:
        t.work_head = i
    t.work_tail = i


cdef uint32_t oldest_idle(Tcp *t) noexcept nogil:
    cdef uint32_t i, best = NONE
    for i in range(t.used):
        if t.conns[i].fd >= 0 and t.conns[i].in_flight == 0 and (
                best == NONE or t.conns[i].active_ns < t.conns[best].active_ns):
            best = i
    return best


cdef uint32_t conn_slot(Worker *w, Tcp *t) noexcept nogil:
    cdef uint32_t i
    if t.free_head == NONE and t.used == TCP_CONNECTIONS:
        i = oldest_idle(t)
        if i == NONE:
            return NONE
        stat_add(w.row, w.counts[COUNT_TCP_EVICTED], 1)
        conn_close(w, t, i)
    if t.free_head != NONE:
        i = t.free_head
        t.free_head = t.conns[i].next_free
        return i
    if t.used < TCP_CONNECTIONS:
        t.used += 1
        return t.used - 1
    return NONE


cdef void accept_some(Worker *w, Tcp *t, uint32_t listener, int at) noexcept nogil:
    cdef sockaddr_in6 peer
    cdef sockaddr_in6 local
    cdef socklen_t n
    cdef Query q
    cdef Conn *c
    cdef uint32_t i
    cdef int fd, one = 1, _turn
    for _turn in range(ACCEPT_TURN):
        n = sizeof(peer)
        fd = c_accept4(at, <sockaddr *>&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                # The listener stays readable: waiting on it would spin. Look again in 100 ms.
                stat_add(w.row, w.counts[COUNT_TCP_PAUSED], 1)
                t.resume_accept_ns = w.now_ns + SWEEP_NS
                for i in range(w.listener_count):
                    if w.listeners[i].tcp_fd >= 0:
                        w.api.unwatch(w, w.listeners[i].tcp_fd)
                return
            if errno == EINTR or errno == ECONNABORTED:
                continue
            return
        i = conn_slot(w, t)
        if i == NONE:
            c_close(fd)
            stat_add(w.row, w.counts[COUNT_TCP_EVICTED], 1)
            continue
        c_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
        c = &t.conns[i]
        c.fd = fd
        c.listener = <uint16_t>listener
        c.queued = c.dirty = c.eof = c.ours = c.paused = c.watching_out = c.spoke = False
        c.thrown = 0
        c.active_ns = w.now_ns
        c.deadline_ns = w.now_ns + (LEAVE_NS if t.draining else w.listeners[listener].first_ns or t.first_ns)
        c.left = w.listeners[listener].queries
        c.streams = NULL
        c.peer = peer
        c.peer_len = n
        c.local_len = 0
        n = sizeof(local)
        if c_getsockname(fd, <sockaddr *>&local, &n) == 0:
            identify(&q, &local, n)
            c.local_len = 4 if q.family == 1 else 16
            memcpy(c.local_ip, q.client_ip, c.local_len)
        t.open += 1
        stat_add(w.row, w.counts[COUNT_TCP_ACCEPTED], 1)
        interest(w, t, i)


# ---------------------------------------------------------------------------------------------- reading

cdef bint read_some(Tcp *t, uint32_t i) noexcept nogil:
    # One recv into the buffer; False when the connection must be closed now.
    cdef Conn *c = &t.conns[i]
    cdef uint32_t want
    cdef uint8_t *grown
    cdef ssize_t n
    if c.rat == c.rlen:
        c.rat = c.rlen = 0
        if c.rcap > READ_KEEP:
            free(c.rbuf)
            c.rbuf = NULL
            c.rcap = 0
    elif c.rat:
        memmove(c.rbuf, c.rbuf + c.rat, c.rlen - c.rat)
        c.rlen -= c.rat
        c.rat = 0
    want = READ_FIRST
    if c.rlen >= 2 and <uint32_t>get16(c.rbuf) + 2 > want:
        want = <uint32_t>get16(c.rbuf) + 2
    if c.rcap < want:
        grown = <uint8_t *>realloc(c.rbuf, want)
        if grown == NULL:
            return False
        c.rbuf = grown
        c.rcap = want
    if c.rlen == c.rcap:
        return True
    n = c_recv(c.fd, c.rbuf + c.rlen, c.rcap - c.rlen, MSG_DONTWAIT)
    if n > 0:
        c.rlen += <uint32_t>n
        return True
    if n == 0:
        c.eof = True
        return True
    return errno == EAGAIN or errno == EINTR


cdef bint message_ready(const Conn *c) noexcept nogil:
    return c.rlen - c.rat >= 2 and c.rlen - c.rat - 2 >= get16(c.rbuf + c.rat)


cdef void take_messages(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    # Runs up to TCP_TURN complete messages; the rest wait for the next turn.
    cdef Conn *c = &t.conns[i]
    cdef Query *q = &t.slot
    cdef uint32_t gen = c.gen
    cdef uint32_t n
    cdef size_t error
    cdef bint last = False
    cdef int _turn
    for _turn in range(TCP_TURN):
        if c.gen != gen or c.paused or not message_ready(c):
            break
        n = get16(c.rbuf + c.rat)
        c.active_ns = w.now_ns
        c.spoke = True
        c.deadline_ns = w.now_ns + idle_of(w, t, c)
        if c.left:
            c.left -= 1
            last = c.left == 0
        q.origin = ORIGIN_TCP
        q.proto = PROTO_TCP
        q.listener = c.listener
        q.handle = (<uint64_t>gen << 32) | i
        q.peer = c.peer
        q.ifindex = 0
        q.local_len = c.local_len
        memcpy(q.local_ip, c.local_ip, 16)
        q.frames = t.frames
        identify(q, &c.peer, c.peer_len)
        c.in_flight += 1
        c.rat += n + 2
        if not ingress(w, q, c.rbuf + c.rat - n, n, &error):
            c.in_flight -= 1
            if error:
                append(t, i, q.reply, <uint32_t>error)
        chain_drain_ready(w)
        if last and c.gen == gen:
            c.eof = c.ours = True   # nothing more is read; it closes when what is in flight has left
            c.rat = c.rlen
            break
        if c.in_flight >= TCP_IN_FLIGHT or c.wlen - c.wat >= TCP_UNSENT:
            c.paused = True
    if c.gen != gen:
        return
    if not c.paused and message_ready(c):
        enqueue(t, i)
    interest(w, t, i)
    settle(w, t, i)


# ---------------------------------------------------------------------------------------------- writing

cdef inline void look_at(Tcp *t, uint32_t i) noexcept nogil:
    # Has the flush look at a connection.
    cdef Conn *c = &t.conns[i]
    if not c.dirty:
        c.dirty = True
        c.next_dirty = t.dirty_head
        t.dirty_head = i


cdef bint append(Tcp *t, uint32_t i, const uint8_t *message, uint32_t n) noexcept nogil:
    # Prefix and message into the send buffer. Its size is bounded: reading stops at TCP_UNSENT, what is in flight then
    # is at most TCP_IN_FLIGHT messages, and streams wait. False: no memory, and the connection is to end.
    cdef Conn *c = &t.conns[i]
    cdef uint32_t cap
    cdef uint8_t *grown
    if c.wat == c.wlen:
        c.wat = c.wlen = 0
    if c.wcap - c.wlen < n + 2:
        if c.wat:
            memmove(c.wbuf, c.wbuf + c.wat, c.wlen - c.wat)
            c.wlen -= c.wat
            c.wat = 0
        cap = c.wcap if c.wcap else 2048
        while cap - c.wlen < n + 2:
            cap *= 2
        if cap != c.wcap:
            grown = <uint8_t *>realloc(c.wbuf, cap)
            if grown == NULL:
                c.eof = True
                return False
            c.wbuf = grown
            c.wcap = cap
    put16(c.wbuf + c.wlen, n)
    memcpy(c.wbuf + c.wlen + 2, message, n)
    c.wlen += n + 2
    look_at(t, i)
    return True


cdef void send_some(Worker *w, Tcp *t, uint32_t i) noexcept nogil:
    cdef Conn *c = &t.conns[i]
    cdef ssize_t n
    cdef bint waiting = False
    while c.wat < c.wlen:
        n = c_send(c.fd, c.wbuf + c.wat, c.wlen - c.wat, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n > 0:
            c.wat += <uint32_t>n
            c.active_ns = w.now_ns
            continue
        if errno == EINTR:
            continue
        if errno == EAGAIN:
            waiting = True
            break
        conn_close(w, t, i)
        return
    if c.wat == c.wlen:
        c.wat = c.wlen = 0
        if c.wcap > READ_KEEP:
            free(c.wbuf)
            c.wbuf = NULL
            c.wcap = 0
    if waiting != c.watching_out:
        c.watching_out = waiting
        interest(w, t, i)
    if c.streams != NULL and c.wlen - c.wat < TCP_STREAM:
        streams_wake(w, c, False)
    settle(w, t, i)


include "_tcp_stream.pxi"


cdef void tcp_sink(Worker *w, Query *q) noexcept nogil:
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i = <uint32_t>(q.handle & 0xffffffffu)
    cdef uint32_t gen = <uint32_t>(q.handle >> 32)
    cdef Conn *c = &t.conns[i]
    cdef size_t n = 0
    if c.gen != gen or c.fd < 0:
        return
    c.in_flight -= 1
    if q.streamed:
        stream_leave(c, q)
        if q.cut and not c.eof:
            c.eof = c.ours = True   # no more is read; it closes when what is in flight has left
            interest(w, t, i)
    else:
        n = egress(w, q)
    if n:
        append(t, i, q.reply, <uint32_t>n)
    else:
        look_at(t, i)               # nothing to send, but the connection may now be read again, or be done


cdef void tcp_flush(Worker *w) noexcept nogil:
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i
    while t.dirty_head != NONE:
        i = t.dirty_head
        t.dirty_head = t.conns[i].next_dirty
        t.conns[i].dirty = False
        if t.conns[i].fd >= 0:
            send_some(w, t, i)
        else:
            left_list(t, i)


# ---------------------------------------------------------------------------------------------- events

cdef void tcp_event(Worker *w, uint64_t data, uint32_t events) noexcept nogil:
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i
    cdef Conn *c
    if data & LISTENER_TAG:
        i = <uint32_t>(data & (LISTENER_TAG - 1))
        accept_some(w, t, i, w.listeners[i].tcp_fd)
        return
    i = <uint32_t>data
    c = &t.conns[i]
    if c.fd < 0:
        return
    if events & (EPOLLERR | EPOLLHUP):
        conn_close(w, t, i)
        return
    if c.thrown:
        throw_away(w, t, i)
        return
    if events & EPOLLOUT:
        send_some(w, t, i)
        if c.fd < 0:
            return
    if events & EPOLLIN:
        if not read_some(t, i):
            conn_close(w, t, i)
            return
        take_messages(w, t, i)


cdef int64_t tcp_tick(Worker *w) noexcept nogil:
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i, last
    if t.work_head != NONE:
        last = t.work_tail
        while True:
            i = t.work_head
            t.work_head = t.conns[i].next_work
            if t.work_head == NONE:
                t.work_tail = NONE
            t.conns[i].queued = False
            if t.conns[i].fd >= 0:
                take_messages(w, t, i)
            else:
                left_list(t, i)
            if i == last or t.work_head == NONE:
                break
    if t.resume_accept_ns and w.now_ns >= t.resume_accept_ns and not t.draining:
        t.resume_accept_ns = 0
        for i in range(w.listener_count):
            if w.listeners[i].tcp_fd >= 0:
                tcp_listen(w, i)
    if t.draining:
        if t.accept_ns and w.now_ns >= t.accept_ns:
            stop_accepting(w, t)
        if not t.deaf and w.now_ns >= t.deaf_ns:
            stop_reading(w, t)
    if t.open and w.now_ns >= t.sweep_ns:
        t.sweep_ns = w.now_ns + SWEEP_NS
        sweep(w, t)
    if t.work_head != NONE:
        return <int64_t>w.now_ns
    if t.open:
        return <int64_t>t.sweep_ns
    return <int64_t>t.resume_accept_ns if t.resume_accept_ns else -1


cdef void sweep(Worker *w, Tcp *t) noexcept nogil:
    # Closes what has been silent past its deadline. A connection that waits for our answers is not silent; one
    # that does not take them is.
    cdef Conn *c
    cdef uint32_t i
    for i in range(t.used):
        c = &t.conns[i]
        if c.fd < 0:
            continue
        if c.wat < c.wlen:
            if w.now_ns - c.active_ns < (w.listeners[c.listener].write_ns or t.write_ns):
                continue
        elif w.now_ns < c.deadline_ns:
            continue
        elif c.in_flight:
            c.deadline_ns = w.now_ns + idle_of(w, t, c)
            continue
        if not c.thrown:
            stat_add(w.row, w.counts[COUNT_TCP_TIMEOUT], 1)
        conn_close(w, t, i)
