# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Runs a chain of compiled stages on queries, without sockets or time: the C half of the test kit.

Strategy: the real router, runner and pool on a worker whose clocks the test sets. The last stage of the chain is a
script: it suspends each query that reaches it and shows it to Python, which answers it when it likes, with one message
or a stream of them. What the chain sends to clients is gathered as it left the outermost stage, before the finisher.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport CacheView, Segment
from fastdns._chain cimport Program, chain_drain_ready, chain_start, stream_room, worker_open
from fastdns._stage cimport (
    DROP, MOD_CACHE, NEXT, MOD_LISTEN, ORIGIN_TCP, ORIGIN_UDP, PROTO_TCP, RCODE, REPLY, STREAM_GO, STREAM_WAIT,
    SUSPEND, CompiledStage, Query, Stage, StageOps, Worker, query_asked, stage_frame,
)
from fastdns._stats cimport Stats
from fastdns._sys cimport calloc, free, malloc, memcpy, memset
from fastdns._wire cimport ADMIT_OK, WIRE_HEADER, WIRE_MAX, Packet, put16, wire_admit, wire_scan

cdef enum:
    ROOM = 1024                 # queries at the script at once, and replies between two looks
    FRAMES = 4096
    RETYPED = 512               # octets of a query whose type is changed

cdef struct Sent:
    uint64_t token
    uint16_t rcode
    bint written
    bint dropped
    bint has_opt
    uint32_t ulen
    uint32_t length
    uint8_t *octets

cdef struct Book:
    Query *waiting[ROOM]
    uint32_t waits
    Query *held[ROOM]
    uint32_t holds
    Sent sent[ROOM]
    uint32_t sends
    uint32_t rooms              # times that a stream was told to go on
    uint32_t gone               # ... or that nobody reads it
    bint full                   # the client takes no more messages of a stream


cdef int at_script(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Book *book = <Book *>w.mod[MOD_LISTEN]
    cdef Query *d = w.api.detach(w, q) if book.waits < ROOM else NULL
    if d == NULL:
        q.rcode = 2
        return RCODE
    book.waiting[book.waits] = d
    book.waits += 1
    return SUSPEND


cdef void at_room(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Book *book = <Book *>w.mod[MOD_LISTEN]
    if q.gone:
        book.gone += 1
    else:
        book.rooms += 1


cdef StageOps SCRIPT
SCRIPT.name = b"script"
SCRIPT.request = at_script
SCRIPT.room = at_room


cdef struct Retype:
    uint16_t qtype


cdef struct Retyped:
    Packet client
    bint changed
    uint8_t octets[RETYPED]     # the client's
    uint8_t asked[RETYPED]


cdef int retype(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Retyped *f = <Retyped *>stage_frame(s, q)
    if q.pkt.length > RETYPED:
        return NEXT
    f.client = q.pkt
    f.changed = True
    memcpy(f.octets, q.pkt.wire, q.pkt.length)
    memcpy(f.asked, q.pkt.wire, q.pkt.length)
    put16(f.asked + WIRE_HEADER + q.pkt.qname_len, (<Retype *>s.config).qtype)
    wire_admit(f.asked, f.client.length, &q.pkt)
    return NEXT


cdef void retype_back(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Retyped *f = <Retyped *>stage_frame(s, q)
    if f.changed:
        query_asked(q, &q.pkt)
        q.pkt = f.client
        q.pkt.wire = f.octets


cdef StageOps RETYPER
RETYPER.name = b"retyper"
RETYPER.frame_size = sizeof(Retyped)
RETYPER.request = retype
RETYPER.response = retype_back


cdef class _Retype:
    cdef Retype config


def retyper(int qtype):
    """A stage that asks those behind it for another type, as `rewrite type` does."""
    cdef _Retype owner = _Retype()
    cdef CompiledStage stage = CompiledStage.__new__(CompiledStage)
    owner.config.qtype = <uint16_t>qtype
    stage.ops = &RETYPER
    stage.config = &owner.config
    stage.owner = owner
    stage.name = "retyper"
    return stage


cdef void at_holder(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Book *book = <Book *>w.mod[MOD_LISTEN]
    cdef Query *d = w.api.hold(w, q) if book.holds < ROOM else NULL
    if d != NULL:
        book.held[book.holds] = d
        book.holds += 1


cdef int pass_on(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef StageOps HOLDER
HOLDER.name = b"holder"
HOLDER.request = pass_on
HOLDER.response = at_holder


def holder():
    """A stage that holds every answer on its way up until `ChainBench.let_go`."""
    cdef CompiledStage stage = CompiledStage.__new__(CompiledStage)
    stage.ops = &HOLDER
    stage.name = "holder"
    return stage


cdef void gather(Worker *w, Query *q) noexcept nogil:
    cdef Book *book = <Book *>w.mod[MOD_LISTEN]
    cdef Sent *s
    if book.sends == ROOM:
        return
    s = &book.sent[book.sends]
    s.token = q.handle
    s.rcode = q.rcode
    s.written = q.written
    s.dropped = q.dropped
    s.has_opt = q.has_opt
    s.ulen = q.ulen
    s.length = q.reply_len if q.written else 0
    s.octets = <uint8_t *>malloc(s.length + 1)
    if s.octets == NULL:
        return
    memcpy(s.octets, q.reply, s.length)
    book.sends += 1


cdef int gather_part(Worker *w, Query *q) noexcept nogil:
    gather(w, q)
    return STREAM_WAIT if (<Book *>w.mod[MOD_LISTEN]).full else STREAM_GO


cdef void discard(Worker *w, Query *q) noexcept nogil:
    # The sink of measurements.
    (<Book *>w.mod[MOD_LISTEN]).sends += q.written


cdef void rewind(Worker *w) noexcept nogil:
    w.arena_at = 0


cdef class ChainBench:
    """One worker with one block that holds `stages`, for all names below `zone` (lower-cased wire form).

    `boot_ns` and `now_ns` are its clocks. `waiting` are the queries at the script, in order of arrival, as tuples
    (number, query octets, flags, background, proto).
    """

    cdef Worker w
    cdef CacheView view
    cdef Book book
    cdef Query slot
    cdef Program program
    cdef object keep
    cdef uint8_t *memory
    cdef public uint64_t boot_ns
    cdef public uint64_t now_ns

    def __cinit__(self, list stages, stats: Stats, segment: Segment | None = None, block_id: int = 1,
                  zone: bytes = b"\0",
                  row: int = 1, index: int = 0):
        cdef CompiledStage script = CompiledStage.__new__(CompiledStage)
        cdef Stats table = stats
        cdef Segment cache
        cdef Stage *s
        script.ops = &SCRIPT
        script.name = "script"
        self.keep = (stages, stats, segment)
        self.boot_ns = 1000000000000
        self.now_ns = 1000000000000
        self.program = Program(1, 1)
        self.program.add_listener("dns://:53", 53, True, True, 0)
        self.program.add_block(block_id, [zone], [*stages, script])
        self.program.route(0, zone, 0)
        self.program.finish()
        self.w.index = index
        self.w.row = table.row(row)
        self.w.shared = table.row(0)
        worker_open(&self.w, self.program)
        self.w.mod[MOD_LISTEN] = &self.book
        self.w.sink[ORIGIN_UDP] = gather
        self.w.sink[ORIGIN_TCP] = gather
        self.w.part[ORIGIN_TCP] = gather_part
        self.w.arena_flush = rewind
        self.memory = <uint8_t *>calloc(1, FRAMES)
        if self.memory == NULL or self.program.blocks[0].frame_octets > FRAMES:
            raise MemoryError
        if segment is not None:
            cache = segment
            cache.view(&self.view)
            self.w.cache = &self.view
        for i in range(self.program.blocks[0].stage_count):
            s = &self.program.blocks[0].stages[i]
            if s.ops.start != NULL and s.ops.start(&self.w, s) != 0:
                raise RuntimeError(f"{s.ops.name.decode()} refuses to start")

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.book.sends):
            free(self.book.sent[i].octets)
        free(self.memory)

    cdef int _admit(self, bytes wire, int proto, uint64_t token) except -1:
        cdef Query *q = &self.slot
        self._clock()
        memset(q, 0, sizeof(Query))
        q.frames = self.memory
        if wire_admit(wire, len(wire), &q.pkt) != ADMIT_OK:
            raise ValueError("no admissible query")
        q.origin = ORIGIN_TCP if proto == PROTO_TCP else ORIGIN_UDP
        q.proto = proto
        q.family = 1
        q.client_ip[0] = 127
        q.handle = token
        q.start_ns = self.w.now_ns
        return 0

    cdef void _clock(self) noexcept:
        self.w.boot_ns = self.boot_ns
        self.w.now_ns = self.now_ns
        self.w.arena_at = 0

    def ask(self, bytes wire not None, int proto=0, uint64_t token=0):
        """A client's query enters the chain. Returns what was sent meanwhile, as `sent` does."""
        self._admit(wire, proto, token)
        chain_start(&self.w, &self.slot)
        chain_drain_ready(&self.w)
        return self.sent()

    def sent(self):
        """Replies since the last look: (token, rcode, message or None, uncompressed length, whether an OPT came
        along)."""
        cdef uint32_t i
        out = []
        for i in range(self.book.sends):
            s = self.book.sent[i]
            out.append((s.token, s.rcode, s.octets[:s.length] if s.written else None, s.ulen, bool(s.has_opt)))
            free(s.octets)
        self.book.sends = 0
        return out

    @property
    def waiting(self):
        cdef uint32_t i
        return [(i, self.book.waiting[i].pkt.wire[:self.book.waiting[i].pkt.length], self.book.waiting[i].pkt.flags,
                 bool(self.book.waiting[i].background), self.book.waiting[i].proto) for i in range(self.book.waits)]

    @property
    def in_flight(self):
        """Detached queries."""
        return self.w.in_flight

    def stream(self, bytes reply not None, uint32_t number=0):
        """A message of a stream from the script; the query goes on waiting. Returns what became of it (STREAM_...) and
        what was sent."""
        cdef Query *q
        if number >= self.book.waits or len(reply) > WIRE_MAX:
            raise IndexError(f"no query {number} waits")
        self._clock()
        q = self.book.waiting[number]
        self.w.api.reply_room(&self.w, q)
        memcpy(q.reply, <const uint8_t *>reply, len(reply))
        q.reply_len = <uint32_t>len(reply)
        q.rcode = q.reply[3] & 15
        q.ulen = self.w.scan.ulen if wire_scan(q.reply, q.reply_len, self.w.scan) == 0 else 0
        taken = self.w.api.stream(&self.w, q)
        return taken, self.sent()

    def stream_end(self, bint whole=True, int rcode=0):
        """Ends the first query at the script as a stream. Returns what was sent: the summary."""
        cdef Query *q
        cdef uint32_t i
        if self.book.waits == 0:
            raise IndexError("no query waits")
        self._clock()
        q = self.book.waiting[0]
        self.book.waits -= 1
        for i in range(self.book.waits):
            self.book.waiting[i] = self.book.waiting[i + 1]
        q.rcode = rcode
        self.w.api.stream_end(&self.w, q, whole)
        chain_drain_ready(&self.w)
        return self.sent()

    def reader(self, bint full=False, bint room=False, bint gone=False):
        """The client of the streams: takes no more (full), has room again, or went away. Returns (times that streams
        were told to go on, that nobody reads)."""
        cdef uint32_t i
        self.book.full = full
        for i in range(self.book.waits if room or gone else 0):
            self.book.waiting[i].gone = gone
            stream_room(&self.w, self.book.waiting[i])
        return self.book.rooms, self.book.gone

    def answer(self, uint32_t number=0, bytes reply=None, int rcode=0, bint dropped=False, bint has_opt=False,
               bint set_do=False):
        """Ends a query at the script: with a message, else with an rcode or silence. Returns what was sent."""
        cdef Query *q
        cdef uint32_t i
        if number >= self.book.waits:
            raise IndexError(f"no query {number} waits")
        self._clock()
        q = self.book.waiting[number]
        for i in range(number + 1, self.book.waits):
            self.book.waiting[i - 1] = self.book.waiting[i]
        self.book.waits -= 1
        q.rcode = rcode
        q.has_opt = has_opt
        q.set_do = set_do
        if reply is not None:
            if len(reply) > WIRE_MAX:
                raise ValueError("a message has at most 65,535 octets")
            self.w.api.reply_room(&self.w, q)
            memcpy(q.reply, <const uint8_t *>reply, len(reply))
            q.reply_len = <uint32_t>len(reply)
            if rcode == 0:
                q.rcode = q.reply[3] & 15
            if wire_scan(q.reply, q.reply_len, self.w.scan) == 0:
                q.ulen = self.w.scan.ulen
        self.w.api.resume(&self.w, q, REPLY if reply is not None else DROP if dropped else RCODE)
        chain_drain_ready(&self.w)
        return self.sent()

    @property
    def held(self):
        """Answers that the holder holds."""
        return self.book.holds

    def let_go(self):
        """The answer held first goes on its way up. Returns what was sent."""
        cdef uint32_t i
        if self.book.holds == 0:
            raise IndexError("no answer is held")
        self._clock()
        q = self.book.held[0]
        self.book.holds -= 1
        for i in range(self.book.holds):
            self.book.held[i] = self.book.held[i + 1]
        self.w.api.unwind(&self.w, q)
        chain_drain_ready(&self.w)
        return self.sent()

    def tick(self):
        """The cache's timers. Returns (next moment it wants or -1, what was sent)."""
        cdef int64_t at = -1
        self._clock()
        if self.w.on_tick[MOD_CACHE] != NULL:
            at = self.w.on_tick[MOD_CACHE](&self.w)
        chain_drain_ready(&self.w)
        return at, self.sent()

    def time(self, list wires not None, uint64_t rounds):
        """Asks all queries, `rounds` times, without the GIL; returns how many were answered at once. For benchmarks."""
        cdef uint64_t _turn
        cdef Query *copies = <Query *>calloc(len(wires) or 1, sizeof(Query))
        cdef Py_ssize_t i, n = len(wires)
        cdef uint64_t answered
        if copies == NULL:
            raise MemoryError
        self.w.sink[ORIGIN_UDP] = discard
        self.book.sends = 0
        try:
            for i in range(n):
                self._admit(wires[i], 0, 0)
                copies[i] = self.slot
            with nogil:
                for _turn in range(rounds):
                    for i in range(n):
                        self.w.arena_at = 0
                        chain_start(&self.w, &copies[i])
        finally:
            answered = self.book.sends
            self.book.sends = 0
            self.w.sink[ORIGIN_UDP] = gather
            free(copies)
        return answered
