# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Runs one compiled stage on one query, without a loop: the C half of the test kit.

Strategy: a Worker and a Query with only what a stage may look at, filled from Python values. The stage gets a real
row of counters and a real log ring if they are given; what it asks of the loop (reply_room, random) works on plain
memory.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._log cimport RingHandle
from fastdns._stage cimport Api, Block, CompiledStage, Listener, Query, Stage, Worker
from fastdns._stats cimport Stats
from fastdns._sys cimport calloc, free, malloc, memcpy, memset
from fastdns._wire cimport ADMIT_OK, WIRE_MAX, WIRE_RECORDS_MAX, Message, Record, wire_admit, wire_scan

cdef enum:
    LISTENERS = 16
    FRAMES = 4096

VERDICTS = ("next", "reply", "rcode", "drop", "suspend", "python")


cdef void room(Worker *w, Query *q) noexcept nogil:
    q.reply = w.arena


cdef uint64_t drawn(Worker *w) noexcept nogil:
    # splitmix64, so that a seed gives the same result each time
    cdef uint64_t z
    w.rng[0] += <uint64_t>0x9E3779B97F4A7C15
    z = w.rng[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef class Bench:
    """A worker with one stage. Keyword arguments of `run` are fields of the query and of the inner stages' answer."""

    cdef Worker w
    cdef Stage stage
    cdef Query q
    cdef Api api
    cdef Block block
    cdef Listener listeners[LISTENERS]
    cdef Message scan
    cdef uint8_t *memory
    cdef object keep
    cdef bint started

    def __cinit__(self, stage: CompiledStage, stats: Stats | None = None, row: int = 1, ring: RingHandle | None = None,
                  seed: int = 0, wildcard: bool = False):
        cdef CompiledStage compiled = stage
        cdef Stats table
        cdef RingHandle handle
        cdef int i
        self.keep = (stage, stats, ring)
        self.memory = <uint8_t *>malloc(2 * (WIRE_MAX + 1) + FRAMES)
        self.scan.records = <Record *>calloc(WIRE_RECORDS_MAX, sizeof(Record))
        if self.memory == NULL or self.scan.records == NULL:
            raise MemoryError
        self.api.reply_room = room
        self.api.random = drawn
        self.w.api = &self.api
        self.w.rng[0] = seed
        self.w.arena = self.memory
        self.w.scratch = self.memory + WIRE_MAX + 1
        self.w.scan = &self.scan
        self.w.listeners = self.listeners
        self.w.listener_count = LISTENERS
        for i in range(LISTENERS):
            self.listeners[i].index = i
            self.listeners[i].wildcard = wildcard
        if stats is not None:
            table = stats
            self.w.row = table.row(row)
            self.w.shared = table.row(0)
            if self.w.row == NULL:
                raise IndexError(f"row {row}")
        if ring is not None:
            handle = ring
            self.w.ring = &handle.ring
        if compiled.ops.frame_size > FRAMES:
            raise ValueError("a frame too large for the bench")
        self.block.stages = &self.stage
        self.block.stage_count = 1
        self.stage.ops = compiled.ops
        self.stage.config = compiled.config
        self.stage.block = &self.block
        if compiled.ops.start != NULL:
            if compiled.ops.start(&self.w, &self.stage) != 0:
                raise RuntimeError("the stage refuses to start")
        self.started = True

    def __dealloc__(self):
        if self.started and self.stage.ops.stop != NULL:
            self.stage.ops.stop(&self.w, &self.stage)
        free(self.memory)
        free(self.scan.records)

    def run(self, bytes wire, *, bytes reply=None, int rcode=0, bint dropped=False, bytes error=b"", int proto=0,
            int family=1, int listener=0, int zone=0, bytes client=bytes(16), int port=0, bytes local=bytes(16),
            int local_len=4, uint64_t start_ns=0, uint64_t now_ns=0, bint has_opt=False, bint set_do=False,
            uint32_t ulen=0, bint background=False, bint detached=False, bytes options=b"", uint64_t repeat=1):
        """Takes a query through the stage: request, and unless it ended there the given answer, then response.

        `reply` is what the inner stages wrote (None: they returned `rcode`, or dropped the query). Returns (how request
        ended, written, rcode, reply octets). `repeat` runs it so many times, for measurements. Raises ValueError for
        octets that are no admissible query.
        """
        cdef Query *q = &self.q
        cdef uint64_t _turn
        cdef int verdict = 0
        cdef const uint8_t *given = NULL
        memset(q, 0, sizeof(Query))
        if wire_admit(wire, len(wire), &q.pkt) != ADMIT_OK or len(client) != 16 or len(local) != 16:
            raise ValueError("no admissible query")
        if not 0 <= listener < LISTENERS or len(error) > sizeof(q.error):
            raise ValueError("listener or error out of bounds")
        q.proto = proto
        q.family = family
        q.listener = listener
        q.zone = zone
        q.client_port = port
        q.local_len = local_len
        q.start_ns = start_ns
        q.block = &self.block
        q.background = background
        q.detached = detached
        q.frames = self.memory + 2 * (WIRE_MAX + 1)
        memcpy(q.client_ip, <const uint8_t *>client, 16)
        memcpy(q.local_ip, <const uint8_t *>local, 16)
        self.w.now_ns = now_ns
        if reply is not None:
            if len(reply) > WIRE_MAX:
                raise ValueError("a DNS message has at most 65,535 octets")
            given = reply
            if ulen == 0 and wire_scan(given, len(reply), &self.scan) == 0:
                ulen = self.scan.ulen
        for _turn in range(repeat):
            memset(q.frames, 0, self.stage.ops.frame_size)
            verdict = self.stage.ops.request(&self.w, &self.stage, q)
            if verdict != 0:
                continue
            q.written = given != NULL
            q.dropped = dropped
            q.rcode = rcode
            q.has_opt = has_opt
            q.set_do = set_do
            q.ulen = ulen
            q.options = options
            q.options_len = <uint32_t>len(options)
            q.error_len = <uint16_t>len(error)
            memcpy(q.error, <char *>error, len(error))
            if given != NULL:
                room(&self.w, q)
                memcpy(q.reply, given, len(reply))
                q.reply_len = <uint32_t>len(reply)
            if self.stage.ops.response != NULL:
                self.stage.ops.response(&self.w, &self.stage, q)
        return VERDICTS[verdict], bool(q.written), q.rcode, q.reply[:q.reply_len] if q.reply != NULL else b""
