# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of dns64: an answer without AAAA records becomes one with the A records' addresses in a prefix.

Strategy: three comparisons let every query pass that is not for AAAA. The others are marked in their frame, and their
reply is looked at on its way back. Where it has to be translated, the query is held, and its octets, with A for a type,
are sent through the routing of the whole server as a query of the same client. The reply to that is edited in a buffer
of the worker: an A record becomes AAAA where it stands, its address behind the message; then all is written anew.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._stage cimport (
    NEXT, ORIGIN_LOOKUP, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, stage_frame, zeroed,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport free, malloc, memcpy, memset
from fastdns._wire cimport (
    CLASS_IN, FLAG_TC, OPCODE_QUERY, OPTION_EXPIRE, OPTION_NSID, OPTION_PADDING, RCODE_FORMERR, RCODE_NOERROR,
    RCODE_NOTIMP, RCODE_NXDOMAIN, RCODE_REFUSED, RCODE_SERVFAIL, SECTION_ANSWER, SECTION_AUTHORITY, TYPE_A, TYPE_AAAA,
    TYPE_SOA, WIRE_HEADER, WIRE_MAX, WIRE_RECORDS_MAX, Message, Record, Writer, get16, put16, put32, wire_reply_to,
    wire_scan, writer_reply,
)

cdef enum:
    ADDRESS = 16                # octets of an IPv6 address
    PREFIX_MOST = 12            # octets of a prefix of 96 bits
    ZERO_OCTET = 8              # bits 64 to 71 are zero (RFC 6052 2.2)
    TTL_UNKNOWN = 600           # seconds, where no SOA says more (RFC 6147 5.1.7)
    OPT_FIXED = 11              # octets of an OPT without options
    OPTION_HEAD = 4             # ... of an option before its data

cdef struct Config:
    uint8_t prefix[PREFIX_MOST]
    uint32_t octets             # of the prefix
    bint translate_all
    bint allow_ipv4
    uint32_t server_count
    uint32_t *translated        # a counter for each listener

cdef struct Frame:
    uint32_t ttl                # the longest that a made record may have
    uint8_t active


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    if (q.pkt.qtype == TYPE_AAAA and q.pkt.qclass == CLASS_IN and q.pkt.opcode == OPCODE_QUERY
            and (q.family == 2 or c.allow_ipv4)):
        (<Frame *>stage_frame(s, q)).active = True
    return NEXT


cdef void embed(const Config *c, const uint8_t *ipv4, uint8_t *out) noexcept nogil:
    # RFC 6052 2.2.
    cdef uint32_t at = c.octets
    cdef uint32_t i
    memset(out, 0, ADDRESS)
    memcpy(out, c.prefix, c.octets)
    for i in range(4):
        if at == ZERO_OCTET:
            at += 1
        out[at] = ipv4[i]
        at += 1


cdef bint wanted(Worker *w, const Config *c, Query *q, uint32_t *ttl) noexcept nogil:
    # Whether the reply to the client's own question has to be translated, and the TTL that its SOA allows.
    cdef const Message *m = w.scan
    cdef uint32_t i
    if wire_scan(q.reply, q.reply_len, w.scan) != 0:
        return False
    if q.rcode == RCODE_NXDOMAIN and m.counts[1] == 0:
        return False            # the name has no address of any kind (RFC 6147 5.1.2)
    ttl[0] = TTL_UNKNOWN
    for i in range(m.n):
        if m.records[i].section == SECTION_ANSWER and m.records[i].rtype == TYPE_AAAA and not c.translate_all:
            return False
        if m.records[i].section == SECTION_AUTHORITY and m.records[i].rtype == TYPE_SOA:
            ttl[0] = m.records[i].ttl
    return True


cdef void fail(Query *q) noexcept nogil:
    cdef const char *text = b"plugin/dns64: the look-up of A is not possible"
    q.written = False
    q.dropped = False
    q.has_opt = False
    q.options_len = 0
    q.rcode = RCODE_SERVFAIL
    q.error_len = 46
    memcpy(q.error, text, q.error_len)


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef Query *child
    cdef Query *held
    if not f.active or not q.written or q.streamed or not wanted(w, c, q, &f.ttl):
        return
    # The client's octets as they are, its EDNS options too, but for the name in lower case and the type.
    memcpy(w.scratch, q.pkt.wire, q.pkt.length)
    put16(w.scratch + 2, q.pkt.flags)
    memcpy(w.scratch + WIRE_HEADER, q.pkt.qname, q.pkt.qname_len)
    put16(w.scratch + WIRE_HEADER + q.pkt.qname_len, TYPE_A)
    child = w.api.child(w, q, w.scratch, q.pkt.length, NULL, 0, ORIGIN_LOOKUP)
    if child == NULL:
        fail(q)
        return
    child.pkt.udp_size = q.pkt.udp_size
    child.pkt.opt_flags = q.pkt.opt_flags
    held = w.api.hold(w, q)
    if held == NULL:
        w.api.release(w, child)
        fail(q)
        return
    child.handle = <size_t>held
    w.api.run(w, child)


cdef uint32_t translate(Worker *w, const Config *c, const Frame *f, Query *q, const Query *found,
                        uint8_t *buffer) noexcept nogil:
    # The reply to q, made of the one to its look-up, into w.scratch. Octets; 0 for what is no message.
    cdef Message *m = w.scan
    cdef Record *r
    cdef uint32_t tail = found.reply_len
    cdef uint32_t i
    cdef bint truncated = False
    cdef Writer head
    memcpy(buffer, found.reply, found.reply_len)
    if wire_scan(buffer, found.reply_len, m) != 0 or m.counts[0] != 1:
        return 0
    for i in range(m.n):
        r = &m.records[i]
        if r.section != SECTION_ANSWER or r.rtype != TYPE_A or r.rdlen != 4:
            continue
        embed(c, buffer + r.rdata, buffer + tail)
        put16(buffer + r.ttl_off - 4, TYPE_AAAA)
        put32(buffer + r.ttl_off, r.ttl if r.ttl < f.ttl else f.ttl)
        r.rtype = TYPE_AAAA
        r.rdata = tail
        r.rdlen = ADDRESS
        tail += ADDRESS
    m.end = tail
    # Its header says what a reply to q says, and keeps TC alone.
    writer_reply(&head, &q.pkt, w.scratch, WIRE_MAX, get16(buffer + 2) & FLAG_TC, RCODE_NOERROR)
    if head.bad:
        return 0
    memcpy(buffer, w.scratch, 4)
    put16(buffer + m.question_end - 4, TYPE_AAAA)
    return <uint32_t>wire_reply_to(buffer, m, &q.pkt, w.scratch, WIRE_MAX, &truncated)


cdef void take_options(Query *q, const Query *found, uint8_t *keep) noexcept nogil:
    # The OPT of the look-up's reply: its options go behind the room that the server writes its own OPT into.
    cdef uint32_t n = found.options_len
    q.has_opt = found.has_opt
    q.set_do = found.set_do
    q.opt_size = found.opt_size
    q.options_len = 0
    if found.has_opt and n and q.reply_len + OPT_FIXED + 2 * n <= <uint32_t>WIRE_MAX:
        memcpy(q.reply + WIRE_MAX - n, keep, n)
        q.options = q.reply + WIRE_MAX - n
        q.options_len = n


cdef uint32_t echoed(const Query *q) noexcept nogil:
    # Octets of the client's options that its reply will repeat.
    cdef const uint8_t *options = q.pkt.wire + q.pkt.opt_rdata
    cdef uint32_t left = q.pkt.opt_rdlen
    cdef uint32_t sum = 0
    cdef uint32_t size
    cdef uint16_t code
    while left >= OPTION_HEAD:
        code = get16(options)
        size = OPTION_HEAD + get16(options + 2)
        if size > left:
            break
        if code == OPTION_NSID or OPTION_EXPIRE <= code <= OPTION_PADDING:
            sum += size
        options += size
        left -= size
    return sum


cdef inline bint written_by_server(const Query *q) noexcept nogil:
    # An rcode for which the server writes a reply without records.
    return not q.dropped and (q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_REFUSED or q.rcode == RCODE_FORMERR
                              or q.rcode == RCODE_NOTIMP)


cdef void answer(Worker *w, Stage *s, Query *q, Query *found) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef uint8_t *buffer = <uint8_t *>s.state
    cdef uint8_t *keep = buffer + WIRE_MAX + 1 + WIRE_RECORDS_MAX * ADDRESS
    cdef Writer out
    cdef uint32_t n = 0
    if found.written and not found.streamed and WIRE_HEADER <= found.reply_len <= <uint32_t>WIRE_MAX:
        if 0 < found.options_len <= <uint32_t>WIRE_MAX:
            memcpy(keep, found.options, found.options_len)
        n = translate(w, c, <Frame *>stage_frame(s, q), q, found, buffer)
    elif written_by_server(found):
        # As in CoreDNS: no addresses then, whatever the reason.
        writer_reply(&out, &q.pkt, w.scratch, WIRE_MAX, 0, RCODE_NOERROR)
        n = 0 if out.bad else out.n
    if n == 0:
        fail(q)
        w.api.unwind(w, q)
        return
    w.api.reply_room(w, q)
    memcpy(q.reply, w.scratch, n)
    q.reply_len = n
    q.rcode = RCODE_NOERROR
    q.written = True
    q.writer = <uint8_t>(s.index + 1 if s.index < 255 else 255)
    q.ulen = w.scan.ulen if wire_scan(q.reply, n, w.scan) == 0 else n
    take_options(q, found, keep)
    # In CoreDNS the look-up's reply has got its OPT when its size is taken.
    if q.has_opt:
        q.ulen += OPT_FIXED + q.options_len
    elif q.pkt.has_opt:
        q.ulen += OPT_FIXED + echoed(q)
    stat_add(w.row, c.translated[q.listener if q.listener < c.server_count else 0], 1)
    w.api.unwind(w, q)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    # A message, an address for each of its records, and the options of its OPT; touched only as far as needed.
    s.state = malloc(2 * (WIRE_MAX + 1) + WIRE_RECORDS_MAX * ADDRESS)
    return 0 if s.state != NULL else -1


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    free(s.state)
    s.state = NULL


cdef StageOps OPS
OPS.name = b"dns64"
OPS.frame_size = sizeof(Frame)
OPS.request = request
OPS.response = response
OPS.start = start
OPS.stop = stop
OPS.answer = answer


def stage(bytes prefix, bint translate_all, bint allow_ipv4, slots) -> CompiledStage:
    """The stage that embeds addresses in `prefix`, 4 to 12 octets. `translate_all`: answers with AAAA records too.
    `allow_ipv4`: for clients with IPv4 too. `slots`: a counter for each listener. ValueError."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *c = <Config *>memory.at
    if not 4 <= len(prefix) <= PREFIX_MOST or not slots:
        raise ValueError("a prefix has 4 to 12 octets, and a listener is needed")
    memcpy(c.prefix, <const uint8_t *>prefix, len(prefix))
    c.octets = <uint32_t>len(prefix)
    c.translate_all = translate_all
    c.allow_ipv4 = allow_ipv4
    c.translated = <uint32_t *>memory.room(len(slots), sizeof(uint32_t))
    for i, slot in enumerate(slots):
        c.translated[i] = slot
    c.server_count = <uint32_t>len(slots)
    return compiled_stage(&OPS, c, memory)
