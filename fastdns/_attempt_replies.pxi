# SPDX-License-Identifier: Apache-2.0
#
# What sockets and connections bring: answers, forgeries, refusals. A part of _attempt.
#
# Strategy: a message counts as the answer only if its socket, its id and its question are those that we asked under.
# Over UDP anything else may be forged, and is counted and waited past; over TCP it cannot be, so it ends the attempt.
# Near misses may be somebody who guesses ids: the question that is guessed at goes on over TCP. An ICMP error makes all
# questions of its socket ask elsewhere, while the ids asked under are still listened for.

cdef inline bint is_reply(const Question *q, const uint8_t *msg, uint32_t n) noexcept nogil:
    # A response of the same opcode to exactly this question.
    cdef const Packet *p = &q.first.pkt
    return (n >= WIRE_HEADER and (get16(msg + 2) & 0xF800) == (FLAG_QR | (p.flags & 0x7800))
            and wire_question_matches(msg, n, p, False))


cdef inline bint in_set(const uint64_t *rcodes, uint32_t rcode) noexcept nogil:
    return (rcodes[(rcode >> 6) & 63] >> (rcode & 63)) & 1


cdef inline uint32_t size_limit(const Question *q, bint udp) noexcept nogil:
    cdef const Packet *p = &q.first.pkt
    if not udp or q.proto == PROTO_TCP:
        return WIRE_MAX
    return p.udp_size if p.has_opt and p.udp_size > 512 else 512


cdef uint32_t cut_to_question(uint8_t *msg, const Question *q) noexcept nogil:
    # Leaves header and question, with TC: what is made of a datagram larger than the client can take.
    put16(msg + 2, get16(msg + 2) | FLAG_TC)
    memset(msg + 6, 0, 6)
    return WIRE_HEADER + q.first.pkt.qname_len + 4


cdef bint take_answer(Worker *w, Forward *f, uint32_t i, const uint8_t *msg, uint32_t n, bint udp, uint16_t upstream,
                      int fd, uint64_t since_ns) noexcept nogil:
    # A reply to the question, at a socket: True when it ends the exchange, False when it is to be waited past.
    cdef Question *q = &f.questions[i]
    cdef const Config *c = (<Stanza *>q.stage.state).config
    cdef Message *m = w.scan
    cdef uint32_t rcode
    if n > size_limit(q, udp) or wire_scan(msg, n, m) < 0:
        if n <= size_limit(q, udp) and not (udp and get16(msg + 2) & FLAG_TC):
            count(w, f, COUNT_MALFORMED)
            return False
        count(w, f, COUNT_OVERSIZED)
        n = cut_to_question(<uint8_t *>msg, q)      # a receive buffer: ours
        if wire_scan(msg, n, m) < 0:
            return False
    rcode = m.rcode
    stat_observe(w.row, c.upstreams[upstream].slot_duration + (rcode if rcode < 24 else 24) * (TIMES + 3), time_bounds,
                 TIMES, w.now_ns - since_ns if w.now_ns > since_ns else 0)
    if not udp:
        q.conn = NONE           # its pool keeps the connection from here on
    q.error_len = 0
    if udp and m.flags & FLAG_TC and c.prefer_udp and not c.force_tcp:
        q.upstream = upstream
        drop_ask(w, f, i, q.current)
        if start_tcp(w, f, i):
            go_on(w, f, i)
        return True
    tell(w, f, i, upstream, not udp, fd, msg, n)
    if in_set(c.failover, rcode):
        q.failovers += 1
        if q.failovers < c.n:
            drop_ask(w, f, i, q.current)
            if not advance(w, f, i):
                end(w, f, i)
            return True
    deliver(w, f, i, upstream, msg, n, c.has_next and (in_set(c.next_rcodes, rcode)
                                                       or (c.next_on_nodata and rcode == 0 and m.counts[1] == 0)))
    return True


cdef void on_datagram(Worker *w, Forward *f, uint32_t entry, const uint8_t *msg, uint32_t n) noexcept nogil:
    # A datagram with an id that we listen for.
    cdef uint32_t i = entry // ASKS
    cdef Question *q = &f.questions[i]
    cdef Ask *a = &q.asks[entry % ASKS]
    if not is_reply(q, msg, n):
        count(w, f, COUNT_MISMATCH)
        return
    take_answer(w, f, i, msg, n, True, a.upstream, ask_fd(f, a), a.sent_ns)


cdef void on_message(Worker *w, Forward *f, uint32_t i, const uint8_t *msg, uint32_t n) noexcept nogil:
    # The message of a TCP connection that has the id of question i. It cannot be forged from elsewhere, so nothing
    # better is to come when it is no answer: the attempt has failed.
    cdef Question *q = &f.questions[i]
    cdef const char *why = b"reply to another question"
    if is_reply(q, msg, n):
        if take_answer(w, f, i, msg, n, False, q.upstream, f.conns[q.conn].fd, q.try_ns):
            return
        why = b"malformed reply"
    else:
        count(w, f, COUNT_MISMATCH)
    explain(q, upstream_of(q), b"read ", b"tcp ", f.conns[q.conn].fd, b"", why)
    tell(w, f, i, q.upstream, True, f.conns[q.conn].fd, NULL, 0)
    tcp_forget(w, f, i)
    after_tcp(w, f, i)


cdef void refill(Worker *w, Forward *f) noexcept nogil:
    if w.now_ns - f.allowance_ns >= 1000 * MS:
        f.allowance_ns = w.now_ns
        f.stray_tokens = STRAYS
        f.move_tokens = MOVES


cdef void on_stray(Worker *w, Forward *f, uint32_t socket, const uint8_t *msg, uint32_t n) noexcept nogil:
    # An id that we do not listen for. With the question of one that is in flight on this socket, somebody guesses: that
    # one goes on over TCP, once.
    cdef uint32_t entry = f.sockets[socket].asks
    cdef uint32_t steps = 0
    cdef Question *q
    count(w, f, COUNT_WRONG_ID)
    refill(w, f)
    if n < WIRE_HEADER or entry == NONE or f.stray_tokens == 0 or f.move_tokens == 0:
        return
    f.stray_tokens -= 1
    while entry != NONE and steps < STRAY_WALK:
        q = &f.questions[entry // ASKS]
        if (not q.suspected and q.wait == WAIT_UDP and q.current == entry % ASKS and is_reply(q, msg, n)):
            break
        entry = q.asks[entry % ASKS].next
        steps += 1
    else:
        return
    f.move_tokens -= 1
    count(w, f, COUNT_TO_TCP)
    q.suspected = True
    q.moved = True
    drop_ask(w, f, entry // ASKS, q.current)
    if start_tcp(w, f, entry // ASKS):
        after_tcp(w, f, entry // ASKS)


cdef void on_refused(Worker *w, Forward *f, uint32_t socket, int error) noexcept nogil:
    # An ICMP error for a socket: it does not say for which of its questions, nor who sent it. All ask elsewhere, and
    # still listen here.
    cdef uint32_t n = 0
    cdef uint32_t at = f.sockets[socket].asks
    cdef uint32_t k, i
    cdef Question *q
    while at != NONE:
        f.hit[n] = at
        n += 1
        at = f.questions[at // ASKS].asks[at % ASKS].next
    for k in range(n):
        i = f.hit[k] // ASKS
        q = &f.questions[i]
        if (q.asks[f.hit[k] % ASKS].socket != socket or q.current != f.hit[k] % ASKS or q.wait != WAIT_UDP or q.queued
                or q.asks[q.current].refused):
            continue
        count(w, f, COUNT_REFUSED)
        q.asks[q.current].refused = True
        explain(q, upstream_of(q), b"read ", b"udp ", f.sockets[socket].fd, b"read: ", reason(error))
        tell(w, f, i, q.upstream, False, f.sockets[socket].fd, NULL, 0)
        go_on(w, f, i)


cdef void on_unsent(Worker *w, Forward *f, uint32_t i, int error) noexcept nogil:
    # In the midst of a flush: the next attempt comes with the next turn.
    cdef Question *q = &f.questions[i]
    explain(q, upstream_of(q), b"write ", b"udp ", ask_fd(f, &q.asks[q.current]), b"write: ", reason(error))
    tell(w, f, i, q.upstream, False, ask_fd(f, &q.asks[q.current]), NULL, 0)
    drop_ask(w, f, i, q.current)
    q.wait = WAIT_FAILED
    timer_set(w, f, i, w.now_ns)


cdef void on_connected(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    timer_set(w, f, i, w.now_ns + (<Stanza *>f.questions[i].stage.state).config.read_timeout_ns)


cdef void on_tcp_failed(Worker *w, Forward *f, uint32_t i, uint32_t conn, int error) noexcept nogil:
    cdef Question *q = &f.questions[i]
    if error == 0:
        q.error_len = 0
        put_text(q, b"EOF")
    elif conn == NONE or f.conns[conn].dialing:
        explain(q, upstream_of(q), b"dial ", b"tcp ", -1, b"connect: ", reason(error))
    else:
        explain(q, upstream_of(q), b"read ", b"tcp ", f.conns[conn].fd, b"read: ", reason(error))
    tell(w, f, i, q.upstream, True, tcp_fd(f, conn), NULL, 0)
    after_tcp(w, f, i)
