# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of log: one fixed record for each query that a rule wants.

Strategy: everything happens on the way back. The first rule whose scope holds the query's name decides; only a rule
that asks for classes has the reply looked into (CoreDNS's types of response: no error, denial, everything else). The
record goes into the worker's ring with the number of the rule's format, and the values of the metadata labels in it;
another process writes the line.
"""

from libc.stdint cimport int16_t, int32_t, uint16_t, uint32_t, uint64_t, uint8_t
from fastdns._log cimport LOG_QUERY, QueryRecord, ring_commit, ring_reserve
from fastdns._stage cimport (
    NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, label_set, labels_octets, labels_put,
    query_room, record_query, zeroed,
)
from fastdns._sys cimport (
    CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, memcpy, memset, strlen, timespec,
)
from fastdns._wire cimport (
    FLAG_CD, FLAG_QR, FLAG_RD, FLAG_TC, OPCODE_NOTIFY, OPCODE_QUERY, RCODE_FORMERR, RCODE_NOERROR,
    RCODE_NOTIMP, RCODE_NXDOMAIN, RCODE_REFUSED, RCODE_SERVFAIL, SECTION_AUTHORITY, TYPE_AXFR, TYPE_IXFR, TYPE_NS,
    TYPE_RRSIG, TYPE_SOA, WIRE_HEADER, WIRE_NAME_MAX, Finish, get16, get32, wire_cuts, wire_limit, wire_lower,
    wire_name, wire_name_under, wire_scan,
)

cdef enum:
    CLASS_SUCCESS = 1
    CLASS_DENIAL = 2
    CLASS_ERROR = 4
    CLASS_ALL = 8
    OPCODE_UPDATE = 5
    OPT_FIXED = 11              # octets of an OPT without options
    LABELS_MAX = 255            # in one format

cdef enum Kind:
    # CoreDNS's types of response.
    KIND_NOERROR = 0
    KIND_NXDOMAIN = 1
    KIND_SERVERERROR = 2
    KIND_NODATA = 3
    KIND_DELEGATION = 4
    KIND_META = 5
    KIND_UPDATE = 6
    KIND_OTHERERROR = 7
    KINDS = 8

cdef const char **KIND_TEXT = [
    b"NOERROR", b"NXDOMAIN", b"SERVERERROR", b"NODATA", b"DELEGATION", b"META", b"UPDATE", b"OTHERERROR",
]

CLASSES = {"success": CLASS_SUCCESS, "denial": CLASS_DENIAL, "error": CLASS_ERROR, "all": CLASS_ALL}


cdef struct Rule:
    uint8_t scope[256]          # lower-cased wire form
    uint32_t scope_len          # 0: matches nothing
    uint32_t classes
    uint32_t format
    uint32_t labels_n
    int16_t *labels             # places of the format's labels, -1: none is kept


cdef struct Config:
    uint32_t count
    Rule *rules
    int type_label              # places of log/type and log/class, -1: nobody reads them
    int class_label


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef bint expired_signature(const Worker *w, const Query *q) noexcept nogil:
    # Whether a RRSIG of the scanned reply is outside of its validity (serial arithmetic, RFC 4034 3.1.5).
    cdef timespec ts
    cdef uint32_t now = 0
    cdef uint32_t i
    cdef const uint8_t *rdata
    for i in range(w.scan.n):
        if w.scan.records[i].rtype != TYPE_RRSIG or w.scan.records[i].rdlen < 18:
            continue
        if now == 0:
            clock_gettime(CLOCK_REALTIME, &ts)
            now = <uint32_t>ts.tv_sec
        rdata = q.reply + w.scan.records[i].rdata
        if <int32_t>(get32(rdata + 8) - now) < 0 or <int32_t>(now - get32(rdata + 12)) < 0:
            return True
    return False


cdef Kind written_kind(Worker *w, const Query *q) noexcept nogil:
    # The type of a written reply.
    cdef bint soa = False
    cdef bint ns = False
    cdef bint scanned = wire_scan(q.reply, q.reply_len, w.scan) == 0
    cdef uint32_t i
    if q.pkt.opcode == OPCODE_UPDATE:
        return KIND_UPDATE
    if q.pkt.opcode == OPCODE_NOTIFY or q.pkt.qtype == TYPE_AXFR or q.pkt.qtype == TYPE_IXFR:
        return KIND_META
    if scanned and q.has_opt and q.set_do and expired_signature(w, q):
        return KIND_OTHERERROR
    if get16(q.reply + 6) > 0 and q.rcode == RCODE_NOERROR:
        return KIND_NOERROR
    if get16(q.reply + 6) > 0 and q.rcode == RCODE_NXDOMAIN:
        return KIND_OTHERERROR
    if q.rcode == RCODE_NXDOMAIN:
        return KIND_NXDOMAIN
    if q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_NOTIMP:
        return KIND_SERVERERROR
    if q.rcode != RCODE_NOERROR:
        return KIND_OTHERERROR
    for i in range(w.scan.n if scanned else 0):
        if w.scan.records[i].section == SECTION_AUTHORITY:
            soa = soa or w.scan.records[i].rtype == TYPE_SOA
            ns = ns or w.scan.records[i].rtype == TYPE_NS
    return KIND_NODATA if soa else KIND_DELEGATION if ns else KIND_NOERROR


cdef Kind reply_kind(Worker *w, const Query *q) noexcept nogil:
    if q.written and q.reply_len >= WIRE_HEADER:
        return written_kind(w, q)
    if not server_writes(q):
        return KIND_OTHERERROR
    # The server's reply: opcode and type of the query, and an error's rcode.
    if q.pkt.opcode == OPCODE_UPDATE:
        return KIND_UPDATE
    if q.pkt.opcode == OPCODE_NOTIFY or q.pkt.qtype == TYPE_AXFR or q.pkt.qtype == TYPE_IXFR:
        return KIND_META
    return KIND_SERVERERROR if q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_NOTIMP else KIND_OTHERERROR


cdef inline uint32_t class_of(Kind kind) noexcept nogil:
    if kind == KIND_NOERROR or kind == KIND_DELEGATION:
        return CLASS_SUCCESS
    return CLASS_DENIAL if kind == KIND_NXDOMAIN or kind == KIND_NODATA else CLASS_ERROR


cdef void say_kind(const Config *c, const Query *q, Kind kind) noexcept nogil:
    cdef uint32_t which = class_of(kind)
    cdef const char *text = b"success" if which == CLASS_SUCCESS else b"denial" if which == CLASS_DENIAL else b"error"
    cdef const char *name = KIND_TEXT[<int>kind]
    label_set(q, c.type_label, name, <uint32_t>strlen(name))
    label_set(q, c.class_label, text, <uint32_t>strlen(text))


cdef bint server_writes(const Query *q) noexcept nogil:
    # A bare return of one of these makes the server write the reply.
    return not q.dropped and (q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_REFUSED or q.rcode == RCODE_FORMERR
                              or q.rcode == RCODE_NOTIMP)


cdef bint cut(Worker *w, const Query *q) noexcept nogil:
    # Whether the reply is too long for the client. It is fitted after the chain, but CoreDNS's line shows it.
    cdef Finish f
    cdef uint32_t room
    f.udp = q.proto == 0
    f.limit = wire_limit(&q.pkt, f.udp)
    if q.tsig:
        room = query_room(q)
        f.limit = f.limit - room if f.limit > room else 0
    f.has_opt = q.has_opt
    f.options = q.options
    f.options_len = q.options_len
    f.cookie = q.cookie if q.cookie_len else NULL
    f.cookie_len = q.cookie_len
    # The OPT that is added has at most the options of the query, and a cookie.
    if q.reply_len + OPT_FIXED + (q.options_len if q.has_opt else q.pkt.length) + 4 + q.cookie_len <= f.limit:
        return False
    return wire_cuts(&q.pkt, &f, q.reply, q.reply_len, w.scan, w.scratch)


cdef void fill(Worker *w, const Query *q, QueryRecord *r) noexcept nogil:
    cdef timespec ts
    cdef uint64_t now
    clock_gettime(CLOCK_MONOTONIC, &ts)
    now = <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec
    r.duration_ns = now - q.start_ns if now > q.start_ns else 0
    record_query(w, q, r)
    if q.written:
        r.written = 1
        r.rcode = q.stream_rcode if q.streamed else q.rcode
        r.rsize = q.ulen
        r.rflags = get16(q.reply + 2)
        if not r.rflags & FLAG_TC and cut(w, q):
            r.rflags |= FLAG_TC
    elif server_writes(q):
        r.written = 1
        r.rcode = q.rcode
        r.rsize = WIRE_HEADER + q.pkt.qname_len + 4
        r.rflags = FLAG_QR | (q.pkt.flags & (FLAG_RD | FLAG_CD) if q.pkt.opcode == OPCODE_QUERY else 0)


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const Rule *rule = NULL
    cdef QueryRecord *r
    cdef uint8_t name[256]
    cdef size_t used
    cdef uint32_t i
    cdef Kind kind
    cdef int n
    if w.ring == NULL or q.background:
        return
    n = wire_name(q.pkt.wire, q.pkt.length, WIRE_HEADER, name, &used)
    if n <= 0 or n > WIRE_NAME_MAX:
        return
    wire_lower(name, n)
    for i in range(c.count):
        if c.rules[i].scope_len and wire_name_under(name, n, c.rules[i].scope, c.rules[i].scope_len):
            rule = &c.rules[i]
            break
    if rule == NULL:
        return
    if not rule.classes & CLASS_ALL or c.type_label >= 0 or c.class_label >= 0:
        kind = reply_kind(w, q)
        say_kind(c, q, kind)
        if not rule.classes & (CLASS_ALL | class_of(kind)):
            return
    r = <QueryRecord *>ring_reserve(w.ring, LOG_QUERY, <uint32_t>(sizeof(QueryRecord) + n)
                                    + labels_octets(q, rule.labels, rule.labels_n))
    if r == NULL:
        return
    memset(r, 0, sizeof(QueryRecord))
    r.format = rule.format
    r.qname_len = <uint16_t>n
    r.labels = <uint8_t>rule.labels_n
    fill(w, q, r)
    memcpy(<uint8_t *>r + sizeof(QueryRecord), name, n)
    labels_put(q, rule.labels, rule.labels_n, <uint8_t *>r + sizeof(QueryRecord) + n)
    ring_commit(w.ring)


cdef StageOps OPS
OPS.name = b"log"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL


def stage(rules: list, type_label: int = -1, class_label: int = -1) -> CompiledStage:
    """The logging stage. A rule is (scope as a lower-cased wire name, b"" for one that matches nothing; CLASSES or-ed
    together; the number of its format by fastdns.metrics.log_format; the places of the labels in it). The places of
    log/type and log/class, where somebody reads them."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef Rule *rule
    cdef const uint8_t *raw
    config.type_label = type_label
    config.class_label = class_label
    config.rules = <Rule *>memory.room(len(rules), sizeof(Rule))
    for scope, classes, number, labels in rules:
        rule = &config.rules[config.count]
        if len(scope) > WIRE_NAME_MAX:
            raise ValueError("a scope longer than a name")
        raw = scope
        memcpy(rule.scope, raw, len(scope))
        rule.scope_len = <uint32_t>len(scope)
        rule.classes = classes
        rule.format = number
        if len(labels) > LABELS_MAX:
            raise ValueError(f"a format has at most {LABELS_MAX} labels")
        rule.labels = <int16_t *>memory.room(len(labels), sizeof(int16_t))
        for place in labels:
            rule.labels[rule.labels_n] = place
            rule.labels_n += 1
        config.count += 1
    return compiled_stage(&OPS, config, memory)
