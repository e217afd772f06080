# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled forward stage: a query joins a question that is in flight, or becomes one.

Strategy: `request` composes the message to send and looks whether one that is equal in all but id and letter case is in
flight for the same stanza and protocol; then the query waits for that one's answer. So the same question, asked by a
thousand clients at once, is one question to guess an answer for. Here also are a worker's start, its turn and its end,
and the Python face, which turns a stanza's settings into C before the fork.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._attempt cimport DIAL_START_MS, advance, attempt_handlers, fire, leave
from fastdns._inflight cimport (
    ASKS, BUCKETS, COUNT_COALESCED, COUNT_FULL, COUNT_WAITERS_FULL, NONE, POLICY_ROUND_ROBIN, SOCKETS, UPSTREAMS,
    WAITERS, WAIT_END, Config, Forward, Question, Stanza, Suffix, TcpPool, Upstream, inflight_close, inflight_open,
    question_frame, question_release, question_take, same_insert, timer_set, timers_run,
)
from fastdns._stage cimport (
    MOD_FORWARD, NEXT, RCODE, SUSPEND, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage,
)
from fastdns._stats cimport Stats, stat_add
from fastdns._sys cimport (
    AF_INET, AF_INET6, calloc, fd_add_relaxed, fd_load_relaxed, free, htons, memcmp, memcpy, memset, sockaddr_in,
    sockaddr_in6, strlen,
)
from fastdns._upstream_tcp cimport TcpHandlers, tcp_close_all, tcp_event, tcp_setup, tcp_sweep
from fastdns._upstream_udp cimport (
    Handlers, pool_of, pool_sizes, udp_close, udp_event, udp_flush, udp_open, udp_sweep,
)
from fastdns._wire cimport (
    OPCODE_QUERY, RCODE_REFUSED, RCODE_SERVFAIL, WIRE_HEADER, Packet, get16, put16, wire_name_under, wire_siphash13,
)

import socket

# What each counter means, in the order of the enum in _inflight.pxd: the label `event` of fastdns_forward_events_total.
EVENTS = (
    "wrong_id", "mismatch", "malformed", "oversized", "refused", "timeout", "moved_to_tcp", "coalesced", "full",
    "waiters_full", "send_error", "segment_fallback", "socket_error", "connections_full",
)
RCODES = 25
"""Places of the duration histograms: rcodes 0 to 23, and all others."""

cdef enum:
    SWEEP_MS = 1000

cdef uint64_t MS = 1000000


cdef inline void count(Worker *w, Forward *f, int event) noexcept nogil:
    stat_add(w.row, f.slot_events + event, 1)


# ---------------------------------------------------------------------------------------------- the stage

cdef int refuse(Query *q, int rcode, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    q.error_len = <uint16_t>(n if n < sizeof(q.error) else sizeof(q.error))
    memcpy(q.error, text, q.error_len)
    q.rcode = <uint16_t>rcode
    return RCODE


cdef bint matches(const Config *c, const Packet *p) noexcept nogil:
    # Under FROM, and FROM itself or not under a name of `except`.
    cdef uint32_t i
    if not wire_name_under(p.qname, p.qname_len, c.zone.name, c.zone.len):
        return False
    if p.qname_len == c.zone.len:
        return True
    for i in range(c.ignored_n):
        if wire_name_under(p.qname, p.qname_len, c.ignored[i].name, c.ignored[i].len):
            return False
    return True


cdef bint enter(Worker *w, const Config *c) noexcept nogil:
    # Counts a query in, over all workers; False when there are too many.
    cdef uint32_t i
    cdef int64_t sum = 0
    stat_add(w.row, c.slot_concurrent, 1)
    for i in range(c.row_count):
        sum += <int64_t>fd_load_relaxed(c.rows + i * c.stride + c.slot_concurrent)
    if sum <= <int64_t>c.max_concurrent:
        return True
    leave(w, c)
    stat_add(w.row, c.slot_rejects, 1)
    return False


cdef uint32_t compose(const Packet *p, uint8_t *out) noexcept nogil:
    # The message to send, its id aside: as the client wrote it, with what the stages before changed; without a TSIG,
    # which is the client's with us. Octets.
    cdef uint32_t n = p.tsig_off if p.has_tsig else p.end
    memcpy(out, p.wire, n)
    put16(out + 2, p.flags)
    if p.has_tsig:
        put16(out + 10, get16(out + 10) - 1)
    if p.has_opt and p.opt_off + 11 <= n:
        put16(out + p.opt_off + 3, p.udp_size)
        put16(out + p.opt_off + 7, p.opt_flags)
    return n


cdef uint64_t message_hash(const Forward *f, const Stage *s, const Query *q, uint32_t n) noexcept nogil:
    # Keyed over everything but the id and the case of the name.
    cdef uint64_t key[2]
    cdef uint32_t tail = WIRE_HEADER + q.pkt.qname_len
    key[0] = wire_siphash13(f.key, q.pkt.qname, q.pkt.qname_len) ^ <uint64_t><size_t>s ^ q.proto
    key[1] = f.key[1] ^ get16(f.build + 2)
    return wire_siphash13(key, f.build + tail, n - tail)


cdef uint32_t find_same(const Forward *f, const Stage *s, const Query *q, uint64_t hash, uint32_t n) noexcept nogil:
    cdef uint32_t at = f.same[<uint32_t>hash & (BUCKETS - 1)]
    cdef uint32_t tail = WIRE_HEADER + q.pkt.qname_len
    cdef Question *other
    cdef const uint8_t *octets
    while at:
        other = &f.questions[at - 1]
        if (other.hash == hash and other.stage == s and other.len == n and other.proto == q.proto
                and other.first.pkt.qname_len == q.pkt.qname_len
                and memcmp(other.first.pkt.qname, q.pkt.qname, q.pkt.qname_len) == 0):
            octets = question_frame(other) + 2
            if memcmp(octets + 2, f.build + 2, 10) == 0 and memcmp(octets + tail, f.build + tail, n - tail) == 0:
                return at - 1
        at = other.same_next
    return NONE


cdef bint ask_anew(Worker *w, Forward *f, Stage *s, Query *q, uint64_t hash, uint32_t n) noexcept nogil:
    # A question of its own; False when a table is full.
    cdef uint32_t i = question_take(f, n)
    cdef Question *o
    cdef Query *held
    if i == NONE:
        count(w, f, COUNT_FULL)
        return False
    held = w.api.detach(w, q)
    if held == NULL:
        question_release(f, i)
        return False
    o = &f.questions[i]
    memcpy(question_frame(o) + 2, f.build, n)
    o.hash = hash
    o.stage = s
    o.first = o.last = held
    held.link = NULL
    o.waiters = 1
    o.proto = q.proto
    o.suspected = o.moved = False
    o.current = ASKS - 1
    o.step = o.down = o.failovers = 0
    o.attempts = o.tries = 0
    o.error_len = 0
    o.start_ns = w.now_ns
    o.deadline_ns = q.deadline_ns
    if (<Stanza *>s.state).config.policy == POLICY_ROUND_ROBIN:
        o.seed = fd_add_relaxed(w.shared + (<Stanza *>s.state).config.slot_robin, 1) + 1
    elif (<Stanza *>s.state).config.n > 1:
        o.seed = w.api.random(w)
    same_insert(f, i)
    if not advance(w, f, i):
        o.wait = WAIT_END
        timer_set(w, f, i, w.now_ns)
    return True


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Forward *f = <Forward *>w.mod[MOD_FORWARD]
    cdef const Config *c = (<Stanza *>s.state).config
    cdef Question *o
    cdef Query *held
    cdef uint64_t hash
    cdef uint32_t n, i
    if q.pkt.qname_len == 0 or not matches(c, &q.pkt):
        return NEXT
    if q.pkt.opcode != OPCODE_QUERY:        # a NOTIFY is for this server, or for nobody (RFC 1996 3.11)
        q.rcode = RCODE_REFUSED
        return RCODE
    if c.max_concurrent and not enter(w, c):
        return refuse(q, RCODE_REFUSED, c.limit_text)
    n = compose(&q.pkt, f.build)
    hash = message_hash(f, s, q, n)
    i = NONE if q.apart else find_same(f, s, q, hash, n)
    if i == NONE:
        if ask_anew(w, f, s, q, hash, n):
            return SUSPEND
        leave(w, c)
        return refuse(q, RCODE_SERVFAIL, b"too many questions in flight")
    o = &f.questions[i]
    held = w.api.detach(w, q) if o.waiters < WAITERS else NULL
    if held == NULL:
        count(w, f, COUNT_WAITERS_FULL)
        leave(w, c)
        return refuse(q, RCODE_SERVFAIL, b"too many queries wait for one answer")
    count(w, f, COUNT_COALESCED)
    held.link = NULL
    o.last.link = held
    o.last = held
    o.waiters += 1
    if o.deadline_ns and (held.deadline_ns == 0 or held.deadline_ns > o.deadline_ns):
        o.deadline_ns = held.deadline_ns
    return SUSPEND


cdef void event(Worker *w, uint64_t data, uint32_t events) noexcept nogil:
    cdef Forward *f = <Forward *>w.mod[MOD_FORWARD]
    if data >> 48:
        tcp_event(w, f, <uint32_t>data, <uint16_t>(data >> 32), events)
    else:
        udp_event(w, f, <uint32_t>data)


cdef int64_t tick(Worker *w) noexcept nogil:
    cdef Forward *f = <Forward *>w.mod[MOD_FORWARD]
    cdef uint64_t at
    timers_run(w, f, fire)
    if w.now_ns >= f.sweep_ns:
        f.sweep_ns = w.now_ns + SWEEP_MS * MS
        udp_sweep(w, f)
        tcp_sweep(w, f)
    if f.due:
        return <int64_t>w.now_ns
    at = f.next_ns
    if (f.open_sockets or f.open_conns) and f.sweep_ns < at:
        at = f.sweep_ns
    return <int64_t>at          # all ones is -1: nothing to wait for


cdef void flush(Worker *w) noexcept nogil:
    udp_flush(w, <Forward *>w.mod[MOD_FORWARD])


cdef Forward *open_worker(Worker *w, const Config *c) noexcept nogil:
    cdef Handlers udp
    cdef TcpHandlers tcp
    cdef Forward *f = <Forward *>calloc(1, sizeof(Forward))
    if f == NULL:
        return NULL
    attempt_handlers(&udp, &tcp)
    if inflight_open(w, f) < 0 or udp_open(w, f, &udp) < 0:
        free(f)
        return NULL
    tcp_setup(&tcp)
    f.max_sockets = c.descriptors if c.descriptors < SOCKETS else SOCKETS
    f.slot_events = c.slot_events
    w.mod[MOD_FORWARD] = f
    w.on_event[MOD_FORWARD] = event
    w.on_tick[MOD_FORWARD] = tick
    w.on_flush[MOD_FORWARD] = flush
    return f


cdef int start(Worker *w, Stage *s) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef Forward *f = <Forward *>w.mod[MOD_FORWARD]
    cdef Stanza *z = <Stanza *>calloc(1, sizeof(Stanza))
    cdef uint32_t i
    if f == NULL:
        f = open_worker(w, c)
    if f == NULL or z == NULL:
        free(z)
        return 1
    z.stage = s
    z.config = c
    z.pools = <uint32_t *>calloc(c.n, sizeof(uint32_t))
    z.tcp = <TcpPool *>calloc(c.n, sizeof(TcpPool))
    z.next = f.stanzas
    f.stanzas = z
    f.running += 1
    s.state = z
    if z.pools == NULL or z.tcp == NULL:
        return 1
    for i in range(c.n):
        z.pools[i] = pool_of(f, &c.upstreams[i], &c.source, c.source_len)
        if z.pools[i] == NONE:
            return 1
        z.tcp[i].idle_head = z.tcp[i].idle_tail = NONE
        z.tcp[i].dial_ns = DIAL_START_MS * MS
    pool_sizes(f)
    return 0


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    # The last of the worker's stanzas to stop takes along what all share.
    cdef Forward *f = <Forward *>w.mod[MOD_FORWARD]
    cdef Stanza *z
    s.state = NULL
    f.running -= 1
    if f.running:
        return
    udp_close(w, f)
    tcp_close_all(w, f)
    inflight_close(f)
    while f.stanzas != NULL:
        z = f.stanzas
        f.stanzas = z.next
        free(z.pools)
        free(z.tcp)
        free(z)
    w.on_event[MOD_FORWARD] = NULL
    w.on_tick[MOD_FORWARD] = NULL
    w.on_flush[MOD_FORWARD] = NULL
    w.mod[MOD_FORWARD] = NULL
    free(f)


cdef StageOps OPS
OPS.name = b"forward"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = start
OPS.stop = stop


# ---------------------------------------------------------------------------------------------- Python's face

cdef int socket_address(sockaddr_in6 *out, uint32_t *length, str address, int port) except -1:
    # "192.0.2.1", "2001:db8::1", "fe80::1%eth0".
    cdef sockaddr_in *v4 = <sockaddr_in *>out
    cdef bytes octets
    host, _, scope = address.partition("%")
    memset(out, 0, sizeof(sockaddr_in6))
    if ":" in host:
        octets = socket.inet_pton(socket.AF_INET6, host)
        out.sin6_family = AF_INET6
        out.sin6_port = htons(<uint16_t>port)
        memcpy(out.sin6_addr.s6_addr, <const uint8_t *>octets, 16)
        if scope:
            out.sin6_scope_id = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
        length[0] = sizeof(sockaddr_in6)
    else:
        octets = socket.inet_pton(socket.AF_INET, host)
        v4.sin_family = AF_INET
        v4.sin_port = htons(<uint16_t>port)
        memcpy(&v4.sin_addr, <const uint8_t *>octets, 4)
        length[0] = sizeof(sockaddr_in)
    return 0


cdef class StanzaConfig:
    """A stanza's configuration in C."""

    def __dealloc__(self):
        free(self.config.upstreams)
        free(self.config.ignored)

    cdef int suffix(self, Suffix *out, bytes name) except -1:
        if not 0 < len(name) <= 255:
            raise ValueError(f"{name!r} is no name in wire form")
        memcpy(out.name, <const uint8_t *>name, len(name))
        out.len = <uint16_t>len(name)
        return 0


cdef int fill_upstreams(StanzaConfig z, list upstreams) except -1:
    cdef Upstream *u
    cdef bytes text
    if not 0 < len(upstreams) <= UPSTREAMS:
        raise ValueError(f"a stanza has 1 to {UPSTREAMS} upstreams")
    z.config.upstreams = <Upstream *>calloc(len(upstreams), sizeof(Upstream))
    if z.config.upstreams == NULL:
        raise MemoryError
    z.config.n = <uint32_t>len(upstreams)
    for i, one in enumerate(upstreams):
        u = &z.config.upstreams[i]
        socket_address(&u.addr, &u.addr_len, one["address"], one["port"])
        text = one["to"].encode()[:63]
        memcpy(u.text, <const char *>text, len(text))
        u.text_len = <uint32_t>len(text)
        u.number = one["number"]
        u.slot_fails = one["fails"]
        u.slot_drained = one["drained"]
        u.slot_looped = one["looped"]
        u.slot_check = one["check"]
        u.slot_warm = one["warm"]
        u.slot_duration = one["duration"]
        for k in range(2):
            u.slot_hits[k] = one["hits"][k]
            u.slot_misses[k] = one["misses"][k]
    return 0


cdef int fill_rcodes(uint64_t *out, rcodes) except -1:
    for rcode in rcodes:
        if not 0 <= rcode < 4096:
            raise ValueError(f"{rcode} is no rcode")
        out[<uint32_t>rcode >> 6] |= <uint64_t>1 << (<uint32_t>rcode & 63)
    return 0


def stage(dict settings, Stats stats not None) -> CompiledStage:
    """The forward stage of one stanza.

    settings: zone (FROM) and ignored in lower-cased wire form; upstreams: dicts of address, port, to, number and
    the slots fails, drained, looped, check, warm, duration, hits, misses; policy 0 random, 1 round_robin, 2
    sequential; times in seconds; source "" or an address; the slots broken, rejects, concurrent, robin, events;
    wake_fd; descriptors: how many of them its sockets may use; label: place of `forward/upstream` in the block's
    labels, or -1.
    """
    cdef StanzaConfig z = StanzaConfig()
    cdef Config *c = &z.config
    cdef bytes text = settings["limit_text"].encode()[:63]
    z.suffix(&c.zone, settings["zone"])
    ignored = settings["ignored"]
    c.ignored = <Suffix *>calloc(len(ignored) or 1, sizeof(Suffix))
    if c.ignored == NULL:
        raise MemoryError
    for name in ignored:
        z.suffix(&c.ignored[c.ignored_n], name)
        c.ignored_n += 1
    fill_upstreams(z, settings["upstreams"])
    c.policy = settings["policy"]
    c.force_tcp = settings["force_tcp"]
    c.prefer_udp = settings["prefer_udp"]
    c.failfast = settings["failfast"]
    c.next_on_nodata = settings["next_on_nodata"]
    c.has_next = settings["has_next"]
    c.max_fails = settings["max_fails"]
    c.max_attempts = settings["max_attempts"]
    c.read_timeout_ns = <uint64_t>(settings["read_timeout"] * 1e9)
    c.expire_ns = <uint64_t>(settings["expire"] * 1e9)
    c.max_age_ns = <uint64_t>(settings["max_age"] * 1e9)
    c.max_idle = settings["max_idle_conns"]
    c.max_concurrent = settings["max_concurrent"]
    memcpy(c.limit_text, <const char *>text, len(text))
    c.limit_len = <uint32_t>len(text)
    fill_rcodes(c.next_rcodes, settings["next"])
    fill_rcodes(c.failover, settings["failover"])
    if settings["source"]:
        socket_address(&c.source, &c.source_len, settings["source"], 0)
    c.slot_broken = settings["broken"]
    c.slot_rejects = settings["rejects"]
    c.slot_concurrent = settings["concurrent"]
    c.slot_robin = settings["robin"]
    c.slot_events = settings["events"]
    c.rows = stats.row(0)
    c.stride = <size_t>(stats.row(1) - stats.row(0))
    c.row_count = stats.rows
    c.descriptors = settings["descriptors"]
    c.wake_fd = settings["wake_fd"]
    c.label = settings["label"]
    z.keep = stats
    return compiled_stage(&OPS, c, z)
