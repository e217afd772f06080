# SPDX-License-Identifier: Apache-2.0
#
# The router: which block has a query.
#
# Strategy: the suffixes of the name are looked up in the listener's table of zones. Where some of its blocks have a
# filter, each zone has candidates in order of the Corefile, which are judged one after the other: by compiled code, or
# by Python, for which the query is detached and waits at a stage behind the block's last; then the search goes on from
# there. So a listener without filters pays one comparison for them.

cdef enum:                      # what a block's filter says of a query
    FILTER_NO = 0
    FILTER_YES = 1
    FILTER_PYTHON = 2           # not known before Python was asked


cdef const Route *route_find(const Router *r, const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint32_t h = suffix_hash(name, n)
    cdef uint32_t cell = h & r.mask
    while r.cells[cell].name != NULL:
        if r.cells[cell].hash == h and r.cells[cell].len == n and memcmp(r.cells[cell].name, name, n) == 0:
            return &r.cells[cell]
        cell = (cell + 1) & r.mask
    return NULL


cdef const Route *route_query(const Router *r, const Query *q) noexcept nogil:
    # The longest zone that is a suffix of the name; for DS the shortest one but the root (the parent's side
    # of a cut, RFC 4035 3.1.4.1); the root when nothing else matches.
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef uint32_t labels = q.pkt.labels
    cdef uint32_t step
    cdef const Route *hit
    cdef const Route *parent = NULL
    if r == NULL:
        return NULL
    while labels > r.max_labels:
        step = <uint32_t>name[0] + 1
        name += step
        n -= step
        labels -= 1
    while labels > 0:
        hit = route_find(r, name, n)
        if hit != NULL:
            if q.pkt.qtype != TYPE_DS:
                return hit
            parent = hit
        step = <uint32_t>name[0] + 1
        name += step
        n -= step
        labels -= 1
    return parent if parent != NULL else route_find(r, name, n)


cdef void route_filtered(Worker *w, Query *q, const Candidate *judged, bint passed) noexcept nogil:
    # Where blocks have filters: of each zone the first block that the query may enter, from the longest zone that is a
    # suffix of the name; for DS as in route_query. Goes on behind `judged`, which Python has been asked about.
    cdef const Router *r = <Router *>w.listeners[q.listener].router
    cdef const Candidate *c = judged
    cdef const Route *hit
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef uint32_t labels = q.pkt.labels
    cdef uint32_t goal = labels if labels < r.max_labels else r.max_labels
    cdef uint32_t parent = 0 if judged == NULL else q.parent
    cdef uint32_t step
    cdef int verdict
    if judged != NULL:
        goal = w.blocks[judged.block].zones[judged.zone].labels
    while True:
        while labels > goal:
            step = <uint32_t>name[0] + 1
            name += step
            n -= step
            labels -= 1
        if c == NULL:
            if labels == 0 and parent != 0:
                c = &r.candidates[parent - 1]
                enter(w, q, c.block, c.zone)
                return
            hit = route_find(r, name, n)
            c = NULL if hit == NULL else &r.candidates[hit.first]
        while c != NULL:
            if c == judged:
                verdict = FILTER_YES if passed else FILTER_NO
                judged = NULL
            else:
                verdict = judge(w, q, c)
            if verdict == FILTER_PYTHON:
                q.route = <uint32_t>(c - r.candidates)
                q.parent = parent
                ask_python(w, q, c)
                return
            if verdict == FILTER_YES:
                if labels == 0 or q.pkt.qtype != TYPE_DS:
                    enter(w, q, c.block, c.zone)
                    return
                parent = <uint32_t>(c - r.candidates) + 1
                break
            c = NULL if c.last else c + 1
        c = NULL
        if labels == 0:
            break
        goal = labels - 1
    server_rcode(w, q, RCODE_REFUSED)


cdef int judge(Worker *w, const Query *q, const Candidate *c) noexcept nogil:
    cdef const Block *b = &w.blocks[c.block]
    if b.filter != NULL and not filter_passes(<const FilterCode *>b.filter, q, w.listeners[q.listener].port):
        return FILTER_NO
    return FILTER_PYTHON if b.python_filter else FILTER_YES


cdef void ask_python(Worker *w, Query *q, const Candidate *c) noexcept nogil:
    # The query waits for its judge in the block that it may enter, at a stage that no query walks through.
    cdef Query *held
    cdef const char *why
    q.block = &w.blocks[c.block]
    q.zone = c.zone
    q.pos = q.block.stage_count + 1
    if q.block.frame_octets:
        memset(q.frames, 0, q.block.frame_octets)
    held = detach(w, q)
    if held == NULL:
        server_rcode(w, q, RCODE_SERVFAIL)
        return
    why = w.push_python(w, held)
    if why != NULL:
        server_rcode(w, held, RCODE_SERVFAIL)


cdef void judged_by_python(Worker *w, Query *q, int verdict) noexcept nogil:
    # Who was not judged belongs nowhere: another block may be for others.
    cdef const Router *r = <Router *>w.listeners[q.listener].router
    cdef bint passed
    q.pos = 0
    q.error_len = 0
    if verdict != RCODE or q.rcode > 1:
        server_rcode(w, q, RCODE_SERVFAIL)
        return
    passed = q.rcode == 0
    q.rcode = 0
    route_filtered(w, q, &r.candidates[q.route], passed)
