# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of trace: takes every Nth query and notes when each plugin got it and was done with it.

Strategy: a query that is not taken pays for a counter and nothing else. One that is taken goes on in a copy of its
block (`Shadow`) in which the functions of the stages behind `trace` are ours: they note the time and call the block's
own, with the block's own Stage. So neither the runner nor any other stage knows of tracing, but for two hooks:
`Block.tap`, by which `forward` tells of each upstream that it asks, and the way to Python, before which `traced_push`
stands.

A trace is one of a table of TRACES structures, each with room for SPANS spans. The hot thread takes a free one, fills
it, and hands its number to the Python thread by a ring; that gives it back by another. When none is free the query is
not traced, and counted. A query that never came back (a client that left in the middle of something) gives its
structure up after a minute.
"""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stage cimport (
    NEXT, PYTHON, SUSPEND, Block, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage, label_set,
)
from fastdns._sys cimport (
    CLOCK_MONOTONIC, CLOCK_REALTIME, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, c_write, calloc, clock_gettime,
    fd_bump, fd_fence_seq_cst, fd_load_acquire, fd_load_relaxed, fd_load_relaxed32, fd_store_release,
    fd_store_release32, fd_swap32, free, memcpy, mmap, munmap, timespec,
)
from fastdns._wire cimport WIRE_HEADER, WIRE_NAME_MAX, wire_lower, wire_name

cdef enum:
    SPANS = 48                  # of a trace: stages and exchanges with upstreams; more are counted in it
    TRACES_LOG = 10
    TRACES = 1 << TRACES_LOG    # under way or waiting for Python, of a worker
    SERIALS = (1 << (32 - TRACES_LOG)) - 1
    LABEL = 32                  # digits of the longest trace id

cdef uint64_t LOST_NS = 60 * <uint64_t>1000000000   # after which a trace under way is given up
cdef uint64_t LOOK_NS = 1000000000                  # between looks for such ones

cdef enum State:
    FREE = 0
    ACTIVE = 1
    DONE = 2                    # Python's

cdef struct Span:
    uint64_t begin_ns
    uint64_t end_ns             # 0: it has not ended
    const char *text            # of an exchange: who was asked. NULL: a stage
    uint32_t text_len
    int16_t parent              # place of the span around it, -1: the query's own
    uint16_t pos

cdef struct Trace:
    uint32_t key                # what q.traced of its queries is
    int state
    uint16_t spans
    uint16_t lost
    uint64_t taken_ns           # by the loop's clock
    uint64_t begin_ns
    uint64_t end_ns
    uint64_t real_ns            # CLOCK_REALTIME at its begin
    uint64_t id
    uint64_t high               # the upper half of a long trace id
    char label[LABEL]
    # -- known at the end
    uint16_t qtype
    uint16_t rcode
    uint16_t name_len
    uint16_t error_len
    uint8_t proto
    uint8_t family
    uint8_t client[16]
    uint8_t name[256]           # lower-cased, wire form
    char error[160]
    Span span[SPANS]

cdef struct Table:
    uint64_t every              # 0: no query
    uint64_t count
    int label                   # place of trace/traceid, -1: nobody reads it
    bint wide                   # trace ids have 128 bits
    uint32_t used               # structures ever handed out: memory beyond is untouched
    uint32_t free_n
    uint32_t serial
    uint64_t look_ns
    Trace *traces
    Shadow *shadow
    uint32_t free[TRACES]
    uint32_t done[TRACES]       # hot thread to Python
    uint32_t back[TRACES]       # Python to hot thread
    uint64_t done_head
    uint64_t done_tail
    uint64_t back_head
    uint64_t back_tail
    uint32_t sleeping           # Python waits on the eventfd
    int wake_fd                 # -1: nobody listens
    uint64_t full               # queries that found no structure

cdef struct Shadow:
    # A block whose stages note the time. The block comes first: q.block is it.
    Block block
    const Block *real
    Table *table
    bint ready
    Stage *stages
    StageOps *ops


cdef inline uint64_t clock_ns(int which) noexcept nogil:
    cdef timespec ts
    clock_gettime(which, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


# ---------------------------------------------------------------------------------------------- structures

cdef Trace *take(Table *t, uint64_t now_ns) noexcept nogil:
    cdef uint64_t head, tail
    cdef uint32_t i
    cdef Trace *trace
    if t.free_n == 0:
        head = fd_load_acquire(&t.back_head)
        tail = t.back_tail
        while tail != head:
            t.free[t.free_n] = t.back[tail & (TRACES - 1)]
            t.free_n += 1
            tail += 1
        fd_store_release(&t.back_tail, tail)
    if t.free_n:
        t.free_n -= 1
        i = t.free[t.free_n]
    elif t.used < TRACES:
        i = t.used
        t.used += 1
    else:
        i = given_up(t, now_ns)
        if i == TRACES:
            fd_bump(&t.full, 1)
            return NULL
    trace = &t.traces[i]
    t.serial = t.serial + 1 if t.serial < SERIALS else 1
    trace.key = t.serial << TRACES_LOG | i
    trace.state = ACTIVE
    trace.taken_ns = now_ns
    trace.spans = 0
    trace.lost = 0
    return trace


cdef uint32_t given_up(Table *t, uint64_t now_ns) noexcept nogil:
    # A structure whose query never came back; TRACES: none.
    cdef uint32_t i
    if now_ns < t.look_ns:
        return TRACES
    t.look_ns = now_ns + LOOK_NS
    for i in range(TRACES):
        # Python sets no state, so DONE may be free by now; that one comes by the ring.
        if t.traces[i].state == ACTIVE and now_ns > t.traces[i].taken_ns + LOST_NS:
            return i
    return TRACES


cdef inline Trace *trace_of(const Query *q) noexcept nogil:
    # NULL: it was given up, or a refresh goes on behind the end of its query.
    cdef Table *t = (<const Shadow *>q.block).table
    cdef Trace *trace = &t.traces[q.traced & (TRACES - 1)]
    return trace if trace.key == q.traced and trace.state == ACTIVE else NULL


cdef Span *begin_span(Trace *trace, uint32_t pos, const char *text, uint32_t n) noexcept nogil:
    cdef Span *span
    cdef int i
    if trace.spans == SPANS:
        trace.lost += 1
        return NULL
    span = &trace.span[trace.spans]
    span.begin_ns = clock_ns(CLOCK_MONOTONIC)
    span.end_ns = 0
    span.text = text
    span.text_len = n
    span.pos = <uint16_t>pos
    span.parent = -1
    i = <int>trace.spans - 1
    while i >= 0:
        # The innermost stage that is still at it: before this one, or for an exchange, its own.
        if (trace.span[i].text == NULL and trace.span[i].end_ns == 0
                and trace.span[i].pos < pos + (1 if text != NULL else 0)):
            span.parent = <int16_t>i
            break
        i -= 1
    trace.spans += 1
    return span


cdef void end_spans(Trace *trace, int pos, uint64_t now_ns) noexcept nogil:
    # All behind a position have ended.
    cdef uint32_t i
    for i in range(trace.spans):
        if trace.span[i].end_ns == 0 and <int>trace.span[i].pos > pos:
            trace.span[i].end_ns = now_ns


# ---------------------------------------------------------------------------------------------- the shadow's functions

cdef int traced_request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Shadow *shadow = <const Shadow *>q.block
    cdef Stage *own = &shadow.real.stages[s.index]
    cdef Trace *trace = trace_of(q)
    cdef int verdict
    if trace == NULL:
        return own.ops.request(w, own, q)
    begin_span(trace, s.index, NULL, 0)
    verdict = own.ops.request(w, own, q)
    # A query that is suspended may have come to its end already.
    if verdict != NEXT and verdict != SUSPEND and verdict != PYTHON:
        end_spans(trace, <int>s.index - 1, clock_ns(CLOCK_MONOTONIC))
    return verdict


cdef void traced_response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Shadow *shadow = <const Shadow *>q.block
    cdef Stage *own = &shadow.real.stages[s.index]
    cdef Trace *trace = trace_of(q)
    if trace != NULL:
        end_spans(trace, s.index, clock_ns(CLOCK_MONOTONIC))
    if own.ops.response != NULL:
        own.ops.response(w, own, q)


cdef void tapped(Worker *w, Query *q, const char *text, uint32_t n) noexcept nogil:
    cdef Trace *trace = trace_of(q)
    cdef uint32_t i
    if trace == NULL:
        return
    # One at a time: what came before has failed.
    for i in range(trace.spans):
        if trace.span[i].text != NULL and trace.span[i].end_ns == 0 and trace.span[i].pos == q.pos:
            trace.span[i].end_ns = clock_ns(CLOCK_MONOTONIC)
    begin_span(trace, q.pos, text, n)


# What w.push_python was: the same function in every worker.
cdef const char *(*python_push)(Worker *w, Query *q) noexcept nogil
python_push = NULL

cdef const char *traced_push(Worker *w, Query *q) noexcept nogil:
    # A stage in Python begins. One with a compiled half has begun there.
    cdef Trace *trace
    if q.block.tap == tapped and (q.pos >= q.block.stage_count or q.block.stages[q.pos].ops == NULL):
        trace = trace_of(q)
        if trace != NULL:
            begin_span(trace, q.pos, NULL, 0)
    return python_push(w, q)


# ---------------------------------------------------------------------------------------------- the stage

cdef void put_hex(char *to, uint64_t value) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef int i
    for i in range(16):
        to[15 - i] = digits[value & 15]
        value >>= 4


cdef void shadow_fill(Shadow *shadow, const Stage *s) noexcept nogil:
    # At the first query that is traced, when every stage has started and has its state.
    cdef const Block *real = s.block
    cdef uint32_t i
    shadow.real = real
    shadow.block = real[0]
    shadow.block.stages = shadow.stages
    shadow.block.tap = tapped
    for i in range(real.stage_count):
        shadow.stages[i] = real.stages[i]
        if i < s.index or real.stages[i].ops == NULL:
            continue
        shadow.ops[i] = real.stages[i].ops[0]
        shadow.stages[i].ops = &shadow.ops[i]
        shadow.ops[i].request = traced_request
        shadow.ops[i].response = traced_response if i > s.index else ended
    shadow.ready = True


cdef int begin(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Table *t = <Table *>s.config
    cdef Trace *trace
    cdef uint32_t n = 0
    if t.shadow == NULL or t.wake_fd < 0:
        return NEXT             # nobody would ever read it
    if not t.shadow.ready:
        shadow_fill(t.shadow, s)
    trace = take(t, w.now_ns)
    if trace == NULL:
        return NEXT
    trace.begin_ns = clock_ns(CLOCK_MONOTONIC)
    trace.real_ns = clock_ns(CLOCK_REALTIME)
    trace.id = w.api.random(w) >> 1 | 1
    trace.high = (trace.real_ns // 1000000000) << 32 if t.wide else 0
    if t.label >= 0:
        if t.wide:
            put_hex(trace.label, trace.high)
            n = 16
        put_hex(trace.label + n, trace.id)
        label_set(q, t.label, trace.label, n + 16)
    q.traced = trace.key
    q.block = &t.shadow.block
    # The runner is in the block's own list of stages: it lets go of the query here, and another goes on in the copy's.
    w.api.resume(w, q, NEXT)
    return SUSPEND


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Table *t = <Table *>s.config
    if t.every == 0 or q.depth:
        return NEXT
    t.count += 1
    if t.count < t.every:
        return NEXT
    t.count = 0
    return begin(w, s, q)


cdef void ended(Worker *w, Stage *s, Query *q) noexcept nogil:
    # The response of `trace` in the copy.
    cdef Shadow *shadow = <Shadow *>q.block
    cdef Table *t = shadow.table
    cdef Trace *trace = trace_of(q)
    cdef uint64_t one = 1
    cdef size_t used
    cdef int n
    q.block = <Block *>shadow.real
    q.traced = 0
    if trace == NULL:
        return
    trace.end_ns = clock_ns(CLOCK_MONOTONIC)
    end_spans(trace, -1, trace.end_ns)
    trace.proto = q.proto
    trace.family = q.family
    memcpy(trace.client, q.client_ip, 16)
    # What a stage asked in the query's place (rewrite): CoreDNS's stages all look at one message.
    if q.replaced:
        trace.qtype = q.asked.qtype
        n = q.asked.name_len
        memcpy(trace.name, q.asked.name, <size_t>n)
    else:
        trace.qtype = q.pkt.qtype
        n = wire_name(q.pkt.wire, q.pkt.length, WIRE_HEADER, trace.name, &used)
        if n <= 0 or n > WIRE_NAME_MAX:
            n = 0
        wire_lower(trace.name, n)
    trace.name_len = <uint16_t>n
    trace.rcode = 0 if q.dropped else q.stream_rcode if q.streamed else q.rcode
    trace.error_len = q.error_len if q.error_len < sizeof(trace.error) else <uint16_t>sizeof(trace.error)
    if trace.error_len:
        memcpy(trace.error, q.error, trace.error_len)
    trace.state = DONE
    t.done[t.done_head & (TRACES - 1)] = trace.key & (TRACES - 1)
    fd_store_release(&t.done_head, t.done_head + 1)
    fd_fence_seq_cst()
    # A full eventfd is awake already.
    if fd_load_relaxed32(&t.sleeping) and fd_swap32(&t.sleeping, 0) and c_write(t.wake_fd, &one, 8) < 0:
        return


cdef int start(Worker *w, Stage *s) noexcept nogil:
    cdef Table *t = <Table *>s.config
    cdef Shadow *shadow
    global python_push
    if w.push_python != NULL and w.push_python != traced_push:
        python_push = w.push_python
        w.push_python = traced_push
    if t.shadow != NULL:
        return 0
    shadow = <Shadow *>calloc(1, sizeof(Shadow))
    if shadow == NULL:
        return -1
    shadow.table = t
    shadow.stages = <Stage *>calloc(s.block.stage_count, sizeof(Stage))
    shadow.ops = <StageOps *>calloc(s.block.stage_count, sizeof(StageOps))
    t.shadow = shadow
    return 0 if shadow.stages != NULL and shadow.ops != NULL else -1


cdef StageOps OPS
OPS.name = b"trace"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = start
OPS.stop = NULL


cdef class Tracer:
    """The traces of one `trace` directive in this process. `every`: one of so many queries, 0 none. `label`: place of
    trace/traceid in the block. `wide`: trace ids of 128 bits."""

    cdef Table table

    def __cinit__(self, every: int, label: int = -1, wide: bool = False):
        cdef void *where
        self.table.every = every
        self.table.label = label
        self.table.wide = wide
        self.table.wake_fd = -1
        where = mmap(NULL, TRACES * sizeof(Trace), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        if where == <void *>-1:
            raise MemoryError("a table of traces")
        self.table.traces = <Trace *>where

    def __dealloc__(self):
        if self.table.traces != NULL:
            munmap(self.table.traces, TRACES * sizeof(Trace))
        if self.table.shadow != NULL:
            free(self.table.shadow.stages)
            free(self.table.shadow.ops)
            free(self.table.shadow)

    def stage(self) -> CompiledStage:
        """The stage."""
        return compiled_stage(&OPS, &self.table, self)

    def open(self, wake_fd: int) -> None:
        """Traces are taken from now on; `wake_fd` is an eventfd that rings after `arm`. Before the hot thread runs."""
        self.table.wake_fd = wake_fd

    @property
    def full(self) -> int:
        """Queries that were not traced because the table was full."""
        return fd_load_relaxed(&self.table.full)

    def arm(self) -> bool:
        """Asks for a ring of the eventfd at the next trace; whether there is one already."""
        fd_store_release32(&self.table.sleeping, 1)
        fd_fence_seq_cst()
        return fd_load_acquire(&self.table.done_head) != self.table.done_tail

    def drain(self, most: int = TRACES) -> list:
        """At most so many finished traces: (real time and monotonic begin and end in nanoseconds, id, upper half of the
        id, name in wire form, type, protocol, family, address, rcode, error, spans that found no room, spans). A span:
        (position, place of its parent or -1, begin, end, address of who was asked or None)."""
        cdef Table *t = &self.table
        cdef uint64_t head = fd_load_acquire(&t.done_head)
        cdef uint64_t back = t.back_head
        cdef Trace *trace
        cdef Span *span
        found = []
        while t.done_tail != head and len(found) < most:
            trace = &t.traces[t.done[t.done_tail & (TRACES - 1)]]
            spans = []
            for i in range(trace.spans):
                span = &trace.span[i]
                spans.append((span.pos, span.parent, span.begin_ns, span.end_ns,
                              None if span.text == NULL else span.text[:span.text_len].decode("ascii", "replace")))
            found.append((trace.real_ns, trace.begin_ns, trace.end_ns, trace.id, trace.high,
                          trace.name[:trace.name_len], trace.qtype, trace.proto, trace.family,
                          trace.client[:4 if trace.family == 1 else 16], trace.rcode, trace.error[:trace.error_len],
                          trace.lost, spans))
            t.back[back & (TRACES - 1)] = t.done[t.done_tail & (TRACES - 1)]
            back += 1
            t.done_tail += 1
        fd_store_release(&t.back_head, back)
        return found
