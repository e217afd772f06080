# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of dnstap: a binary record for each message that passes, into a ring that another process reads.

Strategy. Four things are worth a record: a query that enters the block, a reply as it leaves for the client, a question
that `forward` asked of an upstream, and what came back. Each is copied once, with addresses and times, into the
worker's ring in memory that all processes map; the octets of the message only where a line of the block says `full`,
the values for `extra` only where a text needs them. A ring that is full takes no more: the record is dropped and
counted, for its block. So a collector that is slow or dead is felt by nobody who asks.

There is a ring for each pair of counter rows, and a pair belongs to one living worker: one producer. One consumer, the
keeper, takes records off all rings in turn. It believes no length that it has not checked.
"""

from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

import os

from fastdns._log cimport QueryRecord, Ring, ring_commit, ring_reserve, ring_wake
from fastdns._stage cimport (
    NEXT, ORIGIN_TCP, ORIGIN_UDP, PROTO_TCP, CompiledStage, Exchange, Query, Stage, StageOps, Worker, compiled_stage,
    labels_octets, labels_put, record_query, stage_frame,
)
from fastdns._stats cimport Stats
from fastdns._sys cimport (
    AF_INET, CLOCK_MONOTONIC, CLOCK_REALTIME, MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE, c_getsockname, calloc,
    clock_gettime, fd_fence_seq_cst, fd_load_acquire, fd_load_relaxed, fd_store_relaxed, fd_store_release,
    fd_store_release32, free, memcmp, memcpy, memset, mmap, munmap, ntohs, sockaddr, sockaddr_in, sockaddr_in6,
    socklen_t, timespec,
)
from fastdns._wire cimport WIRE_HEADER, WIRE_MAX, WIRE_NAME_MAX, Packet, put16, wire_lower, wire_name

cdef enum:
    PAGE = 4096
    FRAME = 8                   # octets of a frame's head in a ring (_log)
    RING_OCTETS = 1 << 22       # of a worker
    REGIONS_MOST = 65536
    REGIONS_KEPT = 4096         # of memory that outlives a template: of address space, not of memory
    INSTANCES = 448             # blocks with the directive: each has a counter in a ring's page
    LABELS_MAX = 255

# A ring's page: positions, then a counter of lost records for each block.
cdef enum:
    AT_HEAD = 0
    AT_TAIL = 64
    AT_OPEN = 128               # 1 while its worker writes
    AT_LOST = 512

cdef enum:                      # of the schema
    CLIENT_QUERY = 5
    CLIENT_RESPONSE = 6
    FORWARDER_QUERY = 7
    FORWARDER_RESPONSE = 8

cdef enum:                      # kinds of frames in a ring
    KIND_PAD = 0
    KIND_MESSAGE = 1

cdef uint64_t LOOK_NS = 1000000000

cdef struct Record:
    # A message that passed; then its octets, then a QueryRecord with name and label values.
    uint64_t query_ns           # CLOCK_REALTIME
    uint64_t response_ns        # 0: none
    uint64_t noted_ns           # of several workers' records the earlier one comes first
    uint32_t message_len
    uint32_t line_len
    uint16_t instance
    uint16_t query_port
    uint16_t response_port
    uint8_t type
    uint8_t tcp
    uint8_t query_family        # 1 IPv4, 2 IPv6, 0 unknown
    uint8_t response_family
    uint8_t spare[6]
    uint8_t query_ip[16]
    uint8_t response_ip[16]

cdef struct View:
    # What a worker has of its ring. Times are the loop's, moved by an offset that is looked at again each second: so
    # they are in the order of what happened.
    Ring ring
    uint64_t offset_ns          # CLOCK_REALTIME - CLOCK_MONOTONIC
    uint64_t look_ns

cdef struct Regions:
    uint8_t *map                # a page with the consumer's word, then page and ring of each region
    uint32_t count
    uint64_t row_words          # of the table of counters
    int wake_fd
    View *views                 # this process's

cdef struct Config:
    Regions *regions
    uint16_t instance
    uint16_t labels_n
    bint full                   # some line of the block wants the octets
    bint line                   # ... or a text
    int16_t *labels

cdef struct Frame:
    uint64_t query_ns


cdef inline uint64_t clock_ns(int which) noexcept nogil:
    cdef timespec ts
    clock_gettime(which, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef inline uint64_t real_ns(Stage *s, uint64_t monotonic_ns) noexcept nogil:
    cdef View *v = <View *>s.state
    if monotonic_ns >= v.look_ns:
        v.look_ns = monotonic_ns + LOOK_NS
        v.offset_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC)
    return monotonic_ns + v.offset_ns


cdef inline uint8_t *region_at(const Regions *m, uint64_t region) noexcept nogil:
    return m.map + PAGE + region * (PAGE + RING_OCTETS)


# ---- writing


cdef Record *begin(Stage *s, Worker *w, Query *q, int kind, uint32_t octets) noexcept nogil:
    # A record with room for a message of so many octets, where messages are wanted; NULL when the ring is full.
    cdef const Config *c = <const Config *>s.config
    cdef Ring *ring = &(<View *>s.state).ring
    cdef Record *r
    cdef uint8_t *line
    cdef uint8_t name[256]
    cdef uint32_t message_len = octets if c.full else 0
    cdef uint32_t line_len = 0
    cdef size_t used
    cdef int n = 0
    if c.line:
        # All that a text says is what was asked last (rewrite): CoreDNS reads it off the one message that all stages
        # write to. The line of `log` has the client's name, which was read before.
        if q.replaced:
            n = q.asked.name_len
            memcpy(name, q.asked.name, <size_t>n)
        else:
            n = wire_name(q.pkt.wire, q.pkt.length, WIRE_HEADER, name, &used)
        if n <= 0 or n > WIRE_NAME_MAX:
            n = 1
            name[0] = 0
        wire_lower(name, n)
        line_len = <uint32_t>(sizeof(QueryRecord) + n) + labels_octets(q, c.labels, c.labels_n)
    ring.dropped = <uint64_t *>(ring.data - PAGE + AT_LOST) + c.instance
    r = <Record *>ring_reserve(ring, KIND_MESSAGE, <uint32_t>sizeof(Record) + message_len + line_len)
    if r == NULL:
        return NULL
    memset(r, 0, sizeof(Record))
    r.instance = c.instance
    r.type = <uint8_t>kind
    r.message_len = message_len
    r.line_len = line_len
    if line_len:
        line = <uint8_t *>r + sizeof(Record) + message_len
        fill_line(w, q, line, name, n)
        labels_put(q, c.labels, c.labels_n, line + sizeof(QueryRecord) + n)
    return r


cdef void fill_line(const Worker *w, const Query *q, uint8_t *to, const uint8_t *name, int n) noexcept nogil:
    # Its place in the ring has any alignment.
    cdef QueryRecord line
    memset(&line, 0, sizeof(QueryRecord))
    record_query(w, q, &line)
    line.qname_len = <uint16_t>n
    memcpy(to, &line, sizeof(QueryRecord))
    memcpy(to + sizeof(QueryRecord), name, n)


cdef void end(Stage *s) noexcept nogil:
    ring_commit(&(<View *>s.state).ring)
    ring_wake(&(<View *>s.state).ring)


cdef inline void from_client(Record *r, const Query *q) noexcept nogil:
    r.tcp = q.proto == PROTO_TCP
    r.query_family = q.family
    r.query_port = q.client_port
    memcpy(r.query_ip, q.client_ip, 16)


cdef uint8_t address(const sockaddr_in6 *sa, uint8_t *ip, uint16_t *port) noexcept nogil:
    # The family.
    cdef const sockaddr_in *v4 = <const sockaddr_in *>sa
    if sa.sin6_family == AF_INET:
        port[0] = ntohs(v4.sin_port)
        memcpy(ip, &v4.sin_addr, 4)
        return 1
    port[0] = ntohs(sa.sin6_port)
    if memcmp(sa.sin6_addr.s6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        memcpy(ip, &sa.sin6_addr.s6_addr[12], 4)
        return 1
    memcpy(ip, sa.sin6_addr.s6_addr, 16)
    return 2


cdef void put_query(const Packet *p, uint8_t *to) noexcept nogil:
    # The query as the stages before have left it: octets of the client, with what they changed.
    memcpy(to, p.wire, p.end)
    put16(to + 2, p.flags)
    if p.has_opt and p.opt_off + 11 <= p.end:
        put16(to + p.opt_off + 3, p.udp_size)
        put16(to + p.opt_off + 7, p.opt_flags)


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *frame = <Frame *>stage_frame(s, q)
    cdef Record *r
    frame.query_ns = real_ns(s, q.start_ns)
    r = begin(s, w, q, CLIENT_QUERY, q.pkt.end)
    if r == NULL:
        return NEXT
    from_client(r, q)
    r.query_ns = r.noted_ns = frame.query_ns
    if r.message_len:
        put_query(&q.pkt, <uint8_t *>r + sizeof(Record))
    end(s)
    return NEXT


cdef void sent(Worker *w, Stage *s, Query *q, const uint8_t *octets, uint32_t n) noexcept nogil:
    cdef Record *r = begin(s, w, q, CLIENT_RESPONSE, n)
    if r == NULL:
        return
    from_client(r, q)
    r.query_ns = (<Frame *>stage_frame(s, q)).query_ns
    r.response_ns = r.noted_ns = real_ns(s, clock_ns(CLOCK_MONOTONIC))
    if r.message_len:
        memcpy(<uint8_t *>r + sizeof(Record), octets, n)
    end(s)


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    if q.streamed:
        q.tapped = 0            # its messages were shown one by one
    elif q.written and not q.dropped:
        message(w, s, q)


cdef void message(Worker *w, Stage *s, Query *q) noexcept nogil:
    # A client's is shown again when it is finished. One of the server's own queries ends within the server.
    if q.origin == ORIGIN_UDP or q.origin == ORIGIN_TCP:
        q.tapped = <uint16_t>(s.index + 1)
    else:
        sent(w, s, q, q.reply, q.reply_len)


cdef void exchanged(Worker *w, Stage *s, Query *q, const Exchange *e) noexcept nogil:
    cdef uint64_t began = real_ns(s, e.begin_ns)
    cdef uint64_t now = real_ns(s, clock_ns(CLOCK_MONOTONIC))
    cdef sockaddr_in6 own
    cdef socklen_t size = sizeof(own)
    cdef bint known
    memset(&own, 0, sizeof(own))
    known = e.fd >= 0 and c_getsockname(e.fd, <sockaddr *>&own, &size) == 0
    exchange_half(w, s, q, e, &own if known else NULL, FORWARDER_QUERY, began, now)
    if e.reply != NULL:
        exchange_half(w, s, q, e, &own if known else NULL, FORWARDER_RESPONSE, began, now)


cdef void exchange_half(Worker *w, Stage *s, Query *q, const Exchange *e, const sockaddr_in6 *own, int kind,
                        uint64_t query_ns, uint64_t now) noexcept nogil:
    cdef bint reply = kind == FORWARDER_RESPONSE
    cdef const uint8_t *octets = e.reply if reply else e.question
    cdef uint32_t n = e.reply_len if reply else e.question_len
    cdef Record *r = begin(s, w, q, kind, n)
    if r == NULL:
        return
    r.tcp = e.tcp
    r.response_family = address(e.peer, r.response_ip, &r.response_port)
    if own != NULL:
        r.query_family = address(own, r.query_ip, &r.query_port)
    r.query_ns = query_ns
    r.response_ns = now if reply else 0
    r.noted_ns = now
    if r.message_len:
        # With the client's id, whatever the upstream was asked by.
        memcpy(<uint8_t *>r + sizeof(Record), octets, n)
        put16(<uint8_t *>r + sizeof(Record), q.pkt.id)
    end(s)


cdef void look_at(const Regions *m, uint64_t region, Ring *ring) noexcept nogil:
    # The producer's view of a ring.
    cdef uint8_t *base = region_at(m, region)
    ring.head = <uint64_t *>(base + AT_HEAD)
    ring.tail = <uint64_t *>(base + AT_TAIL)
    ring.dropped = <uint64_t *>(base + AT_LOST)
    ring.sleeping = <uint32_t *>m.map
    ring.data = base + PAGE
    ring.mask = RING_OCTETS - 1
    ring.wake_fd = m.wake_fd
    if fd_load_acquire(ring.head) & 7:
        # Damaged by somebody else: frames start at multiples of eight, and the reader skips to the head.
        fd_store_release(ring.head, (fd_load_acquire(ring.head) + 7) & ~<uint64_t>7)
    ring.seen_tail = fd_load_acquire(ring.tail)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    # The worker's ring: that of its row of counters, which nobody else has as long as it lives.
    cdef Regions *m = (<const Config *>s.config).regions
    cdef uint64_t region
    cdef Ring *ring
    if w.row == NULL or w.row <= w.shared:
        return -1
    region = (<uint64_t>(w.row - w.shared) // m.row_words - 1) >> 1
    if region >= m.count:
        return -1
    m.views[region].look_ns = 0
    ring = &m.views[region].ring
    look_at(m, region, ring)
    fd_store_relaxed(<uint64_t *>(ring.data - PAGE + AT_OPEN), 1)
    s.state = &m.views[region]
    s.block.exchanged = exchanged
    s.block.watcher = s
    return 0


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    # The ring stays: stages behind have not stopped yet.
    if s.state != NULL:
        fd_store_release(<uint64_t *>((<View *>s.state).ring.data - PAGE + AT_OPEN), 0)


cdef StageOps OPS
OPS.name = b"dnstap"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.response = response
OPS.start = start
OPS.stop = stop
OPS.message = message
OPS.sent = sent


# ---- memory, and reading it

LAYOUT = 1
"""Of the rings: raised when anything in them moves or means something else."""


def octets() -> int:
    """Of rings that may be kept: mostly holes, because only those of workers are ever touched."""
    return PAGE + REGIONS_KEPT * <uint64_t>(PAGE + RING_OCTETS)


cdef class Table:
    """The rings of a generation: made before the fork, one set for all blocks that have the directive.

    `stats`: whose rows say which ring is whose. `wake_fd`: an eventfd that rings after `sleep`. `fd`: a descriptor of
    `octets()` of shared memory, zeros at first; -1: memory of its own. MemoryError, ValueError.
    """

    cdef Regions regions
    cdef size_t size
    cdef uint64_t next
    cdef readonly uint64_t damaged
    cdef readonly uint32_t instances

    def __cinit__(self, Stats stats not None, int wake_fd=-1, int fd=-1):
        cdef Regions *m = &self.regions
        cdef void *where
        m.count = 1 if stats.rows < 6 else (stats.rows - 4) // 2
        m.row_words = stats.slots
        m.wake_fd = wake_fd
        if m.count > REGIONS_MOST:
            raise ValueError(f"{m.count} rings")
        if m.count > REGIONS_KEPT:
            fd = -1
        if fd >= 0 and os.fstat(fd).st_size != octets():
            raise ValueError("the rings have another size")
        m.views = <View *>calloc(m.count, sizeof(View))
        self.size = PAGE + m.count * <size_t>(PAGE + RING_OCTETS)
        where = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED | (MAP_ANONYMOUS if fd < 0 else 0), fd, 0)
        if where == <void *>-1 or m.views == NULL:
            raise MemoryError(f"mapping {self.size} octets of rings")
        m.map = <uint8_t *>where

    def __dealloc__(self):
        if self.regions.map != NULL:
            munmap(self.regions.map, self.size)
        free(self.regions.views)

    @property
    def rings(self) -> int:
        """How many rings there are."""
        return self.regions.count

    def stage(self, labels: list, full: bool, line: bool) -> CompiledStage:
        """The stage of a block. labels: places of the labels that its texts read, in their order. full: records have
        the message. line: ... and what texts are made of. ValueError for one too many. Its number is `instances` - 1.
        """
        cdef _Owner owner
        if self.instances == INSTANCES:
            raise ValueError(f"at most {INSTANCES} server blocks have the directive")
        owner = _Owner(self, labels)
        owner.config.instance = <uint16_t>self.instances
        owner.config.full = full
        owner.config.line = line
        self.instances += 1
        return compiled_stage(&OPS, &owner.config, owner)

    def sleep(self) -> bool:
        """Announces that the caller is about to wait on the eventfd; False when a ring holds something: then do not."""
        fd_store_release32(<uint32_t *>self.regions.map, 1)
        fd_fence_seq_cst()
        if self.waiting():
            fd_store_release32(<uint32_t *>self.regions.map, 0)
            return False
        return True

    def waiting(self) -> bool:
        """Whether any ring holds a record."""
        cdef uint64_t region
        cdef uint8_t *base
        for region in range(self.regions.count):
            base = region_at(&self.regions, region)
            if fd_load_acquire(<uint64_t *>(base + AT_HEAD)) != fd_load_relaxed(<uint64_t *>(base + AT_TAIL)):
                return True
        return False

    def open(self) -> bool:
        """Whether a worker may still write. One that was killed looks as if it may."""
        cdef uint64_t region
        for region in range(self.regions.count):
            if fd_load_acquire(<uint64_t *>(region_at(&self.regions, region) + AT_OPEN)):
                return True
        return False

    def lost(self) -> list:
        """Records that found no room, of each block, since the rings were made."""
        cdef uint64_t region
        cdef const uint64_t *words
        found = [0] * self.instances
        for region in range(self.regions.count):
            words = <const uint64_t *>(region_at(&self.regions, region) + AT_LOST)
            for i in range(self.instances):
                found[i] += fd_load_relaxed(words + <uint32_t>i)
        return found

    def drain(self, most: int) -> list:
        """Takes at most so many records off the rings, in turn: (block's number, type, whether TCP, the asker's address
        or b"", its port, the asked one's address or b"", its port, nanoseconds of the query, of the response or 0, the
        message or b"", what texts are made of or b"", nanoseconds of the note)."""
        cdef list found = []
        cdef uint64_t _tried
        for _tried in range(self.regions.count):
            if len(found) >= most:
                break
            self._take(self.next, most, found)
            self.next = (self.next + 1) % self.regions.count
        return found

    cdef int _take(self, uint64_t region, size_t most, list found) except -1:
        cdef uint8_t *base = region_at(&self.regions, region)
        cdef uint8_t *data = base + PAGE
        cdef uint64_t size = RING_OCTETS
        cdef uint64_t head = fd_load_acquire(<uint64_t *>(base + AT_HEAD))
        cdef uint64_t tail = fd_load_relaxed(<uint64_t *>(base + AT_TAIL))
        cdef uint64_t at
        cdef uint32_t n, kind
        if head - tail > size or (head | tail) & 7:
            self.damaged += 1
            tail = head
        while tail != head and len(found) < most:
            at = tail & (size - 1)
            n = (<uint32_t *>(data + at))[0]
            kind = (<uint32_t *>(data + at + 4))[0]
            if n > head - tail or FRAME + <uint64_t>n > size - at:
                self.damaged += 1
                tail = head
                break
            if kind != KIND_PAD and (kind != KIND_MESSAGE or not self._read(data + at + FRAME, n, found)):
                self.damaged += 1
            tail += FRAME + ((<uint64_t>n + 7) & ~<uint64_t>7)
            if tail > head:     # padding that was never written
                self.damaged += 1
                tail = head
        fd_store_release(<uint64_t *>(base + AT_TAIL), tail)
        return 0

    cdef bint _read(self, const uint8_t *payload, uint32_t n, list found) except -1:
        cdef Record r
        cdef const uint8_t *at = payload + sizeof(Record)
        if n < sizeof(Record):
            return False
        memcpy(&r, payload, sizeof(Record))
        if r.message_len > WIRE_MAX or <uint64_t>r.message_len + r.line_len != n - sizeof(Record):
            return False
        if r.instance >= self.instances or r.query_family > 2 or r.response_family > 2:
            return False
        if not CLIENT_QUERY <= r.type <= FORWARDER_RESPONSE:
            return False
        found.append((
            r.instance, r.type, r.tcp != 0, r.query_ip[:octets_of(r.query_family)], r.query_port,
            r.response_ip[:octets_of(r.response_family)], r.response_port, r.query_ns, r.response_ns,
            at[:r.message_len], at[r.message_len:r.message_len + r.line_len], r.noted_ns,
        ))
        return True

    def record(self, payload: bytes, kind: int = KIND_MESSAGE) -> bool:
        """Writes a frame as it is into the first ring, where no worker does. For tests and tools."""
        cdef bytes raw = payload
        cdef Ring ring
        cdef void *to
        memset(&ring, 0, sizeof(ring))
        look_at(&self.regions, 0, &ring)
        to = ring_reserve(&ring, <uint16_t>kind, <uint32_t>len(raw))
        if to == NULL:
            return False
        memcpy(to, <const char *>raw, len(raw))
        ring_commit(&ring)
        return True


cdef inline size_t octets_of(int family) noexcept nogil:
    return 0 if family == 0 else 4 if family == 1 else 16


def packed(**fields) -> bytes:
    """The octets of a Record with these fields. For tests and tools."""
    cdef Record r = {
        "query_ns": 0, "response_ns": 0, "noted_ns": 0, "message_len": 0, "line_len": 0, "instance": 0, "query_port": 0,
        "response_port": 0, "type": 0, "tcp": 0, "query_family": 0, "response_family": 0, "spare": bytes(6),
        "query_ip": bytes(16), "response_ip": bytes(16),
    } | fields
    return (<char *>&r)[:sizeof(Record)]


cdef class _Owner:
    cdef Config config
    cdef Table table            # the rings live as long as a stage

    def __cinit__(self, Table table not None, labels: list):
        self.table = table
        self.config.regions = &table.regions
        if len(labels) > LABELS_MAX:
            raise ValueError(f"the texts of a block read at most {LABELS_MAX} labels")
        self.config.labels = <int16_t *>calloc(len(labels) or 1, sizeof(int16_t))
        if self.config.labels == NULL:
            raise MemoryError
        for place in labels:
            self.config.labels[self.config.labels_n] = place
            self.config.labels_n += 1

    def __dealloc__(self):
        free(self.config.labels)
