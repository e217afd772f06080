# SPDX-License-Identifier: Apache-2.0
"""The compiled half of loadbalance: orders the records of a reply on its way back to the client.

Strategy: this runs for every reply of the block, cached ones too, so the usual reply (one answer) leaves after
three loads. The usual answer with several addresses is permuted inside the reply: its records are neighbours, and
either all alike in size and owner or owned by a pointer to something before them, so moving them whole breaks no
compression. All else (CNAMEs that come late, MX, mixed layouts) is indexed, reordered and written anew.
An owner that points into the address of another record comes from no honest server and may change its meaning.

Without `weighted` and `prefer` the stage has no configuration, and nothing is computed for them. With them the order of
the addresses is dealt out by _loadbalance_deal.pxi, from networks that were parsed at set-up, or from weights that the
keeper publishes (_loadbalance_weights.pxi).
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

import os

from fastdns._published cimport Feed, Image, Mapped, feed_follow, feed_moved, image_close, image_whole
from fastdns._stage cimport (
    NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed,
)
from fastdns._sys cimport calloc, free, malloc, memcmp, memcpy, memset
from fastdns._wire cimport (
    RCODE_NOERROR, SECTION_AUTHORITY, TYPE_A, TYPE_AAAA, TYPE_AXFR, TYPE_CNAME, TYPE_IXFR, TYPE_MX, TYPE_SRV,
    WIRE_HEADER, WIRE_MAX, WIRE_RECORDS_MAX, Cursor, Record, cursor_open, cursor_take, cursor_u8, cursor_u16, get16,
    wire_compress, wire_lower, wire_name, wire_scan, wire_siphash13,
)

cdef enum:
    NEAR = 64                   # records of one section that are permuted in place; more are written anew

cdef enum:                      # ranks
    # The order of a section, as CoreDNS builds it: stable within a rank, but addresses and MX are shuffled.
    RANK_CNAME = 0
    RANK_REST = 1
    RANK_ADDRESS = 2
    RANK_MX = 3
    RANKS = 4

cdef enum Outcome:
    DONE = 0                    # the section is in order now
    ANEW = 1                    # in place will not do
    BROKEN = 2                  # not a message that can be walked: left alone

cdef struct Span:
    uint32_t start              # offset of the owner name
    uint32_t end                # offset past the RDATA
    uint16_t owner              # octets of the owner name as it stands
    uint16_t target             # offset that an owner of one pointer names, else 0
    uint8_t rank

cdef struct Dice:
    # 16 bits per draw, four draws per call of the worker's generator.
    uint64_t bits
    uint32_t left


cdef inline uint8_t rank_of(uint16_t rtype) noexcept nogil:
    if rtype == TYPE_A or rtype == TYPE_AAAA:
        return RANK_ADDRESS
    if rtype == TYPE_CNAME:
        return RANK_CNAME
    return RANK_MX if rtype == TYPE_MX else RANK_REST


cdef inline uint32_t draw(Worker *w, Dice *dice, uint32_t below) noexcept nogil:
    # A number in 0 .. below-1; below is at most WIRE_RECORDS_MAX, so the bias is under a tenth and mostly none.
    cdef uint32_t bits
    if dice.left == 0:
        dice.bits = w.api.random(w)
        dice.left = 4
    bits = <uint32_t>(dice.bits & 0xFFFF)
    dice.bits >>= 16
    dice.left -= 1
    return bits % below


cdef bint skip_name(Cursor *c) noexcept nogil:
    # Steps over a name without following it. A name ends within 255 octets or the cursor is bad.
    cdef uint32_t first = c.at
    cdef uint8_t length
    while not c.bad and c.at - first < 255:
        length = cursor_u8(c)
        if length >= 0xC0:
            cursor_u8(c)
            return not c.bad
        if length >= 0x40:
            return False
        if length == 0:
            return not c.bad
        cursor_take(c, length)
    return False


cdef bint read_span(const uint8_t *msg, Cursor *c, Span *span) noexcept nogil:
    span.start = c.at
    if not skip_name(c):
        return False
    span.owner = <uint16_t>(c.at - span.start)
    span.target = 0
    if span.owner == 2 and msg[span.start] >= 0xC0:
        span.target = get16(msg + span.start) & 0x3FFF
    span.rank = rank_of(cursor_u16(c))
    cursor_take(c, 6)                      # class, TTL
    cursor_take(c, cursor_u16(c))          # RDLENGTH, RDATA
    span.end = c.at
    return not c.bad


cdef bint movable(const uint8_t *msg, const Span *group, uint32_t n) noexcept nogil:
    # Whether n neighbours may change places whole. Either every owner points before all of them, or all are
    # equal in owner octets and size, so that whatever points to one of the owners finds the same octets there.
    cdef uint32_t i
    cdef bint pointers = True
    cdef bint alike = True
    for i in range(n):
        if group[i].target == 0 or group[i].target >= group[0].start:
            pointers = False
        if (group[i].owner != group[0].owner or group[i].end - group[i].start != group[0].end - group[0].start
                or memcmp(msg + group[i].start, msg + group[0].start, group[0].owner) != 0):
            alike = False
    return pointers or alike


cdef void move(Worker *w, uint8_t *msg, const Span *group, uint32_t n, const uint16_t *order) noexcept nogil:
    # Puts neighbouring records into another order, through the scratch buffer.
    cdef uint32_t i, j
    cdef uint32_t at = group[0].start
    memcpy(w.scratch, msg + at, group[n - 1].end - at)
    for i in range(n):
        j = order[i]
        memcpy(msg + at, w.scratch + (group[j].start - group[0].start), group[j].end - group[j].start)
        at += group[j].end - group[j].start


cdef bint shuffle(Worker *w, Dice *dice, uint16_t *order, uint32_t n) noexcept nogil:
    # Draws an order of n > 0; whether it is another than the one there is.
    cdef uint32_t i, j
    cdef uint16_t other
    cdef bint moved = False
    for i in range(n):
        order[i] = <uint16_t>i
    for i in range(n - 1):
        j = i + draw(w, dice, n - i)
        if j != i:
            other = order[i]
            order[i] = order[j]
            order[j] = other
            moved = True
    return moved


include "_loadbalance_weights.pxi"


cdef struct State:
    # The worker's own room, touched only when needed.
    Record *records             # to sort the longest section in
    uint16_t *order             # which address comes where
    uint16_t *group             # twice as much, to sort them by network
    Image image                 # of the weights
    Table weights               # ... opened


include "_loadbalance_deal.pxi"


cdef void permute(Worker *w, Dice *dice, Stage *s, const Config *how, uint8_t *msg, uint32_t size, const Span *group,
                  uint32_t n) noexcept nogil:
    # Moves n <= NEAR neighbouring records into a random order, or the one that weights or networks say.
    cdef uint16_t order[NEAR]
    cdef Record records[NEAR]
    cdef uint32_t i, fixed
    if how == NULL:
        if shuffle(w, dice, order, n):
            move(w, msg, group, n, order)
        return
    for i in range(n):
        fixed = group[i].start + group[i].owner
        records[i].owner = group[i].start
        records[i].rtype = get16(msg + fixed)
        records[i].rdata = fixed + 10
        records[i].rdlen = get16(msg + fixed + 8)
    if deal(w, dice, s, msg, size, records, n, order):
        move(w, msg, group, n, order)


cdef int near_section(Worker *w, Dice *dice, Stage *s, const Config *how, uint8_t *msg, uint32_t size, Cursor *c,
                      uint32_t n) noexcept nogil:
    # Walks one section of n records and, where its order is right but for the draw, permutes the addresses.
    cdef Span spans[NEAR]
    cdef uint32_t i
    cdef uint32_t first = 0
    cdef uint32_t addresses = 0
    cdef uint32_t exchanges = 0
    cdef uint8_t place
    cdef uint8_t before = 0
    if n > NEAR:
        return ANEW
    for i in range(n):
        if not read_span(msg, c, &spans[i]):
            return BROKEN
        place = spans[i].rank if how == NULL else how.places[spans[i].rank]
        if place < before:
            return ANEW
        before = place
        if spans[i].rank == RANK_ADDRESS:
            if addresses == 0:
                first = i
            addresses += 1
        elif spans[i].rank == RANK_MX:
            exchanges += 1
    if exchanges > 1 and (how == NULL or how.mode == ROUND_ROBIN):
        return ANEW
    if addresses > 1:
        if not movable(msg, &spans[first], addresses):
            return ANEW
        permute(w, dice, s, how, msg, size, &spans[first], addresses)
    return DONE


cdef int near(Worker *w, Dice *dice, Stage *s, uint8_t *msg, uint32_t size) noexcept nogil:
    # All three sections in place. A section of one record is never touched; walking ends with the last longer one.
    cdef const Config *how = <const Config *>s.config
    cdef Cursor c
    cdef uint32_t section, n, _question
    cdef uint32_t last = 0
    cdef Span skipped
    cdef int outcome
    for section in range(3):
        if get16(msg + 6 + 2 * section) > 1:
            last = section
    cursor_open(&c, msg, WIRE_HEADER, size)
    for _question in range(get16(msg + 4)):
        if not skip_name(&c):
            return BROKEN
        cursor_take(&c, 4)
    for section in range(last + 1):
        n = get16(msg + 6 + 2 * section)
        if n == 1 or (section == SECTION_AUTHORITY and how != NULL and how.mode == WEIGHTED):
            while n > 0:
                if not read_span(msg, &c, &skipped):
                    return BROKEN
                n -= 1
        elif n > 1:
            outcome = near_section(w, dice, s, NULL if section == SECTION_AUTHORITY else how, msg, size, &c, n)
            if outcome != DONE:
                return outcome
    return DONE


cdef void reorder(Record *records, Record *spare, const uint16_t *order, uint32_t n) noexcept nogil:
    cdef uint32_t i
    memcpy(spare, records, n * sizeof(Record))
    for i in range(n):
        records[i] = spare[order[i]]


cdef void arrange(Worker *w, Dice *dice, Stage *s, const Config *how, Query *q, Record *records,
                  uint32_t n) noexcept nogil:
    # Orders the n records of one section by rank, then the addresses and the exchanges.
    cdef State *st = <State *>s.state
    cdef Record *spare = st.records
    cdef uint32_t counts[RANKS]
    cdef uint32_t starts[RANKS]
    cdef uint32_t i, at, place
    cdef uint8_t rank
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        counts[rank_of(records[i].rtype)] += 1
    if how != NULL and how.mode == WEIGHTED and counts[RANK_ADDRESS] == 0:
        return
    at = 0
    for place in range(RANKS):
        for rank in range(RANKS):
            if (rank if how == NULL else how.places[rank]) == place:
                starts[rank] = at
                at += counts[rank]
    memcpy(spare, records, n * sizeof(Record))
    for i in range(n):
        rank = rank_of(spare[i].rtype)
        records[starts[rank]] = spare[i]
        starts[rank] += 1
    for rank in range(RANK_ADDRESS, RANKS):
        if counts[rank] < 2 or (rank == RANK_MX and how != NULL and how.mode == WEIGHTED):
            continue
        at = starts[rank] - counts[rank]
        if rank == RANK_ADDRESS and how != NULL:
            deal(w, dice, s, q.reply, q.reply_len, records + at, counts[rank], st.order)
        else:
            shuffle(w, dice, st.order, counts[rank])
        reorder(records + at, spare, st.order, counts[rank])


cdef void anew(Worker *w, Dice *dice, Stage *s, Query *q) noexcept nogil:
    # Indexes the reply, reorders the index and writes the message from it. A reply that is malformed or that
    # would grow over what may lie behind it (the options of its OPT) stays as it is.
    cdef const Config *how = <const Config *>s.config
    cdef bint authority
    cdef uint32_t first = 0
    cdef uint32_t past
    cdef bint truncated = False
    cdef size_t size
    if wire_scan(q.reply, q.reply_len, w.scan) != 0:
        return
    while first < w.scan.n:
        past = first
        while past < w.scan.n and w.scan.records[past].section == w.scan.records[first].section:
            past += 1
        authority = w.scan.records[first].section == SECTION_AUTHORITY
        if past - first > 1 and not (authority and how != NULL and how.mode == WEIGHTED):
            arrange(w, dice, s, NULL if authority else how, q, w.scan.records + first, past - first)
        first = past
    size = wire_compress(q.reply, w.scan, w.scratch, WIRE_MAX, &truncated)
    if size == 0 or truncated:
        return
    if size > q.reply_len:
        if q.options_len != 0:
            return
        w.api.reply_room(w, q)             # the reply may lie in a buffer of its own size
    memcpy(q.reply, w.scratch, size)
    q.reply_len = <uint32_t>size


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *how = <const Config *>s.config
    cdef Dice dice
    cdef uint8_t *msg = q.reply
    if not q.written or q.reply_len < WIRE_HEADER:
        return
    if get16(msg + 6) < 2 and get16(msg + 8) < 2 and get16(msg + 10) < 2:
        return
    if q.rcode != RCODE_NOERROR or (msg[3] & 15) != RCODE_NOERROR:
        return
    if q.pkt.qtype == TYPE_AXFR or q.pkt.qtype == TYPE_IXFR:
        return
    if how != NULL and how.mode == WEIGHTED and not (q.pkt.qtype == TYPE_A or q.pkt.qtype == TYPE_AAAA
                                                     or q.pkt.qtype == TYPE_SRV):
        return
    dice.left = 0
    if near(w, &dice, s, msg, q.reply_len) == ANEW:
        anew(w, &dice, s, q)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    cdef State *st = <State *>calloc(1, sizeof(State))
    s.state = st
    if st == NULL:
        return -1
    st.records = <Record *>malloc(WIRE_RECORDS_MAX * sizeof(Record))
    st.order = <uint16_t *>malloc(WIRE_RECORDS_MAX * sizeof(uint16_t))
    st.group = <uint16_t *>malloc(2 * WIRE_RECORDS_MAX * sizeof(uint16_t))
    return 0 if st.records != NULL and st.order != NULL and st.group != NULL else -1


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    cdef State *st = <State *>s.state
    if st != NULL:
        image_close(&st.image)
        free(st.records)
        free(st.order)
        free(st.group)
    free(st)
    s.state = NULL


cdef StageOps OPS
OPS.name = b"loadbalance"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.message = response
OPS.start = start
OPS.stop = stop


def stage(networks=(), Mapped weights=None) -> CompiledStage:
    """The stage. `networks`: those whose addresses come first, as (first, last) address in 16 octets, IPv4 mapped.
    `weights`: where images of them are published; the address that comes first is drawn by them. ValueError for both,
    and for networks that are none."""
    cdef Memory memory
    cdef Config *config
    cdef bytes first, last
    if not networks and weights is None:
        return compiled_stage(&OPS, NULL, None)
    if len(networks) > NETWORKS_MOST or (networks and weights is not None):
        raise ValueError(f"at most {NETWORKS_MOST} networks, or weights")
    memory = zeroed(sizeof(Config))
    config = <Config *>memory.at
    config.places[RANK_CNAME] = 0
    if weights is not None:
        config.mode = WEIGHTED
        config.feed = weights.feed
        config.places[RANK_REST] = 1
        config.places[RANK_ADDRESS] = 2
        config.places[RANK_MX] = 3
    else:
        config.places[RANK_ADDRESS] = 1
        config.places[RANK_MX] = 2
        config.places[RANK_REST] = 3
    for i, (first, last) in enumerate(networks):
        if len(first) != ADDRESS or len(last) != ADDRESS or first > last:
            raise ValueError("not a network")
        memcpy(config.networks[i].first, <const uint8_t *>first, ADDRESS)
        config.networks[i].ipv4 = first[:12] == MAPPED[:12]
        memcpy(config.networks[i].last, <const uint8_t *>last, ADDRESS)
    config.count = <uint32_t>len(networks)
    return compiled_stage(&OPS, config, (memory, weights))
