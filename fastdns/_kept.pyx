# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Kept answers: what a plugin in Python answered once is answered again in C, where the plugin says what it depends on.

Strategy. Keeping is per stage: this one stands at the plugin's own place of the chain and says PYTHON where it has
nothing. So all that stands in front (acl, view, rrl, log, metrics, rewrite ...) sees every query, and the key is made
of the query as it comes here. An answer lies under everything that it may depend on: lane (the stage), listener, zone,
type, class, RD, CD, and the declared facts. What fits into 64 bits is compared by the cache as `scope`; what does not
(addresses, options, labels, letters) is summed there and stands as octets in the entry, which are compared.

What is stored was seen by the bridge (_bridge_facts.pxi): the plugin ended at once, read nothing that the key lacks,
asked nobody, logged nothing, and wrote NOERROR or NXDOMAIN under the client's own question. The question is cut out, so
each client gets its own letters; a reply whose records could differ with them is kept for questions in lower case
alone. What the plugin counted is counted again. TTLs stay what they were, and no counter of `cache` moves.

An entry is header, records, the reply's own options, the facts' octets, (slot, number) of counters, and a tail.
"""

import os

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._cache cimport (
    CACHE_SUCCESS, CacheEntry, CacheKey, Segment, cache_epoch, cache_get, cache_hash, cache_promote, cache_put,
)
from fastdns._published cimport Mapped
from fastdns._stage cimport (
    PROTO_UDP, PYTHON, REPLY, CompiledStage, Label, Memory, Query, Stage, StageOps, Worker, compiled_stage,
    query_labels, stage_frame, zeroed,
)
from fastdns._stats cimport Stats, stat_add
from fastdns._sys cimport calloc, fd_load_acquire, free, memcmp, memcpy, memmove, memset
from fastdns._wire cimport (
    FLAG_AD, FLAG_CD, FLAG_DO, FLAG_RD, WIRE_HEADER, Packet, get16, get32, put16, wire_limit, wire_scan,
    wire_siphash13,
)

cdef enum:
    CODES = 16                  # options that a key may hold
    PLACES = 16                 # labels that a key may hold
    OCTETS = 768                # of facts that do not fit into 64 bits
    TAIL = 16
    QTYPE_IXFR = 251
    QTYPE_AXFR = 252
    RCODE_NXDOMAIN = 3
    # Bits of the key's word above listener, zone and size.
    BIT_RD = 48
    BIT_CD = 49
    BIT_AD = 50
    BIT_DO = 51
    BIT_OPT = 52
    BIT_TCP = 53
    BIT_FAMILY = 54             # two of them
    BIT_UPPER = 56

READS = {
    "NAME": READS_NAME, "CASE": READS_CASE, "CLIENT": READS_CLIENT, "FAMILY": READS_FAMILY, "PORT": READS_PORT,
    "PROTO": READS_PROTO, "SERVER": READS_SERVER, "AD": READS_AD, "DO": READS_DO, "EDNS": READS_EDNS,
    "LABELS": READS_LABELS,
}

cdef struct Answers:
    const Kept *empty
    uint32_t lane
    uint32_t facts              # READS_...
    uint32_t prefix[2]          # of the client's address, IPv4 and IPv6
    uint32_t code_count
    uint16_t codes[CODES]
    uint32_t place_count
    uint16_t places[PLACES]
    const uint64_t *version     # the published data's generation; NULL: nothing is published
    uint32_t slots              # of the table of counters
    uint32_t hits               # slots: answers given again
    uint32_t misses             # ... queries that the shelf had nothing for
    uint32_t passed             # ... that no kept answer may answer
    uint32_t refused            # ... answers that may not be kept
    uint32_t stored

cdef struct Frame:
    uint64_t version            # of the data, before the plugin reads it
    uint8_t keyed               # the query may be answered by what is kept

cdef struct Facts:
    uint64_t word
    uint32_t n
    bint full
    uint8_t octets[OCTETS]


# ---------------------------------------------------------------------------------------------- the shelf

cdef Kept *kept_open(const Kept *empty, Worker *w) noexcept nogil:
    cdef Kept *k = <Kept *>calloc(1, sizeof(Kept))
    if k != NULL:
        k[0] = empty[0]
        k.view.row = w.row
    return k


cdef void kept_key(const Kept *k, uint32_t lane, const uint8_t *name, uint16_t name_len, CacheKey *key) noexcept nogil:
    memset(key, 0, sizeof(CacheKey))
    key.block = KEPT_BLOCK
    key.view = lane
    key.name = name
    key.name_len = name_len
    key.hash = cache_hash(&k.view, key)


cdef bint kept_get(Kept *k, const CacheKey *key, CacheEntry *e, uint8_t *wire) noexcept nogil:
    if not cache_get(&k.view, &k.table, key, CACHE_SUCCESS, e, wire):
        return False
    cache_promote(&k.view, &k.table, e)
    return True


cdef bint kept_put(Kept *k, Worker *w, const CacheKey *key, const uint8_t *octets, uint32_t n, uint32_t ulen,
                   uint16_t rcode) noexcept nogil:
    cdef CacheEntry e
    cdef int evicted
    memset(&e, 0, sizeof(CacheEntry))
    e.stored_at = w.boot_ns
    e.ulen = ulen
    e.rcode = rcode
    e.kind = CACHE_SUCCESS
    e.wire = octets
    e.wire_len = <uint16_t>n
    return cache_put(&k.view, &k.table, key, &e, w.boot_ns, cache_epoch(&k.table), &evicted)


cdef list shape_of(entries):
    # Of the shelf's segment: there are no denials.
    return [(KEPT_BLOCK, entries, 1)]


cdef class Shelf:
    @staticmethod
    def size_for(entries):
        return Segment.size_for(shape_of(entries))

    def __init__(self, stats, entries):
        cdef Stats table = stats
        self.stats = stats
        self.segment = Segment.create(shape_of(entries))
        self.segment.view(&self.empty.view)
        self.empty.table = self.segment._table(KEPT_BLOCK)[0]
        self.empty.view.slot_torn = table.intern(
            "fastdns_kept_torn_total", (), "counter", (), "Kept answers that were overwritten while they were read.")
        self.empty.view.slot_promoted = table.intern(
            "fastdns_kept_promoted_total", (), "counter", (), "Kept answers that were given for the first time.")
        self.empty.view.slot_lost = table.intern(
            "fastdns_kept_lost_total", (), "counter", (), "Answers not kept because another worker's came first.")

    def __dealloc__(self):
        if self.segment is not None:
            os.close(self.segment.fd)

    @property
    def entries(self):
        return sum(self.segment.entries(KEPT_BLOCK))

    def lane(self):
        self.lanes += 1
        return self.lanes

    def counters(self, name):
        cdef Stats table = self.stats
        of = (("plugin", name),)
        return (
            table.intern("fastdns_kept_hits_total", of, "counter", (), "Queries that something kept decided."),
            table.intern("fastdns_kept_misses_total", of, "counter", (), "Queries that nothing was kept for."),
            table.intern("fastdns_kept_stored_total", of, "counter", (), "Answers and decisions that were kept."),
        )


# ---------------------------------------------------------------------------------------------- the key

cdef inline void add(Facts *f, const uint8_t *octets, uint32_t n) noexcept nogil:
    # Each with its length, so that no two facts run into each other.
    if f.full or n + 2 > OCTETS - f.n:
        f.full = True
        return
    put16(f.octets + f.n, n)
    if n:
        memcpy(f.octets + f.n + 2, octets, n)
    f.n += n + 2


cdef void add_client(Facts *f, const Answers *c, const Query *q) noexcept nogil:
    cdef uint8_t ip[16]
    cdef uint32_t octets = 4 if q.family == 1 else 16
    cdef uint32_t bits = c.prefix[0] if q.family == 1 else c.prefix[1]
    cdef uint32_t i
    for i in range(octets):
        ip[i] = 0 if bits == 0 else q.client_ip[i] if bits >= 8 else q.client_ip[i] & <uint8_t>(0xff << (8 - bits))
        bits -= 8 if bits >= 8 else bits
    add(f, ip, octets)


cdef bint add_options(Facts *f, const Answers *c, const Packet *p) noexcept nogil:
    # False: the query has an option that the key does not hold.
    cdef uint32_t at = p.opt_rdata
    cdef uint32_t end = p.opt_rdata + p.opt_rdlen
    cdef uint32_t n, i
    while at + 4 <= end:
        n = 4 + <uint32_t>get16(p.wire + at + 2)
        if n > end - at:
            return False
        for i in range(c.code_count):
            if get16(p.wire + at) == c.codes[i]:
                break
        else:
            return False
        add(f, p.wire + at, n)
        at += n
    return at == end


cdef void add_labels(Facts *f, const Answers *c, const Query *q) noexcept nogil:
    cdef const Label *label
    cdef uint8_t set_
    cdef uint32_t i
    for i in range(c.place_count):
        if c.places[i] >= q.block.label_count:
            continue
        label = &query_labels(q)[c.places[i]]
        set_ = label.text != NULL
        add(f, &set_, 1)
        add(f, <const uint8_t *>label.text, label.len if set_ else 0)


cdef bint facts_of(const Answers *c, const Worker *w, const Query *q, uint64_t version, Facts *f) noexcept nogil:
    # False: no kept answer may answer this query.
    cdef const Packet *p = &q.pkt
    cdef uint64_t word
    cdef uint32_t facts = c.facts
    cdef bint upper
    cdef bint udp = q.proto == PROTO_UDP
    if p.opcode != 0 or p.has_tsig or q.tsig or p.qtype == QTYPE_AXFR or p.qtype == QTYPE_IXFR:
        return False
    f.n = 0
    f.full = False
    word = <uint64_t>q.listener | (<uint64_t>q.zone << 16)
    word |= (<uint64_t>((p.flags & FLAG_RD) != 0) << BIT_RD) | (<uint64_t>((p.flags & FLAG_CD) != 0) << BIT_CD)
    if facts & READS_NAME:
        upper = memcmp(p.wire + WIRE_HEADER, p.qname, p.qname_len) != 0
        word |= <uint64_t>upper << BIT_UPPER
        if upper and facts & READS_CASE:
            add(f, p.wire + WIRE_HEADER, p.qname_len)
    if facts & READS_AD:
        word |= <uint64_t>((p.flags & FLAG_AD) != 0) << BIT_AD
    if facts & READS_DO:
        word |= <uint64_t>(p.has_opt and (p.opt_flags & FLAG_DO) != 0) << BIT_DO
    if facts & READS_EDNS:
        word |= (<uint64_t>(wire_limit(p, udp) & 0xffff) << 32) | (<uint64_t>(p.has_opt != 0) << BIT_OPT)
    if facts & READS_PROTO:
        word |= <uint64_t>(not udp) << BIT_TCP
    if facts & (READS_FAMILY | READS_CLIENT):
        word |= <uint64_t>(q.family & 3) << BIT_FAMILY
    if facts & READS_CLIENT:
        add_client(f, c, q)
    if facts & READS_PORT:
        add(f, <const uint8_t *>&q.client_port, 2)
    if facts & READS_SERVER:
        add(f, q.local_ip, q.local_len)
    if c.version != NULL:
        add(f, <const uint8_t *>&version, 8)
    if p.opt_rdlen and not add_options(f, c, p):
        return False
    if c.place_count:
        add_labels(f, c, q)
    f.word = word
    return not f.full


cdef void key_of(const Answers *c, const Kept *k, const Query *q, const Facts *f, CacheKey *key) noexcept nogil:
    memset(key, 0, sizeof(CacheKey))
    key.block = KEPT_BLOCK
    key.view = c.lane
    key.qtype = q.pkt.qtype
    key.qclass = q.pkt.qclass
    key.name = &q.pkt.qname[0] if c.facts & READS_NAME else <const uint8_t *>b"\0"
    key.name_len = q.pkt.qname_len if c.facts & READS_NAME else 1
    key.scope = f.word
    key.aside = f.n != 0
    if f.n:
        key.scope ^= wire_siphash13(k.view.seed, f.octets, f.n)
    key.hash = cache_hash(&k.view, key)


# ---------------------------------------------------------------------------------------------- an answer again

cdef bint give(const Answers *c, Kept *k, Worker *w, Query *q, const CacheEntry *e, const Facts *f) noexcept nogil:
    # Makes the reply of an entry that lies at q.reply. False: it is another query's.
    cdef uint8_t *to = q.reply
    cdef const uint8_t *tail
    cdef const uint8_t *count
    cdef uint32_t question = <uint32_t>q.pkt.qname_len + 4
    cdef uint32_t options, octets, counts, rest, i
    if e.wire_len < WIRE_HEADER + TAIL:
        return False
    tail = to + e.wire_len - TAIL
    options = get16(tail)
    octets = get16(tail + 2)
    counts = get16(tail + 4)
    rest = WIRE_HEADER + options + octets + 8 * counts + TAIL
    if rest > e.wire_len or options > KEPT_OPTIONS or octets != f.n:
        return False
    rest = e.wire_len - rest
    if octets and memcmp(to + WIRE_HEADER + rest + options, f.octets, octets) != 0:
        return False
    for i in range(counts):
        count = tail - 8 * (counts - i)
        if get32(count) < c.slots:
            stat_add(w.row, get32(count), get32(count + 4))
    q.rcode = e.rcode
    q.error_len = 0
    q.ulen = e.ulen
    if not c.facts & READS_NAME:
        q.ulen += (1 + <uint32_t>get16(tail + 6)) * q.pkt.qname_len
    q.opt_size = get16(tail + 8)
    q.has_opt = tail[10]
    q.set_do = tail[11]
    q.options_len = options
    q.options = k.options
    if options:
        memcpy(k.options, to + WIRE_HEADER + rest, options)
    # The tail is overwritten from here on.
    memmove(to + WIRE_HEADER + question, to + WIRE_HEADER, rest)
    memcpy(to + WIRE_HEADER, q.pkt.wire + WIRE_HEADER, question)
    put16(to, q.pkt.id)
    q.reply_len = WIRE_HEADER + question + rest
    return True


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Answers *c = <const Answers *>s.config
    cdef Kept *k = <Kept *>s.state
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef Facts facts
    cdef CacheKey key
    cdef CacheEntry e
    f.version = fd_load_acquire(c.version) if c.version != NULL else 0
    f.keyed = facts_of(c, w, q, f.version, &facts)
    if not f.keyed:
        stat_add(w.row, c.passed, 1)
        return PYTHON
    key_of(c, k, q, &facts, &key)
    w.api.reply_room(w, q)
    if not kept_get(k, &key, &e, q.reply) or not give(c, k, w, q, &e, &facts):
        stat_add(w.row, c.misses, 1)
        return PYTHON
    stat_add(w.row, c.hits, 1)
    return REPLY


# ---------------------------------------------------------------------------------------------- keeping one

cdef bint owners_of(Worker *w, const Query *q, uint32_t *owners) noexcept nogil:
    # How many records belong to the question. False: the reply has the question's name elsewhere too, so that under
    # another name it would be another reply.
    cdef const uint8_t *owner
    cdef uint32_t i
    cdef uint32_t n = 0
    if q.pkt.qname_len < 3 or wire_scan(q.reply, q.reply_len, w.scan) != 0:
        return False
    for i in range(w.scan.n):
        owner = q.reply + w.scan.records[i].owner
        if owner[0] == 0xC0 and owner[1] == WIRE_HEADER:
            n += 1
    owners[0] = n
    # Any other compression would make this sum another one. What nobody read the name for has none.
    return w.scan.ulen == q.reply_len + n * (<uint32_t>q.pkt.qname_len - 2)


cdef bint keep(const Answers *c, Kept *k, Worker *w, Query *q, uint64_t version, const uint8_t *note,
               uint32_t n) noexcept nogil:
    cdef uint8_t *out = w.scratch
    cdef uint32_t question = <uint32_t>q.pkt.qname_len + 4
    cdef uint32_t owners = 0
    cdef uint32_t ulen = q.ulen
    cdef uint32_t rest, at
    cdef Facts facts
    cdef CacheKey key
    if not facts_of(c, w, q, version, &facts) or (q.rcode != 0 and q.rcode != RCODE_NXDOMAIN) or q.error_len:
        return False
    if q.reply_len < WIRE_HEADER + question or get16(q.reply + 4) != 1:
        return False
    if memcmp(q.reply + WIRE_HEADER, q.pkt.wire + WIRE_HEADER, question) != 0:
        return False
    if c.facts & READS_NAME:
        if note[0] & NOTE_CASED and (facts.word >> BIT_UPPER) & 1 and not c.facts & READS_CASE:
            return False
    else:
        if note[0] & NOTE_NAMED or not owners_of(w, q, &owners):
            return False
        ulen -= (1 + owners) * q.pkt.qname_len
    rest = q.reply_len - WIRE_HEADER - question
    if q.options_len > KEPT_OPTIONS or WIRE_HEADER + rest + q.options_len + facts.n + n + TAIL > KEPT_MOST:
        return False
    memcpy(out, q.reply, WIRE_HEADER)
    at = WIRE_HEADER
    memcpy(out + at, q.reply + WIRE_HEADER + question, rest)
    at += rest
    if q.options_len:
        memcpy(out + at, q.options, q.options_len)
        at += q.options_len
    memcpy(out + at, facts.octets, facts.n)
    at += facts.n
    memcpy(out + at, note + 1, n - 1)
    at += n - 1
    memset(out + at, 0, TAIL)
    put16(out + at, q.options_len)
    put16(out + at + 2, facts.n)
    put16(out + at + 4, (n - 1) // 8)
    put16(out + at + 6, owners)
    put16(out + at + 8, q.opt_size)
    out[at + 10] = q.has_opt
    out[at + 11] = q.set_do
    key_of(c, k, q, &facts, &key)
    return kept_put(k, w, &key, out, at + TAIL, ulen, q.rcode)


cdef void noted(Worker *w, Stage *s, Query *q, int verdict, const uint8_t *note, uint32_t n) noexcept nogil:
    cdef const Answers *c = <const Answers *>s.config
    cdef const Frame *f = <const Frame *>stage_frame(s, q)
    if not f.keyed:
        return
    if verdict == REPLY and n % 8 == 1 and keep(c, <Kept *>s.state, w, q, f.version, note, n):
        stat_add(w.row, c.stored, 1)
    else:
        stat_add(w.row, c.refused, 1)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    s.state = kept_open((<const Answers *>s.config).empty, w)
    return 0 if s.state != NULL else -1


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    free(s.state)
    s.state = NULL


cdef StageOps OPS
OPS.name = b"kept"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.start = start
OPS.stop = stop
OPS.noted = noted


def stage(plugin, Shelf shelf not None, uint32_t bits, prefixes, codes, labels, Mapped board) -> CompiledStage:
    cdef Memory memory = zeroed(sizeof(Answers))
    cdef Answers *c = <Answers *>memory.at
    cdef Stats stats = shelf.stats
    codes, labels = sorted(set(codes)), sorted(set(labels))
    if len(codes) > CODES or len(labels) > PLACES:
        raise ValueError(f"answers are kept by at most {CODES} options and {PLACES} labels")
    c.empty = &shelf.empty
    c.lane = shelf.lane()
    c.facts = bits
    ipv4, ipv6 = prefixes
    c.prefix[0] = ipv4
    c.prefix[1] = ipv6
    for code in codes:
        c.codes[c.code_count] = code
        c.code_count += 1
    for place in labels:
        c.places[c.place_count] = place
        c.place_count += 1
    c.version = board.feed.generation if board is not None else NULL
    c.slots = stats.slots
    of = (("plugin", plugin.name),)
    c.hits, c.misses, c.stored = shelf.counters(plugin.name)
    c.passed = stats.intern(
        "fastdns_kept_passed_total", of, "counter", (), "Queries that no kept answer may answer.")
    c.refused = stats.intern("fastdns_kept_refused_total", of, "counter", (), "Answers that may not be kept.")
    return compiled_stage(&OPS, c, (memory, shelf, board), plugin)
