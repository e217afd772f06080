# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of top: sketches of the busiest clients, names, and suffixes of names that do not exist.

Strategy. Each worker writes a region of its own in memory that all processes map and that the server keeps; readers add
the regions up. Nobody waits for anybody: a worker that dies leaves a region that the next owner of its counter row goes
on with, and whose figures grow old like all others.

A list is a Space-Saving sketch cut into sets of sixteen counters; a keyed hash says which set a key belongs to. A key
that has no counter takes the least one of its set over, with its count, and that count is noted as the most that it may
be wrong by: count - error <= truth <= count, and a key without a counter was counted at most as often as the least of
its set. So each key costs at most sixteen comparisons whatever clients send, and nobody can choose a set to fill.

Of many queries some are counted, for so many as each stands for. A worker looks at each query until there were `budget`
in a period (about a second), then at one in two, then in four. How many are passed over is drawn at random. So a busy
worker's queries pay for a decrement and a comparison.

Figures grow old by epochs: a region has two, one being filled while the other, of the window before, is only read. An
epoch's number says which window it holds; who reads an old number leaves it out, so an idle worker has nothing to do.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

import os
import time

from fastdns._stage cimport NEXT, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage
from fastdns._stats cimport Stats, stat_add
from fastdns._sys cimport (
    MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE, fd_bump, fd_fence_acquire, fd_fence_release, fd_load_acquire,
    fd_load_relaxed, fd_store_relaxed, fd_store_release, memcpy, memset, mmap, munmap,
)
from fastdns._wire cimport RCODE_NXDOMAIN, WIRE_NAME_MAX, wire_siphash13

cdef enum:
    WAYS = 16                   # counters of a set
    PAGE_WORDS = 512
    KEY_WORDS = 32              # a name
    ENTRIES_LEAST = 64
    ENTRIES_MOST = 4096
    REGIONS_MOST = 65536
    REGIONS_KEPT = 8192         # of memory that outlives its processes: of address space, not of memory
    DEPTH_MOST = 8
    RATE_MOST = 1 << 20
    PERIOD = 1 << 30            # nanoseconds

cdef enum:                      # lists
    CLIENTS = 0
    NAMES = 1
    SUFFIXES = 2
    LISTS = 3

# The first two lines of a region; its epochs begin behind them.
cdef enum:
    R_EPOCHS = 8                # numbers of its two epochs, 0: empty
    R_SEEN = 10                 # queries that each stands for
    R_DENIED = 12               # ... of which NXDOMAIN
    R_LISTS = 16

# Before the first region, a page of its own: whether the rest holds, when counting began, the keys of the hashes.
cdef enum:
    H_BEGUN = 1
    H_KEYS = 2

# A list: so many words for each counter, all of a kind together.
cdef enum:
    L_TAGS = 0                  # the key's hash; 0: free
    L_COUNTS = 1
    L_ERRORS = 2
    L_INFOS = 3                 # octets of the key; above bit 16 how often it changed, odd while it changes
    L_KEYS = 4

LIST_NAMES = ("clients", "names", "suffixes")

cdef struct Sampler:
    # A region's first line. The owner's alone.
    int64_t skip                # queries until one is looked at
    uint64_t until              # end of the period, CLOCK_MONOTONIC
    uint64_t taken              # in this period
    uint64_t rate               # one of so many is counted: a power of two

cdef struct Config:
    uint64_t *map
    uint64_t regions
    uint64_t region_words
    uint64_t epoch_words
    uint64_t lists[LISTS]       # where each begins in an epoch
    uint64_t widths[LISTS]      # words of a key
    uint64_t entries
    uint64_t mask               # sets - 1
    uint64_t row_words          # of the table of counters
    uint64_t window             # nanoseconds of an epoch
    uint64_t budget             # queries to look at in a period
    uint64_t keys[LISTS][2]
    uint64_t bits[2][2]         # of an address that are its network's: IPv4, IPv6
    uint32_t depth              # labels of a suffix
    uint32_t slot_looked
    uint32_t slot_evicted


# ---- writing


cdef inline uint64_t drawn(Worker *w, uint64_t rate) noexcept nogil:
    # How many queries on the next one is looked at: `rate` in the mean.
    if rate <= 1:
        return 1
    return 1 + (((w.api.random(w) >> 32) * (2 * rate - 1)) >> 32)


cdef void list_add(Worker *w, const Config *c, uint64_t *epoch, int kind, const uint8_t *key, uint32_t n,
                   uint64_t by) noexcept nogil:
    # Counts a key of at most 8 * KEY_WORDS octets `by` times.
    cdef uint64_t *at = epoch + c.lists[kind]
    cdef uint64_t *counts
    cdef uint64_t *place
    cdef uint64_t words[KEY_WORDS]
    cdef uint64_t tag = wire_siphash13(c.keys[kind], key, n) | 1
    cdef uint64_t first = ((tag >> 32) & c.mask) * WAYS
    cdef uint64_t info, least, count
    cdef uint64_t victim = first
    cdef uint64_t i, used
    # A hash of 64 bits stands for the key.
    for i in range(first, first + WAYS):
        if fd_load_relaxed(at + i) == tag:
            fd_bump(at + L_COUNTS * c.entries + i, by)
            return
    counts = at + L_COUNTS * c.entries
    least = fd_load_relaxed(counts + first)
    for i in range(first + 1, first + WAYS):
        count = fd_load_relaxed(counts + i)
        if count < least:
            least = count
            victim = i
    used = (n + 7) >> 3
    if used > c.widths[kind]:
        return                  # no caller has such a key
    words[used - 1 if used else 0] = 0
    memcpy(words, key, n)
    # Odd while it changes, also where a writer died half-way; without a tag nobody takes a half key for a whole one.
    info = (fd_load_relaxed(at + L_INFOS * c.entries + victim) >> 16) | 1
    fd_store_relaxed(at + L_INFOS * c.entries + victim, info << 16)
    fd_fence_release()
    fd_store_relaxed(at + victim, 0)
    place = at + L_KEYS * c.entries + victim * c.widths[kind]
    for i in range(used):
        fd_store_relaxed(place + i, words[i])
    fd_store_relaxed(at + L_ERRORS * c.entries + victim, least)
    fd_store_relaxed(counts + victim, least + by)
    fd_store_relaxed(at + victim, tag)
    fd_store_release(at + L_INFOS * c.entries + victim, ((info + 1) << 16) | n)
    if least:
        stat_add(w.row, c.slot_evicted, 1)


cdef uint64_t epoch_of(const Config *c, uint64_t now) noexcept nogil:
    return now // c.window + 1


cdef int epoch_open(const Config *c, uint64_t *region, uint64_t now) noexcept nogil:
    # Which of a region's epochs is being filled. It is emptied first where it holds the window before the last one.
    cdef uint64_t number = epoch_of(c, now)
    cdef int which = <int>(number & 1)
    cdef uint64_t *at
    cdef uint64_t i
    cdef int kind
    if fd_load_relaxed(region + R_EPOCHS + which) == number:
        return which
    fd_store_relaxed(region + R_EPOCHS + which, 0)
    fd_fence_release()
    fd_store_relaxed(region + R_SEEN + which, 0)
    fd_store_relaxed(region + R_DENIED + which, 0)
    for kind in range(LISTS):
        at = region + R_LISTS + which * c.epoch_words + c.lists[kind]
        for i in range(L_INFOS * c.entries):
            fd_store_relaxed(at + i, 0)
    fd_store_release(region + R_EPOCHS + which, number)
    return which


cdef void suffixes_add(Worker *w, const Config *c, uint64_t *epoch, const Query *q, uint64_t by) noexcept nogil:
    # The last 1, 2, ... labels of a name, but not the name itself unless it has one label alone.
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef uint32_t labels = q.pkt.labels
    cdef uint32_t at = 0
    while labels and at < n and n <= WIRE_NAME_MAX:
        if labels <= c.depth and (at or q.pkt.labels == 1):
            list_add(w, c, epoch, SUFFIXES, name + at, n - at, by)
        at += <uint32_t>name[at] + 1
        labels -= 1


cdef void tally(Worker *w, const Config *c, uint64_t *region, const Query *q, uint64_t by) noexcept nogil:
    cdef int which = epoch_open(c, region, w.now_ns)
    cdef uint64_t *epoch = region + R_LISTS + which * c.epoch_words
    cdef int family = 1 if q.family == 2 else 0
    cdef uint64_t client[2]
    stat_add(w.row, c.slot_looked, 1)
    fd_bump(region + R_SEEN + which, by)
    memcpy(client, q.client_ip, 16)
    client[0] &= c.bits[family][0]
    client[1] &= c.bits[family][1]
    list_add(w, c, epoch, CLIENTS, <const uint8_t *>client, 16 if family else 4, by)
    if q.pkt.qname_len <= WIRE_NAME_MAX:
        list_add(w, c, epoch, NAMES, q.pkt.qname, q.pkt.qname_len, by)
    if q.rcode == RCODE_NXDOMAIN and q.written:
        fd_bump(region + R_DENIED + which, by)
        suffixes_add(w, c, epoch, q, by)


cdef void period_end(Worker *w, const Config *c, Sampler *s) noexcept nogil:
    # Looks at as many as fit the budget, by what the last period had; at all of them after one that had nothing.
    cdef uint64_t was = s.rate
    if w.now_ns - s.until >= PERIOD:
        s.rate = 1
    while s.rate > 1 and 2 * s.taken <= c.budget:
        s.rate >>= 1
        s.taken <<= 1
    s.taken = 0
    s.until = w.now_ns + PERIOD
    if s.rate == 1:
        s.skip = 0              # this one too
    elif s.rate != was:
        s.skip = <int64_t>drawn(w, s.rate)


cdef void look(Worker *w, Stage *s, Query *q, Sampler *at) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef uint64_t by
    if w.now_ns >= at.until:
        period_end(w, c, at)
        if at.skip > 0:
            return
    by = at.rate
    if not q.background and not q.depth:    # else the server asks itself
        at.taken += 1
        tally(w, c, <uint64_t *>at, q, by)
        if at.taken >= c.budget and at.rate < RATE_MOST:
            at.rate <<= 1
            at.taken >>= 1
    at.skip = <int64_t>drawn(w, at.rate)


# ---- the stage


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Sampler *at = <Sampler *>s.state
    at.skip -= 1
    if at.skip <= 0 or w.now_ns >= at.until:
        look(w, s, q, at)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    # The worker's region: that of its row of counters, which nobody else has as long as it lives.
    cdef const Config *c = <const Config *>s.config
    cdef uint64_t region
    cdef uint64_t *at
    cdef Sampler *sampler
    cdef uint64_t i
    if w.row == NULL or w.row <= w.shared:
        return -1
    region = (<uint64_t>(w.row - w.shared) // c.row_words - 1) >> 1
    if region >= c.regions:
        return -1
    at = c.map + region * c.region_words
    for i in range(c.region_words // PAGE_WORDS):
        # The page is there before the first query.
        fd_store_relaxed(at + i * PAGE_WORDS, fd_load_relaxed(at + i * PAGE_WORDS))
    sampler = <Sampler *>at
    sampler.skip = 0
    sampler.until = 0
    sampler.taken = 0
    sampler.rate = 1
    s.state = at
    return 0


cdef StageOps OPS
OPS.name = b"top"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.start = start
OPS.stop = NULL


# ---- memory, and reading it

LAYOUT = 1
"""Of a table: raised when anything in it moves or means something else."""


cdef int shape(Config *c, uint64_t entries) except -1:
    cdef uint64_t sets = 1
    cdef int kind
    if not ENTRIES_LEAST <= entries <= ENTRIES_MOST:
        raise ValueError(f"a list has {ENTRIES_LEAST} to {ENTRIES_MOST} entries")
    while sets * WAYS < entries:
        sets *= 2
    c.mask = sets - 1
    c.entries = sets * WAYS
    c.epoch_words = 0
    for kind in range(LISTS):
        c.widths[kind] = 2 if kind == CLIENTS else KEY_WORDS
        c.lists[kind] = c.epoch_words
        c.epoch_words += c.entries * (L_KEYS + c.widths[kind])
    c.region_words = -(-(R_LISTS + 2 * c.epoch_words) // PAGE_WORDS) * PAGE_WORDS
    return 0


def octets(uint64_t entries) -> int:
    """Of a table that may be kept: mostly holes, because only the regions of workers are ever touched. ValueError."""
    cdef Config c
    shape(&c, entries)
    return (PAGE_WORDS + REGIONS_KEPT * c.region_words) * sizeof(uint64_t)


def region_octets(uint64_t entries) -> int:
    """Of them, what one worker touches. ValueError."""
    cdef Config c
    shape(&c, entries)
    return c.region_words * sizeof(uint64_t)


cdef class Table:
    """The sketches of a generation: made before the fork, one for all blocks that have the directive.

    rows, row_words: shape of the table of counters. entries: counters of a list, rounded up to a power of two. window:
    nanoseconds of an epoch. budget: queries that a worker looks at in about a second. prefixes: bits of an IPv4 and of
    an IPv6 network. depth: labels of the longest suffix. slots: counters of queries looked at and of evictions. fd: a
    descriptor of `octets(entries)` of shared memory, zeros at first; -1: memory of its own.
    ValueError for what is out of bounds, MemoryError.
    """

    cdef Config config
    cdef size_t size
    cdef readonly object lists
    cdef readonly uint64_t begun        # CLOCK_MONOTONIC when the first one was made of this memory

    def __cinit__(self, Stats stats not None, *, uint64_t entries, uint64_t window, uint64_t budget, prefixes,
                  uint32_t depth, slots, int fd=-1):
        cdef Config *c = &self.config
        cdef bytes mask
        cdef int family
        if window == 0 or budget == 0 or not 0 < depth <= DEPTH_MOST:
            raise ValueError("a window, a budget or a depth out of bounds")
        for family, bits in enumerate(prefixes):
            if not 0 < bits <= (128 if family else 32):
                raise ValueError(f"a prefix of {bits} bits")
            mask = (((1 << bits) - 1) << (128 - bits if family else 32 - bits)).to_bytes(16 if family else 4, "big")
            memcpy(c.bits[family], <const uint8_t *>mask, len(mask))
        c.window = window
        c.budget = budget
        c.depth = depth
        c.row_words = stats.slots
        c.slot_looked, c.slot_evicted = slots
        self.lists = LIST_NAMES
        self.share(entries, 1 if stats.rows < 6 else (stats.rows - 4) // 2, fd)

    cdef int share(self, uint64_t entries, uint64_t regions, int fd) except -1:
        cdef Config *c = &self.config
        cdef bytes key
        cdef uint64_t *head
        cdef void *where
        if regions > REGIONS_MOST:
            raise ValueError(f"{regions} regions")
        shape(c, entries)
        c.regions = regions
        self.size = (PAGE_WORDS + c.regions * c.region_words) * sizeof(uint64_t)
        if regions > REGIONS_KEPT:
            fd = -1
        if fd >= 0 and os.fstat(fd).st_size != octets(entries):
            raise ValueError("the table has another size")
        where = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED | (MAP_ANONYMOUS if fd < 0 else 0), fd, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {self.size} octets of sketches")
        head = <uint64_t *>where
        if fd_load_acquire(head) == 0:
            # Nobody counts here yet: the template that asked for this memory is the first to see it.
            key = os.urandom(sizeof(c.keys))
            memcpy(head + H_KEYS, <const uint8_t *>key, sizeof(c.keys))
            head[H_BEGUN] = time.monotonic_ns()
            fd_store_release(head, 1)
        memcpy(c.keys, head + H_KEYS, sizeof(c.keys))
        self.begun = head[H_BEGUN]
        c.map = head + PAGE_WORDS
        return 0

    def __dealloc__(self):
        if self.config.map != NULL:
            munmap(self.config.map - PAGE_WORDS, self.size)

    @property
    def octets(self) -> int:
        """Address space of all regions; a region's is taken when a worker starts."""
        return self.config.regions * self.config.region_words * sizeof(uint64_t)

    @property
    def worker_octets(self) -> int:
        """Memory of one worker's region."""
        return self.config.region_words * sizeof(uint64_t)

    @property
    def entries(self) -> int:
        """Counters of a list."""
        return self.config.entries

    def read(self, uint64_t now_ns) -> list:
        """What is in the window of `now_ns` and in the one before, a tuple for each worker and window: how many windows
        ago (0 or 1), queries, queries for names that do not exist, and for each of `lists` (counters by key: (count,
        error, set), the least count of each set, 0 where a counter is free).

        A key is an address of 4 or 16 octets, or a name in wire form. Figures are what they stand for, not samples.
        """
        cdef const Config *c = &self.config
        cdef uint64_t now = epoch_of(c, now_ns)
        cdef uint64_t number, region
        cdef uint64_t *at
        cdef int which, kind
        found = []
        for region in range(c.regions):
            with nogil:
                # Lets others have the interpreter between two regions: a large table takes a while.
                at = c.map + region * c.region_words
            for which in range(2):
                number = fd_load_acquire(at + R_EPOCHS + which)
                # One from the future: its worker read the clock after us.
                if number == 0 or number + 1 < now:
                    continue
                lists = tuple([self._list(at + R_LISTS + which * c.epoch_words, kind) for kind in range(LISTS)])
                seen = fd_load_relaxed(at + R_SEEN + which)
                denied = fd_load_relaxed(at + R_DENIED + which)
                fd_fence_acquire()
                if fd_load_relaxed(at + R_EPOCHS + which) == number:
                    found.append((1 if number < now else 0, seen, denied, lists))
        return found

    cdef _list(self, const uint64_t *epoch, int kind):
        cdef const Config *c = &self.config
        cdef const uint64_t *at = epoch + c.lists[kind]
        cdef const uint64_t *place
        cdef uint64_t words[KEY_WORDS]
        cdef uint64_t info, tag, count, error, i, j
        cdef dict found = {}
        least = [0] * (c.mask + 1)
        for i in range(c.entries):
            count = fd_load_relaxed(at + L_COUNTS * c.entries + i)
            if i % WAYS == 0 or count < least[i // WAYS]:
                least[i // WAYS] = count
            info = fd_load_acquire(at + L_INFOS * c.entries + i)
            tag = fd_load_relaxed(at + i)
            if tag == 0 or (info >> 16) & 1 or (info & 0xFFFF) > 8 * c.widths[kind]:
                continue
            count = fd_load_relaxed(at + L_COUNTS * c.entries + i)
            error = fd_load_relaxed(at + L_ERRORS * c.entries + i)
            place = at + L_KEYS * c.entries + i * c.widths[kind]
            memset(words, 0, sizeof(words))
            for j in range(((info & 0xFFFF) + 7) >> 3):
                words[j] = fd_load_relaxed(place + j)
            fd_fence_acquire()
            if fd_load_relaxed(at + L_INFOS * c.entries + i) == info:
                found[(<const uint8_t *>words)[:info & 0xFFFF]] = (count, error, i // WAYS)
        return found, least


def stage(Table table not None) -> CompiledStage:
    """The stage of one `top` directive."""
    return compiled_stage(&OPS, &table.config, table)
