# SPDX-License-Identifier: Apache-2.0
#
# The way up: the client's question again, and the names, TTLs and response codes of the reply.
#
# Strategy: the rules are applied to the client's query once more, to know what is to be undone. A reply whose names
# need not change is changed where it stands; else it is written anew in the worker's scratch.

cdef bint map_back(const Config *c, const Draft *d, Text *t) noexcept nogil:
    # A name of the reply, after all name rules in the opposite order. Whether it changed.
    cdef const Rule *r
    cdef const Text *name
    cdef Text to
    cdef uint32_t i
    cdef const char *old
    cdef uint32_t n
    cdef bint changed = False
    for i in range(d.steps):
        r = &c.rules[d.step[d.steps - 1 - i]]
        if r.kind != NAME:
            continue
        if r.match == SUFFIX:
            old, n = r.new, r.new_len
        else:
            name = &d.names[d.at[d.steps - 1 - i] + 1]
            old, n = name.octets, name.len
        if n > t.len or memcmp(t.octets + (t.len - n), old, n) != 0:
            continue
        if r.match != SUFFIX and n < t.len and t.octets[t.len - n - 1] != b".":
            continue
        to.len = 0
        if not append(&to, t.octets, t.len - n):
            return False
        if r.match == SUFFIX:
            if not append(&to, r.old, r.old_len):
                return False
        else:
            name = &d.names[d.at[d.steps - 1 - i]]
            if not append(&to, name.octets, name.len):
                return False
        t.len = to.len
        memcpy(t.octets, to.octets, to.len)
        changed = True
    return changed


cdef uint32_t ttl_of(const Config *c, const Draft *d, uint32_t ttl) noexcept nogil:
    cdef const Rule *r
    cdef uint32_t i
    for i in range(d.steps):
        r = &c.rules[d.step[d.steps - 1 - i]]
        if r.kind == TTL:
            ttl = r.low if ttl < r.low else r.high if ttl > r.high else ttl
    return ttl


cdef uint16_t code_of(const Config *c, const Draft *d, uint16_t code) noexcept nogil:
    cdef const Rule *r
    cdef uint32_t i
    for i in range(d.steps):
        r = &c.rules[d.step[d.steps - 1 - i]]
        if r.kind == CODE and code == r.low:
            code = <uint16_t>r.high
    return code


cdef bint has_step(const Config *c, const Draft *d, int kind) noexcept nogil:
    cdef uint32_t i
    for i in range(d.steps):
        if c.rules[d.step[i]].kind == kind:
            return True
    return False


cdef struct Out:
    uint8_t *p
    uint32_t n
    uint32_t ulen
    bint full


cdef void emit(Out *o, const uint8_t *octets, uint32_t n) noexcept nogil:
    if o.full or n > WIRE_MAX - o.n:
        o.full = True
        return
    memcpy(o.p + o.n, octets, n)
    o.n += n


cdef uint32_t name_back(const Config *c, const Draft *d, const uint8_t *msg, uint32_t size, uint32_t at, bint change,
                        uint8_t *name, size_t *used) noexcept nogil:
    # The name at `at`, mapped back where that makes a name; octets.
    cdef Text t
    cdef uint8_t other[256]
    cdef int n = wire_name(msg, size, at, name, used)
    cdef int m
    if n == 0 or not change:
        return <uint32_t>n
    t.len = <uint32_t>wire_name_text(name, n, t.octets, TEXT)
    if map_back(c, d, &t):
        m = wire_name_from_text(t.octets, t.len, other)
        if m:
            memcpy(name, other, m)
            return <uint32_t>m
    return <uint32_t>n


cdef bint has_value(uint16_t rtype) noexcept nogil:
    # Types whose (first) name CoreDNS changes.
    return rtype in (TYPE_CNAME, TYPE_NS, TYPE_PTR, TYPE_DNAME, TYPE_SOA, TYPE_MX, TYPE_SRV, TYPE_NAPTR)


cdef bint put_record(const Config *c, const Draft *d, const Query *q, const Packet *client, const Record *r, bint names,
                     Out *o) noexcept nogil:
    # One record, anew. False: it does not fit.
    cdef uint8_t name[256]
    cdef uint8_t fixed[12]
    cdef size_t used = 0
    cdef uint32_t before = o.n
    cdef uint32_t n = name_back(c, d, q.reply, q.reply_len, r.owner, names, name, &used)
    cdef uint32_t shape = rdata_shape(r.rtype)
    cdef uint32_t end = r.rdata + r.rdlen
    cdef uint32_t at = rdata_names_at(q.reply, r.rdata, end, shape) if shape else end
    cdef uint32_t length_at, k
    if n == client.qname_len and memcmp(name, client.wire + WIRE_HEADER, n) == 0:
        put16(fixed, 0xC000 | WIRE_HEADER)
        emit(o, fixed, 2)
    else:
        emit(o, name, n)
    memcpy(fixed, q.reply + r.ttl_off - 4, RR_FIXED)
    put32(fixed + 4, ttl_of(c, d, r.ttl))
    emit(o, fixed, RR_FIXED)
    length_at = o.n - 2
    o.ulen += n + RR_FIXED
    emit(o, q.reply + r.rdata, at - r.rdata)
    for k in range(shape & SHAPE_NAMES):
        n = name_back(c, d, q.reply, q.reply_len, at, names and k == 0 and has_value(r.rtype), name, &used)
        emit(o, name, n)
        at += <uint32_t>used
    emit(o, q.reply + at, end - at)
    if o.full:
        o.n = before
        return False
    put16(o.p + length_at, o.n - length_at - 2)
    o.ulen += o.n - length_at - 2
    return True


cdef bint anew(Worker *w, const Config *c, const Draft *d, Query *q, const Packet *client, Frame *f) noexcept nogil:
    # The whole reply, anew. False: it is no message.
    cdef Out o
    cdef uint32_t i
    cdef uint32_t own
    cdef uint32_t question = <uint32_t>client.qname_len + 4
    cdef uint16_t counts[3]
    cdef bint names = has_step(c, d, NAME)
    if wire_scan(q.reply, q.reply_len, w.scan) != 0:
        return False
    own = q.ulen - w.scan.ulen if q.ulen > w.scan.ulen else 0       # of the OPT that it came with
    memset(counts, 0, sizeof(counts))
    o.p = w.scratch
    o.n = WIRE_HEADER
    o.full = False
    memset(o.p, 0, WIRE_HEADER)
    memcpy(o.p, q.reply, 4)
    emit(&o, client.wire + WIRE_HEADER, question)
    o.ulen = o.n
    for i in range(w.scan.n):
        if not put_record(c, d, q, client, &w.scan.records[i], names, &o):
            put16(o.p + 2, get16(o.p + 2) | FLAG_TC)
            break
        counts[w.scan.records[i].section] += 1
    o.p[5] = 1
    for i in range(3):
        put16(o.p + 6 + 2 * i, counts[i])
    if q.options_len:
        # They may lie where the room for the new reply is. What is longer than this comes from no honest server.
        if q.options_len <= ASKED:
            memcpy(f.asked, q.options, q.options_len)
            q.options = f.asked
            f.opt_len = 0
        else:
            own -= q.options_len if own > q.options_len else own
            q.options_len = 0
    if o.n > q.reply_len:
        w.api.reply_room(w, q)
    memcpy(q.reply, o.p, o.n)
    q.reply_len = o.n
    q.ulen = o.ulen + own
    return True


cdef bint same_name(const Query *q, const Packet *client) noexcept nogil:
    # Whether the reply's question has the client's name, in whatever case.
    cdef uint8_t name[256]
    cdef uint32_t n = client.qname_len
    if q.reply_len < WIRE_HEADER + n + 4 or get16(q.reply + 4) != 1:
        return False
    memcpy(name, q.reply + WIRE_HEADER, n)
    wire_lower(name, n)
    return memcmp(name, client.qname, n) == 0


cdef void set_ttls(Worker *w, const Config *c, const Draft *d, Query *q) noexcept nogil:
    cdef const Record *r
    cdef uint32_t i
    if wire_scan(q.reply, q.reply_len, w.scan) == 0:
        for i in range(w.scan.n):
            r = &w.scan.records[i]
            put32(q.reply + r.ttl_off, ttl_of(c, d, r.ttl))


cdef bint repeated(const Config *c, uint16_t code, bint udp) noexcept nogil:
    cdef uint32_t i
    if code in (OPTION_NSID, OPTION_EXPIRE, OPTION_COOKIE, OPTION_PADDING):
        return True
    if code == OPTION_KEEPALIVE and not udp:
        return True
    for i in range(c.echo_count):
        if c.echoes[i] == code:
            return True
    return False


cdef uint32_t echoed_octets(const Config *c, const Query *q) noexcept nogil:
    # Octets of the client's options that the server repeats.
    cdef const uint8_t *base = q.pkt.wire + q.pkt.opt_rdata
    cdef uint32_t at = 0
    cdef uint32_t octets = 0
    cdef uint32_t n
    while at + 4 <= q.pkt.opt_rdlen:
        n = 4 + <uint32_t>get16(base + at + 2)
        octets += n if repeated(c, get16(base + at), q.proto == PROTO_UDP) else 0
        at += n
    return octets


cdef void repeat_options(const Config *c, Frame *f, Query *q) noexcept nogil:
    # The options of the query that go back, gathered where they lie.
    cdef uint8_t *base = f.asked + f.opt_at
    cdef uint32_t at = 0
    cdef uint32_t kept = 0
    cdef uint32_t n, i
    while at + 4 <= f.opt_len:
        n = 4 + <uint32_t>get16(base + at + 2)
        if repeated(c, get16(base + at), q.proto == PROTO_UDP):
            for i in range(n):
                base[kept + i] = base[at + i]
            kept += n
        at += n
    q.has_opt = True
    q.set_do = False
    q.options = base
    q.options_len = f.opt_len = <uint16_t>kept


cdef void edit(Worker *w, const Config *c, const Draft *d, Query *q, const Packet *client, Frame *f) noexcept nogil:
    # Gives a reply the client's question, and undoes in its records what the rules did.
    cdef bint brought = q.has_opt
    cdef uint16_t code = code_of(c, d, q.rcode)
    if q.reply_len < WIRE_HEADER:
        return
    if same_name(q, client) and not has_step(c, d, NAME):
        memcpy(q.reply + WIRE_HEADER, client.wire + WIRE_HEADER, client.qname_len + 4)
        if has_step(c, d, TTL):
            set_ttls(w, c, d, q)
    elif not anew(w, c, d, q, client, f):
        return
    q.rcode = code
    q.reply[3] = <uint8_t>((q.reply[3] & 0xF0) | (code & 15))
    if f.touched:
        if not brought:
            repeat_options(c, f, q)
        q.opt_size = OPT_SIZE


cdef bint write_error(Worker *w, const Config *c, Stage *s, Query *q, Frame *f) noexcept nogil:
    # The reply of a chain that wrote none: written here, because rules may change it.
    cdef size_t n
    if q.dropped or q.rcode not in (RCODE_SERVFAIL, RCODE_REFUSED, RCODE_FORMERR, RCODE_NOTIMP):
        return False
    w.api.reply_room(w, q)
    n = wire_rcode(&q.pkt, q.rcode, q.reply, WIRE_MAX)
    if n == 0:
        return False
    q.written = True
    q.writer = <uint8_t>(s.index + 1 if s.index < 255 else 255)
    q.reply_len = q.ulen = <uint32_t>n
    q.has_opt = False
    q.options_len = 0
    if f.touched:
        repeat_options(c, f, q)
        q.opt_size = OPT_SIZE
        q.ulen += OPT_FIXED + q.options_len
    elif q.pkt.has_opt:
        q.ulen += OPT_FIXED + echoed_octets(c, q)
    return True


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef const Config *c = <const Config *>s.config
    cdef Draft d
    if not f.matched:
        return
    if f.changed:
        query_asked(q, &q.pkt)
        q.pkt = f.client
        q.pkt.wire = f.octets
    if q.streamed or (not q.written and not write_error(w, c, s, q, f)):
        return
    draft(c, &q.pkt, f, &d)
    edit(w, c, &d, q, &q.pkt, f)


cdef void message(Worker *w, Stage *s, Query *q) noexcept nogil:
    # One message of a stream: the stages behind have not ended, so the client's packet stays where it is kept.
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef Packet client
    cdef Draft d
    if not f.matched:
        return
    client = f.client if f.changed else q.pkt
    if f.changed:
        client.wire = f.octets
    draft(<const Config *>s.config, &client, f, &d)
    edit(w, <const Config *>s.config, &d, q, &client, f)
