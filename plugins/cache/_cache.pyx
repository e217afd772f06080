# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of cache: CoreDNS's semantics on the shared cache.

Strategy. `request` answers a hit at once: the stored message is copied into the reply, then id, flags, question and
TTLs are put in. A miss goes down with AD set and comes back through `response`, which gives every record the same TTL
and stores the message if it may be stored. Refreshes are queries of their own that enter at this very stage, marked in
their frame, so that they skip the look-up and end in the same `response` (_cache_refresh.pxi). What a reply is worth
stands in _cache_judge.pxi. Nothing is kept between queries but what the shared segment holds, and the clients that wait
for a verification.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport (
    CACHE_DENIAL, CACHE_SUCCESS, CACHE_UPSTREAM_MAX, CacheEntry, CacheKey, CacheTable, CacheView, cache_claim,
    cache_claim_until, cache_drop, cache_epoch, cache_get, cache_hash, cache_note_hit, cache_promote, cache_put,
    cache_sum_hits, cache_table,
)
from fastdns._stage cimport (
    MOD_CACHE, NEXT, ORIGIN_REFRESH, REPLY, RCODE, SUSPEND, CompiledStage, Query, Stage, StageOps, Worker,
    compiled_stage, query_past, stage_frame,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport CLOCK_REALTIME, calloc, clock_gettime, free, memcmp, memcpy, timespec
from fastdns._wire cimport (
    CLASS_ANY, FLAG_AA, FLAG_AD, FLAG_CD, FLAG_DO, FLAG_QR, FLAG_RA, FLAG_RD, FLAG_TC, OPCODE_NOTIFY, OPTION_ECS,
    RCODE_NOERROR, RCODE_NOTIMP, RCODE_NXDOMAIN, RCODE_SERVFAIL, SECTION_AUTHORITY, TYPE_ANY, TYPE_AXFR, TYPE_CNAME,
    TYPE_IXFR, TYPE_NS, TYPE_RRSIG, TYPE_SOA, WIRE_HEADER, WIRE_MAX, Message, Record, get16, get32, put16, put32,
    wire_lower, wire_name, wire_name_under, wire_question_matches, wire_recase, wire_reply_to, wire_scan,
    wire_siphash13,
)

cdef enum:
    OPCODE_UPDATE = 5
    OPCODE_BITS = 0x7800
    MARK_ANSWERS = 1            # the entry answers its question
    REFRESH_NS = 15000000000    # a refresh that has said nothing for so long is given up

cdef enum Mode:
    # What `response` does with a query's reply.
    MODE_OFF = 0                # not of our zones: nothing
    MODE_MISS = 1               # store, rewrite
    MODE_PREFETCH = 2           # store; nobody waits
    MODE_STALE = 3              # a refresh of a stale entry: store what is good enough
    MODE_VERIFY = 4             # the client's own query verifies a stale entry
    MODE_RACE = 5               # a refresh that a client waits for until its time is up

cdef struct Name:
    uint16_t len
    uint8_t wire[255]           # lower-cased

cdef struct Names:
    uint32_t n
    Name *at

cdef struct Server:
    # Counter slots of one listener.
    uint32_t requests
    uint32_t hits[2]
    uint32_t misses
    uint32_t prefetch
    uint32_t drops
    uint32_t stale
    uint32_t evictions[2]

cdef struct Config:
    uint32_t block_id
    bint everything             # every name of the block is of our zones
    Names zones
    Names disabled[2]           # names that are not stored, by kind
    uint32_t ttl_max[2]         # seconds
    uint32_t ttl_min[2]
    uint32_t servfail           # seconds
    uint64_t amount             # hits that make an entry worth a prefetch; 0: none
    uint64_t window_ns          # pause that ends a row of hits
    uint32_t percentage         # of the TTL that is left when a prefetch is due
    uint32_t stale              # seconds that an expired entry is usable; 0: not at all
    bint verify                 # ask first, serve stale if that fails
    uint64_t verify_ns          # how long to wait for that; 0: until the answer
    bint prefer                 # a positive answer before a newer denial
    uint32_t stale_ttl          # seconds, 0: TTL 0
    uint64_t recheck_ns         # pause after a refresh that failed
    bint keepttl
    uint32_t slot_torn
    uint32_t slot_promoted
    uint32_t slot_lost
    Server *servers             # by listener
    uint32_t server_count

cdef struct State:
    # A worker's own of one stage.
    CacheTable table
    State *next                 # the worker's other cache stages
    Stage *stage
    Query *first                # clients that wait for a verification, the oldest first
    Query *last

cdef struct Frame:
    uint64_t begun              # CLOCK_BOOTTIME, when the answer was asked for
    uint64_t epoch              # flush epoch of that moment
    uint64_t hash
    uint8_t mode
    bint do_bit                 # of the query as it came to this stage
    bint cd_bit
    bint ad_bit
    bint claimed                # this query's end ends the claim
    uint8_t kind                # of the stale entry
    bint aside
    uint16_t flags              # the query's, before AD was set
    Query *other                # of a client that waits: its refresh; of that refresh: the client
    Query *before               # clients that wait
    Query *after

cdef struct Verdict:
    int type                    # Judgement by CoreDNS's Typify
    int kind                    # Judgement for storing: an answer that does not answer is NO_DATA
    bint answering
    bint storable
    bint matches                # its question is the query's

include "_cache_judge.pxi"


# ---------------------------------------------------------------------------------------------- keys

cdef bint among(const Names *names, const Query *q) noexcept nogil:
    cdef uint32_t i
    for i in range(names.n):
        if wire_name_under(q.pkt.qname, q.pkt.qname_len, names.at[i].wire, names.at[i].len):
            return True
    return False


cdef inline void make_key(Worker *w, const Config *c, const Query *q, const Frame *f, CacheKey *k) noexcept nogil:
    k.block = c.block_id
    k.view = 0
    k.qtype = q.pkt.qtype
    k.qclass = q.pkt.qclass
    k.do_bit = f.do_bit
    k.cd_bit = f.cd_bit
    k.aside = False
    k.name_len = q.pkt.qname_len
    k.scope = 0
    k.name = q.pkt.qname
    k.hash = cache_hash(<const CacheView *>w.cache, k)


cdef void put_aside(Worker *w, CacheKey *k, bint aside) noexcept nogil:
    """Turns a key into that of the entry beside, or back."""
    if (k.aside != 0) != (aside != 0):
        k.aside = aside
        k.hash = cache_hash(<const CacheView *>w.cache, k)


# ---------------------------------------------------------------------------------------------- looking up

cdef inline int64_t left(const Worker *w, const CacheEntry *e) noexcept nogil:
    """Seconds that an entry still lives; zero or less: it has expired."""
    if w.boot_ns <= e.stored_at:
        return e.orig_ttl
    return <int64_t>e.orig_ttl - <int64_t>((w.boot_ns - e.stored_at) / 1000000000u)


cdef inline bint usable(const Worker *w, const Config *c, const CacheEntry *e) noexcept nogil:
    cdef int64_t ttl = left(w, e)
    return ttl > 0 or (c.stale and -ttl < c.stale)


cdef bint get_success(Worker *w, State *st, const Config *c, CacheKey *k, CacheEntry *e, uint8_t *wire) noexcept nogil:
    """The newest success entry. Under prefer_positive one that does not answer lies beside the last good one."""
    cdef CacheView *v = <CacheView *>w.cache
    cdef uint64_t stored_at
    if not c.prefer:
        return cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire)
    put_aside(w, k, True)
    if cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire):
        stored_at = e.stored_at
        put_aside(w, k, False)
        if cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire) and e.stored_at > stored_at:
            return True
        put_aside(w, k, True)
        return cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire)
    put_aside(w, k, False)
    return cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire)


cdef bint find(Worker *w, State *st, const Config *c, CacheKey *k, CacheEntry *e, uint8_t *wire) noexcept nogil:
    """The entry that CoreDNS would serve: a denial first, but a SERVFAIL gives way to a success."""
    cdef CacheView *v = <CacheView *>w.cache
    if c.prefer and c.stale:
        if cache_get(v, &st.table, k, CACHE_SUCCESS, e, wire) and e.mark & MARK_ANSWERS and usable(w, c, e):
            return True
    if cache_get(v, &st.table, k, CACHE_DENIAL, e, wire) and usable(w, c, e):
        if e.rcode != RCODE_SERVFAIL:
            return True
        if get_success(w, st, c, k, e, wire) and usable(w, c, e):
            return True
        put_aside(w, k, False)
        return cache_get(v, &st.table, k, CACHE_DENIAL, e, wire)
    return get_success(w, st, c, k, e, wire) and usable(w, c, e)


# ---------------------------------------------------------------------------------------------- answering

cdef inline uint16_t reply_flags(const Query *q, const Frame *f, uint16_t stored, uint16_t rcode) noexcept nogil:
    cdef uint16_t flags = FLAG_QR | FLAG_AA | (q.pkt.flags & OPCODE_BITS) | (stored & FLAG_RA) | (rcode & 15)
    if flags & OPCODE_BITS == 0:
        flags |= q.pkt.flags & (FLAG_RD | FLAG_CD)
    if f.do_bit or f.ad_bit:
        flags |= stored & FLAG_AD
    return flags


cdef inline void forget_opt(Query *q) noexcept nogil:
    # What came in the reply's OPT, which is of one hop and never cached (RFC 6891 6.2.1).
    q.has_opt = False
    q.set_do = False
    q.opt_size = 0
    q.options = NULL
    q.options_len = 0


cdef inline void forget_failure(Query *q) noexcept nogil:
    # What the inner stages left when they failed.
    forget_opt(q)
    q.error_len = 0
    q.dropped = False


cdef void put_question(Worker *w, Query *q) noexcept nogil:
    """Puts the client's question into the reply. Its letters' case may be another than the stored one; the records keep
    theirs, as in CoreDNS, so names that point to the question are written out then."""
    cdef uint32_t n = q.pkt.qname_len
    cdef bint truncated = False
    cdef size_t size
    if memcmp(q.reply + WIRE_HEADER, q.pkt.wire + WIRE_HEADER, n) == 0:
        return
    size = wire_recase(q.reply, q.reply_len, &q.pkt, w.scratch, WIRE_MAX)
    if size == 0 and wire_scan(q.reply, q.reply_len, w.scan) == 0 and w.scan.n:
        size = wire_reply_to(q.reply, w.scan, &q.pkt, w.scratch, WIRE_MAX, &truncated)
    if size and not truncated:
        memcpy(q.reply, w.scratch, size)
        q.reply_len = <uint32_t>size
    else:
        memcpy(q.reply + WIRE_HEADER, q.pkt.wire + WIRE_HEADER, n)


cdef bint write_hit(Worker *w, const Config *c, Query *q, const Frame *f, const CacheEntry *e,
                    int64_t ttl) noexcept nogil:
    """Makes the stored message in q.reply the reply to q. False: it is none (which the checksum should have said)."""
    cdef uint32_t question = <uint32_t>q.pkt.qname_len + 4
    cdef uint32_t seconds, i, off
    cdef uint8_t big[4]
    if <uint32_t>e.wire_len < WIRE_HEADER + question or get16(q.reply + 4) != 1:
        return False
    if c.keepttl and not (ttl <= 0 and c.stale_ttl):
        seconds = e.orig_ttl
    elif ttl > 0:
        seconds = <uint32_t>ttl
    else:
        seconds = c.stale_ttl
    put32(big, seconds)
    for i in range(e.ttls):
        off = e.ttl_off[i]
        if off + 4 > e.wire_len:
            return False
        memcpy(q.reply + off, big, 4)
    put16(q.reply, q.pkt.id)
    put16(q.reply + 2, reply_flags(q, f, e.flags, e.rcode))
    q.reply_len = e.wire_len
    q.ulen = e.ulen
    q.rcode = e.rcode
    put_question(w, q)
    forget_failure(q)
    return True


cdef void go_down(Worker *w, State *st, Query *q, Frame *f, int mode) noexcept nogil:
    """Readies a query for the stages behind: upstreams see AD set, as CoreDNS asks them."""
    f.mode = <uint8_t>mode
    f.begun = w.boot_ns
    f.epoch = cache_epoch(&st.table)
    q.pkt.flags |= FLAG_AD


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef int verdict
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef const Server *server
    cdef CacheKey k
    cdef CacheEntry e
    cdef int64_t ttl
    if f.mode != MODE_OFF:
        return NEXT             # a refresh of our own
    if not c.everything and not among(&c.zones, q):
        return query_past(w, q)
    server = &c.servers[q.listener if q.listener < c.server_count else 0]
    f.flags = q.pkt.flags
    f.do_bit = q.pkt.has_opt and q.pkt.opt_flags & FLAG_DO
    f.cd_bit = q.pkt.flags & FLAG_CD
    f.ad_bit = q.pkt.flags & FLAG_AD
    stat_add(w.row, server.requests, 1)
    make_key(w, c, q, f, &k)
    w.api.reply_room(w, q)
    if not find(w, st, c, &k, &e, q.reply):
        stat_add(w.row, server.misses, 1)
        verdict = query_past(w, q)
        if verdict == NEXT:
            go_down(w, st, q, f, MODE_MISS)
        return verdict
    stat_add(w.row, server.hits[e.kind], 1)
    ttl = left(w, &e)
    if ttl <= 0:
        return answer_stale(w, s, q, &k, &e)
    cache_promote(<CacheView *>w.cache, &st.table, &e)
    if c.amount:
        consider_prefetch(w, s, q, &k, &e, <uint32_t>ttl)
    if write_hit(w, c, q, f, &e, ttl):
        return REPLY
    go_down(w, st, q, f, MODE_MISS)
    return NEXT


# ---------------------------------------------------------------------------------------------- storing

cdef bint keep(Worker *w, Stage *s, Query *q, const Frame *f, const Verdict *verdict, bint refreshing) noexcept nogil:
    """Gives the reply that w.scan indexes its TTL, stores it if it may be stored, and readies it for the client.

    refreshing: a success entry then replaces a denial of the same key. Returns whether it was stored.
    """
    cdef const Config *c = <const Config *>s.config
    cdef const Server *server = &c.servers[q.listener if q.listener < c.server_count else 0]
    cdef const Message *m = w.scan
    cdef uint32_t seconds = life(c, m, verdict.kind)
    cdef uint32_t i
    cdef bint stored = False
    for i in range(m.n):
        put32(q.reply + m.records[i].ttl_off, seconds)
    q.reply_len = m.end
    q.ulen = m.ulen
    if verdict.storable and seconds and not m.has_opt:
        if verdict.matches:
            stored = store(w, s, q, f, verdict, seconds, refreshing)
        else:
            stat_add(w.row, server.drops, 1)
    if not f.do_bit and not f.ad_bit:
        q.reply[3] &= <uint8_t>~FLAG_AD
    forget_opt(q)
    return stored


cdef bint store(Worker *w, Stage *s, Query *q, const Frame *f, const Verdict *verdict, uint32_t seconds,
                bint refreshing) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef const Server *server = &c.servers[q.listener if q.listener < c.server_count else 0]
    cdef CacheView *v = <CacheView *>w.cache
    cdef const Message *m = w.scan
    cdef uint16_t *offsets = <uint16_t *>w.scratch
    cdef CacheKey k
    cdef CacheEntry e
    cdef uint32_t i
    cdef int evicted = 0
    cdef bint stored
    e.kind = CACHE_SUCCESS if verdict.kind == NO_ERROR or verdict.kind == DELEGATION else CACHE_DENIAL
    if among(&c.disabled[e.kind], q) or (q.pkt.option_codes >> OPTION_ECS) & 1 or m.end > 65535:
        return False
    make_key(w, c, q, f, &k)
    if c.prefer and e.kind == CACHE_SUCCESS:
        put_aside(w, &k, not verdict.answering)
    for i in range(m.n):
        offsets[i] = <uint16_t>m.records[i].ttl_off
    e.stored_at = w.boot_ns
    e.orig_ttl = seconds
    e.rcode = q.rcode
    e.flags = m.flags
    e.ulen = m.ulen
    e.mark = MARK_ANSWERS if verdict.answering else 0
    e.upstream = q.upstream if q.upstream <= CACHE_UPSTREAM_MAX else 0
    e.ttls = <uint16_t>m.n
    e.ttl_off = offsets
    e.wire = q.reply
    e.wire_len = <uint16_t>m.end
    stored = cache_put(v, &st.table, &k, &e, f.begun, f.epoch, &evicted)
    if evicted:
        stat_add(w.row, server.evictions[evicted - 1], 1)
    if stored and e.kind == CACHE_SUCCESS and (verdict.answering if c.prefer else refreshing):
        put_aside(w, &k, False)
        cache_drop(v, &st.table, &k, CACHE_DENIAL)
    return stored


cdef bint good_enough(const Config *c, const Query *q, const Message *m, const Verdict *verdict) noexcept nogil:
    """Whether a reply may replace a stale entry (RFC 8767 4); under prefer_positive, whether it is a positive
    answer."""
    if m.flags & FLAG_TC or not verdict.matches:
        return False
    if c.prefer:
        return verdict.kind == NO_ERROR and verdict.answering
    return (verdict.type != OTHER_ERROR and verdict.type != META
            and (q.rcode == RCODE_NOERROR or q.rcode == RCODE_NXDOMAIN))


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef const Config *c = <const Config *>s.config
    cdef Verdict verdict
    cdef bint read = False
    cdef bint good = False
    cdef bint stored = False
    # CoreDNS's cache asks with a copy: what stages behind it asked instead is not seen before it.
    q.replaced = False
    if f.mode == MODE_OFF:
        return
    q.pkt.flags = f.flags
    # The end of a stream shows no records, and a part of an answer is not kept.
    if q.written and not q.streamed and wire_scan(q.reply, q.reply_len, w.scan) == 0:
        read = True
        judge(w, q, &verdict)
    if f.mode == MODE_MISS or f.mode == MODE_PREFETCH:
        if read:
            keep(w, s, q, f, &verdict, f.mode == MODE_PREFETCH)
        if f.claimed:
            cache_claim_until(<CacheView *>w.cache, f.hash, 0)
        return
    if read and good_enough(c, q, w.scan, &verdict):
        good = True
        stored = keep(w, s, q, f, &verdict, f.mode != MODE_VERIFY)
    elif read and c.prefer and verdict.matches and not w.scan.flags & FLAG_TC:
        keep(w, s, q, f, &verdict, True)
    end_refresh(w, s, q, f, good, stored)


include "_cache_refresh.pxi"


# ---------------------------------------------------------------------------------------------- life

cdef int start(Worker *w, Stage *s) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef CacheView *v = <CacheView *>w.cache
    cdef State *st
    if v == NULL:
        return 1
    st = <State *>calloc(1, sizeof(State))
    if st == NULL:
        return 2
    if not cache_table(v, c.block_id, &st.table):
        free(st)
        return 3
    v.row = w.row
    v.slot_torn = c.slot_torn
    v.slot_promoted = c.slot_promoted
    v.slot_lost = c.slot_lost
    st.stage = s
    st.next = <State *>w.mod[MOD_CACHE]
    w.mod[MOD_CACHE] = st
    w.on_tick[MOD_CACHE] = tick
    s.state = st
    return 0


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    cdef State *st = <State *>s.state
    cdef State *at = <State *>w.mod[MOD_CACHE]
    if at == st:
        w.mod[MOD_CACHE] = st.next
    while at != NULL:
        if at.next == st:
            at.next = st.next
        at = at.next
    free(st)
    s.state = NULL


cdef StageOps OPS
OPS.name = b"cache"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.response = response
OPS.start = start
OPS.stop = stop


cdef class _Memory:
    """Owns a stage's C configuration."""

    cdef Config config

    def __dealloc__(self):
        free(self.config.zones.at)
        free(self.config.disabled[0].at)
        free(self.config.disabled[1].at)
        free(self.config.servers)


cdef int fill_names(Names *out, names) except -1:
    cdef bytes name
    out.at = <Name *>calloc(len(names) or 1, sizeof(Name))
    if out.at == NULL:
        raise MemoryError
    for i, name in enumerate(names):
        if not 0 < len(name) <= 255:
            raise ValueError(f"{name!r} is no name in wire form")
        out.at[i].len = <uint16_t>len(name)
        memcpy(out.at[i].wire, <const uint8_t *>name, len(name))
    out.n = <uint32_t>len(names)
    return 0


def stage(block_id: int, zones, disabled, ttls, servfail: int, prefetch, stale, keepttl: bool, slots,
          events) -> CompiledStage:
    """The stage of one `cache` directive.

    zones: names in wire form, lower-cased, or None: all. disabled: (success, denial), sequences of such names. ttls:
    ((maximum, minimum) of success, of denial) and servfail in seconds. prefetch: (amount, window in nanoseconds,
    percentage). stale: (seconds, verify, verify nanoseconds, prefer_positive, TTL seconds, recheck nanoseconds). slots:
    for each listener (requests, hits of success, of denial, misses, prefetch, drops, served stale, evictions of
    success, of denial). events: slots of torn, promoted and lost entries.
    """
    cdef _Memory memory = _Memory()
    cdef Config *c = &memory.config
    cdef Server *server
    c.block_id = block_id
    c.everything = zones is None
    fill_names(&c.zones, zones or ())
    for kind in range(2):
        fill_names(&c.disabled[kind], disabled[kind])
        c.ttl_max[kind], c.ttl_min[kind] = ttls[kind]
    c.servfail = servfail
    c.amount, c.window_ns, c.percentage = prefetch
    c.stale, c.verify, c.verify_ns, c.prefer, c.stale_ttl, c.recheck_ns = stale
    c.keepttl = keepttl
    c.slot_torn, c.slot_promoted, c.slot_lost = events
    c.servers = <Server *>calloc(len(slots) or 1, sizeof(Server))
    if c.servers == NULL:
        raise MemoryError
    c.server_count = <uint32_t>len(slots)
    for i, row in enumerate(slots):
        server = &c.servers[i]
        (server.requests, server.hits[0], server.hits[1], server.misses, server.prefetch, server.drops, server.stale,
         server.evictions[0], server.evictions[1]) = row
    return compiled_stage(&OPS, c, memory)
