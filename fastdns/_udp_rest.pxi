# SPDX-License-Identifier: Apache-2.0
#
# Sockets that nobody read and nobody will, with what is queued in them: a part of _udp.
#
# Strategy: the service manager may have opened more sockets of an address than there are workers. The supervisor takes
# such a socket out of its group and hands it to a worker, which reads it to its end as if it were its own and forgets
# it; replies leave by the worker's own socket, which has the same address. The orders' thread writes a cell and then
# the number of cells; a connection may still be in its handshake, so such sockets are accepted at for a while.

cdef enum:
    REST_NS = 200000000         # for handshakes that are under way


cdef void read_rest(Worker *w, Leaving *leaving) noexcept nogil:
    # Looks at the cells that were added; the clock of the loop is fresh.
    cdef Rest *r
    cdef uint32_t turn
    cdef uint32_t n = fd_load_acquire32(&leaving.rest_n)
    if leaving.rest_seen == n:
        return
    while leaving.rest_seen < n:
        r = &leaving.rest[leaving.rest_seen]
        leaving.rest_seen += 1
        if r.stream:
            r.until_ns = w.now_ns + REST_NS
            tcp_take(w, r.listener, r.fd)
            continue
        turn = 0
        while turn < LAST_TURNS and udp_receive_some(w, r.listener, r.fd):
            turn += 1
        rest_done(leaving, r)
    w.on_tick[MOD_CONTROL] = rest_tick


cdef void rest_done(Leaving *leaving, Rest *r) noexcept nogil:
    c_close(r.fd)
    r.fd = -1
    leaving.rest_gone += 1


cdef int64_t rest_tick(Worker *w) noexcept nogil:
    # Only while there are some: accepts what has come meanwhile, and ends those whose time is up.
    cdef Leaving *leaving = <Leaving *>w.mod[MOD_CONTROL]
    cdef Rest *r
    cdef uint32_t i
    cdef int64_t next_ns = -1
    for i in range(leaving.rest_seen):
        r = &leaving.rest[i]
        if r.fd < 0:
            continue
        tcp_take(w, r.listener, r.fd)
        if w.now_ns >= r.until_ns:
            rest_done(leaving, r)
        elif next_ns < 0 or <int64_t>r.until_ns < next_ns:
            next_ns = <int64_t>r.until_ns
    if leaving.rest_gone == leaving.rest_seen:
        w.on_tick[MOD_CONTROL] = NULL
        tell(leaving.rest_fd)
    return next_ns
