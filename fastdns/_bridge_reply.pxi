# SPDX-License-Identifier: Apache-2.0
#
# What a plugin returns: Reply, Rcode, DROP.
#
# Strategy: a Reply is octets in wire form, without OPT (the server adds the client's), and the few facts that the loop
# wants beside them. Simple answers are written record by record into a buffer inside the object; nothing is parsed
# or packed unless a plugin touches `message`.

cdef enum:
    ROOM = 320                  # octets inside a Reply; longer ones are allocated
    OPT_REPLY = 4096            # UDP size of an OPT that a reply has and its query has not

cdef object parse_message = None
cdef object pack_message = None


def use_messages(parse, pack):
    """Says what `message` is: octets -> message, message -> octets. Called by fastdns.plugin."""
    global parse_message, pack_message
    parse_message, pack_message = parse, pack


cdef inline bint is_message(object value):
    # dnslib's, or a class of its kind.
    return hasattr(value, "questions") and hasattr(value, "pack")


cdef class _Scan:
    # One index of records for all scans: they hold the GIL.
    cdef Message m

    def __cinit__(self):
        self.m.records = <Record *>malloc(WIRE_RECORDS_MAX * sizeof(Record))
        if self.m.records == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.m.records)

cdef _Scan SCAN = _Scan()


cdef object text_of(const uint8_t *name, size_t n):
    cdef char text[1024]
    cdef size_t k = wire_name_text(name, n, text, sizeof(text))
    return (<bytes>text[:k]).decode("ascii")


cdef int name_wire(object name, uint8_t *out) except -1:
    cdef bytes octets = name.encode() if isinstance(name, str) else bytes(name)
    cdef int n = wire_name_from_text(octets, len(octets), out)
    if n == 0:
        raise ValueError(f"{name!r} is no domain name")
    return n


cdef inline bint server_writes(int rcode) noexcept:
    return rcode == RCODE_SERVFAIL or rcode == RCODE_REFUSED or rcode == RCODE_FORMERR or rcode == RCODE_NOTIMP


cdef class Rcode:
    cdef readonly int rcode

    def __init__(self, int rcode):
        if not 0 <= rcode <= 4095:
            raise ValueError(f"{rcode} is no response code")
        self.rcode = rcode

    def __repr__(self):
        return f"Rcode({self.rcode})"

    def __eq__(self, other):
        return isinstance(other, Rcode) and (<Rcode>other).rcode == self.rcode

    def __hash__(self):
        return self.rcode


class _Drop:
    """The type of DROP."""

    def __repr__(self):
        return "DROP"

    def __reduce__(self):
        return "DROP"


_DROPPED = _Drop()
globals()["DROP"] = _DROPPED     # the bare name is the loop's verdict here


@cython.freelist(256)
cdef class Reply:
    cdef Writer out             # its octets
    cdef uint8_t *heap          # where they are when `room` is too small
    cdef readonly uint16_t rcode
    cdef uint16_t qclass
    cdef uint16_t qname_len
    cdef uint16_t opt_size
    cdef uint16_t upstream      # whose answer it is, see Query in _stage.pxd
    cdef uint8_t section        # of the last record
    cdef readonly bint has_opt
    cdef bint set_do
    cdef bint cased             # its octets may depend on the letter case of the query's name
    cdef bint named             # ... and on the name itself, though nobody read it
    cdef uint32_t ulen
    cdef bytes options          # of the reply's own OPT
    cdef bytes error            # what a stage said beside its reply
    cdef uint8_t room[ROOM]

    def __cinit__(self):
        self.out.p = self.room
        self.out.cap = ROOM

    def __init__(self, octets):
        cdef bytes wire
        if is_message(octets):
            wire = pack_message(octets)
        else:
            # bytes() would take a number for a length.
            wire = bytes(memoryview(octets))
        self.load(wire)

    def __dealloc__(self):
        free(self.heap)

    cdef int load(self, bytes wire) except -1:
        cdef Message *m = &SCAN.m
        cdef const uint8_t *p = wire
        cdef size_t n
        if len(wire) > WIRE_MAX or wire_scan(p, len(wire), m) != 0:
            raise ValueError("a reply must be a well-formed DNS message")
        self.make_room(m.end)
        n = wire_strip_opt(p, m, self.out.p, self.out.cap)
        if n == 0:
            # Without its OPT in the middle, names are written out anew and may take more octets.
            self.make_room(WIRE_MAX)
            n = wire_strip_opt(p, m, self.out.p, self.out.cap)
            if n == 0:
                raise ValueError("a reply has at most 65,535 octets")
        self.out.n = <uint32_t>n
        self.cased = self.named = True
        self.rcode = m.rcode
        self.ulen = m.ulen
        self.look()
        self.has_opt = m.has_opt
        if m.has_opt:
            self.set_do = (m.opt_flags & FLAG_DO) != 0
            self.opt_size = m.opt_size
            self.options = p[m.opt_rdata:m.opt_rdata + m.opt_rdlen]
        return 0

    cdef void look(self) noexcept:
        # What is needed to add records to octets that were made elsewhere: the question and the last section in use.
        cdef const uint8_t *p = self.out.p
        cdef uint32_t at = WIRE_HEADER
        self.section = SECTION_ADDITIONAL if get16(p + 10) else SECTION_AUTHORITY if get16(p + 8) else SECTION_ANSWER
        self.qclass = CLASS_IN
        self.qname_len = 0
        if get16(p + 4) != 1:
            return
        while at < self.out.n and 0 < p[at] < 64:
            at += <uint32_t>p[at] + 1
        if at + 5 <= self.out.n and p[at] == 0:
            self.qname_len = <uint16_t>(at + 1 - WIRE_HEADER)
            self.qclass = get16(p + at + 3)

    cdef int make_room(self, size_t need) except -1:
        # Room for `need` octets in all.
        cdef uint8_t *bigger
        cdef size_t cap = self.out.cap
        if need <= cap:
            return 0
        if need > WIRE_MAX:
            raise ValueError("a reply has at most 65,535 octets")
        while cap < need:
            cap *= 2
        cap = min(cap, <size_t>WIRE_MAX)
        bigger = <uint8_t *>malloc(cap)
        if bigger == NULL:
            raise MemoryError
        memcpy(bigger, self.out.p, self.out.n)
        free(self.heap)
        self.heap = bigger
        self.out.p = bigger
        self.out.cap = <uint32_t>cap
        return 0

    cdef int append(self, int section, object name, uint16_t rtype, uint32_t ttl, const uint8_t *rdata,
                    size_t rdlen) except -1:
        cdef uint8_t owner[256]
        cdef int n = 0
        if name is not None:
            n = name_wire(name, owner)
        elif self.qname_len == 0:
            raise ValueError("without a question a record needs a name")
        return self.append_wire(section, owner, n, rtype, self.qclass, ttl, rdata, rdlen)

    cdef int append_wire(self, int section, const uint8_t *owner, int n, uint16_t rtype, uint16_t rclass, uint32_t ttl,
                         const uint8_t *rdata, size_t rdlen) except -1:
        # n 0: the question's name.
        if section < self.section or section > SECTION_ADDITIONAL:
            raise ValueError("sections are written in the order answer, authority, additional")
        if rdlen > WIRE_MAX:
            raise ValueError("RDATA has at most 65,535 octets")
        self.make_room(self.out.n + 266 + rdlen)
        writer_rr(&self.out, section, owner if n else NULL, n, rtype, rclass, ttl, rdata, rdlen)
        if self.out.bad:
            raise ValueError("the record does not fit")
        self.section = <uint8_t>section
        self.ulen += (n if n else self.qname_len) + 10 + <uint32_t>rdlen
        return 0

    def add(self, bytes owner, uint16_t type, uint16_t qclass, uint32_t ttl, bytes rdata,
            int section=SECTION_ANSWER):
        cdef uint8_t name[256]
        cdef const uint8_t *octets = owner
        cdef const uint8_t *data = rdata
        cdef size_t used = 0
        cdef size_t k
        cdef int n = wire_name(octets, len(owner), 0, name, &used)
        if n == 0 or used != <size_t>len(owner):
            raise ValueError("the owner is no domain name in wire form")
        self.named = True
        if n == self.qname_len and memcmp(self.out.p + WIRE_HEADER, name, n) == 0:
            n = 0
        # An owner in lower case is the question of every query in lower case, and of no other. Lengths are below 64.
        for k in range(used):
            if 65 <= octets[k] <= 90:
                self.cased = True
        self.append_wire(section, name, n, type, qclass, ttl, data, len(rdata))
        return self

    def record(self, uint16_t type, rdata, uint32_t ttl=0, name=None, int section=SECTION_ANSWER):
        cdef bytes data = bytes(rdata)
        self.append(section, name, type, ttl, data, len(data))
        return self

    def a(self, address, uint32_t ttl=0, name=None, int section=SECTION_ANSWER):
        cdef bytes data = packed(address, 4)
        self.append(section, name, TYPE_A, ttl, data, 4)
        return self

    def aaaa(self, address, uint32_t ttl=0, name=None, int section=SECTION_ANSWER):
        cdef bytes data = packed(address, 16)
        self.append(section, name, TYPE_AAAA, ttl, data, 16)
        return self

    def srv(self, uint16_t priority, uint16_t weight, uint16_t port, target, uint32_t ttl=0, name=None,
            int section=SECTION_ANSWER):
        cdef uint8_t data[262]
        cdef int n = name_wire(target, data + 6)
        put16(data, priority)
        put16(data + 2, weight)
        put16(data + 4, port)
        self.append(section, name, TYPE_SRV, ttl, data, 6 + n)
        return self

    def txt(self, *strings, uint32_t ttl=0, name=None, int section=SECTION_ANSWER):
        parts = []
        for string in strings:
            octets = string.encode() if isinstance(string, str) else bytes(string)
            for at in range(0, len(octets) or 1, 255):
                piece = octets[at:at + 255]
                parts.append(bytes([len(piece)]) + piece)
        cdef bytes data = b"".join(parts)
        if not data:
            raise ValueError("a TXT record has at least one string")
        self.append(section, name, TYPE_TXT, ttl, data, len(data))
        return self

    cdef int flag(self, int bit) noexcept:
        return (get16(self.out.p + 2) & bit) != 0

    @property
    def aa(self):
        return bool(self.flag(FLAG_AA))

    @property
    def tc(self):
        return bool(self.flag(FLAG_TC))

    @property
    def ra(self):
        return bool(self.flag(FLAG_RA))

    @property
    def ad(self):
        return bool(self.flag(FLAG_AD))

    def edited(self, octets=None, *, rcode=None, options=None, error=None):
        cdef Reply reply = Reply.__new__(Reply)
        cdef bytes wire = self.wire if octets is None else bytes(memoryview(octets))
        cdef int code = self.rcode if rcode is None else rcode
        if not 0 <= code <= 4095:
            raise ValueError(f"{code} is no response code")
        reply.load(wire)
        if reply.has_opt:
            raise ValueError("a reply is edited without its OPT")
        reply.rcode = <uint16_t>code
        reply.out.p[3] = <uint8_t>((reply.out.p[3] & 0xF0) | (code & 15))
        reply.has_opt = self.has_opt or options is not None
        reply.set_do = self.set_do
        reply.opt_size = self.opt_size if options is None else OPT_REPLY
        reply.options = self.options if options is None else options_wire(options)
        if self.has_opt:
            # What log and metrics report is the size with the OPT that it came with.
            reply.ulen += 11 + (0 if reply.options is None else <uint32_t>len(reply.options))
        reply.upstream = self.upstream
        reply.error = self.error if error is None else error.encode()[:160]
        return reply

    @property
    def opt(self):
        return None if not self.has_opt else b"" if self.options is None else self.options

    @property
    def wire(self):
        return <bytes>self.out.p[:self.out.n]

    @property
    def size(self):
        return self.ulen

    @property
    def counts(self):
        return tuple([get16(self.out.p + at) for at in (6, 8, 10)])

    @property
    def message(self):
        return parse_message(self.wire)

    def __repr__(self):
        return f"<Reply rcode={self.rcode} octets={self.out.n}>"


cdef bytes packed(object address, int size):
    # An address as text (or an ipaddress object, or octets) in network form.
    cdef bytes data = ADDRESSES.get(address)
    if data is None:
        if isinstance(address, bytes):
            data = address
        else:
            data = ipaddress.ip_address(str(address)).packed
            if len(ADDRESSES) < 1024 and isinstance(address, str):
                ADDRESSES[address] = data
    if len(data) != size:
        raise ValueError(f"{address!r} is no IPv{4 if size == 4 else 6} address")
    return data


cdef dict ADDRESSES = {}
