# SPDX-License-Identifier: Apache-2.0
#
# Whole messages of _wire: the check and index of a reply, and the encoder (compression, truncation).
#
# Strategy: the scan is linear in the octets, whatever the counts and pointers claim. The encoder keeps a
# table of (parent suffix, label) nodes, so that each label of a name is hashed and compared once; it stops
# at the first record that does not fit.

# ---- RDATA that holds names

cdef uint32_t rdata_shape(uint16_t rtype) noexcept nogil:
    # 0: opaque. Names of other types than RFC 1035's are expanded when they come compressed, never compressed.
    if rtype > 107:
        return 0
    if rtype in (2, 3, 4, 5, 7, 8, 9, 12):              # NS MD MF CNAME MB MG MR PTR
        return 1 | SHAPE_COMPRESS
    if rtype == 6:                                      # SOA
        return 2 | SHAPE_COMPRESS | SHAPE_SOA
    if rtype == 14:                                     # MINFO
        return 2 | SHAPE_COMPRESS
    if rtype == 15:                                     # MX
        return 1 | SHAPE_COMPRESS | (2 << SHAPE_BEFORE)
    if rtype in (17, 58):                               # RP TALINK
        return 2
    if rtype in (18, 21, 36, 107):                      # AFSDB RT KX LP
        return 1 | (2 << SHAPE_BEFORE)
    if rtype == 26:                                     # PX
        return 2 | (2 << SHAPE_BEFORE)
    if rtype in (23, 39):                               # NSAP-PTR DNAME
        return 1
    if rtype in (30, 47):                               # NXT NSEC
        return 1 | SHAPE_REST
    if rtype in (24, 46):                               # SIG RRSIG
        return 1 | SHAPE_REST | (18 << SHAPE_BEFORE)
    if rtype == 33:                                     # SRV
        return 1 | (6 << SHAPE_BEFORE)
    if rtype == 35:                                     # NAPTR
        return 1 | SHAPE_STRINGS | (4 << SHAPE_BEFORE)
    if rtype in (64, 65):                               # SVCB HTTPS
        return 1 | SHAPE_REST | SHAPE_PARAMS | (2 << SHAPE_BEFORE)
    return 0


cdef uint32_t rdata_names_at(const uint8_t *msg, uint32_t at, uint32_t end, uint32_t shape) noexcept nogil:
    # Where the first name of the RDATA [at, end) starts; 0 when it would start past the end.
    cdef int i
    if end - at < shape >> SHAPE_BEFORE:
        return 0
    at += shape >> SHAPE_BEFORE
    if shape & SHAPE_STRINGS:
        for i in range(3):
            if at >= end or end - at <= msg[at]:
                return 0
            at += 1 + <uint32_t>msg[at]
    return at


cdef bint params_fine(const uint8_t *msg, uint32_t at, uint32_t end) noexcept nogil:
    # SvcParams: keys ascending and unique, each value inside (RFC 9460 2.2).
    cdef int last = -1
    cdef uint32_t length
    while at < end:
        if end - at < 4 or get16(msg + at) <= last:
            return False
        last = get16(msg + at)
        length = get16(msg + at + 2)
        if end - at - 4 < length:
            return False
        at += 4 + length
    return True


cdef int rdata_length(const uint8_t *msg, const Record *r, uint32_t *memo) noexcept nogil:
    # Octets of the RDATA with its names expanded, -1 when it is malformed.
    cdef uint32_t shape = rdata_shape(r.rtype)
    cdef uint32_t at = r.rdata
    cdef uint32_t end = r.rdata + r.rdlen
    cdef uint32_t used = 0
    cdef uint32_t grown = 0
    cdef uint32_t i, octets
    cdef uint32_t names = shape & SHAPE_NAMES
    if shape == 0:
        if r.rclass == CLASS_IN and ((r.rtype == TYPE_A and r.rdlen != 4) or (r.rtype == TYPE_AAAA and r.rdlen != 16)):
            return -1
        return r.rdlen
    at = rdata_names_at(msg, at, end, shape)
    if at == 0:
        return -1
    for i in range(names):
        octets = name_walk(msg, at, end, memo, &used)
        if octets == 0:
            return -1
        grown += octets - used
        at += used
    if not shape & SHAPE_REST and end - at != (20 if shape & SHAPE_SOA else 0):
        return -1
    if shape & SHAPE_PARAMS and not params_fine(msg, at, end):
        return -1
    return <int>(r.rdlen + grown)


# ---- replies: the check and the index

cdef bint options_fine(const uint8_t *p, uint32_t left) noexcept nogil:
    cdef uint32_t length
    while left:
        if left < 4:
            return False
        length = 4 + <uint32_t>get16(p + 2)
        if length > left:
            return False
        p += length
        left -= length
    return True


cdef int scan_opt(const uint8_t *msg, Message *m, const Record *r, uint32_t used) noexcept nogil:
    if r.section != SECTION_ADDITIONAL or m.has_opt or used != 1 or msg[r.owner] != 0:
        return -1
    if not options_fine(msg + r.rdata, r.rdlen):
        return -1
    m.has_opt = True
    m.opt_off = r.owner
    m.opt_len = r.rdata + r.rdlen - r.owner
    m.opt_rdata = r.rdata
    m.opt_rdlen = r.rdlen
    m.opt_size = r.rclass
    m.opt_flags = get16(msg + r.ttl_off + 2)
    m.rcode |= <uint16_t>(<uint32_t>msg[r.ttl_off] << 4)
    return 0


cdef int scan_question(const uint8_t *msg, uint32_t n, Message *m, uint32_t *memo) noexcept nogil:
    cdef uint32_t used = 0
    m.question_end = WIRE_HEADER
    m.qtype = 0
    m.qclass = 0
    if m.counts[0] == 0:
        return 0
    if name_walk(msg, WIRE_HEADER, n, memo, &used) == 0 or n - WIRE_HEADER - used < 4:
        return -1
    m.qtype = get16(msg + WIRE_HEADER + used)
    m.qclass = get16(msg + WIRE_HEADER + used + 2)
    m.question_end = WIRE_HEADER + used + 4
    return 0


cdef int wire_scan(const uint8_t *msg, size_t size, Message *m) noexcept nogil:
    cdef uint32_t memo[POINTER_MAX]
    cdef uint32_t n = <uint32_t>size
    cdef uint32_t total, i, at, used, octets
    cdef int rdata
    cdef uint8_t section = 0
    cdef uint32_t section_left
    cdef Record *r
    if size < WIRE_HEADER or size > WIRE_MAX:
        return -1
    m.id = get16(msg)
    m.flags = get16(msg + 2)
    m.rcode = m.flags & 15
    for i in range(4):
        m.counts[i] = get16(msg + 4 + 2 * i)
    m.n = 0
    m.has_opt = False
    m.opt_last = False
    m.has_tsig = False
    m.opt_off = m.opt_len = m.opt_rdata = m.tsig_off = 0
    m.opt_rdlen = m.opt_flags = m.opt_size = 0
    total = <uint32_t>m.counts[1] + m.counts[2] + m.counts[3]
    if m.counts[0] > 1 or total * RR_MIN > n - WIRE_HEADER:
        return -1
    memset(memo, 0, 4 * (n if n < POINTER_MAX else POINTER_MAX))
    if scan_question(msg, n, m, memo) < 0:
        return -1
    at = m.question_end
    m.ulen = at
    section_left = m.counts[1]
    for i in range(total):
        while section_left == 0:
            section += 1
            section_left = m.counts[1 + section]
        section_left -= 1
        r = &m.records[m.n]     # total <= 65,523 / 11 < WIRE_RECORDS_MAX
        used = 0
        octets = name_walk(msg, at, n, memo, &used)
        if octets == 0 or n - at - used < RR_FIXED:
            return -1
        r.owner = at
        r.section = section
        r.rtype = get16(msg + at + used)
        r.rclass = get16(msg + at + used + 2)
        r.ttl_off = at + used + 4
        r.ttl = get32(msg + r.ttl_off)
        r.ttl = 0 if r.ttl > 0x7FFFFFFFU else r.ttl
        r.rdlen = get16(msg + r.ttl_off + 4)
        r.rdata = r.ttl_off + 6
        at = r.rdata
        if n - at < r.rdlen:
            return -1
        at += r.rdlen
        m.opt_last = False
        if r.rtype == TYPE_OPT:
            if scan_opt(msg, m, r, used) < 0:
                return -1
            m.opt_last = True
        elif r.rtype == TYPE_TSIG:
            if section != SECTION_ADDITIONAL or i + 1 != total:
                return -1
            m.has_tsig = True
            m.tsig_off = r.owner
        else:
            rdata = rdata_length(msg, r, memo)
            if rdata < 0:
                return -1
            m.ulen += octets + RR_FIXED + <uint32_t>rdata
            m.n += 1
    m.end = at
    return 0


cdef int wire_question_matches(const uint8_t *msg, size_t n, const Packet *pkt, bint exact_case) noexcept nogil:
    cdef size_t size = pkt.qname_len
    cdef uint8_t name[256]
    if size == 0 or n < WIRE_HEADER + size + 4 or get16(msg + 4) != 1:
        return 0
    if memcmp(msg + WIRE_HEADER + size, pkt.wire + WIRE_HEADER + size, 4) != 0:
        return 0
    if memcmp(msg + WIRE_HEADER, pkt.wire + WIRE_HEADER, size) == 0:
        return 1
    if exact_case:
        return 0
    # Equal after folding means equal label lengths too: these are below 64 on the query's side, and folding
    # makes nothing below 64.
    copy_folded(name, msg + WIRE_HEADER, size)
    return memcmp(name, pkt.qname, size) == 0


cdef size_t wire_strip_opt(const uint8_t *msg, const Message *m, uint8_t *out, size_t cap) noexcept nogil:
    cdef bint truncated = False
    cdef uint32_t keep = m.end
    cdef size_t n
    cdef uint32_t gone = (1 if m.has_opt else 0) + (1 if m.has_tsig else 0)
    if m.has_tsig:
        keep = m.tsig_off
    if m.has_opt:
        if m.opt_off + m.opt_len != keep:
            n = wire_compress(msg, m, out, cap, &truncated)
            return 0 if truncated else n
        keep = m.opt_off
    if keep > cap:
        return 0
    memcpy(out, msg, keep)
    put16(out + 10, m.counts[3] - gone)
    return keep


# ---- the encoder

cdef struct Node:
    uint16_t parent             # offset in out of the suffix behind the label; 0: the root
    uint16_t at                 # offset in out of the label; 0: free
    uint16_t hops               # pointers a reader follows from here


cdef struct Encoder:
    const uint8_t *msg
    uint32_t length             # of msg
    uint8_t *out
    uint32_t n
    uint32_t limit
    uint32_t mask
    bint bad                    # something did not fit
    Node nodes[NODES]
    uint16_t known[POINTER_MAX]     # offset of a label in msg -> 1 + the node of the name that starts there


cdef struct Labels:
    # A name on its way from msg to out.
    uint8_t name[256]           # what was read of it
    uint32_t length
    uint32_t n                  # labels read
    uint8_t start[128]          # each label's offset in name
    uint16_t source[128]        # ... and in msg (POINTER_MAX: too far for a pointer)
    Node *suffix                # what follows the labels read; NULL: the root
    uint32_t used               # octets in line


cdef inline Node *encoder_find(Encoder *e, uint32_t parent, const uint8_t *label) noexcept nogil:
    # The node of (parent, label), or the free one where it would go, or NULL: a chain is at most PROBES long.
    cdef uint32_t h = parent * 0x9E3779B1U
    cdef uint32_t i
    cdef uint32_t size = <uint32_t>label[0] + 1
    cdef Node *node
    for i in range(size):
        h = (h ^ label[i]) * 0x01000193U
    h ^= h >> 15
    for i in range(PROBES):
        node = &e.nodes[(h + i) & e.mask]
        if node.at == 0:
            return node
        if node.parent == parent and memcmp(e.out + node.at, label, size) == 0:
            return node
    return NULL


cdef inline bint encoder_room(Encoder *e, uint32_t n) noexcept nogil:
    if e.bad or e.limit - e.n < n:
        e.bad = True
        return False
    return True


cdef void encode_octets(Encoder *e, uint32_t at, uint32_t n) noexcept nogil:
    if encoder_room(e, n):
        memcpy(e.out + e.n, e.msg + at, n)
        e.n += n


cdef bint read_labels(Encoder *e, uint32_t at, bint whole, Labels *l) noexcept nogil:
    # Reads the name at msg[at] up to a label that has a node already, or to its end when `whole`. So labels
    # read twice are labels written twice, and the work is bounded by the octets of msg and out.
    cdef uint32_t first = at
    cdef uint32_t segment = at
    cdef uint32_t target
    cdef bint jumped = False
    cdef uint8_t c
    l.length = l.n = 0
    l.suffix = NULL
    while at < e.length:
        c = e.msg[at]
        if c >= 0xC0:
            if e.length - at < 2:
                return False
            target = get16(e.msg + at) & 0x3FFF
            if not jumped:
                l.used = at + 2 - first
                jumped = True
            if target >= segment:
                return False
            at = segment = target
            continue
        if not whole and jumped and at < POINTER_MAX and e.known[at]:
            l.suffix = &e.nodes[e.known[at] - 1]
            return True
        if c > 63 or e.length - at <= c or l.length + c + 1 > WIRE_NAME_MAX:
            return False
        memcpy(l.name + l.length, e.msg + at, <size_t>c + 1)
        if c == 0:
            l.length += 1
            if not jumped:
                l.used = at + 1 - first
            return True
        l.start[l.n] = <uint8_t>l.length
        l.source[l.n] = <uint16_t>(at if at < POINTER_MAX else POINTER_MAX)
        l.n += 1
        l.length += c + 1
        at += c + 1
    return False


cdef uint32_t encode_name(Encoder *e, uint32_t at, bint compress) noexcept nogil:
    # Writes the name at msg[at]; octets it took in msg. Suffixes are looked up from the root's side on.
    cdef Labels l
    cdef Node *node
    cdef uint32_t fresh, i, full
    cdef uint32_t parent = 0
    cdef uint32_t hops = 0
    cdef bint pointing
    if not read_labels(e, at, not compress, &l):
        e.bad = True
        return 0
    if l.suffix != NULL:
        parent = l.suffix.at
        hops = l.suffix.hops
    fresh = l.n                 # labels that have no node yet
    while fresh:
        node = encoder_find(e, parent, l.name + l.start[fresh - 1])
        if node == NULL or node.at == 0:
            break
        parent = node.at
        hops = node.hops
        fresh -= 1
        if l.source[fresh] < POINTER_MAX:
            e.known[l.source[fresh]] = <uint16_t>(node - e.nodes + 1)
    pointing = compress and parent != 0
    full = l.length
    if pointing:
        full = l.start[fresh] if fresh < l.n else l.length
        hops += 1
    if not encoder_room(e, full + (2 if pointing else 0)):
        return 0
    memcpy(e.out + e.n, l.name, full)
    if pointing:
        put16(e.out + e.n + full, 0xC000 | parent)
    while fresh and hops <= NODE_HOPS_MAX:
        fresh -= 1
        i = e.n + l.start[fresh]
        node = encoder_find(e, parent, l.name + l.start[fresh])
        if i >= POINTER_MAX or node == NULL or node.at:
            break
        node.parent = <uint16_t>parent
        node.at = <uint16_t>i
        node.hops = <uint16_t>hops
        parent = i
        if l.source[fresh] < POINTER_MAX:
            e.known[l.source[fresh]] = <uint16_t>(node - e.nodes + 1)
    e.n += full + (2 if pointing else 0)
    return l.used


cdef void encode_record(Encoder *e, const Record *r) noexcept nogil:
    cdef uint32_t shape = rdata_shape(r.rtype)
    cdef uint32_t end = r.rdata + r.rdlen
    cdef uint32_t at = r.rdata
    cdef uint32_t i, length_at
    cdef uint32_t names = shape & SHAPE_NAMES
    encode_name(e, r.owner, True)
    encode_octets(e, r.ttl_off - 4, RR_FIXED)
    length_at = e.n - 2
    if shape:
        at = rdata_names_at(e.msg, at, end, shape)
        encode_octets(e, r.rdata, at - r.rdata)
        for i in range(names):
            at += encode_name(e, at, shape & SHAPE_COMPRESS != 0)
            if e.bad:
                return
    encode_octets(e, at, end - at)
    if not e.bad:
        put16(e.out + length_at, e.n - length_at - 2)


cdef void encode_question(Encoder *e, const Message *m, const Packet *pkt) noexcept nogil:
    # The message's own question, or a query's, which is the same but for the letters' case.
    cdef const uint8_t *msg = e.msg
    cdef uint32_t length = e.length
    if pkt == NULL:
        encode_name(e, WIRE_HEADER, True)
        encode_octets(e, m.question_end - 4, 4)
        return
    e.msg = pkt.wire
    e.length = WIRE_HEADER + <uint32_t>pkt.qname_len
    encode_name(e, WIRE_HEADER, True)
    e.msg = msg
    e.length = length
    # Pointers into the question of msg meant its letters, so what stands there now must not be found by offset.
    memset(e.known, 0, 2 * m.question_end)
    encode_octets(e, m.question_end - 4, 4)


cdef size_t wire_compress(const uint8_t *msg, const Message *m, uint8_t *out, size_t limit,
                          bint *truncated) noexcept nogil:
    return wire_reply_to(msg, m, NULL, out, limit, truncated)


cdef size_t wire_reply_to(const uint8_t *msg, const Message *m, const Packet *pkt, uint8_t *out, size_t limit,
                          bint *truncated) noexcept nogil:
    cdef Encoder e
    cdef uint32_t counts[4]
    cdef uint32_t i, before
    truncated[0] = False
    if limit < m.question_end:
        truncated[0] = True
        return 0
    e.msg = msg
    e.length = m.end
    e.out = out
    e.limit = <uint32_t>limit if limit < WIRE_MAX else WIRE_MAX
    e.bad = False
    e.mask = 255
    while e.mask < NODES - 1 and e.mask < 4 * m.n:
        e.mask = 2 * e.mask + 1
    memset(e.nodes, 0, sizeof(Node) * (e.mask + 1))
    memset(e.known, 0, 2 * (e.length if e.length < POINTER_MAX else POINTER_MAX))
    memcpy(out, msg, WIRE_HEADER)
    e.n = WIRE_HEADER
    if m.counts[0]:
        encode_question(&e, m, pkt)
    memset(counts, 0, sizeof(counts))
    for i in range(m.n):
        before = e.n
        encode_record(&e, &m.records[i])
        if e.bad:
            e.n = before
            truncated[0] = True
            out[2] |= FLAG_TC >> 8
            break
        counts[m.records[i].section] += 1
    for i in range(3):
        put16(out + 6 + 2 * i, counts[i])
    return e.n


# ---- another letters' case of the question

cdef enum:
    MOVES = 8                   # places from which on octets have moved
    SPELT = 4                   # parts of the question's name that were written out


cdef struct Recase:
    const uint8_t *msg
    uint32_t n                  # octets of msg
    uint32_t done               # ... that are in out, or replaced there
    uint8_t *out
    uint32_t at                 # octets in out
    uint32_t cap
    uint32_t name_end           # of the question's name
    uint32_t same               # from here on it has the client's letters
    uint32_t pointers           # that may still come: so no chain of them gets too long for readers
    uint32_t moves
    uint32_t moved_from[MOVES]  # offset in msg
    uint32_t moved_by[MOVES]
    uint32_t spelt
    uint32_t spelt_from[SPELT]  # offsets in msg
    uint32_t spelt_to[SPELT]
    uint32_t spelt_at[SPELT]    # offset in out
    uint64_t labels[256]        # a bit for each octet below POINTER_MAX where a label or pointer of a name stands


cdef inline bint recase_copy(Recase *r, uint32_t up_to) noexcept nogil:
    cdef uint32_t n = up_to - r.done
    if r.cap - r.at < n:
        return False
    memcpy(r.out + r.at, r.msg + r.done, n)
    r.at += n
    r.done = up_to
    return True


cdef bint recase_point(Recase *r, uint32_t at, uint32_t target) noexcept nogil:
    # The pointer at msg[at] leads to `target` in out.
    if target >= POINTER_MAX or not recase_copy(r, at) or r.cap - r.at < 2:
        return False
    put16(r.out + r.at, 0xC000 | target)
    r.at += 2
    r.done += 2
    return True


cdef bint recase_spell(Recase *r, uint32_t at, uint32_t target) noexcept nogil:
    # The pointer at msg[at] led to letters of the question that are others now: they are written out.
    cdef uint32_t stop = r.same
    cdef uint32_t rest = r.same
    cdef uint32_t i
    for i in range(r.spelt):
        if r.spelt_from[i] <= target < r.spelt_to[i]:
            return recase_point(r, at, r.spelt_at[i] + target - r.spelt_from[i])
        if target < r.spelt_from[i] < stop:
            stop = r.spelt_from[i]
            rest = r.spelt_at[i]
    if (r.spelt == SPELT or r.moves == MOVES or not recase_copy(r, at) or r.cap - r.at < stop - target + 2
            or r.at + stop - target >= POINTER_MAX or rest >= POINTER_MAX):
        return False
    r.spelt_from[r.spelt] = target
    r.spelt_to[r.spelt] = stop
    r.spelt_at[r.spelt] = r.at
    r.spelt += 1
    memcpy(r.out + r.at, r.msg + target, stop - target)
    r.at += stop - target
    if stop == r.name_end - 1:
        r.out[r.at] = 0
        r.at += 1
    else:
        put16(r.out + r.at, 0xC000 | rest)
        r.at += 2
    r.done = at + 2
    r.moved_from[r.moves] = r.done
    r.moved_by[r.moves] = r.at - r.done
    r.moves += 1
    return True


cdef uint32_t recase_name(Recase *r, uint32_t at, uint32_t end) noexcept nogil:
    # Sees to the pointer of the name at msg[at]; where its octets end there, or 0: not in this way.
    cdef uint32_t target, i
    cdef uint8_t c
    while at < end:
        c = r.msg[at]
        if at < POINTER_MAX:
            r.labels[at >> 6] |= <uint64_t>1 << (at & 63)
        if c < 64:
            at += 1 + <uint32_t>c
            if c == 0:
                return at
            continue
        if c < 0xC0 or end - at < 2:
            return 0
        target = get16(r.msg + at) & 0x3FFF
        # Octets that only look like a name are not followed: what they point to would have to move as well.
        if target >= at or not (r.labels[target >> 6] >> (target & 63)) & 1 or r.pointers == 0:
            return 0
        r.pointers -= 1
        if target < r.same:
            return at + 2 if recase_spell(r, at, target) else 0
        i = r.moves
        while i:
            i -= 1
            if target >= r.moved_from[i]:
                return at + 2 if recase_point(r, at, target + r.moved_by[i]) else 0
        return at + 2
    return 0


cdef bint recase_question(Recase *r, const Packet *pkt) noexcept nogil:
    # Writes header and question; finds where the letters are the same up to the end.
    cdef uint32_t at = WIRE_HEADER
    cdef uint32_t size, name_end = WIRE_HEADER + <uint32_t>pkt.qname_len
    if r.n < name_end + 4 or r.cap < name_end + 4:
        return False
    r.same = WIRE_HEADER
    while r.msg[at]:
        size = 1 + <uint32_t>r.msg[at]
        if size > 64 or name_end - at <= size:
            return False
        r.labels[at >> 6] |= <uint64_t>1 << (at & 63)
        if memcmp(r.msg + at, pkt.wire + at, size) != 0:
            r.same = at + size
        at += size
    r.labels[at >> 6] |= <uint64_t>1 << (at & 63)
    r.name_end = name_end
    memcpy(r.out, r.msg, name_end + 4)
    memcpy(r.out + WIRE_HEADER, pkt.wire + WIRE_HEADER, pkt.qname_len)
    r.at = r.done = name_end + 4
    return at + 1 == name_end


cdef size_t wire_recase(const uint8_t *msg, size_t n, const Packet *pkt, uint8_t *out, size_t cap) noexcept nogil:
    cdef Recase r
    cdef uint32_t total, i, k, end, shape, moved
    cdef uint32_t at
    if n < WIRE_HEADER or n > WIRE_MAX or get16(msg + 4) != 1:
        return 0
    r.msg = msg
    r.n = <uint32_t>n
    r.out = out
    r.cap = <uint32_t>cap if cap < WIRE_MAX else WIRE_MAX
    r.moves = r.spelt = 0
    r.pointers = HOPS_MAX - SPELT
    memset(r.labels, 0, 8 * (((n if n < POINTER_MAX else POINTER_MAX) + 63) // 64))
    if not recase_question(&r, pkt):
        return 0
    total = <uint32_t>get16(msg + 6) + get16(msg + 8) + get16(msg + 10)
    at = r.done
    for i in range(total):      # each takes 11 octets of msg at least
        at = recase_name(&r, at, r.n)
        if at == 0 or r.n - at < RR_FIXED:
            return 0
        shape = rdata_shape(get16(msg + at))
        end = at + RR_FIXED + get16(msg + at + 8)
        at += RR_FIXED
        if end > r.n:
            return 0
        if shape:
            moved = r.at - r.done
            k = at - 2          # the RDLENGTH
            at = rdata_names_at(msg, at, end, shape)
            if at == 0:
                return 0
            for _ in range(shape & SHAPE_NAMES):
                at = recase_name(&r, at, end)
                if at == 0:
                    return 0
            if r.at - r.done != moved:      # so the RDLENGTH has been copied
                put16(r.out + k + moved, get16(msg + k) + (r.at - r.done) - moved)
        at = end
    return r.at if recase_copy(&r, at) else 0
