# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of hosts: looks a name up in an image and writes the answer.

Strategy: two images, of the file and of the lines in the Corefile, which is never replaced. That of the file is what
the keeper published last (_published.pxd): one load per query says whether there is a newer one, which is then mapped
before it is asked. An answer during which it was taken away is thrown away and made anew.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from os import urandom
from struct import unpack

from fastdns._published cimport Feed, Image as Published, Mapped, feed_follow, feed_moved, image_close, image_whole
from fastdns._stage cimport (
    NEXT, RCODE, CompiledStage, Memory, Query, Stage, StageOps, Worker, Zone, compiled_stage, query_replied, zeroed,
)
from fastdns._sys cimport calloc, free, memcmp, memcpy, memmove, memset
from fastdns._wire cimport (
    CLASS_IN, FLAG_AA, FLAG_TC, RCODE_NOERROR, RCODE_SERVFAIL, SECTION_ANSWER, TYPE_A, TYPE_AAAA, TYPE_PTR, WIRE_HEADER,
    WIRE_MAX, Writer, get16, put16, wire_lower, wire_name_from_text, wire_name_under, wire_siphash13, writer_reply,
    writer_rr,
)

include "_hosts_image.pxi"
include "_hosts_build.pxi"

cdef enum:
    TRIES = 3                   # images that go away while they are read
    ARPA4 = 14                  # octets of in-addr.arpa.
    ARPA6 = 10                  # ... of ip6.arpa.
    NIBBLES = 64                # ... of the labels of an IPv6 address
    FIXED = 10                  # ... of a record between owner and RDATA

cdef const char *IN_ADDR = b"\x07in-addr\x04arpa\x00"
cdef const char *IP6 = b"\x03ip6\x04arpa\x00"

cdef struct Config:
    uint32_t zone_count
    uint32_t through_count
    const Zone *zones
    const Zone *through         # where names that are not known go on; none: nowhere
    bint unsupported
    uint32_t ttl
    Feed feed                   # the file's image
    View inline

cdef struct State:
    Published image
    View file                   # ... opened

cdef struct Answer:
    Writer out
    uint32_t first              # where the owner stands; 0: nothing is written yet
    uint32_t ulen
    bint lower                  # the question has the letters of the owner


# ---- the file's image


cdef void follow(const Config *c, State *st) noexcept nogil:
    # The newest image. One that cannot be had leaves the one before, and is tried again.
    if feed_follow(&c.feed, &st.image):
        view_open(&st.file, st.image.at, st.image.octets)


# ---- writing


cdef bint append(Answer *a, const Query *q, uint32_t ttl, const uint8_t *rdata, uint32_t n) noexcept nogil:
    # A record of the question's type; False when there is no room for it: TC then says so (RFC 1035 4.1.1).
    cdef uint8_t pointer[2]
    cdef const uint8_t *owner = NULL
    cdef uint32_t octets = 2
    cdef uint32_t at = a.out.n
    if not a.lower:
        if a.first == 0:
            owner, octets = q.pkt.qname, q.pkt.qname_len
        else:
            put16(pointer, 0xC000 | a.first)
            owner = pointer
    if a.out.cap - at < octets + FIXED + n:
        put16(a.out.p + 2, get16(a.out.p + 2) | FLAG_TC)
        return False
    writer_rr(&a.out, SECTION_ANSWER, owner, octets, q.pkt.qtype, CLASS_IN, ttl, rdata, n)
    if a.first == 0:
        a.first = at
    a.ulen += q.pkt.qname_len + FIXED + n
    return True


cdef bint append4(Answer *a, const Query *q, uint32_t ttl, const View *v, const uint8_t *p) noexcept nogil:
    # The IPv4 addresses of a name.
    cdef uint32_t link = load32(p + 4)
    if not append(a, q, ttl, p, 4):
        return False
    while 0 < link <= v.h.four_count:
        p = v.base + v.h.four + <uint64_t>(link - 1) * LINK4
        if not append(a, q, ttl, p, 4):
            return False
        link = load32(p + 4)
    return True


cdef bint append6(Answer *a, const Query *q, uint32_t ttl, const View *v, const uint8_t *p) noexcept nogil:
    cdef uint32_t link = load32(p + 8)
    while 0 < link <= v.h.six_count:
        p = v.base + v.h.six + <uint64_t>(link - 1) * LINK6
        if not append(a, q, ttl, p, 16):
            return False
        link = load32(p + 16)
    return True


cdef bint append_names(Answer *a, const Query *q, uint32_t ttl, const View *v, const uint8_t *node) noexcept nogil:
    # The names of an address. `node` begins with it, a link with the place of a name.
    cdef const uint8_t *p
    cdef uint32_t place = load32(node + 16)
    cdef uint32_t link = load32(node + 20)
    while True:
        p = record(v, place)
        if p == NULL or not append(a, q, ttl, p + REC_NAME, p[REC_LEN]):
            return False
        if link == 0 or link > v.h.rlink_count:
            return True
        p = v.base + v.h.rlinks + <uint64_t>(link - 1) * RLINK
        place = load32(p)
        link = load32(p + 4)


cdef void begin(Worker *w, Answer *a, Query *q) noexcept nogil:
    cdef uint32_t n = q.pkt.qname_len
    w.api.reply_room(w, q)
    writer_reply(&a.out, &q.pkt, q.reply, WIRE_MAX, FLAG_AA, RCODE_NOERROR)
    a.first = 0
    a.ulen = a.out.n
    a.lower = memcmp(q.pkt.wire + WIRE_HEADER, q.pkt.qname, n) == 0


# ---- names and addresses


cdef inline bint has4(const uint8_t *p) noexcept nogil:
    return p != NULL and (p[REC_FLAGS] & FAMILY4) != 0


cdef inline bint has6(const uint8_t *p) noexcept nogil:
    return p != NULL and load32(p + 8) != 0


cdef int names_to(Worker *w, const Config *c, Answer *a, Query *q, const View *one, const View *two) noexcept nogil:
    # Answers for a name; NEXT when it is not known.
    cdef const View *views[2]
    cdef const View *v
    cdef const uint8_t *p
    cdef const uint8_t *wild
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef bint known = False
    cdef bint begun = False
    cdef int i
    views[0], views[1] = one, two
    for i in range(2):
        v = views[i]
        p = find(v, name, n)
        wild = NULL
        if not (has4(p) and has6(p)):
            wild = find_wild(v, name, n)
        if p == NULL and wild == NULL:
            continue
        known = True
        if not begun:
            begin(w, a, q)
            begun = True
        # What the name has of a family goes before what the pattern has.
        if q.pkt.qtype == TYPE_A:
            p = p if has4(p) else wild
            if has4(p) and not append4(a, q, c.ttl, v, p):
                break
        elif q.pkt.qtype == TYPE_AAAA:
            p = p if has6(p) else wild
            if has6(p) and not append6(a, q, c.ttl, v, p):
                break
    return query_replied(q, &a.out, a.ulen) if known else NEXT


cdef bint address4(const uint8_t *name, uint32_t n, uint8_t *out) noexcept nogil:
    # The address that four labels spell, the last part first (RFC 1035 3.5).
    cdef uint32_t at = 0
    cdef uint32_t value
    cdef int part
    cdef uint32_t i
    memset(out, 0, 10)
    out[10] = out[11] = 255
    for part in range(4):
        if at >= n or not 1 <= name[at] <= 3 or (name[at] > 1 and name[at + 1] == c'0'):
            return False
        value = 0
        for i in range(name[at]):
            if not c'0' <= name[at + 1 + i] <= c'9':
                return False
            value = value * 10 + name[at + 1 + i] - c'0'
        if value > 255:
            return False
        out[15 - part] = <uint8_t>value
        at += <uint32_t>name[at] + 1
    return at == n


cdef bint address6(const uint8_t *name, uint8_t *out) noexcept nogil:
    # ... that 32 labels spell, the last half octet first (RFC 3596 2.5).
    cdef int i
    cdef int value
    memset(out, 0, 16)
    for i in range(32):
        value = hexadecimal(name[2 * i + 1]) if name[2 * i] == 1 else -1
        if value < 0:
            return False
        out[15 - i // 2] |= <uint8_t>(value << 4 if i & 1 else value)
    return True


cdef bint reverse_address(const uint8_t *name, uint32_t n, uint8_t *out) noexcept nogil:
    if n > ARPA4 and memcmp(name + n - ARPA4, IN_ADDR, ARPA4) == 0:
        return address4(name, n - ARPA4, out)
    if n == NIBBLES + ARPA6 and memcmp(name + NIBBLES, IP6, ARPA6) == 0:
        return address6(name, out)
    return False


cdef int pointers(Worker *w, const Config *c, Answer *a, Query *q, const View *one, const View *two) noexcept nogil:
    # Answers for an address; NEXT when nothing has it.
    cdef uint8_t address[16]
    cdef const uint8_t *of_one
    cdef const uint8_t *of_two
    if not reverse_address(q.pkt.qname, q.pkt.qname_len, address):
        return NEXT
    of_one = find_address(one, address)
    of_two = find_address(two, address)
    if of_one == NULL and of_two == NULL:
        return NEXT
    begin(w, a, q)
    if of_one == NULL or append_names(a, q, c.ttl, one, of_one):
        if of_two != NULL:
            append_names(a, q, c.ttl, two, of_two)
    return query_replied(q, &a.out, a.ulen)


# ---- the stage


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t n = q.pkt.qname_len
    cdef uint16_t qtype = q.pkt.qtype
    cdef Answer a
    cdef int verdict
    cdef int _i
    if qtype != TYPE_PTR and not in_zones(c.zones, c.zone_count, name, n):
        return NEXT
    if (c.unsupported and qtype != TYPE_A and qtype != TYPE_AAAA and qtype != TYPE_PTR
            and in_zones(c.through, c.through_count, name, n)):
        return NEXT
    for _i in range(TRIES):
        if feed_moved(&c.feed, &st.image):
            follow(c, st)
        if qtype == TYPE_PTR:
            verdict = pointers(w, c, &a, q, &st.file, &c.inline)
        else:
            verdict = names_to(w, c, &a, q, &st.file, &c.inline)
        if image_whole(&st.image):
            break
    else:
        q.rcode = RCODE_SERVFAIL
        return RCODE
    if verdict != NEXT or qtype == TYPE_PTR or in_zones(c.through, c.through_count, name, n):
        return verdict
    # Without an SOA there is no NXDOMAIN.
    q.rcode = RCODE_SERVFAIL
    return RCODE


cdef int start(Worker *w, Stage *s) noexcept nogil:
    # The worker's mapping of the file's image.
    cdef State *st = <State *>calloc(1, sizeof(State))
    if st == NULL:
        return -1
    s.state = st
    follow(<const Config *>s.config, st)
    return 0


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    if s.state != NULL:
        image_close(&(<State *>s.state).image)
        free(s.state)
        s.state = NULL


cdef StageOps OPS
OPS.name = b"hosts"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = start
OPS.stop = stop


cdef Memory zone_list(zones):
    # Zones in wire form as C structs.
    cdef Memory memory = zeroed(sizeof(Zone) * (len(zones) + 1))
    cdef Zone *zone = <Zone *>memory.at
    cdef bytes name
    for name in zones:
        if not 0 < len(name) <= 255:
            raise ValueError(f"a zone of {len(name)} octets")
        memcpy(zone.name, <const uint8_t *>name, len(name))
        zone.len = <uint16_t>len(name)
        zone += 1
    return memory


def stage(zones, through, bint unsupported, uint32_t ttl, bytes inline, Mapped board not None) -> CompiledStage:
    """The stage that answers for `zones`, names that it does not know going on in `through` (both wire form, lower
    case). `inline`: an image, or nothing. `board`: where images of the file are published."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef Memory own = zone_list(zones)
    cdef Memory on = zone_list(through)
    config.zones = <const Zone *>own.at
    config.zone_count = <uint32_t>len(zones)
    config.through = <const Zone *>on.at
    config.through_count = <uint32_t>len(through)
    config.unsupported = unsupported
    config.ttl = ttl
    config.feed = board.feed
    if inline and not view_open(&config.inline, <const uint8_t *>inline, len(inline)):
        raise ValueError("no image")
    return compiled_stage(&OPS, config, (memory, own, on, inline, board))
