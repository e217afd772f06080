# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""From an admitted query to its finished answer: the router, the runner of stages, the in-flight pool.

Strategy. `Program` is the compiled Corefile: listeners, blocks, stages and one table of zones for each listener,
built once before the fork and read-only after it. Where blocks share zones, each but the last has a filter: code that
the router runs, or a question to Python, for which the query waits as at any stage. `chain_start` routes a query and
walks it down its block's stages and back up; nothing here touches a socket: a finished query goes to the sink of its
origin. A query that must wait is moved out of its batch slot into the pool, which is bounded, allocated once and
touched only as far as it was ever used. Children (Python's next(), look-ups of the server's own, refreshes) are queries
too: they enter at a position, and unwinding stops where they entered. A child that is started inside a stage runs after
the current query has ended, because the arena holds one unfinished reply at a time.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._filter cimport Filter, FilterCode, filter_passes
from fastdns._signed cimport signed_enter
from fastdns._stage cimport (
    DROP, NEXT, PYTHON, RCODE, REPLY, SUSPEND, ORIGIN_LOOKUP, ORIGIN_PYTHON, ORIGIN_REFRESH, PROTO_TCP, PROTO_UDP,
    STREAM_GO, STREAM_GONE, STREAM_REFUSED, STREAM_WAIT, Api, Block, CompiledStage, Label, Listener, Query, Stage,
    Worker, Zone, query_body,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, MAP_ANONYMOUS, MAP_PRIVATE,
    PROT_READ, PROT_WRITE, calloc, clock_gettime, epoll_ctl, epoll_event, free, getrandom, malloc, memcmp, memcpy,
    memset, mmap, timespec,
)
from fastdns._tsig cimport KeyTable
from fastdns._wire cimport (
    ADMIT_OK, CLASS_IN, RCODE_REFUSED, RCODE_SERVFAIL, TYPE_DS, Message, Record, WIRE_MAX,
    WIRE_RECORDS_MAX, get16, put16, wire_admit, wire_rcode,
)

# ---------------------------------------------------------------------------------------------- program

cdef uint32_t suffix_hash(const uint8_t *name, uint32_t n) noexcept nogil:
    # FNV-1a. The table holds configured zones only, so a hostile name cannot fill a chain of cells.
    cdef uint32_t h = 2166136261u
    cdef uint32_t i
    for i in range(n):
        h = (h ^ name[i]) * 16777619u
    return h


cdef class Program:
    """The compiled Corefile. Made in the template process; forked workers share its pages.

    add_listener, add_block and route are called in this order by fastdns.chain; names are lower-cased wire form.
    """

    def __cinit__(self, int listeners, int blocks):
        if not 0 < listeners <= 4096 or not 0 < blocks <= 65535:
            raise ValueError("a program has 1 to 4,096 listeners and 1 to 65,535 blocks")
        self.listeners = <Listener *>calloc(listeners, sizeof(Listener))
        self.blocks = <Block *>calloc(blocks, sizeof(Block))
        if self.listeners == NULL or self.blocks == NULL:
            raise MemoryError
        self.owners = []
        self.python_stages = []
        self.labels = []
        self.filters = []
        self.routes = []
        self.listener_room = listeners
        self.block_room = blocks

    def __dealloc__(self):
        cdef uint32_t i
        cdef Router *router
        for i in range(self.listener_count):
            router = <Router *>self.listeners[i].router
            if router != NULL:
                free(router.candidates)
                free(router.cells)
                free(router)
        for i in range(self.block_count):
            free(self.blocks[i].zones)
            free(self.blocks[i].stages)
            free(self.blocks[i].signed_zones)
        free(self.listeners)
        free(self.blocks)

    def add_listener(self, server: str, int port, bint wildcard, bint any_class, int server_index, *,
                     double read=0, double idle=0, double write=0, uint32_t queries=0) -> int:
        """Adds a listen address; returns its index, the same in every worker. `read`, `idle`, `write`: timeouts of its
        TCP connections in seconds (0: the engine's own). `queries`: of a connection, then it closes (0: any number)."""
        if self.listener_count >= <uint32_t>self.listener_room:
            raise ValueError("more listeners than announced")
        cdef Listener *at = &self.listeners[self.listener_count]
        at.index = <uint16_t>self.listener_count
        at.port = <uint16_t>port
        at.wildcard = wildcard
        at.any_class = any_class
        at.server = <uint32_t>server_index
        at.first_ns = <uint64_t>(read * 1e9)
        at.idle_ns = <uint64_t>(idle * 1e9)
        at.write_ns = <uint64_t>(write * 1e9)
        at.queries = queries
        at.udp_fd = -1
        at.tcp_fd = -1
        self.listener_count += 1
        self.routes.append({})
        return at.index

    def add_block(self, uint32_t block_id, list zones, list stages, labels=None, *, Filter filter=None,
                  python_filter=None, signs=None) -> int:
        """Adds a block with its zones and its stages (CompiledStage, or a plugin instance that Python runs). `labels`:
        the metadata labels that it keeps (None: it has no `metadata`). `filter` and `python_filter` judge whether a
        query enters: the latter as a plugin instance, of which `serve_dns` gives `Rcode(0)` for yes, 1 for no. `signs`:
        the zones for whose names replies to verified queries are signed (none of them: for all of the block's names;
        None: nothing is signed)."""
        if self.block_count >= <uint32_t>self.block_room:
            raise ValueError("more blocks than announced")
        if max(len(zones), len(signs or ())) > 65535 or len(stages) > 1024 or len(labels or ()) > LABELS:
            raise ValueError(f"a block has at most 65,535 zones, 1,024 stages and {LABELS} labels")
        cdef Block *b = &self.blocks[self.block_count]
        cdef Stage *s
        cdef CompiledStage c
        cdef bytes label
        cdef uint32_t off = 0
        b.index = self.block_count
        b.id = block_id
        b.zones = <Zone *>calloc(len(zones) or 1, sizeof(Zone))
        b.stages = <Stage *>calloc(len(stages) + 2, sizeof(Stage))
        if b.zones == NULL or b.stages == NULL:
            raise MemoryError
        fill_zones(b.zones, zones)
        b.zone_count = <uint16_t>len(zones)
        b.signs = signs is not None
        if signs:
            b.signed_zones = <Zone *>calloc(len(signs), sizeof(Zone))
            if b.signed_zones == NULL:
                raise MemoryError
            fill_zones(b.signed_zones, signs)
            b.signed_count = <uint16_t>len(signs)
        python = {}
        for i, stage in enumerate(stages):
            s = &b.stages[i]
            s.index = <uint16_t>i
            s.block = b
            if isinstance(stage, CompiledStage):
                c = stage
                s.ops = c.ops
                s.config = c.config
                s.frame_off = off
                off += (c.ops.frame_size + 7) & ~7u
                if c.python is not None:
                    s.python = True
                    python[i] = c.python
            else:
                s.python = True
                python[i] = stage
            label = stage.name.encode()[:31]
            memcpy(s.name, <const char *>label, len(label))
            self.owners.append(stage)
        b.stage_count = <uint16_t>len(stages)
        if filter is not None:
            b.filter = &filter.run
            self.owners.append(filter)
        if python_filter is not None:
            # Not next to the last stage: whose `next` finds nothing there.
            s = &b.stages[len(stages) + 1]
            s.index = <uint16_t>(len(stages) + 1)
            s.block = b
            s.python = True
            label = python_filter.name.encode()[:31]
            memcpy(s.name, <const char *>label, len(label))
            b.python_filter = True
        self.filters.append(python_filter)
        b.metadata = labels is not None
        b.label_off = off
        b.label_count = <uint16_t>len(labels or ())
        off += b.label_count * <uint32_t>sizeof(Label)
        self.labels.append(tuple(labels or ()))
        b.frame_octets = off
        self.frame_octets = max(self.frame_octets, off)
        self.python_stages.append(python)
        self.block_count += 1
        return b.index

    def route(self, int listener, bytes zone, int block):
        """Names below `zone` that arrive at `listener` belong to `block`, unless a longer zone matches, or the filter
        of a block that was routed before lets the query pass."""
        if not 0 <= listener < <int>self.listener_count or not 0 <= block < <int>self.block_count:
            raise IndexError("no such listener or block")
        cdef Block *b = &self.blocks[block]
        for i in range(b.zone_count):
            if zone == b.zones[i].name[:b.zones[i].len]:
                self.routes[listener].setdefault(zone, []).append((block, i))
                return
        raise ValueError("the zone is not one of the block's")

    def verify(self, int listener, KeyTable keys not None):
        """Signed queries that arrive at `listener` are verified with these keys."""
        if not 0 <= listener < <int>self.listener_count:
            raise IndexError("no such listener")
        self.listeners[listener].keys = &keys.table
        self.owners.append(keys)

    def finish(self):
        """Builds the zone tables. Called once, after the last route."""
        cdef Router *r
        cdef Block *b
        cdef Zone *z
        cdef uint32_t cells, h, at, total
        for index, routes in enumerate(self.routes):
            cells = 4
            while cells < 2 * len(routes):
                cells *= 2
            r = <Router *>calloc(1, sizeof(Router))
            if r == NULL:
                raise MemoryError
            self.listeners[index].router = r
            r.cells = <Route *>calloc(cells, sizeof(Route))
            if r.cells == NULL:
                raise MemoryError
            r.mask = cells - 1
            r.zones = len(routes)
            total = sum(map(len, routes.values()))
            if any(self._filtered(block) for blocks in routes.values() for block, _ in blocks):
                r.candidates = <Candidate *>calloc(total, sizeof(Candidate))
                if r.candidates == NULL:
                    raise MemoryError
            at = 0
            for blocks in routes.values():
                block, zone = blocks[0]
                b = &self.blocks[block]
                z = &b.zones[zone]
                r.max_labels = max(r.max_labels, z.labels)
                h = suffix_hash(z.name, z.len)
                cell = h & r.mask
                while r.cells[cell].name != NULL:
                    cell = (cell + 1) & r.mask
                r.cells[cell].hash = h
                r.cells[cell].len = z.len
                r.cells[cell].zone = zone
                r.cells[cell].block = block
                r.cells[cell].name = z.name
                r.cells[cell].first = at
                if r.candidates == NULL:
                    continue
                for block, zone in blocks:
                    r.candidates[at].block = block
                    r.candidates[at].zone = zone
                    at += 1
                r.candidates[at - 1].last = True

    cdef bint _filtered(self, uint32_t block) noexcept:
        return self.blocks[block].filter != NULL or self.blocks[block].python_filter

    def python_filter(self, int block):
        """What Python is asked before a query enters `block`, or None."""
        return self.filters[block]

    def python_stage(self, int block, int position):
        """The plugin instance that runs at `position` of `block`."""
        return self.python_stages[block][position]

    def candidates(self, int listener, bytes name, int qtype=1):
        """All (block, index of its zone) that a lower-cased name in wire form may be routed to: the first one whose
        filter lets the query pass has it. The last one has no filter, or the query may be REFUSED."""
        found = []
        if not 0 <= listener < <int>self.listener_count:
            raise IndexError("no such listener")
        labels = label_count(name)
        suffixes = [name]
        for _ in range(labels):
            suffixes.append(suffixes[len(suffixes) - 1][suffixes[len(suffixes) - 1][0] + 1:])
        if qtype == TYPE_DS and labels:
            suffixes = [*suffixes[labels - 1::-1], suffixes[labels]]
        for suffix in suffixes:
            for block, zone in self.routes[listener].get(suffix, ()):
                found.append((block, zone))
                if not self._filtered(block):
                    return found
        return found

    def lookup(self, int listener, bytes name, int qtype=1):
        """(block, index of its zone) that a lower-cased name in wire form is routed to, or None: what `explain`
        shows. Filters are not asked."""
        cdef Query q
        cdef const Route *hit
        if not 0 <= listener < <int>self.listener_count or len(name) > 255:
            raise IndexError("no such listener, or no such name")
        q.pkt.qname_len = <uint16_t>len(name)
        q.pkt.labels = <uint8_t>label_count(name)
        q.pkt.qtype = <uint16_t>qtype
        memcpy(q.pkt.qname, <const uint8_t *>name, len(name))
        hit = route_query(<Router *>self.listeners[listener].router, &q)
        return None if hit == NULL else (hit.block, hit.zone)


cdef int fill_zones(Zone *to, list names) except -1:
    cdef bytes name
    for i, name in enumerate(names):
        if not 0 < len(name) <= 255:
            raise ValueError(f"{name!r} is no name in wire form")
        memcpy(to[i].name, <const uint8_t *>name, len(name))
        to[i].len = <uint16_t>len(name)
        to[i].labels = <uint16_t>label_count(name)
    return 0


cdef int label_count(bytes name) except -1:
    cdef int i = 0, n = 0
    while i < len(name) and name[i] != 0:
        i += name[i] + 1
        n += 1
    if i != len(name) - 1:
        raise ValueError(f"{name!r} is no name in wire form")
    return n


include "_chain_route.pxi"


# ---------------------------------------------------------------------------------------------- runner

cdef void server_rcode(Worker *w, Query *q, int rcode) noexcept nogil:
    # The server's own answer to a query that no chain runs for. Counted as "dropped", as CoreDNS names it.
    q.rcode = <uint16_t>rcode
    q.written = False
    q.block = NULL
    if w.dropped != NULL:
        w.dropped(w, q, rcode)
    finish(w, q)


cdef void chain_start(Worker *w, Query *q) noexcept nogil:
    """Routes an admitted query and runs it. Consumes q: its slot is free, or owned by whoever holds the query."""
    cdef Listener *at = &w.listeners[q.listener]
    cdef const Route *hit
    q.written = False
    q.dropped = False
    q.has_opt = False
    q.set_do = False
    q.rcode = 0
    q.opt_size = 0
    q.ulen = 0
    q.reply_len = 0
    q.reply = NULL
    q.options = NULL
    q.options_len = 0
    q.writer = 0
    q.replaced = False
    q.upstream = 0
    q.error_len = 0
    q.proven = False
    q.apart = False
    q.gate = 0
    q.tapped = 0
    q.cookie_len = 0
    q.pos = 0
    q.base = 0
    if q.pkt.qclass != CLASS_IN and not at.any_class:
        server_rcode(w, q, RCODE_REFUSED)
        return
    if at.router != NULL and (<Router *>at.router).candidates != NULL:
        route_filtered(w, q, NULL, False)
        return
    hit = route_query(<Router *>at.router, q)
    if hit == NULL:
        server_rcode(w, q, RCODE_REFUSED)
        return
    enter(w, q, hit.block, hit.zone)


cdef inline void enter(Worker *w, Query *q, uint32_t block, uint16_t zone) noexcept nogil:
    q.block = &w.blocks[block]
    q.zone = zone
    if q.tsig:
        signed_enter(q)
    if q.block.stage_count == 0:
        server_rcode(w, q, RCODE_REFUSED)
        return
    if q.block.frame_octets:
        memset(q.frames, 0, q.block.frame_octets)
    chain_down(w, q)


cdef void chain_down(Worker *w, Query *q) noexcept nogil:
    # From q.pos towards the end of the chain.
    cdef Block *b = q.block
    cdef Stage *s
    cdef int verdict
    while q.pos < b.stage_count:
        s = &b.stages[q.pos]
        if s.ops == NULL:
            to_python(w, s, q)
            return
        verdict = s.ops.request(w, s, q)
        if verdict == NEXT:
            q.pos += 1
            continue
        if verdict == PYTHON:
            to_python(w, s, q)
        elif verdict != SUSPEND:
            conclude(w, q, verdict)
        return
    fail(w, q, b.stages[b.stage_count - 1].name, b"no next plugin found")


cdef void to_python(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Query *held = detach(w, q)
    cdef const char *why
    if held == NULL:
        fail(w, q, s.name, b"too many queries in flight")
        return
    why = w.push_python(w, held)
    if why != NULL:
        fail(w, held, s.name, why)


cdef void fail(Worker *w, Query *q, const char *name, const char *text) noexcept nogil:
    # SERVFAIL from the runner itself, in CoreDNS's words: `plugin/NAME: TEXT`.
    q.error_len = 0
    add_error(q, b"plugin/")
    add_error(q, name)
    add_error(q, b": ")
    add_error(q, text)
    q.rcode = RCODE_SERVFAIL
    conclude(w, q, RCODE)


cdef void add_error(Query *q, const char *text) noexcept nogil:
    cdef uint32_t i = 0
    while text[i] != 0 and q.error_len < sizeof(q.error):
        q.error[q.error_len] = text[i]
        q.error_len += 1
        i += 1


cdef void conclude(Worker *w, Query *q, int verdict) noexcept nogil:
    # The way down has ended at q.pos with a verdict.
    if verdict == REPLY:
        q.written = True
        q.writer = <uint8_t>(q.pos + 1 if q.pos < 255 else 255)
    elif verdict == DROP:
        q.dropped = True
        q.written = False
    else:
        q.written = False
    unwind(w, q)


cdef void unwind(Worker *w, Query *q) noexcept nogil:
    # Up through the responses of the stages before q.pos, then to the sink.
    cdef Stage *s
    cdef int i = <int>q.pos - 1
    while i >= <int>q.base:
        s = &q.block.stages[i]
        if s.ops != NULL and s.ops.response != NULL:
            q.pos = <uint16_t>i
            s.ops.response(w, s, q)
            if w.held != NULL:
                w.held = NULL
                return
        i -= 1
    finish(w, q)


cdef Query *hold(Worker *w, Query *q) noexcept nogil:
    # The reply lies in the arena, which the next query reuses: the held query gets a copy of its own.
    cdef Query *d = detach(w, q)
    cdef uint8_t *kept
    cdef size_t n
    if d == NULL:
        return NULL
    if d.written:
        n = <size_t>d.reply_len + d.options_len
        kept = <uint8_t *>malloc(n + 1)
        if kept == NULL:
            if d != q:
                release(w, d)
            return NULL
        if d.reply_len:
            memcpy(kept, d.reply, d.reply_len)
        if d.options_len:
            memcpy(kept + d.reply_len, d.options, d.options_len)
        free(d.kept)                # of an earlier hold: the reply may still have been there
        d.kept = kept
        d.reply = kept
        d.options = kept + d.reply_len
    w.held = d
    return d


cdef void finish(Worker *w, Query *q) noexcept nogil:
    w.sink[q.origin](w, q)
    if q.detached:
        release(w, q)


cdef void resume(Worker *w, Query *q, int verdict) noexcept nogil:
    if q.pos > q.block.stage_count:
        judged_by_python(w, q, verdict)
    elif verdict == NEXT:
        q.pos += 1
        chain_down(w, q)
    else:
        conclude(w, q, verdict)


include "_chain_stream.pxi"


include "_chain_pool.pxi"


# ---------------------------------------------------------------------------------------------- worker

cdef void reply_room(Worker *w, Query *q) noexcept nogil:
    if w.arena_size - w.arena_at < WIRE_MAX + 64:
        w.arena_flush(w)
    q.reply = w.arena + w.arena_at


cdef bint watch(Worker *w, int fd, int module, uint64_t data, uint32_t events) noexcept nogil:
    cdef epoll_event ev
    ev.events = events
    ev.data.u64 = (<uint64_t>module << 56) | data
    if epoll_ctl(w.epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0:
        return True
    return epoll_ctl(w.epoll_fd, EPOLL_CTL_MOD, fd, &ev) == 0


cdef void unwatch(Worker *w, int fd) noexcept nogil:
    cdef epoll_event ev
    ev.events = 0
    ev.data.u64 = 0
    epoll_ctl(w.epoll_fd, EPOLL_CTL_DEL, fd, &ev)


cdef inline uint64_t rotl(uint64_t x, int k) noexcept nogil:
    return (x << k) | (x >> (64 - k))


cdef uint64_t random64(Worker *w) noexcept nogil:
    # SipHash-style ARX permutation over a secret counter state, rekeyed from the kernel in each process: an observer
    # of ids and ports learns nothing of the next ones.
    cdef uint64_t v0 = w.rng[0]
    cdef uint64_t v1 = w.rng[1]
    cdef uint64_t v2 = w.rng[0] ^ 0x646f72616e646f6dULL
    cdef uint64_t v3 = w.rng[1] ^ 0x7465646279746573ULL ^ w.rng[2]
    cdef int i
    w.rng[2] += 1
    for i in range(4):
        v0 += v1
        v1 = rotl(v1, 13) ^ v0
        v0 = rotl(v0, 32)
        v2 += v3
        v3 = rotl(v3, 16) ^ v2
        v0 += v3
        v3 = rotl(v3, 21) ^ v0
        v2 += v1
        v1 = rotl(v1, 17) ^ v2
        v2 = rotl(v2, 32)
        if i == 1:
            v0 ^= w.rng[2]
            v2 ^= 0xff
    return v0 ^ v1 ^ v2 ^ v3


cdef void worker_reseed(Worker *w) noexcept nogil:
    """Takes a fresh key from the kernel: forked processes must not share one."""
    cdef uint8_t *at = <uint8_t *>w.rng
    cdef size_t have = 0
    cdef ssize_t n
    while have < sizeof(w.rng):
        n = getrandom(at + have, sizeof(w.rng) - have, 0)
        if n > 0:
            have += <size_t>n


cdef void worker_clock(Worker *w) noexcept nogil:
    """Reads both clocks, once for a batch."""
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    w.now_ns = <uint64_t>ts.tv_sec * 1000000000u + <uint64_t>ts.tv_nsec
    clock_gettime(CLOCK_BOOTTIME, &ts)
    w.boot_ns = <uint64_t>ts.tv_sec * 1000000000u + <uint64_t>ts.tv_nsec


cdef void nobody(Worker *w, Query *q) noexcept nogil:
    # The sink of refreshes: the stages have done their work on the way up.
    q.written = False


cdef void looked_up(Worker *w, Query *q) noexcept nogil:
    # The sink of look-ups: the stage that began one holds the query that it is for.
    cdef Query *held = <Query *><size_t>q.handle
    cdef Stage *s = &held.block.stages[held.pos]
    s.ops.answer(w, s, held, q)


cdef Api API
API.detach = detach
API.resume = resume
API.hold = hold
API.unwind = unwind
API.reply_room = reply_room
API.child = child
API.run = run
API.release = release
API.stream = stream
API.stream_end = stream_end
API.watch = watch
API.unwatch = unwatch
API.random = random64


cdef int worker_open(Worker *w, Program program) except -1:
    """Gives a worker its program, pool, arena and scratch. Called in the worker's own process."""
    cdef size_t pool
    w.api = &API
    w.blocks = program.blocks
    w.block_count = program.block_count
    w.listeners = program.listeners
    w.listener_count = program.listener_count
    w.frame_octets = program.frame_octets
    w.slot_octets = <uint32_t>((sizeof(Query) + program.frame_octets + POOL_WIRE + 63) & ~<size_t>63)
    w.in_flight_max = POOL_SLOTS
    pool = <size_t>w.slot_octets * w.in_flight_max
    w.pool_map = <uint8_t *>mmap(NULL, pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    w.arena = <uint8_t *>mmap(NULL, ARENA_OCTETS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    w.scan = <Message *>calloc(1, sizeof(Message))
    w.scratch = <uint8_t *>malloc(WIRE_MAX + 1)
    if w.pool_map == <uint8_t *>-1 or w.arena == <uint8_t *>-1 or w.scan == NULL or w.scratch == NULL:
        raise MemoryError
    w.scan.records = <Record *>malloc(WIRE_RECORDS_MAX * sizeof(Record))
    if w.scan.records == NULL:
        raise MemoryError
    w.arena_size = ARENA_OCTETS
    w.sink[ORIGIN_REFRESH] = nobody
    w.sink[ORIGIN_LOOKUP] = looked_up
    worker_reseed(w)
    worker_clock(w)
    return 0
