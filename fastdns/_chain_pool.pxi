# SPDX-License-Identifier: Apache-2.0
#
# Queries that wait: the in-flight pool, and children.
#
# Strategy: slots of one size in one mapping, handed out once and then from a list of free ones. A query is moved in
# with its frames and octets; octets that are longer than a slot has room for are allocated, and freed with it.

cdef Query *pool_take(Worker *w) noexcept nogil:
    cdef Query *q = w.pool_free
    if q != NULL:
        w.pool_free = q.link
    elif w.pool_used < w.in_flight_max:
        q = <Query *>(w.pool_map + <size_t>w.pool_used * w.slot_octets)
        w.pool_used += 1
    else:
        stat_add(w.row, w.slot_pool_full, 1)
        return NULL
    w.in_flight += 1
    q.detached = True
    q.link = NULL
    q.owned = NULL
    q.kept = NULL
    q.texts = NULL
    q.frames = <uint8_t *>q + sizeof(Query)
    return q


cdef bint pool_wire(Worker *w, Query *q, const uint8_t *wire, uint32_t n) noexcept nogil:
    # Gives a pool slot its own copy of the request octets.
    cdef uint8_t *to = q.frames + w.frame_octets
    if n > POOL_WIRE:
        to = <uint8_t *>malloc(n)
        if to == NULL:
            return False
        q.owned = to
    memcpy(to, wire, n)
    q.pkt.wire = to
    return True


cdef Query *detach(Worker *w, Query *q) noexcept nogil:
    cdef Query *d
    cdef uint8_t *frames
    if q.detached:
        return q
    d = pool_take(w)
    if d == NULL:
        return NULL
    frames = d.frames
    memcpy(d, q, query_body(q))
    if q.replaced:
        d.asked = q.asked
    if q.error_len:
        memcpy(d.error, q.error, sizeof(q.error))
    if q.tsig:
        d.signature = q.signature
    d.detached = True
    d.link = NULL
    d.owned = NULL
    d.kept = NULL
    d.texts = NULL
    d.frames = frames
    if q.block.frame_octets:
        memcpy(frames, q.frames, q.block.frame_octets)
    if not pool_wire(w, d, q.pkt.wire, q.pkt.length):
        release(w, d)
        return NULL
    return d


cdef void release(Worker *w, Query *q) noexcept nogil:
    cdef void **following
    if q.owned != NULL:
        free(q.owned)
        q.owned = NULL
    if q.kept != NULL:
        free(q.kept)
        q.kept = NULL
    while q.texts != NULL:
        following = <void **>q.texts
        q.texts = following[0]
        free(following)
    q.detached = False
    q.handle = 0
    q.link = w.pool_free
    w.pool_free = q
    w.in_flight -= 1


cdef void query_identity(Query *q, const Query *parent) noexcept nogil:
    """Copies who asked, and where, from parent to a child."""
    q.proto = parent.proto
    q.family = parent.family
    q.local_len = parent.local_len
    q.listener = parent.listener
    q.client_port = parent.client_port
    memcpy(q.client_ip, parent.client_ip, 16)
    memcpy(q.local_ip, parent.local_ip, 16)
    q.ifindex = parent.ifindex
    q.client_scope = parent.client_scope
    q.peer = parent.peer
    q.peer_len = parent.peer_len
    q.background = parent.background
    q.deadline_ns = parent.deadline_ns


cdef Query *child(Worker *w, Query *parent, const uint8_t *wire, uint32_t n, Block *block, uint16_t pos,
                  int origin) noexcept nogil:
    cdef Query *q
    cdef uint8_t *frames
    if parent != NULL and parent.depth >= DEPTH_MAX and block == NULL:
        return NULL
    q = pool_take(w)
    if q == NULL:
        return NULL
    frames = q.frames
    memset(q, 0, query_body(q))
    q.detached = True
    q.frames = frames
    if not pool_wire(w, q, wire, n) or wire_admit(q.pkt.wire, n, &q.pkt) != ADMIT_OK:
        release(w, q)
        return NULL
    if parent != NULL:
        query_identity(q, parent)
        q.depth = <uint8_t>(parent.depth + (1 if block == NULL else 0))
        q.zone = parent.zone
        q.proven = parent.proven
        q.apart = parent.apart
        q.gate = parent.gate    # a look-up of its own starts anew, and without
        q.traced = parent.traced if origin == ORIGIN_PYTHON else 0
        if parent.tsig:
            q.tsig = parent.tsig
            q.signature = parent.signature
    if origin == ORIGIN_REFRESH:
        # A refresh looks like a TCP client without an address, as CoreDNS's does.
        q.background = True
        q.proto = PROTO_TCP
    q.origin = <uint8_t>origin
    q.start_ns = w.now_ns
    q.block = block
    q.pos = pos
    q.base = pos
    memset(q.frames, 0, w.frame_octets)
    return q


cdef void run(Worker *w, Query *q) noexcept nogil:
    q.link = NULL
    if w.ready_tail != NULL:
        w.ready_tail.link = q
    else:
        w.ready_head = q
    w.ready_tail = q


cdef void chain_drain_ready(Worker *w) noexcept nogil:
    """Starts the children that waited for the current query to end. Called by the loop after each event."""
    cdef Query *q
    while w.ready_head != NULL:
        q = w.ready_head
        w.ready_head = q.link
        if w.ready_head == NULL:
            w.ready_tail = NULL
        q.link = NULL
        if q.block == NULL:
            chain_start(w, q)
        else:
            chain_down(w, q)
