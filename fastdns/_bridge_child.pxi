# SPDX-License-Identifier: Apache-2.0
#
# Children: what becomes of `next(query)` and `query.lookup(...)` between Python and the loop.
#
# Strategy: a child is a record down and, when it has ended, one up, which find each other by a token. Who waits for it
# (_Wait) goes on in the way in which it waits: an eager coroutine is stepped at once, a task's future is set. A child
# that streams sends its messages one by one, into the queue of a _Source. The error reply that the server would write
# to a client is made here for a look-up, whose plugin sees what a client would.

cdef int send_child(Bridge bridge, _Wait wait) except -1:
    cdef Down *d
    cdef size_t n = 0
    cdef size_t all
    cdef uint8_t *block = NULL
    cdef bytes labels
    if wait.request.done:
        raise RuntimeError("the query is over")
    if len(bridge.waits) >= BRIDGE_CHILDREN:
        raise PluginError(RCODE_SERVFAIL, "too many look-ups in flight")
    labels = labels_of(wait.request) if wait.kind == DOWN_NEXT else None
    if wait.wire is not None:
        n = len(wait.wire)
    all = n + (0 if labels is None else len(labels))
    if all > BRIDGE_INLINE:
        block = <uint8_t *>malloc(all)
        if block == NULL:
            raise MemoryError
    d = bridge.down_room()
    if d == NULL:
        free(block)
        raise PluginError(RCODE_SERVFAIL, "the worker is ending")
    bridge.last_token += 1
    d.kind = wait.kind
    d.pos = wait.pos
    d.q = wait.request.q
    d.token = bridge.last_token
    d.wire_len = <uint32_t>n
    d.block = block
    if n:
        memcpy(block if block != NULL else d.octets, <const uint8_t *>wait.wire, n)
    if labels is not None:
        d.outcome.labels_len = <uint32_t>len(labels)
        memcpy((block if block != NULL else d.octets) + n, <const uint8_t *>labels, len(labels))
    bridge.waits[bridge.last_token] = wait
    bridge.down_publish()
    bridge.ring()
    return 0


cdef int child_part(Bridge bridge, Up *u) except -1:
    # A message of a child that streams; with the first one `next` has its result.
    cdef Reply reply = child_reply(u, b"")
    cdef _Source source = bridge.sources.get(u.token)
    cdef _Wait wait
    if source is None:
        wait = bridge.waits.pop(u.token)
        source = _Source.__new__(_Source)
        source.request = wait.request
        source.q = u.q
        source.token = u.token
        source.queue = collections.deque()
        bridge.sources[u.token] = source
        if wait.request.done:
            source.close()
        else:
            wait.request.sources = [*(wait.request.sources or ()), source]
        wait.value = Stream(source)
        wake_waiter(bridge, wait)
    if not source.closed:
        source.queue.append(reply)
        source.wake()
    return 0


cdef int source_ended(Bridge bridge, _Source source, Up *u) except -1:
    cdef bytes text
    source.ended = True
    if u.outcome.verdict == PANIC:
        source.error = _Panicked()
    elif u.outcome.verdict != REPLY:
        text = u.block[:u.outcome.error_len] if u.outcome.error_len else b"the stream broke off"
        source.error = PluginError(u.outcome.rcode, text.decode("utf-8", "replace"))
    free(u.block)
    return source.wake()


cdef int child_ended(Bridge bridge, Up *u) except -1:
    cdef _Source source = bridge.sources.pop(u.token, None)
    if source is not None:
        return source_ended(bridge, source, u)
    cdef _Wait wait = bridge.waits.pop(u.token)
    cdef uint8_t *block = u.block
    cdef uint32_t at = u.outcome.reply_len + u.outcome.options_len
    cdef bytes text = b""
    try:
        if u.outcome.error_len:
            text = block[at:at + u.outcome.error_len]
        at += u.outcome.error_len
        if u.outcome.asked_len and wait.kind == DOWN_NEXT:
            wait.request.asked = block[at:at + u.outcome.asked_len]
        if u.outcome.labels_len and wait.kind == DOWN_NEXT and not wait.request.done:
            labels_begin(wait.request)
            labels_read(wait.request, block + at + u.outcome.asked_len, u.outcome.labels_len)
        if u.outcome.verdict == REPLY:
            wait.value = child_reply(u, text)
            block = NULL
        elif u.outcome.verdict == PANIC:
            wait.error = _Panicked()
        elif u.outcome.verdict == DROP:
            wait.value = _DROPPED
        elif wait.kind == DOWN_LOOKUP and server_writes(u.outcome.rcode):
            wait.value = server_reply(wait, u.outcome.rcode)
        elif text:
            wait.error = PluginError(u.outcome.rcode, text.decode("utf-8", "replace"))
        else:
            wait.value = Rcode(u.outcome.rcode)
    finally:
        free(block)
    return wake_waiter(bridge, wait)


cdef int wake_waiter(Bridge bridge, _Wait wait) except -1:
    cdef _Request request = wait.request
    wait.state = 2
    if wait.future is not None:
        if not wait.future.done():
            wait.future.set_result(None)
    elif request.coro is not None and not request.done:
        coro = request.coro
        request.coro = None
        bridge.step(request, coro, None, None, None)
    return 0


cdef Reply child_reply(Up *u, bytes error):
    # The reply takes the block over.
    cdef Reply reply = Reply.__new__(Reply)
    cdef Outcome *o = &u.outcome
    reply.heap = u.block
    reply.out.p = u.block
    reply.out.n = reply.out.cap = o.reply_len
    reply.rcode = o.rcode
    reply.ulen = o.ulen
    reply.has_opt = o.has_opt
    reply.set_do = o.set_do
    reply.opt_size = o.opt_size
    reply.upstream = o.upstream
    reply.look()
    if o.options_len:
        reply.options = u.block[o.reply_len:o.reply_len + o.options_len]
    if error:
        reply.error = error
    return reply


cdef Reply server_reply(_Wait wait, int rcode):
    # The error reply that the server would write to a client.
    cdef Reply reply = Reply.__new__(Reply)
    cdef Packet packet
    cdef bytes wire = wait.wire
    wire_admit(wire, len(wire), &packet)
    writer_reply(&reply.out, &packet, reply.out.p, reply.out.cap, 0, rcode)
    reply.rcode = <uint16_t>rcode
    reply.ulen = reply.out.n
    reply.qclass = packet.qclass
    return reply
