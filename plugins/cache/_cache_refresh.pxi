# SPDX-License-Identifier: Apache-2.0
#
# Refreshes: prefetch, stale answers, and clients that wait for a verification.
#
# Strategy: a refresh is a query from the client's octets that enters at this stage with its mode in the frame. Who may
# start one is settled in the segment's table of claims, for all workers; a claim ends with its refresh, or by itself. A
# client that waits is linked in its worker's list, in the order of its deadline (one length of time per stage), and
# points to its refresh and back; whichever comes first, the answer or the deadline, cuts that link and answers the
# client.

cdef Query *spawn(Worker *w, Stage *s, Query *q, const Frame *f, const CacheKey *k, int mode) noexcept nogil:
    """A refresh of the entry that q asked for, ready to run. NULL: too many queries are in flight."""
    cdef State *st = <State *>s.state
    cdef Frame *g
    cdef bint race = mode == MODE_RACE
    cdef Query *r = w.api.child(w, q if race else NULL, q.pkt.wire, q.pkt.length, s.block, s.index, ORIGIN_REFRESH)
    if r == NULL:
        return NULL
    r.listener = q.listener
    r.zone = q.zone
    if race:
        r.proto = q.proto       # CoreDNS verifies on the client's behalf, but prefetches like a TCP client
    else:
        r.family = q.family
    r.background = True
    r.pkt.flags = f.flags
    r.pkt.udp_size = q.pkt.udp_size
    r.pkt.opt_flags = q.pkt.opt_flags
    g = <Frame *>stage_frame(s, r)
    g.flags = f.flags
    g.do_bit = f.do_bit
    g.cd_bit = f.cd_bit
    # A prefetch asks with AD and stores what it gets; nobody reads its own reply.
    g.ad_bit = f.ad_bit or not race
    g.hash = k.hash
    go_down(w, st, r, g, mode)
    return r


cdef bint claim(Worker *w, const CacheKey *k) noexcept nogil:
    return cache_claim(<CacheView *>w.cache, k.hash, w.boot_ns, w.boot_ns + <uint64_t>REFRESH_NS)


cdef void refresh(Worker *w, Stage *s, Query *q, const CacheKey *k, int mode) noexcept nogil:
    """Starts a refresh that nobody waits for, unless one is under way or failed a short while ago."""
    cdef const Config *c = <const Config *>s.config
    cdef Query *r
    if not claim(w, k):
        return
    r = spawn(w, s, q, <Frame *>stage_frame(s, q), k, mode)
    if r == NULL:
        cache_claim_until(<CacheView *>w.cache, k.hash, 0)
        return
    (<Frame *>stage_frame(s, r)).claimed = True
    stat_add(w.row, c.servers[q.listener if q.listener < c.server_count else 0].prefetch, 1)
    w.api.run(w, r)


cdef void consider_prefetch(Worker *w, Stage *s, Query *q, const CacheKey *k, const CacheEntry *e,
                            uint32_t ttl) noexcept nogil:
    """Counts a hit, and refreshes an entry that is asked for often and will soon expire."""
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef uint64_t hits = cache_note_hit(&st.table, e, w.index, w.boot_ns, c.window_ns)
    if ttl > (<uint64_t>c.percentage * e.orig_ttl + 99) / 100:
        return
    if hits < c.amount:
        hits = cache_sum_hits(&st.table, e, w.boot_ns, c.window_ns)
    if hits >= c.amount:
        refresh(w, s, q, k, MODE_PREFETCH)


# ---------------------------------------------------------------------------------------------- stale answers

cdef bint write_stale(Worker *w, Stage *s, Query *q, const Frame *f, CacheEntry *e) noexcept nogil:
    """Answers q with the expired entry in q.reply."""
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cache_promote(<CacheView *>w.cache, &st.table, e)
    if not write_hit(w, c, q, f, e, 0):
        return False
    stat_add(w.row, c.servers[q.listener if q.listener < c.server_count else 0].stale, 1)
    return True


cdef bint stale_again(Worker *w, Stage *s, Query *q, const Frame *f) noexcept nogil:
    """Answers q with the stale entry that it had found before it asked. False: that entry is gone by now."""
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef CacheKey k
    cdef CacheEntry e
    make_key(w, c, q, f, &k)
    put_aside(w, &k, f.aside)
    w.api.reply_room(w, q)
    if not cache_get(<CacheView *>w.cache, &st.table, &k, f.kind, &e, q.reply):
        return False
    return write_stale(w, s, q, f, &e)


cdef int answer_stale(Worker *w, Stage *s, Query *q, const CacheKey *k, CacheEntry *e) noexcept nogil:
    """What becomes of a query whose entry has expired but may still be served."""
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef int verdict
    f.kind = e.kind
    f.aside = k.aside
    f.hash = k.hash
    if not c.verify:
        refresh(w, s, q, k, MODE_STALE)
    elif c.recheck_ns == 0 or claim(w, k):
        verdict = query_past(w, q)      # an upstream is to be asked on this client's behalf, as at a miss
        if verdict != NEXT:
            if c.recheck_ns:
                cache_claim_until(<CacheView *>w.cache, k.hash, 0)
            return verdict
        f.claimed = c.recheck_ns != 0
        if c.verify_ns == 0:
            go_down(w, st, q, f, MODE_VERIFY)
            return NEXT
        if race(w, s, q, k):
            return SUSPEND
    if write_stale(w, s, q, f, e):
        return REPLY
    go_down(w, st, q, f, MODE_MISS)
    return NEXT


# ---------------------------------------------------------------------------------------------- waiting clients

cdef bint race(Worker *w, Stage *s, Query *q, const CacheKey *k) noexcept nogil:
    """Lets q wait for a verification. False: it cannot wait; the verification may run all the same."""
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef Frame *g
    cdef bint claimed = f.claimed
    cdef Query *r = spawn(w, s, q, f, k, MODE_RACE)
    cdef Query *d
    f.claimed = False
    if r == NULL:
        if claimed:
            cache_claim_until(<CacheView *>w.cache, k.hash, 0)
        return False
    g = <Frame *>stage_frame(s, r)
    g.claimed = claimed
    w.api.run(w, r)
    d = w.api.detach(w, q)
    if d == NULL:
        return False
    f = <Frame *>stage_frame(s, d)
    f.other = r
    g.other = d
    d.stage_word = w.now_ns + c.verify_ns
    f.after = NULL
    f.before = st.last
    if st.last != NULL:
        (<Frame *>stage_frame(s, st.last)).after = d
    else:
        st.first = d
    st.last = d
    return True


cdef void unlink(Stage *s, Query *q) noexcept nogil:
    """Takes a client off the list and cuts it loose from its refresh."""
    cdef State *st = <State *>s.state
    cdef Frame *f = <Frame *>stage_frame(s, q)
    if f.before != NULL:
        (<Frame *>stage_frame(s, f.before)).after = f.after
    else:
        st.first = f.after
    if f.after != NULL:
        (<Frame *>stage_frame(s, f.after)).before = f.before
    else:
        st.last = f.before
    (<Frame *>stage_frame(s, f.other)).other = NULL
    f.other = NULL


cdef void answer_waiting(Worker *w, Stage *s, Query *q) noexcept nogil:
    """Ends a client's wait with the stale entry, or with SERVFAIL should that have gone."""
    unlink(s, q)
    if stale_again(w, s, q, <Frame *>stage_frame(s, q)):
        w.api.resume(w, q, REPLY)
    else:
        q.rcode = RCODE_SERVFAIL
        w.api.resume(w, q, RCODE)


cdef void answer_fresh(Worker *w, Stage *s, Query *q, const Query *r, bint stored) noexcept nogil:
    """Ends a client's wait with the reply of its refresh, which was asked with the client's own octets."""
    cdef Frame *f = <Frame *>stage_frame(s, q)
    unlink(s, q)
    w.api.reply_room(w, q)
    if q.reply != r.reply:
        memcpy(q.reply, r.reply, r.reply_len)
    q.reply_len = r.reply_len
    q.rcode = r.rcode
    q.ulen = r.ulen
    if stored:
        put16(q.reply + 2, reply_flags(q, f, get16(q.reply + 2), r.rcode))
    forget_failure(q)
    w.api.resume(w, q, REPLY)


cdef void end_refresh(Worker *w, Stage *s, Query *q, Frame *f, bint good, bint stored) noexcept nogil:
    """The reply of a stale entry's refresh has been dealt with: the claim and whoever waits."""
    cdef const Config *c = <const Config *>s.config
    cdef uint64_t until = 0
    if f.claimed:
        if not good and c.recheck_ns:
            until = w.boot_ns + c.recheck_ns
        cache_claim_until(<CacheView *>w.cache, f.hash, until)
    if f.mode == MODE_RACE and f.other != NULL:
        if good:
            answer_fresh(w, s, f.other, q, stored)
        else:
            answer_waiting(w, s, f.other)
    elif f.mode == MODE_VERIFY and not good:
        keep_or_stale(w, s, q, f)


cdef void keep_or_stale(Worker *w, Stage *s, Query *q, const Frame *f) noexcept nogil:
    # The reply of the stages behind is put away, because the stale entry is copied over it; it comes back if that is
    # gone.
    cdef uint32_t n = q.reply_len if q.written and q.reply_len <= 65535 else 0
    if n:
        memcpy(w.scratch, q.reply, n)
    if stale_again(w, s, q, f):
        q.written = True
        q.writer = <uint8_t>(s.index + 1 if s.index < 255 else 255)
    elif n:
        memcpy(q.reply, w.scratch, n)


cdef int64_t tick(Worker *w) noexcept nogil:
    """Answers the clients whose time is up; the next such moment, or -1."""
    cdef State *st = <State *>w.mod[MOD_CACHE]
    cdef int64_t soonest = -1
    while st != NULL:
        while st.first != NULL and st.first.stage_word <= w.now_ns:
            answer_waiting(w, st.stage, st.first)
        if st.first != NULL and (soonest < 0 or <int64_t>st.first.stage_word < soonest):
            soonest = <int64_t>st.first.stage_word
        st = st.next
    return soonest
