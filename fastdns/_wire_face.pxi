# SPDX-License-Identifier: Apache-2.0
#
# The Python face of _wire: thin functions for Python callers and for tests.
#
# Strategy: every input is copied into a malloc block of exactly its size, so that a sanitizer sees a read
# past its end (a bytes object has a spare octet behind it). Documented in _wire.pyi.

ADMISSIONS = ("ok", "short", "response", "notimp", "formerr", "badvers")


cdef class _Block:
    # Octets in an exact-size allocation.
    cdef uint8_t *p
    cdef size_t n

    def __cinit__(self, bytes data not None):
        self.n = len(data)
        self.p = <uint8_t *>malloc(self.n if self.n else 1)
        if self.p == NULL:
            raise MemoryError
        memcpy(self.p, <const uint8_t *><const char *>data, self.n)

    def __dealloc__(self):
        free(self.p)


cdef class _Scratch:
    # What a scan and a finish need: an index and two message buffers.
    cdef Message m
    cdef uint8_t *out
    cdef uint8_t *buf

    def __cinit__(self):
        self.m.records = <Record *>malloc(WIRE_RECORDS_MAX * sizeof(Record))
        self.out = <uint8_t *>malloc(WIRE_MAX + 1)
        self.buf = <uint8_t *>malloc(WIRE_MAX + 1)
        if self.m.records == NULL or self.out == NULL or self.buf == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.m.records)
        free(self.out)
        free(self.buf)


cdef _Scratch scanned(_Block block):
    cdef _Scratch s = _Scratch()
    if wire_scan(block.p, block.n, &s.m) < 0:
        raise ValueError("malformed message")
    return s


def parse_query(bytes message not None):
    cdef _Block block = _Block(message)
    cdef Packet p
    cdef int verdict = wire_admit(block.p, block.n, &p)
    if verdict in (ADMIT_SHORT, ADMIT_RESPONSE):
        return ADMISSIONS[verdict], {}
    fields = {"id": p.id, "flags": p.flags, "opcode": p.opcode}
    if p.qname_len:
        fields.update(qname=<bytes>p.qname[:p.qname_len], labels=p.labels, qtype=p.qtype, qclass=p.qclass)
    if verdict in (ADMIT_OK, ADMIT_BADVERS):
        fields.update(end=p.end, has_opt=bool(p.has_opt), has_tsig=bool(p.has_tsig), has_nsid=bool(p.has_nsid))
        if p.has_opt:
            fields.update(opt_version=p.opt_version, opt_flags=p.opt_flags, udp_size=p.udp_size, opt_off=p.opt_off,
                          opt_rdata=p.opt_rdata, opt_rdlen=p.opt_rdlen, options=p.options)
        if p.has_tsig:
            fields.update(tsig_off=p.tsig_off)
    return ADMISSIONS[verdict], fields


def error_reply(bytes message not None):
    cdef _Block block = _Block(message)
    cdef Packet p
    cdef uint8_t out[512]
    cdef int verdict = wire_admit(block.p, block.n, &p)
    if verdict in (ADMIT_OK, ADMIT_SHORT, ADMIT_RESPONSE):
        return b""
    return <bytes>out[:wire_error(&p, verdict, out, sizeof(out))]


def rcode_reply(bytes message not None, int rcode):
    cdef _Block block = _Block(message)
    cdef Packet p
    cdef uint8_t out[512]
    if wire_admit(block.p, block.n, &p) not in (ADMIT_OK, ADMIT_BADVERS):
        raise ValueError("not an admissible query")
    return <bytes>out[:wire_rcode(&p, rcode, out, sizeof(out))]


def name_to_text(bytes name not None):
    cdef _Block block = _Block(name)
    cdef uint8_t checked[256]
    cdef char text[1024]
    cdef size_t used
    cdef int n = wire_plain(block, checked, &used)
    return (<bytes>text[:wire_name_text(checked, n, text, sizeof(text))]).decode("ascii")


def name_from_text(str text not None):
    cdef uint8_t out[256]
    cdef _Block block = _Block(text.encode())
    cdef int n = wire_name_from_text(<const char *>block.p, block.n, out)
    if n == 0:
        raise ValueError(f"not a domain name: {text!r}")
    return <bytes>out[:n]


cdef int wire_plain(_Block block, uint8_t *out, size_t *used) except 0:
    # A name on its own: no pointers, nothing after it.
    cdef int n = wire_name(block.p, block.n, 0, out, used)
    if n == 0 or <size_t>n != block.n:
        raise ValueError("not a wire-form name")
    return n


def name_lower(bytes name not None):
    cdef _Block block = _Block(name)
    wire_lower(block.p, block.n)
    return <bytes>block.p[:block.n]


def name_under(bytes name not None, bytes zone not None):
    cdef _Block a = _Block(name)
    cdef _Block b = _Block(zone)
    return bool(wire_name_under(a.p, a.n, b.p, b.n))


def name_at(bytes message not None, size_t offset):
    cdef _Block block = _Block(message)
    cdef uint8_t out[256]
    cdef size_t used = 0
    cdef int n = wire_name(block.p, block.n, offset, out, &used)
    if n == 0:
        raise ValueError("malformed name")
    return <bytes>out[:n], used


def siphash13(bytes key not None, bytes data not None):
    cdef uint64_t words[2]
    cdef _Block block = _Block(data)
    if len(key) != 16:
        raise ValueError("the key has 16 octets")
    words[0] = load64(<const uint8_t *><const char *>key)
    words[1] = load64(<const uint8_t *><const char *>key + 8)
    return wire_siphash13(words, block.p, block.n)


def scan(bytes message not None):
    cdef _Block block = _Block(message)
    cdef _Scratch s = scanned(block)
    cdef Message *m = &s.m
    cdef Record *r
    cdef uint32_t i
    records = []
    for i in range(m.n):
        r = &m.records[i]
        owner = name_at(message, r.owner)[0]
        records.append((r.section, owner, r.rtype, r.rclass, r.ttl, message[r.rdata:r.rdata + r.rdlen]))
    head = {"id": m.id, "flags": m.flags, "rcode": m.rcode, "qtype": m.qtype, "qclass": m.qclass, "end": m.end,
            "ulen": m.ulen, "counts": tuple(m.counts[i] for i in range(4)), "question_end": m.question_end,
            "has_tsig": bool(m.has_tsig), "has_opt": bool(m.has_opt)}
    if m.has_opt:
        head.update(opt_size=m.opt_size, opt_flags=m.opt_flags, opt_last=bool(m.opt_last),
                    options=message[m.opt_rdata:m.opt_rdata + m.opt_rdlen])
    return head, records


def expand(bytes message not None):
    cdef _Block block = _Block(message)
    cdef _Scratch s = scanned(block)
    cdef Record *r
    cdef uint8_t name[256]
    cdef size_t used = 0
    cdef uint32_t i, k, at, end, shape
    cdef int n
    records = []
    for i in range(s.m.n):
        r = &s.m.records[i]
        n = wire_name(block.p, block.n, r.owner, name, &used)
        owner = <bytes>name[:n]
        shape = rdata_shape(r.rtype)
        end = r.rdata + r.rdlen
        at = rdata_names_at(block.p, r.rdata, end, shape) if shape else r.rdata
        rdata = message[r.rdata:at]
        for k in range(shape & SHAPE_NAMES):
            n = wire_name(block.p, block.n, at, name, &used)
            rdata += <bytes>name[:n]
            at += <uint32_t>used
        records.append((r.section, owner, r.rtype, r.rclass, r.ttl, rdata + message[at:end]))
    return records


def question_matches(bytes reply not None, bytes query not None, bint exact_case=False):
    cdef _Block a = _Block(reply)
    cdef _Block b = _Block(query)
    cdef Packet p
    if wire_admit(b.p, b.n, &p) != ADMIT_OK:
        raise ValueError("not an admissible query")
    return bool(wire_question_matches(a.p, a.n, &p, exact_case))


def strip_opt(bytes message not None):
    cdef _Block block = _Block(message)
    cdef _Scratch s = scanned(block)
    return <bytes>s.out[:wire_strip_opt(block.p, &s.m, s.out, WIRE_MAX)]


def compress(bytes message not None, size_t limit=WIRE_MAX):
    cdef _Block block = _Block(message)
    cdef _Scratch s = scanned(block)
    cdef bint truncated = False
    cdef size_t n = wire_compress(block.p, &s.m, s.out, limit, &truncated)
    return <bytes>s.out[:n], bool(truncated)


def recase(bytes message not None, bytes query not None, bint anew=False):
    cdef _Block block = _Block(message)
    cdef _Block q = _Block(query)
    cdef _Scratch s = scanned(block)
    cdef Packet p
    cdef bint truncated = False
    if wire_admit(q.p, q.n, &p) != ADMIT_OK or not wire_question_matches(block.p, block.n, &p, False):
        raise ValueError("not the message's question")
    if anew:
        return <bytes>s.out[:wire_reply_to(block.p, &s.m, &p, s.out, WIRE_MAX, &truncated)]
    return <bytes>s.out[:wire_recase(block.p, block.n, &p, s.out, WIRE_MAX)]


def finish(bytes query not None, bytes reply not None, *, bint udp=True, bint ipv6=False, limit=None, rcode=None,
           options=None, bint set_do=False, uint16_t opt_size=4096, uint32_t reserve=0,
           bytes cookie=None):
    cdef _Block q = _Block(query)
    cdef _Block a = _Block(reply)
    cdef _Block own = _Block(options or b"")
    cdef _Scratch s = scanned(a)
    cdef Packet p
    cdef Finish f
    cdef size_t n
    if wire_admit(q.p, q.n, &p) not in (ADMIT_OK, ADMIT_BADVERS):
        raise ValueError("not an admissible query")
    if not options_fine(own.p, <uint32_t>own.n):
        raise ValueError("malformed options")
    n = wire_strip_opt(a.p, &s.m, s.out, WIRE_MAX)
    f.options = own.p
    f.options_len = <uint32_t>own.n
    f.rcode = s.m.rcode if rcode is None else rcode
    f.has_opt = options is not None
    f.set_do = set_do
    f.opt_size = opt_size
    f.ulen = s.m.ulen
    f.limit = wire_limit(&p, udp) if limit is None else limit
    f.ipv6 = ipv6
    f.udp = udp
    f.reserve = reserve
    f.cookie = <const uint8_t *>cookie if cookie is not None else NULL
    f.cookie_len = <uint32_t>len(cookie) if cookie is not None else 0
    if f.cookie_len > 40:
        raise ValueError("a cookie has at most 40 octets")
    return <bytes>s.out[:wire_finish(&p, &f, s.out, n, WIRE_MAX, &s.m, s.buf)]


def echo_option(uint16_t code):
    wire_echo(code)


def echo_none():
    wire_echo_none()


def build(bytes query not None, uint16_t flags, int rcode, records):
    cdef _Block q = _Block(query)
    cdef _Block owner, rdata
    cdef _Scratch s = _Scratch()
    cdef Packet p
    cdef Writer w
    if wire_admit(q.p, q.n, &p) not in (ADMIT_OK, ADMIT_BADVERS):
        raise ValueError("not an admissible query")
    writer_reply(&w, &p, s.out, WIRE_MAX, flags, rcode)
    for section, name, rtype, rclass, ttl, data in records:
        if section not in (SECTION_ANSWER, SECTION_AUTHORITY, SECTION_ADDITIONAL):
            raise ValueError("no such section")
        owner = _Block(name or b"")
        rdata = _Block(data)
        writer_rr(&w, section, owner.p if owner.n else NULL, owner.n, rtype, rclass, ttl, rdata.p, rdata.n)
    if w.bad:
        raise ValueError("does not fit into a message")
    return <bytes>s.out[:w.n]
