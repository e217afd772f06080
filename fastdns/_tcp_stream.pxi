# SPDX-License-Identifier: Apache-2.0
#
# Streams on a connection: answers of many messages, as a transfer has. A part of _tcp.
#
# Strategy: a connection links the queries whose streams go there. Each message is finished and appended like any other
# answer; the stream waits while TCP_STREAM octets are unsent, and `streams_wake` tells it when there is room, or that
# the client has gone.

cdef void streams_wake(Worker *w, Conn *c, bint gone) noexcept nogil:
    # The streams that wait may go on; or all hear that the connection is no more.
    cdef Query *q = c.streams
    cdef Query *after
    if gone:
        c.streams = NULL
    while q != NULL:
        after = q.stream_next
        if gone:
            q.stream_next = NULL
            q.gone = True
        if gone or q.waits:
            stream_room(w, q)
        q = after


cdef void stream_leave(Conn *c, Query *q) noexcept nogil:
    cdef Query **at = &c.streams
    while at[0] != NULL:
        if at[0] == q:
            at[0] = q.stream_next
            q.stream_next = NULL
            return
        at = &at[0].stream_next


cdef int tcp_part(Worker *w, Query *q) noexcept nogil:
    # One message of a stream. `egress` finishes it like any other; cut to size it would be another message.
    cdef Tcp *t = <Tcp *>w.mod[MOD_TCP]
    cdef uint32_t i = <uint32_t>(q.handle & 0xffffffffu)
    cdef Conn *c = &t.conns[i]
    cdef bint was_cut = (get16(q.reply + 2) & FLAG_TC) != 0
    cdef size_t n
    if c.gen != <uint32_t>(q.handle >> 32) or c.fd < 0:
        return STREAM_GONE
    n = egress(w, q)
    if n == 0 or ((get16(q.reply + 2) & FLAG_TC) != 0 and not was_cut):
        return STREAM_UNFIT
    if not append(t, i, q.reply, <uint32_t>n):
        return STREAM_GONE
    if q.streamed == 0:
        q.stream_next = c.streams
        c.streams = q
    return STREAM_WAIT if c.wlen - c.wat >= TCP_STREAM else STREAM_GO
