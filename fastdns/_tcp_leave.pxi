# SPDX-License-Identifier: Apache-2.0
#
# How connections end when their worker leaves. A part of _tcp.
#
# Strategy: what a client has sent is answered, what it may still send is not waited for long. No more is accepted (at
# listeners that nobody reads after us, for a moment still), a first query has half a second to come, and then nobody is
# read from: each connection closes behind its last answer.

cdef void tcp_drain(Worker *w, const uint8_t *last) noexcept nogil:
    """Accepts no more. A connection closes once its client has its answers; one whose first query is still on its way
    has LEAVE_NS for it. A listener of `last` is accepted at for LAST_NS more: what waits in its queue, or is about to,
    has nobody else."""
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i
    t.draining = True
    t.last = last
    t.deaf_ns = w.now_ns + LEAVE_NS
    for i in range(w.listener_count):
        if w.listeners[i].tcp_fd < 0:
            continue
        if last[i]:
            t.accept_ns = w.now_ns + LAST_NS
            t.deaf_ns = t.accept_ns + LEAVE_NS
            accept_some(w, t, i, w.listeners[i].tcp_fd)
        else:
            w.api.unwatch(w, w.listeners[i].tcp_fd)
    for i in range(t.used):
        if t.conns[i].fd < 0:
            continue
        if t.conns[i].deadline_ns > w.now_ns + LEAVE_NS:
            t.conns[i].deadline_ns = w.now_ns + LEAVE_NS
        if t.conns[i].thrown or (not t.conns[i].paused and not t.conns[i].eof and not read_some(t, i)):
            conn_close(w, t, i)
            continue
        take_messages(w, t, i)


cdef bint tcp_reads(const Worker *w) noexcept nogil:
    """Whether a draining worker may still read a client's query."""
    cdef const Tcp *t = <const Tcp *>w.mod[MOD_TCP]
    return not t.deaf and (t.open != 0 or t.accept_ns != 0)


cdef void stop_accepting(Worker *w, Tcp *t) noexcept nogil:
    cdef uint32_t i
    t.accept_ns = 0
    for i in range(w.listener_count):
        if w.listeners[i].tcp_fd >= 0 and t.last[i]:
            accept_some(w, t, i, w.listeners[i].tcp_fd)
            w.api.unwatch(w, w.listeners[i].tcp_fd)


cdef void stop_reading(Worker *w, Tcp *t) noexcept nogil:
    # Also from a client that pipelines without end: what was read whole is answered, those included that wait in the
    # receive buffer for their turn or for answers to leave, and then its connection closes.
    cdef Conn *c
    cdef uint32_t i
    t.deaf = True
    for i in range(t.used):
        c = &t.conns[i]
        if c.fd >= 0:
            c.eof = True
            interest(w, t, i)
            settle(w, t, i)
