# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of rrl: buckets of tokens for client networks, in memory that all workers share.

Strategy: one word per network and limit holds the time at which its bucket will be full again (the generic cell rate
algorithm): a token is taken by moving that time on, with one compare-and-swap and no lock, and a word in the past is a
full bucket, so nothing is ever refilled, swept or reset. A network is found by a keyed hash of its prefix in a set of
eight: their tags are one cache line. When none of the eight is its own it takes the one that lacks fewest tokens, and
takes over what that lacks: so nobody gets out of a limit by filling the table, and what a newcomer may be denied is no
more than the least that any of the eight had used. That is counted where anything was lacking.

An address that is proven (TCP, a good cookie) has other buckets than the same address unproven: what is sent in the
name of a network costs those in it nothing.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

import os

from fastdns._stage cimport (
    DROP, NEXT, PROTO_TCP, RCODE, REPLY, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage, stage_frame,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport (
    MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE, calloc, fd_add_relaxed, fd_cas, fd_load_acquire, fd_load_relaxed,
    fd_store_release, free, memcmp, memcpy, mmap, munmap,
)
from fastdns._wire cimport (
    FLAG_TC, RCODE_FORMERR, RCODE_NOERROR, RCODE_NOTIMP, RCODE_REFUSED, RCODE_SERVFAIL, WIRE_MAX, wire_rcode,
    wire_siphash13,
)

cdef enum:
    WAYS = 8                    # buckets of a set
    WORDS = 4                   # of a bucket: a time for each class, and the queries that were limited
    LIMITED = 3
    TRIES = 8                   # before a query is let through uncounted
    TABLE_MOST = 1 << 24
    HEAD = 16                   # words before the buckets: whether the keys were drawn, the keys
    ALLOW_MOST = 4096           # address ranges of one family

cdef enum:                      # classes
    QUERIES = 0
    MISSES = 1
    ERRORS = 2
    CLASSES = 3

cdef enum:                      # actions
    DROPPED = 0
    TRUNCATED = 1
    REFUSED = 2
    REPORTED = 3
    ACTIONS = 4

cdef struct Limit:
    uint64_t interval           # nanoseconds of one token; 0: no limit
    uint64_t depth              # nanoseconds of a whole bucket

cdef struct Range:
    uint8_t first[16]
    uint8_t last[16]

cdef struct Server:
    # Counter slots of one listener.
    uint32_t limited[12]        # CLASSES x ACTIONS
    uint32_t allowed
    uint32_t cookie

cdef struct Config:
    uint64_t keys[4][2]         # of IPv4, of IPv6, each unproven and proven
    uint64_t *tags              # of all sets; 0: free
    uint64_t *words             # WORDS of each bucket
    uint64_t mask               # sets - 1
    Limit limits[CLASSES]
    uint64_t bits[2][2]         # of an address that say its network: IPv4, IPv6
    size_t octets[2]            # of it that are hashed, 8 or 16
    uint32_t slip
    bint report
    bint at_misses              # `cache` asks; otherwise everything is a miss
    Range *allow[2]
    uint32_t allow_count[2]
    uint32_t server_count
    Server *servers
    uint32_t slot_evictions
    uint32_t slot_contended

cdef struct Frame:
    uint8_t counted             # neither allowed nor the server's own


cdef inline const Server *server_of(const Config *c, const Query *q) noexcept nogil:
    return &c.servers[q.listener if q.listener < c.server_count else 0]


cdef inline bint over_tcp(const Query *q) noexcept nogil:
    return q.proto == PROTO_TCP


cdef bint allowed(const Config *c, const Query *q) noexcept nogil:
    # Whether the client is in one of the sorted, disjoint ranges.
    cdef uint32_t family = 1 if q.family == 2 else 0
    cdef size_t n = 16 if family else 4
    cdef uint32_t low = 0
    cdef uint32_t high = c.allow_count[family]
    cdef uint32_t middle
    while low < high:
        middle = (low + high) >> 1
        if memcmp(c.allow[family][middle].last, q.client_ip, n) < 0:
            low = middle + 1
        else:
            high = middle
    return low < c.allow_count[family] and memcmp(c.allow[family][low].first, q.client_ip, n) <= 0


cdef inline uint64_t tag_of(const Config *c, const Query *q) noexcept nogil:
    # The network's keyed hash, never 0. A hash of 64 bits stands for the network: two that share one share a bucket.
    cdef uint64_t at[2]
    cdef uint32_t family = 1 if q.family == 2 else 0
    cdef uint32_t proven = 1 if q.proven or over_tcp(q) else 0
    memcpy(at, q.client_ip, 16)
    at[0] &= c.bits[family][0]
    at[1] &= c.bits[family][1]
    return wire_siphash13(c.keys[2 * family + proven], <const uint8_t *>at, c.octets[family]) | 1


cdef uint64_t lacking(const Config *c, uint64_t bucket, uint64_t now) noexcept nogil:
    # Nanoseconds until all limits of a bucket are whole again.
    cdef uint64_t sum = 0
    cdef uint64_t at
    cdef uint32_t i
    for i in range(CLASSES):
        at = fd_load_relaxed(&c.words[bucket * WORDS + i])
        if at > now:
            sum += at - now
    return sum


cdef uint64_t find(Worker *w, const Config *c, uint64_t tag, uint64_t now) noexcept nogil:
    # The network's bucket. Two processes may give it two at once; the first of them is found from then on.
    cdef uint64_t first = ((tag >> 32) & c.mask) * WAYS
    cdef uint64_t least = <uint64_t>-1
    cdef uint64_t victim = first
    cdef uint64_t amount, old, i
    for i in range(first, first + WAYS):
        if fd_load_relaxed(&c.tags[i]) == tag:
            return i
    for i in range(first, first + WAYS):
        amount = lacking(c, i, now)
        if amount < least:
            least = amount
            victim = i
            if amount == 0:
                break
    old = fd_load_relaxed(&c.tags[victim])
    # If another process was faster, this one query is charged to a stranger.
    if fd_cas(&c.tags[victim], old, tag) and least:
        stat_add(w.row, c.slot_evictions, 1)
    return victim


cdef bint take(Worker *w, const Config *c, uint64_t bucket, int kind) noexcept nogil:
    # Takes one token; False: there is none, and nothing changed.
    cdef uint64_t *word = &c.words[bucket * WORDS + kind]
    cdef const Limit *limit = &c.limits[kind]
    cdef uint64_t now = w.now_ns
    cdef uint64_t full, until
    cdef int _try
    for _try in range(TRIES):
        full = fd_load_relaxed(word)
        until = (full if full > now else now) + limit.interval
        if until - now > limit.depth:
            return False
        if fd_cas(word, full, until):
            return True
    stat_add(w.row, c.slot_contended, 1)
    return True


cdef void truncated(Worker *w, Query *q) noexcept nogil:
    # An empty reply with TC, no longer than the query: a client that is there asks again over TCP.
    w.api.reply_room(w, q)
    q.reply_len = <uint32_t>wire_rcode(&q.pkt, RCODE_NOERROR, q.reply, WIRE_MAX)
    q.reply[2] |= FLAG_TC >> 8
    q.ulen = q.reply_len
    q.rcode = RCODE_NOERROR
    q.has_opt = False
    q.options_len = 0


cdef int over(Worker *w, const Config *c, Query *q, uint64_t bucket, int kind) noexcept nogil:
    # What becomes of a query over a limit: a verdict.
    cdef const Server *server = server_of(c, q)
    cdef int verdict = DROP
    cdef int action = DROPPED
    if c.report:
        verdict = NEXT
        action = REPORTED
    elif q.proven or over_tcp(q):
        q.rcode = RCODE_REFUSED
        verdict = RCODE
        action = REFUSED
    elif c.slip and (fd_add_relaxed(&c.words[bucket * WORDS + LIMITED], 1) + 1) % c.slip == 0:
        truncated(w, q)
        verdict = REPLY
        action = TRUNCATED
    stat_add(w.row, server.limited[kind * ACTIONS + action], 1)
    return verdict


cdef int charge(Worker *w, const Config *c, Query *q, int kind) noexcept nogil:
    cdef uint64_t bucket = find(w, c, tag_of(c, q), w.now_ns)
    if take(w, c, bucket, kind):
        return NEXT
    return over(w, c, q, bucket, kind)


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef int verdict
    if q.background or q.depth:
        return NEXT             # the server asks itself
    if c.allow_count[1 if q.family == 2 else 0] and allowed(c, q):
        stat_add(w.row, server_of(c, q).allowed, 1)
        return NEXT
    f.counted = True
    if q.proven:
        stat_add(w.row, server_of(c, q).cookie, 1)
    elif c.limits[QUERIES].interval:
        verdict = charge(w, c, q, QUERIES)
        if verdict != NEXT:
            return verdict
    if c.limits[MISSES].interval:
        if not c.at_misses:
            return charge(w, c, q, MISSES)
        q.gate = <uint16_t>(s.index + 1)
    return NEXT


cdef int past(Worker *w, Stage *s, Query *q) noexcept nogil:
    return charge(w, <const Config *>s.config, q, MISSES)


cdef bint failed(const Query *q) noexcept nogil:
    # Whether the client is about to be sent something else than NOERROR.
    if q.dropped or q.rcode == RCODE_NOERROR or q.streamed:
        return False
    return q.written or (q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_REFUSED or q.rcode == RCODE_FORMERR
                         or q.rcode == RCODE_NOTIMP)


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef int verdict
    if q.rcode == RCODE_NOERROR or c.limits[ERRORS].interval == 0:
        return
    if not (<Frame *>stage_frame(s, q)).counted or q.proven or over_tcp(q) or not failed(q):
        return
    verdict = charge(w, c, q, ERRORS)
    if verdict == DROP:
        q.dropped = True
        q.written = False
    elif verdict == REPLY:
        q.written = True


cdef StageOps OPS
OPS.name = "rrl"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL
OPS.past = past

cdef StageOps NO_ERRORS         # without a limit on errors no reply is looked at
NO_ERRORS = OPS
NO_ERRORS.response = NULL


LAYOUT = 1
"""Of a table: raised when anything in it moves or means something else."""


cdef uint64_t sets_for(uint64_t networks) except 0:
    cdef uint64_t sets = 1
    if not 0 < networks <= TABLE_MOST:
        raise ValueError(f"a table has 1 to {TABLE_MOST} networks")
    while sets * WAYS < networks:
        sets *= 2
    return sets


def octets(uint64_t networks) -> int:
    """Of a table for so many networks. ValueError."""
    return (HEAD + sets_for(networks) * WAYS * (1 + WORDS)) * sizeof(uint64_t)


cdef class _Memory:
    """Keeps a stage's configuration and its table alive: a mapping that every forked process shares."""

    cdef Config config
    cdef void *map
    cdef size_t size

    def __dealloc__(self):
        if self.map != NULL:
            munmap(self.map, self.size)
        free(self.config.allow[0])
        free(self.config.allow[1])
        free(self.config.servers)

    cdef int share(self, uint64_t networks, int fd) except -1:
        cdef uint64_t sets = sets_for(networks)
        cdef bytes drawn
        cdef uint64_t *head
        cdef void *where
        self.size = octets(networks)
        if fd >= 0 and os.fstat(fd).st_size != self.size:
            raise ValueError("the table has another size")
        where = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED | (MAP_ANONYMOUS if fd < 0 else 0), fd, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {self.size} octets of buckets")
        self.map = where
        head = <uint64_t *>where
        if fd_load_acquire(head) == 0:
            # Nobody serves by these buckets yet: the template that asked for them is the first to see them.
            drawn = os.urandom(sizeof(self.config.keys))
            memcpy(head + 1, <const uint8_t *>drawn, sizeof(self.config.keys))
            fd_store_release(head, 1)
        memcpy(self.config.keys, head + 1, sizeof(self.config.keys))
        self.config.tags = head + HEAD
        self.config.words = self.config.tags + sets * WAYS
        self.config.mask = sets - 1
        return 0

    cdef int permit(self, int family, ranges) except -1:
        cdef bytes first, last
        cdef size_t n = 16 if family else 4
        if len(ranges) > ALLOW_MOST:
            raise ValueError(f"at most {ALLOW_MOST} ranges")
        self.config.allow[family] = <Range *>calloc(len(ranges) or 1, sizeof(Range))
        if self.config.allow[family] == NULL:
            raise MemoryError
        for i, (first, last) in enumerate(ranges):
            if len(first) != n or len(last) != n or first > last:
                raise ValueError("not a range of addresses")
            memcpy(self.config.allow[family][i].first, <const uint8_t *>first, n)
            memcpy(self.config.allow[family][i].last, <const uint8_t *>last, n)
        self.config.allow_count[family] = <uint32_t>len(ranges)
        return 0


def stage(limits, prefixes, uint32_t slip, bint report, bint at_misses, allow, uint64_t networks, slots,
          events, int table=-1) -> CompiledStage:
    """The stage of one `rrl` directive.

    limits: (nanoseconds of one token, tokens of a bucket) of queries, misses and errors; (0, 0): none. prefixes: bits
    of an IPv4 and of an IPv6 network. allow: sorted, disjoint (first, last) addresses, IPv4 and IPv6. networks:
    buckets. slots: for each listener (those of each class and action, (allow, cookie)). events: slots of evictions and
    contention. table: a descriptor of `octets` of shared memory for the buckets, zeros at first; -1: one of its own.
    ValueError for what is out of bounds, MemoryError.
    """
    cdef _Memory memory = _Memory()
    cdef Config *c = &memory.config
    cdef bytes mask
    cdef Limit *limit
    cdef int kind, family, j
    for kind in range(CLASSES):
        limit = &c.limits[kind]
        limit.interval, burst = limits[kind]
        if limit.interval and not 0 < burst <= 1000000:
            raise ValueError("a bucket has 1 to 1,000,000 tokens")
        limit.depth = limit.interval * <uint64_t>burst
    for family, bits in enumerate(prefixes):
        if not 0 < bits <= (128 if family else 32):
            raise ValueError(f"a prefix of {bits} bits")
        mask = (((1 << bits) - 1) << (128 - bits)).to_bytes(16, "big")
        memcpy(c.bits[family], <const uint8_t *>mask, 16)
        c.octets[family] = 8 if bits <= 64 else 16
    c.slip = slip
    c.report = report
    c.at_misses = at_misses
    memory.share(networks, table)
    for family in range(2):
        memory.permit(family, allow[family])
    c.servers = <Server *>calloc(len(slots) or 1, sizeof(Server))
    if c.servers == NULL:
        raise MemoryError
    c.server_count = <uint32_t>len(slots)
    for i, (limited, reasons) in enumerate(slots):
        for j in range(CLASSES * ACTIONS):
            c.servers[i].limited[j] = limited[j]
        c.servers[i].allowed, c.servers[i].cookie = reasons
    c.slot_evictions, c.slot_contended = events
    return compiled_stage(&OPS if c.limits[ERRORS].interval else &NO_ERRORS, c, memory)
