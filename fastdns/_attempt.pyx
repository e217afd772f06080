# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The attempts of a question: who is asked, how often, and what becomes of the answer.

`advance` walks the policy's order: an upstream that is up gets an attempt, over UDP (an ask on a socket of its pool) or
TCP (a connection). What ends an attempt - a timeout, an error, a refusal - leads to `go_on`, which counts it as CoreDNS
does and advances, or ends the question. What sockets bring is checked against the question (_attempt_replies.pxi); its
answer goes to each waiter with the waiter's own id and case (`deliver`), and that one's chain goes on from there. The
words of an error are _attempt_words.pxi.

Strategy: a question is a state (`wait`) and one timer; every event of a socket, a connection or the timer is one of the
functions below. An ICMP error may be forged: it makes us ask elsewhere, but the id asked under is still listened for,
and a question whose every attempt was refused waits on until the keeper's own check says that the upstream is down.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._inflight cimport (
    ASKS, COUNT_MALFORMED, COUNT_MISMATCH, COUNT_OVERSIZED, COUNT_REFUSED, COUNT_TIMEOUT, COUNT_TO_TCP, COUNT_WRONG_ID,
    ERROR_MAX, NONE, POLICY_RANDOM, POLICY_ROUND_ROBIN, UPSTREAMS, WAIT_FAILED, WAIT_LINGER, WAIT_RETRY, WAIT_TCP,
    WAIT_UDP, Ask, Config, Conn, Forward, Question, Stanza, Upstream, ask_remove, question_release, same_remove,
    question_frame, timer_clear, timer_set,
)
from fastdns._stage cimport NEXT, PROTO_TCP, RCODE, REPLY, Block, Exchange, Query, Worker, label_set
from fastdns._stats cimport stat_add, stat_observe
from fastdns._sys cimport (
    AF_INET6, EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EMFILE, ENETUNREACH, ENOBUFS, EPERM, EPIPE,
    ETIMEDOUT, c_getsockname, c_write, fd_cas, fd_load_relaxed, fd_store_relaxed, inet_ntop, memcpy, memset, ntohs,
    sockaddr, sockaddr_in, sockaddr_in6, socklen_t, strlen,
)
from fastdns._upstream_tcp cimport TcpHandlers, tcp_ask, tcp_forget
from fastdns._upstream_udp cimport Handlers, udp_ask, udp_flush, udp_settle
from fastdns._wire cimport (
    FLAG_DO, FLAG_QR, FLAG_TC, RCODE_SERVFAIL, WIRE_HEADER, WIRE_MAX, Message, Packet, get16, put16,
    wire_question_matches, wire_scan, wire_strip_opt,
)

cdef enum:
    TOTAL_MS = 5000             # for all attempts of a question
    DIAL_MIN_MS = 1000
    MOVED_MS = 1000             # for the dial of a question that a near miss moved
    LINGER_MS = 10              # between looks at the health of those that refused
    LINGER_UNCHECKED_MS = 250   # of waiting when there are no health checks
    RETRY_MS = 20               # between attempts that failed at once, when their number has no cap
    STRAYS = 2000               # near misses looked into in a second
    MOVES = 100                 # ... and moved to TCP
    STRAY_WALK = 1024           # questions of a socket compared with one

cdef uint64_t MS = 1000000
cdef uint64_t time_bounds[TIMES]
cdef int bound
for bound in range(TIMES):
    time_bounds[bound] = <uint64_t>250000 << bound


cdef inline void count(Worker *w, Forward *f, int event) noexcept nogil:
    stat_add(w.row, f.slot_events + event, 1)


include "_attempt_words.pxi"


cdef inline const Upstream *upstream_of(const Question *q) noexcept nogil:
    return &(<const Stanza *>q.stage.state).config.upstreams[q.upstream]


cdef inline int ask_fd(const Forward *f, const Ask *a) noexcept nogil:
    return f.sockets[a.socket].fd if a.socket != NONE else -1


cdef inline int tcp_fd(const Forward *f, uint32_t conn) noexcept nogil:
    # Of a connection that was made.
    return -1 if conn == NONE or f.conns[conn].dialing else f.conns[conn].fd


# ---------------------------------------------------------------------------------------------- the end of a question

cdef Query *retire(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Takes a question out of every table; returns who waited.
    cdef Question *q = &f.questions[i]
    cdef Query *first = q.first
    cdef uint32_t k
    if q.queued:
        udp_flush(w, f)
    same_remove(f, i)
    timer_clear(f, i)
    for k in range(ASKS):
        drop_ask(w, f, i, k)
    tcp_forget(w, f, i)
    question_release(f, i)
    return first


cdef inline void tell(Worker *w, Forward *f, uint32_t i, uint32_t upstream, bint tcp, int fd, const uint8_t *reply,
                      uint32_t n) noexcept nogil:
    # An exchange has ended, with a reply or without.
    if f.questions[i].first.block.exchanged != NULL:
        tell_watcher(w, f, i, upstream, tcp, fd, reply, n)


cdef void tell_watcher(Worker *w, Forward *f, uint32_t i, uint32_t upstream, bint tcp, int fd, const uint8_t *reply,
                       uint32_t n) noexcept nogil:
    # Of those who wait the first one stands for all.
    cdef Question *q = &f.questions[i]
    cdef const Config *c = (<const Stanza *>q.stage.state).config
    cdef Block *b = q.first.block
    cdef Exchange e
    name_upstream(c, q.first, upstream)
    e.begin_ns = q.start_ns
    e.question = question_frame(q) + 2
    e.question_len = q.len
    e.reply = reply
    e.reply_len = n
    e.peer = &c.upstreams[upstream].addr
    e.fd = fd
    e.tcp = tcp
    b.exchanged(w, b.watcher, q.first, &e)


cdef inline void drop_ask(Worker *w, Forward *f, uint32_t i, uint32_t k) noexcept nogil:
    cdef uint32_t s = f.questions[i].asks[k].socket
    if s != NONE:
        ask_remove(f, i * ASKS + k)
        udp_settle(w, f, s)


cdef void leave(Worker *w, const Config *c) noexcept nogil:
    if c.max_concurrent:
        stat_add(w.row, c.slot_concurrent, <uint64_t>-1)


cdef inline const Config *config_of(const Query *q) noexcept nogil:
    return (<const Stanza *>q.block.stages[q.pos].state).config


cdef inline void name_upstream(const Config *c, const Query *each, uint32_t upstream) noexcept nogil:
    label_set(each, c.label, c.upstreams[upstream].text, c.upstreams[upstream].text_len)


cdef void give_up(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # SERVFAIL to everybody, with the last attempt's error.
    cdef Question *q = &f.questions[i]
    cdef uint32_t upstream = q.upstream
    cdef bint tried = q.tries > 0
    cdef Query *each
    cdef Query *following
    cdef char text[ERROR_MAX]
    cdef uint16_t n
    if q.error_len == 0:
        put_text(q, b"no healthy proxies")
    n = q.error_len
    memcpy(text, q.error, n)
    each = retire(w, f, i)
    while each != NULL:
        following = each.link
        each.link = NULL
        leave(w, config_of(each))
        if tried:
            name_upstream(config_of(each), each, upstream)
        memcpy(each.error, text, n)
        each.error_len = n
        each.rcode = RCODE_SERVFAIL
        w.api.resume(w, each, RCODE)
        each = following


cdef bint write_reply(Worker *w, Query *q, const uint8_t *msg, const Message *m) noexcept nogil:
    # The upstream's message as this client's answer: its id, its letter case, the OPT set aside.
    cdef size_t n
    w.api.reply_room(w, q)
    n = wire_strip_opt(msg, m, q.reply, WIRE_MAX)
    if n < WIRE_HEADER + <size_t>q.pkt.qname_len + 4:
        q.rcode = RCODE_SERVFAIL
        return False
    put16(q.reply, q.pkt.id)
    memcpy(q.reply + WIRE_HEADER, q.pkt.wire + WIRE_HEADER, q.pkt.qname_len)
    q.reply_len = <uint32_t>n
    q.rcode = m.rcode
    q.has_opt = m.has_opt
    q.opt_size = m.opt_size
    q.set_do = m.has_opt and (m.opt_flags & FLAG_DO) != 0
    q.options = msg + m.opt_rdata if m.has_opt else NULL
    q.options_len = m.opt_rdlen if m.has_opt else 0
    q.ulen = m.ulen + (m.opt_len if m.has_opt else 0)
    return True


cdef void deliver(Worker *w, Forward *f, uint32_t i, uint16_t upstream, const uint8_t *msg, uint32_t n,
                  bint following_stage) noexcept nogil:
    # w.scan is msg's index. It is the finisher's scratch too, so a message that is written anew is indexed for each
    # waiter.
    cdef Message m = w.scan[0]
    cdef bint whole = not m.has_tsig and (not m.has_opt or m.opt_last)
    cdef bint stale = False
    cdef Query *each = retire(w, f, i)
    cdef Query *following
    while each != NULL:
        following = each.link
        each.link = NULL
        leave(w, config_of(each))
        name_upstream(config_of(each), each, upstream)
        if following_stage:
            w.api.resume(w, each, NEXT)
        else:
            if stale and not whole:
                wire_scan(msg, n, w.scan)
                m = w.scan[0]
            each.upstream = config_of(each).upstreams[upstream].number
            w.api.resume(w, each, REPLY if write_reply(w, each, msg, &m) else RCODE)
            stale = True
        each = following


# ---------------------------------------------------------------------------------------------- attempts

cdef inline uint64_t mixed(uint64_t *state) noexcept nogil:
    # splitmix64: spreads a question's one random seed over its order of upstreams.
    cdef uint64_t z
    state[0] += 0x9E3779B97F4A7C15ULL
    z = state[0]
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL
    return z ^ (z >> 31)


cdef uint32_t in_order(const Question *q, const Config *c) noexcept nogil:
    # The upstream at q.step of the policy's order for this question. The order is not kept: it follows from the seed.
    cdef uint8_t order[UPSTREAMS + 1]
    cdef uint64_t state = q.seed
    cdef uint32_t i, k, first
    cdef uint8_t held
    if c.n == 1:
        return 0
    if c.policy == POLICY_RANDOM:
        for i in range(c.n):    # at most UPSTREAMS
            order[i] = <uint8_t>i
        for i in range(<uint32_t>q.step + 1):
            k = i + <uint32_t>(mixed(&state) % (c.n - i))
            held = order[i]
            order[i] = order[k]
            order[k] = held
        return order[q.step]
    if c.policy == POLICY_ROUND_ROBIN:
        first = <uint32_t>(q.seed % c.n)
        if q.step == 0:
            return first
        return <uint32_t>q.step - 1 if q.step <= first else q.step
    return q.step


cdef inline bint is_looped(const Worker *w, const Config *c, uint32_t u) noexcept nogil:
    return fd_load_relaxed(w.shared + c.upstreams[u].slot_looped) != 0


cdef uint32_t anybody(Worker *w, const Config *c) noexcept nogil:
    # An upstream whatever its health, but none that sends queries back: NONE if all do.
    cdef uint32_t first = <uint32_t>(w.api.random(w) % c.n)
    cdef uint32_t i, u
    for i in range(c.n):
        u = (first + i) % c.n
        if not is_looped(w, c, u):
            return u
    return NONE


cdef inline bint is_down(const Worker *w, const Config *c, uint32_t u) noexcept nogil:
    return (fd_load_relaxed(w.shared + c.upstreams[u].slot_drained) != 0 or is_looped(w, c, u)
            or (c.max_fails and fd_load_relaxed(w.shared + c.upstreams[u].slot_fails) > c.max_fails))


cdef void want_check(Worker *w, const Config *c, uint32_t u) noexcept nogil:
    # Asks the keeper for health checks until one succeeds. The first to ask wakes it.
    cdef uint64_t one = 1
    cdef uint64_t *word = w.shared + c.upstreams[u].slot_check
    if fd_load_relaxed(word) == 0 and fd_cas(word, 0, 1) and c_write(c.wake_fd, &one, sizeof(one)) < 0:
        fd_store_relaxed(word, 0)       # the next failure asks again


cdef void count_warm(Worker *w, const Config *c, const Upstream *u) noexcept nogil:
    # CoreDNS counts a hit when a kept socket is used and a miss when one is opened. Ours rotate; a miss is a
    # question to an upstream that no worker has asked for `expire`.
    cdef uint64_t last = fd_load_relaxed(w.shared + u.slot_warm)
    cdef bint cold = last == 0 or (w.now_ns > last and w.now_ns - last > c.expire_ns)
    stat_add(w.row, u.slot_misses[0] if cold else u.slot_hits[0], 1)
    if cold or w.now_ns > last + 100 * MS:
        fd_store_relaxed(w.shared + u.slot_warm, w.now_ns)


cdef int start_udp(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef Question *q = &f.questions[i]
    cdef Stanza *z = <Stanza *>q.stage.state
    cdef uint8_t k = (q.current + 1) % ASKS
    cdef uint32_t avoid = q.asks[q.current].socket      # of a refused ask
    cdef int error
    tcp_forget(w, f, i)
    drop_ask(w, f, i, k)
    count_warm(w, z.config, &z.config.upstreams[q.upstream])
    q.wait = WAIT_UDP
    q.current = k
    q.asks[k].upstream = q.upstream
    q.tries += 1
    timer_set(w, f, i, w.now_ns + z.config.read_timeout_ns)
    error = udp_ask(w, f, i, k, z.pools[q.upstream], avoid)
    if error:
        explain(q, upstream_of(q), b"dial ", b"udp ", -1, b"socket: " if error == EMFILE else b"connect: ",
                reason(error))
        tell(w, f, i, q.upstream, False, -1, NULL, 0)
    return error


cdef int start_tcp(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    cdef Question *q = &f.questions[i]
    cdef Stanza *z = <Stanza *>q.stage.state
    cdef uint64_t average = z.tcp[q.upstream].dial_ns
    cdef uint64_t left = q.start_ns + TOTAL_MS * MS
    cdef uint64_t most = DIAL_MIN_MS * MS
    cdef int error
    if q.queued:
        udp_flush(w, f)
    tcp_forget(w, f, i)
    # CoreDNS's dial timeout: twice the average, in its bounds; but never longer than an answer is waited for, or the
    # first dial to a silent upstream would leave no time for the next one.
    if average >= DIAL_START_MS * MS:
        most = DIAL_MAX_MS * MS
    elif average >= DIAL_MIN_MS * MS:
        most = 2 * average
    if most > z.config.read_timeout_ns and most > DIAL_MIN_MS * MS:
        most = z.config.read_timeout_ns if z.config.read_timeout_ns > DIAL_MIN_MS * MS else DIAL_MIN_MS * MS
    if q.moved and most > MOVED_MS * MS:
        most = MOVED_MS * MS
    left = left - w.now_ns if left > w.now_ns else 0
    q.wait = WAIT_TCP
    q.try_ns = w.now_ns
    q.tries += 1
    timer_set(w, f, i, w.now_ns + (most if most < left else left))
    error = tcp_ask(w, f, z, q.upstream, i)
    if error:
        explain(q, upstream_of(q), b"dial ", b"tcp ", -1, b"connect: ", reason(error))
        tell(w, f, i, q.upstream, True, -1, NULL, 0)
    return error


cdef bint failed_attempt(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Counts a failed attempt as CoreDNS does: whether another may follow.
    cdef Question *q = &f.questions[i]
    cdef const Config *c = (<Stanza *>q.stage.state).config
    if c.max_fails:
        want_check(w, c, q.upstream)
    if c.max_attempts:
        q.attempts += 1
        if q.attempts >= c.max_attempts:
            return False
    return q.down < c.n


cdef bint advance(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # Starts the next attempt; False when there is none.
    cdef Question *q = &f.questions[i]
    cdef const Config *c = (<Stanza *>q.stage.state).config
    cdef Query *each
    cdef uint32_t u
    cdef int error
    cdef uint32_t passed = 0
    while (w.now_ns < q.start_ns + TOTAL_MS * MS and (q.deadline_ns == 0 or w.now_ns < q.deadline_ns)
            and (c.max_attempts == 0 or q.attempts < c.max_attempts)):
        if q.step >= c.n:
            q.step = 0
            q.down = 0
        u = in_order(q, c)
        q.step += 1
        if is_down(w, c, u):
            q.down += 1
            if q.down < c.n:
                continue
            stat_add(w.row, c.slot_broken, 1)
            if c.failfast:
                return False
            # The checks may be what is broken: somebody is asked all the same.
            u = anybody(w, c)
            if u == NONE:
                q.error_len = 0
                put_text(q, b"all upstreams send queries back")
                return False
        q.upstream = <uint16_t>u
        q.moved = False
        each = q.first
        while each != NULL:
            if each.block.tap != NULL:
                each.block.tap(w, each, c.upstreams[u].text, c.upstreams[u].text_len)
            each = each.link
        if c.force_tcp or (q.proto == PROTO_TCP and not c.prefer_udp):
            error = start_tcp(w, f, i)
        else:
            error = start_udp(w, f, i)
        if error == 0:
            return True
        if not failed_attempt(w, f, i):
            return False
        passed += 1
        if passed >= c.n:
            # All failed at once, without a datagram: not again in this turn.
            q.wait = WAIT_RETRY
            timer_set(w, f, i, w.now_ns + RETRY_MS * MS)
            return True
    return False


cdef void go_on(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # After a failed attempt.
    if not failed_attempt(w, f, i) or not advance(w, f, i):
        end(w, f, i)


cdef void end(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # No attempt is left. Refusals alone may be forged: then the answer may still come.
    cdef Question *q = &f.questions[i]
    cdef const Config *c = (<Stanza *>q.stage.state).config
    cdef const Ask *a
    cdef uint32_t k
    cdef bint doubtful = False
    if q.wait != WAIT_LINGER:
        q.linger_ns = w.now_ns + (c.read_timeout_ns if c.max_fails else <uint64_t>(LINGER_UNCHECKED_MS * MS))
    for k in range(ASKS):
        a = &q.asks[k]
        if (a.socket != NONE and a.refused and w.now_ns < a.sent_ns + c.read_timeout_ns
                and (c.max_fails == 0 or fd_load_relaxed(w.shared + c.upstreams[a.upstream].slot_fails) == 0)):
            doubtful = True
    if not doubtful or w.now_ns >= q.linger_ns:
        give_up(w, f, i)
        return
    q.wait = WAIT_LINGER
    timer_set(w, f, i, w.now_ns + LINGER_MS * MS)


cdef void fire(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # A question's timer has run out.
    cdef Question *q = &f.questions[i]
    cdef Conn *c
    if q.wait == WAIT_UDP:
        count(w, f, COUNT_TIMEOUT)
        explain(q, upstream_of(q), b"read ", b"udp ", ask_fd(f, &q.asks[q.current]), b"", b"i/o timeout")
        tell(w, f, i, q.upstream, False, ask_fd(f, &q.asks[q.current]), NULL, 0)
        drop_ask(w, f, i, q.current)
        go_on(w, f, i)
    elif q.wait == WAIT_TCP:
        count(w, f, COUNT_TIMEOUT)
        if q.conn != NONE:
            c = &f.conns[q.conn]
            explain(q, upstream_of(q), b"dial " if c.dialing else b"read ", b"tcp ", -1 if c.dialing else c.fd, b"",
                    b"i/o timeout")
        tell(w, f, i, q.upstream, True, tcp_fd(f, q.conn), NULL, 0)
        tcp_forget(w, f, i)
        after_tcp(w, f, i)
    elif q.wait == WAIT_RETRY:
        if not advance(w, f, i):
            end(w, f, i)
    elif q.wait == WAIT_FAILED:
        go_on(w, f, i)
    else:
        end(w, f, i)


cdef void after_tcp(Worker *w, Forward *f, uint32_t i) noexcept nogil:
    # A TCP attempt has failed. One that a near miss caused gives way to UDP again; nothing is held against the
    # upstream.
    cdef Question *q = &f.questions[i]
    if q.moved:
        q.moved = False
        if start_udp(w, f, i) == 0:
            return
    go_on(w, f, i)


include "_attempt_replies.pxi"


# ---------------------------------------------------------------------------------------------- handlers

cdef void attempt_handlers(Handlers *udp, TcpHandlers *tcp) noexcept nogil:
    """The functions that take what sockets and connections bring."""
    udp.answer = on_datagram
    udp.stray = on_stray
    udp.refused = on_refused
    udp.unsent = on_unsent
    tcp.answer = on_message
    tcp.failed = on_tcp_failed
    tcp.connected = on_connected
