# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The bridge: queries from the hot thread to Python plugins, and what these answer back.

Strategy. The upper half of this module is the hot thread's: free functions without the GIL that fill one ring and drain
the other, a bounded number of records a turn. The lower half (the included files) is the Python thread's: the lazy view
of a query, replies built in wire form, and the driver that starts, resumes and ends the coroutines of plugins. A query
that a plugin answers at once costs three small objects and no call of asyncio. The rings, ownership and bounds are
described in _bridge.pxd.
"""

import asyncio
import collections
import functools
import math
import inspect
import ipaddress
import os
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

cimport cython
from cpython.ref cimport PyObject, Py_REFCNT, Py_XDECREF
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._chain cimport Program, stream_room
from fastdns._stage cimport (
    DROP,
    MOD_BRIDGE,
    ORIGIN_PYTHON,
    ORIGIN_REFRESH,
    ORIGIN_TCP,
    PROTO_UDP,
    RCODE,
    REPLY,
    STREAM_GO,
    STREAM_GONE,
    STREAM_REFUSED,
    STREAM_UNFIT,
    STREAM_WAIT,
    Asked,
    Query as CQuery,
    Stage,
    Worker,
    asked_fill,
    Label,
    label_set,
    query_labels,
)
from fastdns._kept cimport (
    NOTE_CASED,
    NOTE_COUNTS,
    NOTE_NAMED,
    READS_AD,
    READS_CASE,
    READS_CLIENT,
    READS_DO,
    READS_EDNS,
    READS_FAMILY,
    READS_LABELS,
    READS_MORE,
    READS_NAME,
    READS_PORT,
    READS_PROTO,
    READS_SERVER,
)
from fastdns._log cimport LEVEL_ERROR
from fastdns._published cimport Mapped, publications
from fastdns._quota cimport QUOTA_LOOKS, quota_close, quota_look, quota_open
from fastdns._stats cimport Stats, stat_add
from fastdns._tsig cimport TSIG_GOOD
from fastdns._sys cimport (
    CLOCK_MONOTONIC,
    EPOLLIN,
    PyIter_Send,
    c_nanosleep,
    c_read,
    c_write,
    calloc,
    clock_gettime,
    fd_fence_seq_cst,
    fd_load_acquire,
    fd_load_acquire32,
    fd_load_relaxed,
    fd_store_release,
    fd_store_release32,
    fd_swap32,
    free,
    malloc,
    memcmp,
    memcpy,
    memmove,
    memset,
    timespec,
)
from fastdns._wire cimport (
    ADMIT_OK,
    CLASS_IN,
    FLAG_AA,
    FLAG_AD,
    FLAG_CD,
    FLAG_DO,
    FLAG_QR,
    FLAG_RA,
    FLAG_RD,
    FLAG_TC,
    RCODE_FORMERR,
    RCODE_NOTIMP,
    RCODE_REFUSED,
    RCODE_SERVFAIL,
    SECTION_ADDITIONAL,
    SECTION_ANSWER,
    SECTION_AUTHORITY,
    TYPE_A,
    TYPE_AAAA,
    TYPE_CNAME,
    TYPE_OPT,
    TYPE_SRV,
    TYPE_TXT,
    WIRE_HEADER,
    WIRE_MAX,
    WIRE_QUERY_MAX,
    WIRE_RECORDS_MAX,
    Message,
    Packet,
    Record,
    Writer,
    get16,
    put16,
    put32,
    wire_admit,
    wire_limit,
    wire_lower,
    wire_name,
    wire_name_from_text,
    wire_name_text,
    wire_reply_to,
    wire_scan,
    wire_strip_opt,
    writer_reply,
    writer_rr,
)

from fastdns.errors import PluginError

cdef uint64_t NEVER = <uint64_t>1 << 62   # a deadline, with room for what is added to it

cdef enum:
    NO_HELD = 0xffff
    THREADS = 32                # of plain functions
    OPT_SIZE = 1232             # octets that a replacement's own OPT advertises, unless it says
    ROUNDS = 64                 # records that the Python thread takes before asyncio's other work has its turn
    QUEUE_SHARE = 4             # of a deadline: that share may pass before the first in the ring is begun
    WAIT_MS = 1000              # that the Python thread waits for room in the ring down, once the hot thread has ended


# ---------------------------------------------------------------------------------------------- hot thread: up

cdef inline Up *up_room(Worker *w, Rings *r) noexcept nogil:
    # The next record upwards; there is always one, see the bounds in _bridge.pxd.
    cdef Up *u = &r.up[r.up_head & (BRIDGE_UP - 1)]
    memset(u, 0, sizeof(Up))
    u.at_ns = w.now_ns
    return u


cdef inline uint16_t asked_octets(const Asked *a) noexcept nogil:
    return <uint16_t>(<const uint8_t *>&a.name[0] - <const uint8_t *>a) + a.name_len


cdef inline void up_publish(Rings *r, uint8_t what) noexcept nogil:
    fd_store_release(&r.up_head, r.up_head + 1)
    r.dirty |= what


cdef inline bint waits(Worker *w, Rings *r, uint64_t most_ns) noexcept nogil:
    # Whether the first that Python has not taken has waited for so long.
    cdef uint64_t since = fd_load_acquire(&r.aside_ns)
    cdef uint64_t tail
    if since == 0:
        tail = fd_load_acquire(&r.up_tail)
        if tail == r.up_head:
            return False
        since = r.up[tail & (BRIDGE_UP - 1)].at_ns
    return since + most_ns <= w.now_ns


cdef inline bint over_quota(Worker *w, Rings *r) noexcept nogil:
    # Whether Python is kept back for the quota, and what waits there has waited a period.
    if r.quota.fd < 0:
        return False
    quota_look(&r.quota, w.now_ns)
    if w.now_ns >= r.quota.pressed_ns:
        return False
    return waits(w, r, r.quota.period_ns)


cdef const char *bridge_push(Worker *w, CQuery *q) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef uint64_t deadline_ns = q.block.stages[q.pos].deadline_us * <uint64_t>1000
    cdef uint16_t slot = r.free_held
    cdef Held *h
    cdef Up *u
    if slot == NO_HELD:
        stat_add(w.row, r.slot_shed, 1)
        return b"the queue to Python is full"
    if over_quota(w, r):
        stat_add(w.row, r.slot_quota, 1)
        return b"the CPU quota is nearly spent"
    if waits(w, r, deadline_ns // QUEUE_SHARE):
        # It would be answered too late, and take the time of one that is not.
        stat_add(w.row, r.slot_shed, 1)
        return b"Python is behind"
    h = &r.held[slot]
    r.free_held = h.next_free
    r.held_n += 1
    h.q = q
    h.answered = False
    h.owed = 0
    h.told = False
    h.deadline_ns = w.now_ns + deadline_ns
    if r.held_n == 1:
        r.sweep_ns = w.now_ns + BRIDGE_SWEEP_MS * <uint64_t>1000000
    q.stage_word = slot
    u = up_room(w, r)
    u.kind = UP_QUERY
    u.q = q
    up_publish(r, DIRTY_QUERY)
    return NULL


cdef void bridge_flush(Worker *w) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef uint8_t dirty = r.dirty
    if not dirty:
        return
    r.dirty = 0
    fd_fence_seq_cst()
    if dirty == DIRTY_QUERY and fd_load_acquire32(&r.python_paused):
        return
    if fd_load_acquire32(&r.python_sleeps) and fd_swap32(&r.python_sleeps, 0):
        ring_bell(r.python_fd)


cdef void ring_bell(int fd) noexcept nogil:
    # Fails only when the bell has rung 2^64 times unheard.
    cdef uint64_t one = 1
    cdef ssize_t _n = c_write(fd, &one, sizeof(one))


cdef void hush(int fd) noexcept nogil:
    # Fails when nobody has rung, which is as good.
    cdef uint64_t n
    cdef ssize_t _n = c_read(fd, &n, sizeof(n))


cdef void let_go(Rings *r, uint16_t slot) noexcept nogil:
    r.held[slot].q = NULL
    r.held[slot].next_free = r.free_held
    r.free_held = slot
    r.held_n -= 1


cdef bint copy_up(Up *u, const CQuery *q) noexcept nogil:
    # The octets that the record's outcome announces. False: no memory, and the outcome says nothing.
    cdef Outcome *o = &u.outcome
    cdef uint8_t *at
    cdef size_t n = <size_t>o.reply_len + o.options_len + o.error_len + o.asked_len + o.labels_len
    if n == 0:
        return True
    u.block = at = <uint8_t *>malloc(n)
    if at == NULL:
        memset(o, 0, sizeof(Outcome))
        return False
    # Not even no octets may be copied from NULL (C11 7.24.1).
    if o.reply_len:
        memcpy(at, q.reply, o.reply_len)
    at += o.reply_len
    if o.options_len:
        memcpy(at, q.options, o.options_len)
    at += o.options_len
    memcpy(at, q.error, o.error_len)
    memcpy(at + o.error_len, &q.asked, o.asked_len)
    if o.labels_len:
        labels_pack(q, at + o.error_len + o.asked_len)
    return True


cdef void describe(Outcome *o, const CQuery *q) noexcept nogil:
    o.rcode = q.rcode
    o.reply_len = q.reply_len
    o.ulen = q.ulen
    o.has_opt = q.has_opt
    o.set_do = q.set_do
    o.opt_size = q.opt_size
    o.upstream = q.upstream
    if q.has_opt:
        o.options_len = q.options_len


cdef void python_sink(Worker *w, CQuery *q) noexcept nogil:
    # A child has ended: its reply is copied for Python.
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef Up *u = up_room(w, r)
    cdef Outcome *o = &u.outcome
    u.kind = UP_RESULT
    u.token = q.handle
    o.rcode = q.rcode
    if r.panicking:
        o.verdict = PANIC
    elif q.streamed:
        o.streamed = True
        o.verdict = RCODE if q.cut else REPLY
    elif q.written:
        o.verdict = REPLY
        describe(o, q)
    else:
        o.verdict = DROP if q.dropped else RCODE
    o.error_len = q.error_len if q.error_len <= sizeof(q.error) else sizeof(q.error)
    if q.replaced:
        o.asked_len = asked_octets(&q.asked)
    o.labels_len = labels_octets(q)
    if not copy_up(u, q):
        o.verdict = RCODE
        o.rcode = RCODE_SERVFAIL
        o.streamed = q.streamed > 0
    up_publish(r, DIRTY_OTHER)


cdef int python_part(Worker *w, CQuery *q) noexcept nogil:
    # A message of a child's stream. The next one waits until this one was read.
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef Up *u = up_room(w, r)
    u.kind = UP_PART
    u.token = q.handle
    u.q = q
    describe(&u.outcome, q)
    if not copy_up(u, q):
        return STREAM_UNFIT
    up_publish(r, DIRTY_OTHER)
    return STREAM_WAIT


cdef void tell(Worker *w, Held *h, int verdict, uint32_t gone) noexcept nogil:
    # Says to a stream's plugin that so many of its messages have gone, or once that no more will.
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef Up *u
    if h.told:
        return
    h.told = verdict != STREAM_GO
    u = up_room(w, r)
    u.kind = UP_ROOM
    u.token = h.stream
    u.outcome.verdict = <uint8_t>verdict
    u.outcome.ulen = gone
    h.owed -= gone
    up_publish(r, DIRTY_OTHER)


cdef void push_room(Worker *w, CQuery *q) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef Held *h = &r.held[<uint16_t>q.stage_word]
    if q.gone:
        tell(w, h, STREAM_GONE, 0)
    elif h.owed:
        tell(w, h, STREAM_GO, h.owed)


cdef void refuse_child(Worker *w, uint64_t token, const char *text, uint16_t n) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef Up *u = up_room(w, r)
    u.kind = UP_RESULT
    u.token = token
    u.outcome.verdict = RCODE
    u.outcome.rcode = RCODE_SERVFAIL
    u.block = <uint8_t *>malloc(n)
    if u.block != NULL:
        u.outcome.error_len = n
        memcpy(u.block, text, n)
    up_publish(r, DIRTY_OTHER)


# ---------------------------------------------------------------------------------------------- hot thread: down

cdef void start_child(Worker *w, Down *d) noexcept nogil:
    cdef CQuery *q = d.q
    cdef CQuery *c
    cdef const uint8_t *wire = d.block if d.block != NULL else d.octets
    cdef uint32_t n = d.wire_len
    if n == 0:
        wire = q.pkt.wire
        n = q.pkt.end           # what a stage has put aside lies behind it
    if d.kind == DOWN_NEXT:
        c = w.api.child(w, q, wire, n, q.block, d.pos, ORIGIN_PYTHON)
    else:
        c = w.api.child(w, q, wire, n, NULL, 0, ORIGIN_PYTHON)
    if c == NULL:
        refuse_child(w, d.token, b"too many queries in flight", 26)
        return
    c.handle = d.token
    if d.kind == DOWN_NEXT:
        # What stages before this one changed in the parsed query holds for the child too.
        c.pkt.flags = q.pkt.flags
        c.pkt.udp_size = q.pkt.udp_size
        c.pkt.opt_flags = q.pkt.opt_flags
        labels_copy(c, q)
        labels_take(c, (d.block if d.block != NULL else d.octets) + d.wire_len, d.outcome.labels_len)
    w.api.run(w, c)


cdef void take_reply(Worker *w, CQuery *q, const Outcome *o, const uint8_t *octets) noexcept nogil:
    # The options stay where they are until the sink has taken the message, before the record is done with.
    w.api.reply_room(w, q)
    memcpy(q.reply, octets, o.reply_len)
    q.rcode = o.rcode
    q.reply_len = o.reply_len
    q.ulen = o.ulen
    q.has_opt = o.has_opt
    q.set_do = o.set_do
    q.opt_size = o.opt_size
    q.upstream = o.upstream
    q.options = octets + o.reply_len
    q.options_len = o.options_len


cdef void send_part(Worker *w, Rings *r, Down *d) noexcept nogil:
    cdef CQuery *q = d.q
    cdef Held *h = &r.held[<uint16_t>q.stage_word]
    cdef int taken
    h.stream = d.token
    h.deadline_ns = NEVER
    if h.told:
        return                  # what was on its way behind a message that was not taken
    if h.answered:
        tell(w, h, STREAM_GONE, 0)
        return
    if d.outcome.reply_len == 0:
        if q.proto == PROTO_UDP or w.part[q.origin] == NULL:
            tell(w, h, STREAM_REFUSED, 0)
        return
    take_reply(w, q, &d.outcome, d.block if d.block != NULL else d.octets)
    taken = w.api.stream(w, q)
    if taken == STREAM_GO or taken == STREAM_WAIT:
        h.owed += 1
    if taken != STREAM_WAIT:
        tell(w, h, taken, h.owed)


cdef void give_room(Worker *w, Down *d) noexcept nogil:
    # The child may have ended meanwhile, and its slot be another query's: tokens are never used twice.
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef CQuery *q = d.q
    cdef Held *h
    if not q.detached or q.origin != ORIGIN_PYTHON or q.handle != d.token:
        return
    if d.outcome.verdict == STREAM_GONE:
        q.gone = True
    elif q.block.stages[q.pos].python:
        # One was read; others that were sent with it may still wait.
        h = &r.held[<uint16_t>q.stage_word]
        if h.owed:
            tell(w, h, STREAM_GO, 1)
        return
    stream_room(w, q)


cdef void finish_query(Worker *w, Rings *r, Down *d) noexcept nogil:
    cdef CQuery *q = d.q
    cdef Outcome *o = &d.outcome
    cdef const uint8_t *octets = d.block if d.block != NULL else d.octets
    cdef const uint8_t *at = octets + o.reply_len + o.options_len
    cdef uint16_t slot = <uint16_t>q.stage_word
    cdef bint answered = r.held[slot].answered
    cdef bint told = r.held[slot].told
    cdef Stage *s
    let_go(r, slot)
    if answered:
        w.api.release(w, q)
        return
    q.rcode = o.rcode
    q.error_len = o.error_len
    memcpy(q.error, at, o.error_len)
    if o.asked_len:
        q.replaced = True
        memcpy(&q.asked, at + o.error_len, o.asked_len)
    at += o.error_len
    labels_take(q, at + o.asked_len, o.labels_len)
    if o.verdict == PANIC:
        if q.origin != ORIGIN_REFRESH:
            q.base = q.pos      # nobody above hears of it; but who asked for a refresh must end it
        if q.origin != ORIGIN_PYTHON and w.dropped != NULL:
            w.dropped(w, q, RCODE_SERVFAIL)
        r.panicking = True
        w.api.stream_end(w, q, False)
        r.panicking = False
        return
    if o.streamed:
        if told and o.verdict == REPLY:
            q.rcode = RCODE_SERVFAIL    # a message was not taken after the plugin had sent its last
        w.api.stream_end(w, q, o.verdict == REPLY and not told)
        return
    if o.verdict == REPLY:
        take_reply(w, q, o, octets)
    if o.note_len:
        s = &q.block.stages[q.pos]
        if s.ops != NULL and s.ops.noted != NULL:
            s.ops.noted(w, s, q, o.verdict, at + o.asked_len + o.labels_len, o.note_len)
    w.api.resume(w, q, o.verdict)


cdef void answer_late(Worker *w, Rings *r) noexcept nogil:
    # Queries whose deadline has long passed: Python hangs. A copy of each is answered, the original stays Python's.
    cdef uint32_t i
    cdef CQuery *q
    cdef CQuery *copy
    cdef const char *text = b"Python did not answer in time"
    for i in range(BRIDGE_QUERIES):
        q = r.held[i].q
        if q == NULL or r.held[i].answered or w.now_ns < r.held[i].deadline_ns + BRIDGE_GRACE_MS * <uint64_t>1000000:
            continue
        q.detached = False
        copy = w.api.detach(w, q)
        q.detached = True
        if copy == NULL:
            return
        labels_copy(copy, q)
        r.held[i].answered = True
        stat_add(w.row, r.slot_late, 1)
        copy.rcode = RCODE_SERVFAIL
        copy.error_len = 29
        memcpy(copy.error, text, 29)
        w.api.resume(w, copy, RCODE)


cdef int64_t bridge_tick(Worker *w) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    cdef uint64_t tail = r.down_tail
    cdef uint64_t head = fd_load_acquire(&r.down_head)
    cdef Down *d
    cdef int n = 0
    while tail != head and n < BRIDGE_TURN:
        d = &r.down[tail & (BRIDGE_DOWN - 1)]
        if d.kind == DOWN_FINISH:
            finish_query(w, r, d)
        elif d.kind == DOWN_PART:
            send_part(w, r, d)
        elif d.kind == DOWN_ROOM:
            give_room(w, d)
        else:
            start_child(w, d)
        free(d.block)
        tail += 1
        fd_store_release(&r.down_tail, tail)
        n += 1
    if r.held_n == 0 and not (r.quota.fd >= 0 and fd_load_acquire32(&r.quota.spent)):
        return -1
    if w.now_ns >= r.sweep_ns:
        r.sweep_ns = w.now_ns + BRIDGE_SWEEP_MS * <uint64_t>1000000
        answer_late(w, r)
    if r.quota.fd < 0:
        return <int64_t>r.sweep_ns
    quota_look(&r.quota, w.now_ns)
    return <int64_t>(r.quota.next_ns if r.quota.next_ns < r.sweep_ns else r.sweep_ns)


cdef bint bridge_sleep(Worker *w, bint sleeping) noexcept nogil:
    cdef Rings *r = <Rings *>w.mod[MOD_BRIDGE]
    fd_store_release32(&r.hot_sleeps, sleeping)
    if not sleeping:
        return False
    fd_fence_seq_cst()
    return fd_load_acquire(&r.down_head) != r.down_tail


cdef void bridge_event(Worker *w, uint64_t data, uint32_t events) noexcept nogil:
    # The bell rang: the next tick drains the ring.
    hush(<int>data)


cdef object bridge_open(Worker *w, Program program):
    cdef Bridge bridge = Bridge.__new__(Bridge)
    cdef Rings *r = bridge.r
    cdef uint32_t b, p
    cdef _PythonStage stage
    bridge.w = w
    bridge.program = program
    bridge.stages = []
    bridge.zones = []
    bridge.labels = program.labels
    for b in range(w.block_count):
        row = []
        for p in range(w.blocks[b].stage_count):
            stage = None
            if w.blocks[b].stages[p].python:
                stage = _PythonStage(program.python_stage(b, p))
                stage.begins_in_c = w.blocks[b].stages[p].ops != NULL
                w.blocks[b].stages[p].deadline_us = <uint32_t>(stage.deadline * 1e6)
            row.append(stage)
        if w.blocks[b].python_filter:
            # Where the router lets a query wait: behind the last stage's `next`, which leads to nothing.
            p = w.blocks[b].stage_count + 1
            stage = _PythonStage(program.python_filter(b))
            w.blocks[b].stages[p].deadline_us = <uint32_t>(stage.deadline * 1e6)
            row += [None, stage]
        bridge.stages.append(row)
        bridge.zones.append([
            text_of(w.blocks[b].zones[z].name, w.blocks[b].zones[z].len)
            for z in range(w.blocks[b].zone_count)
        ])
    w.mod[MOD_BRIDGE] = r
    w.push_python = bridge_push
    w.push_room = push_room
    w.on_event[MOD_BRIDGE] = bridge_event
    w.on_tick[MOD_BRIDGE] = bridge_tick
    w.on_flush[MOD_BRIDGE] = bridge_flush
    w.on_sleep[MOD_BRIDGE] = bridge_sleep
    w.sink[ORIGIN_PYTHON] = python_sink
    w.part[ORIGIN_PYTHON] = python_part
    if not w.api.watch(w, r.hot_fd, MOD_BRIDGE, <uint64_t>r.hot_fd, EPOLLIN):
        raise OSError("the bridge's eventfd cannot be watched")
    return bridge


include "_bridge_facts.pxi"
include "_bridge_reply.pxi"
include "_bridge_query.pxi"
include "_bridge_labels.pxi"
include "_bridge_next.pxi"
include "_bridge_stream.pxi"
include "_bridge_drive.pxi"
include "_bridge_child.pxi"
include "_bridge_pump.pxi"
include "_bridge_end.pxi"
