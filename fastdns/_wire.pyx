# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=True, cdivision=True
#
# The DNS message on the wire: packet in (parse, normalise), packet out (assemble, fit, finish).
#
# Strategy: one pass over hostile octets, the cheapest check first; nothing is read before its bound was
# compared with the end, nothing is written before the room was. A walk over a message is linear in its
# length: compressed names are measured through a memo of the offsets already measured, and the encoder
# finds suffixes in a fixed table of (parent, label) nodes. The hit path (admit, hash, finish) is straight
# line code: eight octets of the name are folded at a time, and a reply that fits gets its OPT in place.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._sys cimport free, le64toh, malloc, memcmp, memcpy, memset

cdef enum:
    HOPS_MAX = 126              # pointers in one name: more cannot occur in a sensible one
    POINTER_MAX = 0x4000        # a pointer has 14 bits
    RR_FIXED = 10               # type, class, TTL, RDLENGTH
    RR_MIN = 11
    OPT_FIXED = 11              # root, type, size, TTL, RDLENGTH
    FRAGMENT_IPV4 = 1480        # CoreDNS compresses UDP replies above this
    FRAGMENT_IPV6 = 1220
    DATAGRAM_MAX = 65507        # IPv4's largest payload; a larger reply could not be sent
    ECHOED = FLAG_TC | FLAG_RD | FLAG_RA | FLAG_AD | FLAG_CD

    NODES = 4096                # suffixes the encoder remembers
    PROBES = 8
    NODE_HOPS_MAX = 64

    # option codes that go back to the client, one bit each
    ECHO_UDP = 1 << OPTION_NSID | 1 << OPTION_EXPIRE | 1 << OPTION_COOKIE | 1 << OPTION_PADDING
    ECHO_TCP = ECHO_UDP | 1 << OPTION_KEEPALIVE
    CODES_OCTETS = 8192         # one bit for each of 65,536 option codes

# Options that `rewrite edns0 local` asks to have echoed: one bit a code, set before the fork, then only read.
cdef uint8_t echoed_codes[CODES_OCTETS]
cdef bint echoed_any = False


# ---- small helpers

cdef inline uint64_t fold8(uint64_t x) noexcept nogil:
    # Eight octets at once: bit 7 of `upper` marks octets in A-Z; octets with the top bit set stay (RFC 4343).
    cdef uint64_t low = x & 0x7f7f7f7f7f7f7f7fULL
    cdef uint64_t upper = (low + 0x3f3f3f3f3f3f3f3fULL) ^ (low + 0x2525252525252525ULL)
    return x | ((upper & ~x & 0x8080808080808080ULL) >> 2)


cdef inline uint8_t fold1(uint8_t c) noexcept nogil:
    return c | 0x20 if 65 <= c <= 90 else c


cdef inline void copy_folded(uint8_t *dst, const uint8_t *src, size_t n) noexcept nogil:
    # The last chunk overlaps the one before: folding twice changes nothing, and no octet past src + n is read.
    cdef uint64_t x
    cdef size_t i = 0
    if n < 8:
        while i < n:
            dst[i] = fold1(src[i])
            i += 1
        return
    while i + 8 <= n:
        memcpy(&x, src + i, 8)
        x = fold8(x)
        memcpy(dst + i, &x, 8)
        i += 8
    if i < n:
        memcpy(&x, src + n - 8, 8)
        x = fold8(x)
        memcpy(dst + n - 8, &x, 8)


include "_wire_name.pxi"
include "_wire_message.pxi"


# ---- admission

cdef inline int admit_options(Packet *pkt) noexcept nogil:
    # Counts the options of the query's OPT; one that runs past the OPT's end is a format error.
    cdef const uint8_t *p = pkt.wire + pkt.opt_rdata
    cdef uint32_t left = pkt.opt_rdlen
    cdef uint32_t length
    cdef uint16_t options = 0
    cdef uint32_t codes = 0
    cdef uint16_t code
    while left:
        if left < 4:
            return ADMIT_FORMERR
        code = get16(p)
        length = 4 + <uint32_t>get16(p + 2)
        if length > left:
            return ADMIT_FORMERR
        if code < 16:
            codes |= 1U << code
        options += 1
        p += length
        left -= length
    pkt.options = options
    pkt.option_codes = <uint16_t>codes
    pkt.has_nsid = codes & 1U << OPTION_NSID != 0
    return ADMIT_OK


cdef inline int admit_opt(Packet *pkt, uint32_t at) noexcept nogil:
    # The OPT whose root owner stands at `at`; its eleven octets are known to lie inside.
    cdef const uint8_t *p = pkt.wire + at
    pkt.has_opt = True
    pkt.opt_off = at
    pkt.udp_size = get16(p + 3)
    pkt.opt_version = p[6]
    pkt.opt_flags = get16(p + 7)
    pkt.opt_rdlen = get16(p + 9)
    pkt.opt_rdata = at + OPT_FIXED
    pkt.end = at + OPT_FIXED + pkt.opt_rdlen
    if pkt.end > pkt.length:
        return ADMIT_FORMERR
    return admit_options(pkt) if pkt.opt_rdlen else ADMIT_OK


cdef int admit_records(Packet *pkt, uint32_t answers, uint32_t authority, uint32_t additional) noexcept nogil:
    # At most four records. One OPT with the root as owner and one TSIG, last, in the additional section only.
    cdef uint32_t i, used
    cdef uint32_t at = pkt.end
    cdef uint32_t total = answers + authority + additional
    cdef bint extra
    cdef Record r
    for i in range(total):
        extra = i >= answers + authority
        used = 0
        if name_walk(pkt.wire, at, pkt.length, NULL, &used) == 0 or pkt.length - at - used < RR_FIXED:
            return ADMIT_FORMERR
        r.rtype = get16(pkt.wire + at + used)
        r.rclass = get16(pkt.wire + at + used + 2)
        r.rdlen = get16(pkt.wire + at + used + 8)
        r.rdata = at + used + RR_FIXED
        if pkt.length - r.rdata < r.rdlen:
            return ADMIT_FORMERR
        if r.rtype == TYPE_OPT:
            if not extra or pkt.has_opt or used != 1 or pkt.wire[at] != 0 or admit_opt(pkt, at) != ADMIT_OK:
                return ADMIT_FORMERR
        elif r.rtype == TYPE_TSIG:
            if not extra or i + 1 != total:
                return ADMIT_FORMERR
            pkt.has_tsig = True
            pkt.tsig_off = at
        elif rdata_length(pkt.wire, &r, NULL) < 0:
            return ADMIT_FORMERR
        at = r.rdata + r.rdlen
    pkt.end = at
    return ADMIT_BADVERS if pkt.has_opt and pkt.opt_version else ADMIT_OK


cdef int wire_admit(const uint8_t *data, size_t n, Packet *pkt) noexcept nogil:
    cdef uint32_t at = WIRE_HEADER
    cdef uint32_t stop, size
    cdef uint32_t answers, authority, additional
    cdef uint8_t c
    cdef uint8_t labels = 0
    if n < WIRE_HEADER or n > WIRE_MAX:
        return ADMIT_SHORT
    if data[2] & 0x80:
        return ADMIT_RESPONSE
    pkt.wire = data
    pkt.length = <uint32_t>n
    pkt.end = WIRE_HEADER
    pkt.id = get16(data)
    pkt.flags = get16(data + 2)
    pkt.opcode = (data[2] >> 3) & 15
    pkt.qname_len = 0
    pkt.labels = 0
    pkt.qtype = 0
    pkt.qclass = 0
    pkt.has_opt = False
    pkt.has_tsig = False
    pkt.has_nsid = False
    pkt.opt_version = 0
    pkt.opt_flags = 0
    pkt.udp_size = 0
    pkt.opt_off = 0
    pkt.opt_rdata = 0
    pkt.opt_rdlen = 0
    pkt.options = 0
    pkt.option_codes = 0
    pkt.tsig_off = 0
    if pkt.opcode != OPCODE_QUERY and pkt.opcode != OPCODE_NOTIFY:
        return ADMIT_NOTIMP
    answers = get16(data + 6)
    authority = get16(data + 8)
    additional = get16(data + 10)
    if get16(data + 4) != 1 or answers > 1 or authority > 1 or additional > 2:
        return ADMIT_FORMERR

    # The question: a pointer in it could only point into the header, so there is none.
    stop = <uint32_t>n if n < WIRE_HEADER + WIRE_NAME_MAX else WIRE_HEADER + WIRE_NAME_MAX
    while True:
        if at >= stop:
            return ADMIT_FORMERR
        c = data[at]
        at += 1 + <uint32_t>c
        if c == 0:
            break
        if c > 63:
            return ADMIT_FORMERR
        labels += 1
    if n - at < 4:
        return ADMIT_FORMERR
    size = at - WIRE_HEADER
    copy_folded(pkt.qname, data + WIRE_HEADER, size)
    pkt.qname_len = <uint16_t>size
    pkt.labels = labels
    pkt.qtype = get16(data + at)
    pkt.qclass = get16(data + at + 2)
    at += 4
    pkt.end = at
    if pkt.qtype == TYPE_OPT or pkt.qtype == TYPE_NXNAME:
        return ADMIT_FORMERR
    if answers | authority | additional == 0:
        return ADMIT_OK
    if (answers | authority == 0 and additional == 1 and n - at >= OPT_FIXED
            and data[at] == 0 and get16(data + at + 1) == TYPE_OPT):
        if admit_opt(pkt, at) != ADMIT_OK:
            return ADMIT_FORMERR
        return ADMIT_BADVERS if pkt.opt_version else ADMIT_OK
    return admit_records(pkt, answers, authority, additional)


cdef inline uint32_t question_end(const Packet *pkt) noexcept nogil:
    return WIRE_HEADER + <uint32_t>pkt.qname_len + 4 if pkt.qname_len else WIRE_HEADER


cdef inline size_t put_question(const Packet *pkt, uint8_t *out) noexcept nogil:
    # The question as the client wrote it, behind a header that counts it; octets of both.
    cdef size_t n = question_end(pkt)
    put16(out + 4, 1 if pkt.qname_len else 0)
    memset(out + 6, 0, 6)
    memcpy(out + WIRE_HEADER, pkt.wire + WIRE_HEADER, n - WIRE_HEADER)
    return n


cdef inline uint16_t reply_flags(const Packet *pkt) noexcept nogil:
    # QR and the opcode; RD and CD only go back for QUERY, as CoreDNS does.
    cdef uint32_t flags = FLAG_QR | (<uint32_t>pkt.opcode << 11)
    if pkt.opcode == OPCODE_QUERY:
        flags |= pkt.flags & (FLAG_RD | FLAG_CD)
    return <uint16_t>flags


cdef size_t wire_error(const Packet *pkt, int admission, uint8_t *out, size_t cap) noexcept nogil:
    cdef size_t n
    cdef uint16_t echoed = pkt.flags & ECHOED
    if admission not in (ADMIT_NOTIMP, ADMIT_FORMERR, ADMIT_BADVERS):
        return 0
    if cap < question_end(pkt) or (admission == ADMIT_BADVERS and cap - question_end(pkt) < OPT_FIXED):
        return 0
    put16(out, pkt.id)
    if admission == ADMIT_NOTIMP:
        put16(out + 2, FLAG_QR | (<uint32_t>pkt.opcode << 11) | echoed | RCODE_NOTIMP)
        memset(out + 4, 0, 8)
        return WIRE_HEADER
    if admission == ADMIT_FORMERR:
        put16(out + 2, FLAG_QR | echoed | RCODE_FORMERR)
        return put_question(pkt, out)
    put16(out + 2, reply_flags(pkt))
    n = put_question(pkt, out)
    put16(out + 10, 1)
    memset(out + n, 0, OPT_FIXED)
    out[n + 2] = TYPE_OPT
    out[n + 5] = RCODE_BADVERS >> 4
    return n + OPT_FIXED


cdef size_t wire_rcode(const Packet *pkt, int rcode, uint8_t *out, size_t cap) noexcept nogil:
    if cap < question_end(pkt):
        return 0
    put16(out, pkt.id)
    put16(out + 2, reply_flags(pkt) | (<uint32_t>rcode & 15))
    return put_question(pkt, out)


# ---- finishing

cdef void wire_echo(uint16_t code) noexcept nogil:
    global echoed_any
    if code < 16 and ECHO_TCP & 1U << code:
        return
    echoed_any = True
    echoed_codes[code >> 3] |= <uint8_t>(1 << (code & 7))


cdef void wire_echo_none() noexcept nogil:
    global echoed_any
    echoed_any = False
    memset(echoed_codes, 0, CODES_OCTETS)


cdef uint32_t echo_options(const Packet *pkt, const Finish *f, uint8_t *out) noexcept nogil:
    # The options of the query that go back, each of CoreDNS's five once; octets. out NULL: only counts them.
    # The walk ends with the last one wanted, so that a flood of options is walked by admission alone.
    cdef const uint8_t *p = pkt.wire + pkt.opt_rdata
    cdef const uint8_t *end = p + pkt.opt_rdlen
    cdef uint32_t written = 0
    cdef uint32_t wanted = pkt.option_codes & (ECHO_UDP if f.udp else ECHO_TCP)
    cdef uint32_t length
    cdef uint16_t code
    if f.cookie != NULL:
        wanted &= ~(1U << OPTION_COOKIE)
    while p < end and (wanted or echoed_any):       # wire_admit measured them
        code = get16(p)
        length = 4 + <uint32_t>get16(p + 2)
        if code < 16 and wanted & 1U << code:
            if out != NULL:
                memcpy(out + written, p, length)
            written += length
            wanted &= ~(1U << code)
        elif echoed_any and echoed_codes[code >> 3] & (1 << (code & 7)):
            if out != NULL:
                memcpy(out + written, p, length)
            written += length
        p += length
    return written


cdef uint32_t other_options(const uint8_t *p, uint32_t n, uint8_t *out) noexcept nogil:
    # The options of a reply's OPT but for cookies; octets. out NULL: only counts them. A stranger wrote them: what
    # does not end inside is left out.
    cdef uint32_t written = 0
    cdef uint32_t length
    while n >= 4:
        length = 4 + <uint32_t>get16(p + 2)
        if length > n:
            break
        if get16(p) != OPTION_COOKIE:
            if out != NULL:
                memcpy(out + written, p, length)
            written += length
        p += length
        n -= length
    return written


cdef uint32_t put_options(const Packet *pkt, const Finish *f, bint others, uint8_t *out) noexcept nogil:
    # The options of the OPT to send; octets. out NULL: only counts them.
    cdef uint32_t n = 0
    if not others:
        n = 0
    elif not f.has_opt:
        n = echo_options(pkt, f, out)
    elif f.cookie != NULL:
        n = other_options(f.options, f.options_len, out)
    else:
        n = f.options_len
        if out != NULL:
            memcpy(out, f.options, n)
    if f.cookie == NULL:
        return n
    if out != NULL:
        put16(out + n, OPTION_COOKIE)
        put16(out + n + 2, f.cookie_len)
        memcpy(out + n + 4, f.cookie, f.cookie_len)
    return n + 4 + f.cookie_len


cdef inline void put_opt(const Packet *pkt, const Finish *f, uint8_t *out, uint32_t rdlen) noexcept nogil:
    # The OPT's fixed part: the client's size, version 0, no flag but DO (RFC 6891 6.1.4).
    cdef bint do_bit = f.set_do or (pkt.has_opt and pkt.opt_flags & FLAG_DO)
    out[0] = 0
    put16(out + 1, TYPE_OPT)
    put16(out + 3, pkt.udp_size if pkt.has_opt else f.opt_size)
    out[5] = <uint8_t>(f.rcode >> 4)
    out[6] = 0
    out[7] = 0x80 if do_bit else 0
    out[8] = 0
    put16(out + 9, rdlen)


cdef size_t finish_fit(const Packet *pkt, const Finish *f, uint8_t *reply, size_t n, uint32_t limit, uint32_t rdlen,
                       bint shrink, Message *scratch, uint8_t *scratch_buf) noexcept nogil:
    # The long way: options, compression, truncation. limit already excludes the reserve.
    cdef uint32_t question = question_end(pkt)
    cdef bint opt = pkt.has_opt or f.has_opt
    cdef bint truncated = False
    cdef bint others = True
    cdef uint32_t opt_len
    if opt and question + OPT_FIXED + rdlen > limit:
        others = False          # echoed options never push the question out
        rdlen = put_options(pkt, f, False, NULL)
    opt_len = OPT_FIXED + rdlen if opt else 0
    if question + opt_len > limit:
        return 0
    if shrink or n + opt_len > limit:
        if wire_scan(reply, n, scratch) == 0 and scratch.question_end + opt_len <= limit:
            n = wire_compress(reply, scratch, scratch_buf, limit - opt_len, &truncated)
            memcpy(reply, scratch_buf, n)
        elif n + opt_len > limit:
            n = wire_rcode(pkt, f.rcode, reply, question)
            reply[2] |= FLAG_TC >> 8
    reply[3] = (reply[3] & 0xF0) | (f.rcode & 15)
    if not opt:
        return n
    put_opt(pkt, f, reply + n, rdlen)
    if rdlen:
        put_options(pkt, f, others, reply + n + OPT_FIXED)
    put16(reply + 10, get16(reply + 10) + 1)
    return n + opt_len


cdef bint wire_cuts(const Packet *pkt, const Finish *f, const uint8_t *reply, size_t n, Message *scratch,
                    uint8_t *scratch_buf) noexcept nogil:
    cdef bint truncated = False
    cdef uint32_t opt_len = 0
    if f.has_opt or pkt.has_opt:
        opt_len = OPT_FIXED + put_options(pkt, f, True, NULL)
    if n + opt_len <= f.limit:
        return False
    if wire_scan(reply, n, scratch) < 0 or scratch.question_end + opt_len > f.limit:
        return True
    wire_compress(reply, scratch, scratch_buf, f.limit - opt_len, &truncated)
    return truncated


cdef size_t wire_finish(const Packet *pkt, const Finish *f, uint8_t *reply, size_t n, size_t cap,
                        Message *scratch, uint8_t *scratch_buf) noexcept nogil:
    cdef uint32_t limit = f.limit
    cdef uint32_t rdlen = 0
    cdef uint32_t opt_len = 0
    cdef bint shrink
    if f.udp and limit > DATAGRAM_MAX:
        limit = DATAGRAM_MAX
    if limit > cap:
        limit = <uint32_t>cap
    if n < WIRE_HEADER or limit < f.reserve:
        return 0
    limit -= f.reserve
    if pkt.has_opt or f.has_opt:
        if f.cookie != NULL:
            rdlen = put_options(pkt, f, True, NULL)
        elif f.has_opt:
            rdlen = f.options_len
        elif pkt.options and (pkt.option_codes & ECHO_TCP or echoed_any):
            rdlen = echo_options(pkt, f, NULL)
        opt_len = OPT_FIXED + rdlen
    elif f.rcode > 15:
        return 0
    # A long datagram that arrived uncompressed is compressed even when it would fit.
    shrink = f.udp and n >= f.ulen and n + opt_len > <size_t>(FRAGMENT_IPV6 if f.ipv6 else FRAGMENT_IPV4)
    if rdlen or shrink or n + opt_len > limit:
        return finish_fit(pkt, f, reply, n, limit, rdlen, shrink, scratch, scratch_buf)
    reply[3] = (reply[3] & 0xF0) | (f.rcode & 15)
    if opt_len:
        put_opt(pkt, f, reply + n, 0)
        put16(reply + 10, get16(reply + 10) + 1)
    return n + opt_len


cdef uint32_t wire_opt(const Packet *pkt, bint udp) noexcept nogil:
    cdef Finish f
    if not pkt.has_opt:
        return 0
    f.udp = udp
    f.cookie = NULL
    return OPT_FIXED + echo_options(pkt, &f, NULL)


cdef uint32_t wire_limit(const Packet *pkt, bint udp) noexcept nogil:
    if not udp:
        return WIRE_MAX
    if not pkt.has_opt or pkt.udp_size < 512:
        return 512
    return pkt.udp_size if pkt.udp_size < DATAGRAM_MAX else DATAGRAM_MAX


# ---- building small replies

cdef void writer_reply(Writer *w, const Packet *pkt, uint8_t *out, size_t cap, uint16_t flags,
                       int rcode) noexcept nogil:
    w.p = out
    w.cap = <uint32_t>cap if cap < WIRE_MAX else WIRE_MAX
    w.n = <uint32_t>wire_rcode(pkt, rcode, out, w.cap)
    w.bad = w.n == 0
    if not w.bad:
        put16(out + 2, get16(out + 2) | flags)


cdef void writer_rr(Writer *w, int section, const uint8_t *owner, size_t owner_len, uint16_t rtype, uint16_t rclass,
                    uint32_t ttl, const uint8_t *rdata, size_t rdlen) noexcept nogil:
    cdef uint8_t *p = w.p + w.n
    cdef size_t name = 2 if owner == NULL else owner_len
    if w.bad or rdlen > WIRE_MAX or name > WIRE_NAME_MAX or w.cap - w.n < name + RR_FIXED + rdlen:
        w.bad = True
        return
    if owner == NULL:
        put16(p, 0xC000 | WIRE_HEADER)
    else:
        memcpy(p, owner, owner_len)
    p += name
    put16(p, rtype)
    put16(p + 2, rclass)
    put32(p + 4, ttl)
    put16(p + 8, <uint32_t>rdlen)
    if rdlen:
        memcpy(p + RR_FIXED, rdata, rdlen)
    w.n += <uint32_t>(name + RR_FIXED + rdlen)
    p = w.p + 6 + 2 * section
    put16(p, get16(p) + 1)


include "_wire_face.pxi"
