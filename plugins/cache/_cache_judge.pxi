# SPDX-License-Identifier: Apache-2.0
#
# What a reply is worth to the cache: its type, whether it answers its question, how long it lives.
#
# Strategy: works on the index that wire_scan made of the reply, without OPT. The usual reply (no CNAME, owners that
# point to the question) is judged without expanding a name. A chain of CNAMEs is followed by keyed hashes of the
# owners, at most HOPS_MAX links, so that a hostile reply costs no more than its octets; a longer chain counts as no
# answer.

cdef enum Judgement:
    # CoreDNS's response types.
    NO_ERROR = 0
    NAME_ERROR = 1
    SERVER_ERROR = 2
    NO_DATA = 3
    DELEGATION = 4
    META = 5
    OTHER_ERROR = 6

cdef enum:
    HOPS_MAX = 64
    DEFAULT_TTL = 5             # seconds, of replies that say nothing of their life
    YEARS_68 = 1 << 31          # seconds: half the number space of RRSIG times (RFC 4034 3.1.5)


cdef bint name_is(const uint8_t *msg, size_t n, uint32_t at, const uint8_t *lower, uint32_t length) noexcept nogil:
    """Whether the name at an offset equals a lower-cased one."""
    cdef uint8_t name[256]
    cdef size_t used = 0
    if wire_name(msg, n, at, name, &used) != <int>length:
        return False
    wire_lower(name, length)
    return memcmp(name, lower, length) == 0


cdef inline bint owner_is(const uint8_t *msg, size_t n, uint32_t at, const uint8_t *lower, uint32_t length,
                          bint question) noexcept nogil:
    # question: lower is the name of the message's question, to which most owners just point.
    return (question and get16(msg + at) == 0xC00C) or name_is(msg, n, at, lower, length)


cdef inline bint class_is(const Record *r, uint16_t qclass) noexcept nogil:
    return qclass == CLASS_ANY or r.rclass == qclass


cdef uint64_t hash_at(const CacheView *v, const uint8_t *msg, size_t n, uint32_t at) noexcept nogil:
    cdef uint8_t name[256]
    cdef size_t used = 0
    cdef int length = wire_name(msg, n, at, name, &used)
    wire_lower(name, length)
    return wire_siphash13(v.seed, name, length)


cdef int alias_of(const uint8_t *msg, size_t n, const Message *m, const uint64_t *hashes, uint64_t hash,
                  const uint8_t *lower, uint32_t length, uint16_t qclass, uint8_t *target) noexcept nogil:
    """The one name that CNAMEs give an owner, lower-cased into target[256]: its length, 0 without CNAME, -1 if there
    are several. hashes[i] is that of answer i's owner where it is a CNAME."""
    cdef size_t used = 0
    cdef int found = 0
    cdef uint32_t i
    cdef const Record *r
    for i in range(m.counts[1]):
        r = &m.records[i]
        if r.rtype != TYPE_CNAME or hashes[i] != hash or not class_is(r, qclass):
            continue
        if not name_is(msg, n, r.owner, lower, length):
            continue
        if found and not name_is(msg, n, r.rdata, target, found):
            return -1
        if not found:
            found = wire_name(msg, n, r.rdata, target, &used)
            wire_lower(target, found)
    return found


cdef bint has_type(const uint8_t *msg, size_t n, const Message *m, uint16_t rtype, uint16_t qclass,
                   const uint8_t *lower,
                   uint32_t length, bint question) noexcept nogil:
    """Whether the answer section holds a record of the type (TYPE_ANY: any) at the owner."""
    cdef uint32_t i
    cdef const Record *r
    for i in range(m.counts[1]):
        r = &m.records[i]
        if (rtype == TYPE_ANY or r.rtype == rtype) and class_is(r, qclass):
            if owner_is(msg, n, r.owner, lower, length, question):
                return True
    return False


cdef bint answers(Worker *w, const Query *q, const Message *m) noexcept nogil:
    """Whether a NOERROR reply holds the type asked for at the end of the chain of CNAMEs from the name asked for."""
    cdef const uint8_t *msg = q.reply
    cdef const CacheView *v = <const CacheView *>w.cache
    cdef size_t n = q.reply_len
    cdef uint64_t *hashes = <uint64_t *>w.scratch
    cdef uint8_t one[256]
    cdef uint8_t other[256]
    cdef uint32_t i, length = q.pkt.qname_len
    cdef uint16_t qclass = q.pkt.qclass
    cdef int hop, next_length
    cdef bint aliases = False
    cdef bint question = m.counts[0] == 1
    if q.rcode != RCODE_NOERROR or m.counts[1] == 0:
        return False
    if q.pkt.qtype == TYPE_ANY:
        return has_type(msg, n, m, TYPE_ANY, qclass, q.pkt.qname, length, question)
    for i in range(m.counts[1]):
        if m.records[i].rtype == TYPE_CNAME:
            aliases = True
            hashes[i] = hash_at(v, msg, n, m.records[i].owner)
    if not aliases:
        return q.pkt.qtype != TYPE_CNAME and has_type(msg, n, m, q.pkt.qtype, qclass, q.pkt.qname, length, question)
    memcpy(one, q.pkt.qname, length)
    for hop in range(HOPS_MAX):
        next_length = alias_of(msg, n, m, hashes, wire_siphash13(v.seed, one, length), one, length, qclass, other)
        if q.pkt.qtype == TYPE_CNAME:
            return next_length > 0
        if next_length < 0:
            return False
        if next_length == 0:
            return has_type(msg, n, m, q.pkt.qtype, qclass, one, length, question and hop == 0)
        length = <uint32_t>next_length
        memcpy(one, other, length)
    return False


cdef bint holds(const Message *m, int section, uint16_t rtype) noexcept nogil:
    cdef uint32_t i
    for i in range(m.n):
        if m.records[i].section == section and m.records[i].rtype == rtype:
            return True
    return False


cdef bint outside_validity(const uint8_t *msg, const Message *m) noexcept nogil:
    """Whether any RRSIG is not valid now; its times are serial numbers around the present (RFC 4034 3.1.5)."""
    cdef timespec ts
    cdef int64_t now, start, end
    cdef uint32_t i
    ts.tv_sec = 0
    for i in range(m.n):
        if m.records[i].rtype != TYPE_RRSIG or m.records[i].rdlen < 18:
            continue
        if ts.tv_sec == 0:
            clock_gettime(CLOCK_REALTIME, &ts)
        now = ts.tv_sec
        end = get32(msg + m.records[i].rdata + 8)
        start = get32(msg + m.records[i].rdata + 12)
        end += (end - now) / <int64_t>YEARS_68 * <int64_t>YEARS_68
        start += (start - now) / <int64_t>YEARS_68 * <int64_t>YEARS_68
        if now < start or now > end:
            return True
    return False


cdef int typify(const Query *q, const Message *m) noexcept nogil:
    """CoreDNS's type of a reply."""
    cdef int opcode = (m.flags >> 11) & 15
    cdef bint soa
    if opcode == OPCODE_NOTIFY or opcode == OPCODE_UPDATE:
        return META
    if m.counts[0] and (m.qtype == TYPE_AXFR or m.qtype == TYPE_IXFR):
        return META
    if q.has_opt and q.set_do and outside_validity(q.reply, m):
        return OTHER_ERROR
    if m.counts[1]:
        if q.rcode == RCODE_NOERROR:
            return NO_ERROR
        if q.rcode == RCODE_NXDOMAIN:
            return OTHER_ERROR
    soa = holds(m, SECTION_AUTHORITY, TYPE_SOA)
    if q.rcode == RCODE_NOERROR:
        if soa:
            return NO_DATA
        return DELEGATION if holds(m, SECTION_AUTHORITY, TYPE_NS) else NO_ERROR
    if q.rcode == RCODE_NXDOMAIN:
        return NAME_ERROR
    return SERVER_ERROR if q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_NOTIMP else OTHER_ERROR


cdef void judge(Worker *w, const Query *q, Verdict *out) noexcept nogil:
    """Judges the reply that w.scan indexes."""
    cdef const Message *m = w.scan
    cdef bint soa = holds(m, SECTION_AUTHORITY, TYPE_SOA)
    out.type = typify(q, m)
    out.kind = out.type
    out.answering = answers(w, q, m)
    if out.type == NO_ERROR and m.counts[1] and not out.answering and soa:
        out.kind = NO_DATA
    out.storable = out.kind != META and out.kind != OTHER_ERROR and not m.flags & FLAG_TC
    if out.kind == NAME_ERROR and not soa:
        out.storable = False
    if out.kind == NO_ERROR and m.counts[1] and not out.answering:
        out.storable = False
    out.matches = m.flags & FLAG_QR and wire_question_matches(q.reply, q.reply_len, &q.pkt, False)


cdef uint32_t life(const Config *c, const Message *m, int kind) noexcept nogil:
    """Seconds that a reply lives, and the TTL of all its records."""
    cdef int table = CACHE_DENIAL if kind == NAME_ERROR or kind == NO_DATA else CACHE_SUCCESS
    cdef uint32_t ttl = DEFAULT_TTL
    cdef uint32_t i
    if kind == SERVER_ERROR:
        return c.servfail
    if (kind == NO_ERROR or kind == NAME_ERROR or kind == NO_DATA) and m.n:
        ttl = c.ttl_max[table]
        for i in range(m.n):
            if m.records[i].ttl < ttl:
                ttl = m.records[i].ttl
    if ttl < c.ttl_min[table]:
        ttl = c.ttl_min[table]
    return ttl if ttl < c.ttl_max[table] else c.ttl_max[table]
