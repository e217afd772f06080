# SPDX-License-Identifier: Apache-2.0
#
# The Python face of _cache: the segment (sizes, mapping, flush, move) and a look into it for tools and tests.
#
# Strategy: set-up work in plain Python, once per process. What a descriptor brings is checked before it is used:
# sizes against the file, each part against the whole, and a sum over what never changes.

cdef enum:
    PAGE = 4096
    MAGIC = 0x43545346          # "FSTC"
    LAYOUT = 2                  # raised whenever a word of the segment changes its meaning
    RECORD = 512                # octets of a block's record; heads and epoch have cache lines of their own
    CLAIMS = 4096               # refreshes under way at once, all blocks together
    OCTETS_PER_ENTRY = 512      # half of it for header, name and a message of some 140 octets, half for older copies
    MAIN_MIN = 1 << 20
    PROBATION_MIN = 1 << 17
    MAIN_LEAST = 384 << 10      # octets that are always a ring's: four times the largest entry, and a few chunks
    PROBATION_LEAST = 1 << 17
    CHUNK_MAX = 65536
    CAPACITY_MAX = 1 << 26
    BLOCKS_MAX = 65535
    AT_POOL = 2048              # in the header page: a cache line of its own
    AT_EPOCH = 128              # in a record
    AT_HEAD = 256               # of main, its limit behind it; probation's are a line pair further

# Words of the header page, then of a block's record.
HEADER = ("magic", "layout", "size", "count", "seed0", "seed1", "claims", "rings", "sum")
FIXED = tuple(name for name in HEADER if name != "sum")
RECORD_WORDS = ("id", "success", "denial", "hit_rows", "sets", "words", "hits", "main", "main_units", "probation",
                "probation_units")


def _pages(octets):
    return -(-octets // PAGE) * PAGE


def _unpack(names, octets):
    return {name: int.from_bytes(octets[8 * i:8 * i + 8], "little") for i, name in enumerate(names)}


def _pack(names, values):
    return b"".join(values[name].to_bytes(8, "little") for name in names)


def _sum(octets):
    cdef bytes data = octets
    cdef uint64_t key[2]
    key[0] = MAGIC
    key[1] = LAYOUT
    return wire_siphash13(key, data, len(data))


def _checked(blocks):
    """(id, success, denial, hit rows) for each block, in range."""
    out, ids = [], set()
    for block_id, success, denial, *rest in blocks:
        rows = rest[0] if rest else 0
        if not 0 <= block_id < 1 << 32 or block_id in ids:
            raise ValueError(f"block id {block_id} is out of range or there twice")
        if not (1 <= success <= CAPACITY_MAX and 1 <= denial <= CAPACITY_MAX):
            raise ValueError(f"a capacity is 1 to {CAPACITY_MAX} entries, not {success} and {denial}")
        if not 0 <= rows <= 4096:
            raise ValueError(f"rows of hit counters are 0 to 4096, not {rows}")
        ids.add(block_id)
        out.append((block_id, success, denial, rows))
    if not 1 <= len(out) <= BLOCKS_MAX:
        raise ValueError(f"a cache has 1 to {BLOCKS_MAX} blocks, not {len(out)}")
    return out


def _layout(blocks):
    """(records, offset of the rings, octets in all) of a segment for checked blocks."""
    records = []
    at = _pages(PAGE + RECORD * len(blocks)) + 8 * CLAIMS
    for block_id, success, denial, rows in blocks:
        sets = -(-3 * (success + denial) // CACHE_WAYS)
        records.append({"id": block_id, "success": success, "denial": denial, "hit_rows": rows, "sets": sets,
                        "words": at, "hits": at + sets * CACHE_WAYS * 8})
        at = _pages(at + sets * CACHE_WAYS * (8 + 16 * rows))
    rings = at
    for record in records:
        main = _pages(max(MAIN_MIN, (record["success"] + record["denial"]) * OCTETS_PER_ENTRY))
        probation = _pages(max(PROBATION_MIN, main // 9))
        record.update(main=at, main_units=main // UNIT, probation=at + main, probation_units=probation // UNIT)
        at += main + probation
    return records, rings, at


def _least_units(record):
    """Units that are always main's and probation's."""
    return (min(record["main_units"], MAIN_LEAST // UNIT), min(record["probation_units"], PROBATION_LEAST // UNIT))


def _least(records, rings):
    """Octets that a segment takes whatever happens: all but what the rings share."""
    return rings + UNIT * sum(sum(_least_units(record)) for record in records)


def _strict():
    """Whether the kernel promises no more memory than there is: then a page that is not there yet may never come."""
    try:
        with open("/proc/sys/vm/overcommit_memory", "rb") as file:
            return file.read().strip() == b"2"
    except OSError:
        return False


def _free_memory():
    """Octets that the machine can give, by /proc/meminfo; None where there is no such file."""
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


cdef class Segment:
    """The shared cache of a server. `fd` may be sent to other processes, which `attach` it; `octets` is its size.

    `blocks`: for each block with a cache (block id, success capacity, denial capacity, rows of hit counters);
    capacities in entries, at least so many are held if they take 320 octets each on average; the rows (one per worker)
    only where `prefetch` is on. A block has at least 0.5 MiB and its index, 24 octets for each entry of its capacities.
    Memory is taken as it is used.
    """

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        cdef uint32_t i
        cdef int r
        if self._tables != NULL:
            for i in range(self._count):
                for r in range(2):
                    if self._tables[i].ring[r].map != NULL:
                        munmap(self._tables[i].ring[r].map, 2 * <size_t>self._tables[i].ring[r].units * UNIT)
            free(self._tables)
        if self.map != NULL:
            munmap(self.map, self.size)

    @staticmethod
    def size_for(blocks):
        """Octets that a segment for `blocks` takes when it is full. ValueError for sizes out of range."""
        return _layout(_checked(blocks))[2]

    @staticmethod
    def least_for(blocks):
        """Octets without which a segment for `blocks` is not made. ValueError for sizes out of range."""
        return _least(*_layout(_checked(blocks))[:2])

    @classmethod
    def create(cls, blocks, most=None):
        """A new, empty segment of sealed size, which will take `most` octets of memory (None: as many as it needs), and
        no more than the machine has now. Where the kernel does not overcommit, all of it is taken now.

        Raises ValueError for sizes out of range, OSError (ENOMEM) with both figures when there is less memory than the
        blocks need at least.
        """
        checked = _checked(blocks)
        records, rings, size = _layout(checked)
        least = _least(records, rings)
        there = _free_memory()
        strict = _strict()
        if there is not None and (size if strict else least) > there:
            raise OSError(errno_names.ENOMEM, f"the cache needs {(size if strict else least) >> 20} MiB of memory and "
                                              f"{there >> 20} MiB are free")
        pool = min(size, size if most is None else most, size if there is None else there) - least
        fd = os.memfd_create("fastdns-cache", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            if strict:
                os.posix_fallocate(fd, 0, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
            first = (1 << 32).to_bytes(8, "little")
            body = b""
            for i, record in enumerate(records):
                packed = _pack(RECORD_WORDS, record)
                body += packed
                os.pwrite(fd, packed, PAGE + RECORD * i)
                for ring, units in enumerate(_least_units(record)):
                    os.pwrite(fd, first + units.to_bytes(8, "little"), PAGE + RECORD * i + AT_HEAD + 128 * ring)
            header = {"magic": MAGIC, "layout": LAYOUT, "size": size, "count": len(records),
                      "seed0": int.from_bytes(os.urandom(8)), "seed1": int.from_bytes(os.urandom(8)),
                      "claims": _pages(PAGE + RECORD * len(records)), "rings": rings, "sum": 0}
            header["sum"] = _sum(_pack(FIXED, header) + body)
            os.pwrite(fd, _pack(HEADER, header), 0)
            os.pwrite(fd, (max(0, pool) // UNIT).to_bytes(8, "little"), AT_POOL)
            return cls.attach(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int):
        """Maps the segment behind `fd`, which stays open as long as the object lives.

        Raises ValueError if it is none, or of another layout or size than it says.
        """
        cdef Segment self = cls.__new__(cls)
        cdef CacheTable *t
        size = os.fstat(fd).st_size
        header = _unpack(HEADER, os.pread(fd, 8 * len(HEADER), 0))
        count = header["count"]
        known = (header["magic"], header["layout"], header["size"]) == (MAGIC, LAYOUT, size)
        if not known or not 1 <= count <= BLOCKS_MAX:
            raise ValueError("not a cache segment of this version")
        octets = os.pread(fd, RECORD * count, PAGE)
        packed = [octets[i * RECORD:i * RECORD + 8 * len(RECORD_WORDS)] for i in range(count)]
        records = [_unpack(RECORD_WORDS, p) for p in packed]
        sizes = _checked([(r["id"], r["success"], r["denial"], r["hit_rows"]) for r in records])
        if (header["sum"] != _sum(_pack(FIXED, header) + b"".join(packed))
                or _layout(sizes) != (records, header["rings"], size)):
            raise ValueError("a damaged cache segment")
        self.size = header["rings"]
        self.octets = size
        cdef void *where = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {self.size} octets of cache index")
        self.map = <uint8_t *>where
        self.fd = fd
        self._tables = <CacheTable *>calloc(count, sizeof(CacheTable))
        if self._tables == NULL:
            raise MemoryError
        self._count = count
        self._sizes = sizes
        for i, record in enumerate(records):
            t = &self._tables[i]
            t.id = record["id"]
            t.sets = record["sets"]
            t.slots = t.sets * CACHE_WAYS
            t.words = <uint64_t *>(self.map + <size_t>record["words"])
            t.hit_rows = record["hit_rows"]
            if t.hit_rows:
                t.hits = <uint64_t *>(self.map + <size_t>record["hits"])
            t.epoch = <uint64_t *>(self.map + PAGE + RECORD * <size_t>i + AT_EPOCH)
            both = record["success"] + record["denial"]
            for kind, capacity in enumerate((record["success"], record["denial"])):
                t.limit[kind] = min(CACHE_WAYS, -(-CACHE_WAYS * capacity // both) + 4)
            for ring, name in enumerate(("main", "probation")):
                t.ring[ring].head = <uint64_t *>(self.map + PAGE + RECORD * <size_t>i + AT_HEAD + 128 * <size_t>ring)
                t.ring[ring].limit = t.ring[ring].head + 1
                t.ring[ring].pool = <uint64_t *>(self.map + AT_POOL)
                t.ring[ring].units = record[f"{name}_units"]
                t.ring[ring].least = _least_units(record)[ring]
                t.ring[ring].chunk = min(CHUNK_MAX // UNIT, t.ring[ring].units // 32)
        self._map_rings()
        return self

    cdef int _map_rings(self) except -1:
        cdef size_t at = self.size
        cdef size_t n
        cdef uint8_t *room
        cdef CacheRing *r
        cdef uint32_t i
        cdef int ring, half
        for i in range(self._count):
            for ring in range(2):
                r = &self._tables[i].ring[ring]
                n = <size_t>r.units * UNIT
                room = <uint8_t *>mmap(NULL, 2 * n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                if room == <uint8_t *>-1:
                    raise MemoryError(f"mapping {2 * n} octets of cache ring")
                r.map = room
                for half in range(2):
                    if mmap(room + half * n, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, self.fd,
                            at) == <void *>-1:
                        raise MemoryError(f"mapping {n} octets of cache ring")
                at += n
        return 0

    cdef int view(self, CacheView *v) except -1:
        memset(v, 0, sizeof(CacheView))
        header = _unpack(HEADER, os.pread(self.fd, 8 * len(HEADER), 0))
        v.seed[0] = header["seed0"]
        v.seed[1] = header["seed1"]
        v.claims = <uint64_t *>(self.map + <size_t>header["claims"])
        v.claim_mask = CLAIMS - 1
        v.tables = self._count
        v.table = self._tables
        return 0

    cdef CacheTable *_table(self, block_id) except NULL:
        cdef uint32_t i
        for i in range(self._count):
            if self._tables[i].id == block_id:
                return &self._tables[i]
        raise KeyError(f"the cache has no block {block_id}")

    @property
    def blocks(self) -> list:
        """(block id, success capacity, denial capacity, rows of hit counters) of each block."""
        return list(self._sizes)

    @property
    def taken(self) -> int:
        """Octets of memory that the segment has taken."""
        return os.fstat(self.fd).st_blocks * 512

    cdef list _written(self, const CacheTable *t):
        # (first, end) of the slots of a block's index that have memory: to read the others would take some.
        cdef size_t at = <uint8_t *>t.words - self.map
        cdef size_t end = at + <size_t>t.slots * 8
        begin, found = at, []
        while begin < end:
            try:
                data = os.lseek(self.fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno_names.ENXIO:
                    raise
                break
            if data >= end:
                break
            begin = min(os.lseek(self.fd, data, os.SEEK_HOLE), end)
            found.append(((max(data, at) - at) // 8, (begin - at) // 8))
        return found

    def entries(self, block_id: int) -> tuple:
        """Entries of a block now: (success, denial). Expired ones count until they give way, as in CoreDNS."""
        cdef CacheTable *t = self._table(block_id)
        cdef uint64_t count[2]
        cdef uint64_t word
        cdef const CacheRing *r
        cdef uint32_t i, first, end
        count[0] = count[1] = 0
        for first, end in self._written(t):
            with nogil:
                for i in range(first, end):
                    word = fd_load_acquire(t.words + i)
                    r = &t.ring[(word >> RING_SHIFT) & 1]
                    if word != 0 and alive(resolve(word, fd_load_acquire(r.head), r.units), fd_load_acquire(r.head)):
                        count[(word >> KIND_SHIFT) & 1] += 1
        return count[CACHE_SUCCESS], count[CACHE_DENIAL]

    def flush(self, block_id: int) -> None:
        """Empties a block. What was asked before the flush is not stored after it."""
        cdef CacheTable *t = self._table(block_id)
        cdef uint32_t i, first, end
        fd_add_acq_rel(t.epoch, 1)
        fd_fence_seq_cst()
        for first, end in self._written(t):
            for i in range(first, end):
                fd_store_relaxed(t.words + i, 0)
        fd_fence_seq_cst()

    def move_from(self, Segment old not None) -> int:
        """Copies the living entries of the blocks that both have, oldest first; returns how many arrived.

        Call it before workers use this segment; the old one may still be in use.
        """
        cdef Look source, target
        moved = 0
        for block_id, _success, _denial, _rows in self._sizes:
            if any(block_id == there[0] for there in old._sizes):
                source = Look(old, block_id)
                target = Look(self, block_id)
                moved += target._take_all(source)
        return moved


cdef class Look:
    """One block of a segment as one process sees it, for tools and tests: what the compiled stage does, on Python
    values.

    A look has its own chunks and private copy, as a worker has. Names are lower-cased wire form; times are nanoseconds
    of CLOCK_BOOTTIME. `row` is the row of hit counters it writes.
    """

    cdef readonly Segment segment
    cdef CacheView view
    cdef CacheTable table
    cdef uint8_t *wire
    cdef uint32_t row
    cdef uint64_t counts[4]

    def __cinit__(self, segment: Segment, block_id: int, row: int = 0):
        cdef Segment s = segment
        self.segment = s
        self.row = row
        self.wire = <uint8_t *>calloc(1, 65536 + 8)
        if self.wire == NULL:
            raise MemoryError
        self.table = s._table(block_id)[0]
        s.view(&self.view)
        self.view.row = self.counts
        self.view.slot_torn = 1
        self.view.slot_promoted = 2
        self.view.slot_lost = 3

    def __dealloc__(self):
        free(self.wire)

    cdef int _key(self, CacheKey *k, bytes name, qtype, qclass, do, cd, aside) except -1:
        if not 1 <= len(name) <= WIRE_NAME_MAX:
            raise ValueError("a name has 1 to 255 octets")
        memset(k, 0, sizeof(CacheKey))
        k.block = self.table.id
        k.qtype = qtype
        k.qclass = qclass
        k.do_bit = bool(do)
        k.cd_bit = bool(cd)
        k.aside = bool(aside)
        k.name = name
        k.name_len = <uint16_t>len(name)
        k.hash = cache_hash(&self.view, k)
        return 0

    @property
    def epoch(self) -> int:
        """The block's flush epoch."""
        return cache_epoch(&self.table)

    @property
    def events(self) -> dict:
        """What this look counted: entries refused as torn, promoted, lost."""
        return {"torn": self.counts[1], "promoted": self.counts[2], "lost": self.counts[3]}

    @property
    def heads(self) -> tuple:
        """((lap, unit), units) of main and of probation."""
        out = []
        for ring in range(2):
            head = fd_load_acquire(self.table.ring[ring].head)
            out.append(((head >> 32, head & 0xffffffff), self.table.ring[ring].units))
        return tuple(out)

    def get(self, bytes name not None, int qtype=1, int kind=0, *, int qclass=1, bint do=False, bint cd=False,
            bint aside=False,
            bint promote=True):
        """The entry: (stored_at, ttl, rcode, mark, TTL offsets, message), or None. `promote`: as a served hit does."""
        cdef CacheKey k
        cdef CacheEntry e
        self._key(&k, name, qtype, qclass, do, cd, aside)
        if not cache_get(&self.view, &self.table, &k, kind, &e, self.wire):
            return None
        offsets = tuple([e.ttl_off[i] for i in range(e.ttls)])
        found = e.stored_at, e.orig_ttl, e.rcode, e.mark, offsets, self.wire[:e.wire_len]
        if promote:
            cache_promote(&self.view, &self.table, &e)
        return found

    def put(self, bytes name not None, bytes wire not None, int qtype=1, int kind=0, *, int qclass=1, bint do=False,
            bint cd=False, bint aside=False, uint64_t stored_at=1, uint32_t ttl=60, int rcode=0, int mark=0,
            int upstream=0, offsets=(), begun=None, epoch=None) -> int:
        """Stores an entry: 0 if it was not, else 1, or 2 and 3 when a success or denial entry gave way."""
        cdef CacheKey k
        cdef CacheEntry e
        cdef uint16_t ttl_off[CACHE_TTLS_MAX]
        cdef int evicted = 0
        if len(wire) > 65535 or len(offsets) > CACHE_TTLS_MAX:
            raise ValueError("a message has at most 65,535 octets and 5,957 records")
        self._key(&k, name, qtype, qclass, do, cd, aside)
        memset(&e, 0, sizeof(e))
        for i, offset in enumerate(offsets):
            ttl_off[i] = offset
        e.stored_at = stored_at
        e.orig_ttl = ttl
        e.rcode = rcode
        e.kind = kind
        e.mark = mark
        e.upstream = upstream
        e.ttls = <uint16_t>len(offsets)
        e.ttl_off = ttl_off
        e.wire = wire
        e.wire_len = <uint16_t>len(wire)
        if not cache_put(&self.view, &self.table, &k, &e, stored_at if begun is None else begun,
                         cache_epoch(&self.table) if epoch is None else epoch, &evicted):
            return 0
        return 1 + evicted

    def drop(self, bytes name not None, int qtype=1, int kind=0, *, int qclass=1, bint do=False, bint cd=False,
             bint aside=False) -> None:
        """Removes the entry of that kind."""
        cdef CacheKey k
        self._key(&k, name, qtype, qclass, do, cd, aside)
        cache_drop(&self.view, &self.table, &k, kind)

    def claim(self, uint64_t hash, uint64_t now_ns, uint64_t until_ns) -> bool:
        """Claims the refresh of a key by its hash."""
        return cache_claim(&self.view, hash, now_ns, until_ns)

    def claim_until(self, uint64_t hash, uint64_t until_ns) -> None:
        """Moves the end of a claim; 0 releases it."""
        cache_claim_until(&self.view, hash, until_ns)

    def note_hit(self, bytes name not None, int qtype=1, int kind=0, *, uint64_t now_ns, uint64_t window_ns) -> tuple:
        """Counts a hit of an entry: (count of this row, count of all rows). (0, 0) when there is no such entry."""
        cdef CacheKey k
        cdef CacheEntry e
        self._key(&k, name, qtype, 1, False, False, False)
        if not cache_get(&self.view, &self.table, &k, kind, &e, self.wire):
            return 0, 0
        own = cache_note_hit(&self.table, &e, self.row, now_ns, window_ns)
        return own, cache_sum_hits(&self.table, &e, now_ns, window_ns)

    def hash(self, bytes name not None, int qtype=1, int qclass=1, bint do=False, bint cd=False,
             bint aside=False) -> int:
        """The keyed hash of a key in this segment."""
        cdef CacheKey k
        self._key(&k, name, qtype, qclass, do, cd, aside)
        return k.hash

    def time_gets(self, list names not None, uint64_t rounds, int qtype=1) -> int:
        """Looks every name up, `rounds` times, without the GIL; returns hits. For benchmarks."""
        cdef CacheKey *keys = <CacheKey *>calloc(len(names) or 1, sizeof(CacheKey))
        cdef CacheEntry e
        cdef uint64_t hits = 0
        cdef uint64_t _turn
        cdef Py_ssize_t i, n = len(names)
        if keys == NULL:
            raise MemoryError
        try:
            for i in range(n):
                self._key(&keys[i], names[i], qtype, 1, False, False, False)
            with nogil:
                for _turn in range(rounds):
                    for i in range(n):
                        keys[i].hash = cache_hash(&self.view, &keys[i])
                        hits += cache_get(&self.view, &self.table, &keys[i], CACHE_SUCCESS, &e, self.wire)
        finally:
            free(keys)
        return hits

    cdef object _take_all(self, Look source):
        """Every living entry of source, oldest first."""
        cdef uint64_t *words = <uint64_t *>source.table.words
        cdef uint64_t word, head, position
        cdef const CacheRing *r
        cdef CacheKey k
        cdef CacheEntry e
        cdef uint32_t i, first, end
        cdef int evicted
        order = []
        for first, end in source.segment._written(&source.table):
            for i in range(first, end):
                word = fd_load_acquire(words + i)
                r = &source.table.ring[(word >> RING_SHIFT) & 1]
                head = fd_load_acquire(r.head)
                position = resolve(word, head, r.units)
                if word != 0 and alive(position, head):
                    order.append((1 - (behind(position, head, limit_of(r)) / limit_of(r)), word))
        order.sort()
        moved = 0
        for _age, found in order:
            word = found
            if self._read_key(source, word, &k) and fetch(&source.view, &source.table, &k, word, &e, source.wire) == 1:
                k.hash = cache_hash(&self.view, &k)
                moved += cache_put(&self.view, &self.table, &k, &e, e.stored_at, cache_epoch(&self.table), &evicted)
        return moved

    cdef bint _read_key(self, Look source, uint64_t word, CacheKey *k) noexcept:
        # The key as the entry tells it: unchecked until fetch() has compared and summed it.
        cdef const CacheRing *r = &source.table.ring[(word >> RING_SHIFT) & 1]
        cdef uint64_t position = resolve(word, fd_load_acquire(r.head), r.units)
        cdef const uint64_t *e = <const uint64_t *>(r.map + (position & LOW32) * UNIT)
        cdef uint64_t bits = fd_load_relaxed(e + 6)
        cdef uint64_t x
        cdef uint32_t i
        memset(k, 0, sizeof(CacheKey))
        k.block = <uint32_t>fd_load_relaxed(e + 3)
        k.view = <uint32_t>(fd_load_relaxed(e + 3) >> 32)
        k.scope = fd_load_relaxed(e + 4)
        k.qtype = <uint16_t>fd_load_relaxed(e + 5)
        k.qclass = <uint16_t>(fd_load_relaxed(e + 5) >> 16)
        k.name_len = <uint16_t>((bits >> NAME_SHIFT) & 0xff)
        k.do_bit = (bits >> ENTRY_DO) & 1
        k.cd_bit = (bits >> ENTRY_CD) & 1
        k.aside = (bits >> ENTRY_ASIDE) & 1
        for i in range(32):
            x = fd_load_relaxed(e + HEADER_WORDS + i)
            memcpy(self.wire + 8 * i, &x, 8)
        k.name = self.wire
        return k.name_len > 0
