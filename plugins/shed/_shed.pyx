# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of shed: no query goes further while its socket's replies wait and no more of them can be kept.

Strategy: the loop keeps the replies (_udp_backlog.pxi) and says in the listener whether it is full, so a query costs
one load. What has begun is finished: look-ups that the server makes for an earlier query pass, and TCP has no such
socket.
"""

from libc.stdint cimport uint32_t

from fastdns._stage cimport (
    DROP, NEXT, PROTO_UDP, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed,
)
from fastdns._stats cimport stat_add

cdef struct Counted:
    # Of one listener.
    bint ours                   # the block is reached by it
    uint32_t query
    uint32_t response

cdef struct Config:
    Counted *listeners
    uint32_t count


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c
    if not w.listeners[q.listener].full or q.proto != PROTO_UDP or q.depth:
        return NEXT
    c = <const Config *>s.config
    stat_add(w.row, c.listeners[q.listener].query, 1)
    return DROP


cdef int start(Worker *w, Stage *s) noexcept nogil:
    # Of several blocks on a listener one is enough, and all count the same.
    cdef const Config *c = <const Config *>s.config
    cdef uint32_t i
    if c.count < w.listener_count:
        return 1
    for i in range(w.listener_count):
        if c.listeners[i].ours:
            w.listeners[i].keeps = True
            w.listeners[i].lost = c.listeners[i].response
    return 0


cdef StageOps OPS
OPS.name = b"shed"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = start
OPS.stop = NULL


def stage(slots) -> CompiledStage:
    """The stage of one block. slots: for each listener of the server the counters of queries and replies that were
    dropped, or None where the block is not reached by it."""
    cdef Memory memory = zeroed(sizeof(Config) + len(slots) * sizeof(Counted))
    cdef Config *c = <Config *>memory.at
    c.listeners = <Counted *>(c + 1)
    c.count = <uint32_t>len(slots)
    for i, pair in enumerate(slots):
        if pair is not None:
            c.listeners[i].ours = True
            c.listeners[i].query, c.listeners[i].response = pair
    return compiled_stage(&OPS, c, memory)
