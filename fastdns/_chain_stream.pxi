# SPDX-License-Identifier: Apache-2.0
#
# Streams: answers of many messages, from a stage that holds the query (_stage.pxd tells the story).
#
# Strategy: a message passes the stages before the one that sends it and goes to the sink's `part`, which says whether
# there is room for another. The query stays where it is until stream_end unwinds it like any other; so whatever counts
# or logs does so once, with sums. Nothing is kept here but those sums.

cdef int stream(Worker *w, Query *q) noexcept nogil:
    cdef uint16_t pos = q.pos
    cdef int i = <int>pos - 1
    cdef int taken
    cdef uint32_t octets = q.ulen
    cdef Stage *s
    if q.gone:
        return STREAM_GONE
    if q.proto == PROTO_UDP or w.part[q.origin] == NULL:
        return STREAM_REFUSED
    q.written = True
    while i >= <int>q.base:
        s = &q.block.stages[i]
        if s.ops != NULL and s.ops.message != NULL:
            q.pos = <uint16_t>i
            s.ops.message(w, s, q)
        i -= 1
    q.pos = pos
    taken = w.part[q.origin](w, q)
    if taken == STREAM_GO or taken == STREAM_WAIT:
        q.stream_flags = get16(q.reply + 2)
        q.stream_rcode = q.rcode
        q.waits = taken == STREAM_WAIT
        if q.streamed < 0xffffffffu:
            q.streamed += 1
        q.stream_octets = q.stream_octets + octets if q.stream_octets <= 0xffffffffu - octets else 0xffffffffu
    return taken


cdef void stream_room(Worker *w, Query *q) noexcept nogil:
    """For sinks: a stream may go on, or (q.gone) should end."""
    cdef Stage *s = &q.block.stages[q.pos]
    q.waits = False
    if s.python:
        w.push_room(w, q)
    elif s.ops.room != NULL:
        s.ops.room(w, s, q)


cdef void stream_end(Worker *w, Query *q, bint whole) noexcept nogil:
    if q.streamed == 0:
        q.cut = False
        conclude(w, q, RCODE)
        return
    q.cut = not whole
    if whole:
        q.rcode = q.stream_rcode
    w.api.reply_room(w, q)
    q.reply_len = <uint32_t>wire_rcode(&q.pkt, q.stream_rcode, q.reply, WIRE_MAX)
    put16(q.reply + 2, q.stream_flags)
    q.ulen = q.stream_octets
    q.has_opt = False
    q.options_len = 0
    conclude(w, q, REPLY)
