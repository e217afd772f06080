# SPDX-License-Identifier: Apache-2.0
#
# The query that a plugin sees: a lazy view of the loop's own.
#
# Strategy: a Query object is a pointer into the parsed query and nothing more; each property is computed when it is
# read. `replace` makes a message of its own, which shares the client, context and metadata of the original. When the
# query has been answered and somebody still refers to it, its octets are copied first (`_Request.freeze`).

Tsig = collections.namedtuple("Tsig", ("key", "verified"), module="fastdns._bridge")
cdef object UNSIGNED = Tsig("", False)


@cython.freelist(256)
@cython.final
cdef class _Request:
    # One query's stay in Python: what all its views share.
    cdef CQuery *q              # the loop's, or the copy in `frozen`
    cdef uint8_t *frozen
    cdef Bridge bridge
    cdef list stages
    cdef object coro            # of an eager plugin that waits for a child
    cdef object task
    cdef double deadline        # on the loop's clock, seconds
    cdef dict context
    cdef dict metadata
    cdef bytes asked            # what `next` was called with last, an Asked; None: the client's own query
    cdef bytes note             # for the compiled half of the plugin; None: nothing
    cdef uint32_t reads         # what the plugin has read: READS_...
    cdef bint keeps             # its plugin's answers may be kept
    cdef list sources           # streams that its children send
    cdef _Pump pump
    cdef bint done

    def __dealloc__(self):
        free(self.frozen)

    cdef int freeze(self) except -1:
        # The loop takes its query back: whoever still refers to it reads a copy.
        cdef CQuery *q = self.q
        cdef CQuery *copy
        self.frozen = <uint8_t *>malloc(sizeof(CQuery) + q.pkt.length)
        if self.frozen == NULL:
            self.q = NULL
            return 0
        copy = <CQuery *>self.frozen
        memcpy(copy, q, sizeof(CQuery))
        memcpy(self.frozen + sizeof(CQuery), q.pkt.wire, q.pkt.length)
        copy.pkt.wire = self.frozen + sizeof(CQuery)
        copy.frames = NULL
        copy.reply = NULL
        copy.options = NULL
        self.q = copy
        return 0


cdef object address_text(const uint8_t *ip, int family):
    cdef char text[16]
    cdef int i, k = 0
    cdef uint8_t b
    if family != 1:
        return str(ipaddress.IPv6Address(<bytes>ip[:16]))
    for i in range(4):
        b = ip[i]
        if b >= 100:
            text[k] = <char>(48 + b // 100)
            k += 1
        if b >= 10:
            text[k] = <char>(48 + b // 10 % 10)
            k += 1
        text[k] = <char>(48 + b % 10)
        text[k + 1] = b'.'
        k += 2
    return (<bytes>text[:k - 1]).decode("ascii")


@cython.freelist(256)
@cython.final
cdef class Query:
    cdef _Request request
    cdef Packet *own            # of a replaced query, its octets behind it; NULL: the client's
    cdef bint aside             # what is asked instead is nobody else's business

    def __init__(self):
        raise TypeError("queries come from the server")

    def __dealloc__(self):
        free(self.own)

    cdef const Packet *packet(self, uint32_t reads=READS_MORE) except NULL:
        self.request.reads |= reads
        if self.own != NULL:
            return self.own
        return &self.client_query(0).pkt

    cdef const CQuery *client_query(self, uint32_t reads=READS_MORE) except NULL:
        self.request.reads |= reads
        if self.request.q == NULL:
            raise RuntimeError("the query is over")
        return self.request.q

    @property
    def name(self):
        cdef const Packet *p = self.packet(READS_NAME)
        return text_of(p.qname, p.qname_len)

    @property
    def qname(self):
        # The name as the client wrote it. The question starts behind the header and holds no pointer.
        cdef const Packet *p = self.packet(READS_NAME | READS_CASE)
        return text_of(p.wire + WIRE_HEADER, p.qname_len)

    @property
    def name_octets(self):
        return self.packet(READS_NAME).qname_len

    @property
    def type(self):
        return self.packet(0).qtype

    @property
    def qclass(self):
        return self.packet(0).qclass

    @property
    def id(self):
        return self.packet().id

    @property
    def opcode(self):
        return self.packet(0).opcode

    @property
    def rd(self):
        return (self.packet(0).flags & FLAG_RD) != 0

    @property
    def ad(self):
        return (self.packet(READS_AD).flags & FLAG_AD) != 0

    @property
    def cd(self):
        return (self.packet(0).flags & FLAG_CD) != 0

    @property
    def edns(self):
        return bool(self.packet(READS_EDNS).has_opt)

    @property
    def do(self):
        cdef const Packet *p = self.packet(READS_DO)
        return p.has_opt and (p.opt_flags & FLAG_DO) != 0

    @property
    def bufsize(self):
        return wire_limit(self.packet(READS_EDNS), self.client_query(0).proto == PROTO_UDP)

    @property
    def size(self):
        return self.packet().end

    @property
    def wire(self):
        cdef const Packet *p = self.packet()
        return <bytes>p.wire[:p.end]     # what a stage has put aside lies behind it

    @property
    def message(self):
        return parse_message(self.wire)

    @property
    def client(self):
        cdef const CQuery *q = self.client_query(READS_CLIENT)
        return address_text(q.client_ip, q.family)

    @property
    def client_port(self):
        return self.client_query(READS_PORT).client_port

    @property
    def family(self):
        return 4 if self.client_query(READS_FAMILY).family == 1 else 6

    @property
    def local(self):
        cdef const CQuery *q = self.client_query(READS_SERVER)
        if q.local_len == 0:
            return "::"
        return address_text(q.local_ip, 1 if q.local_len == 4 else 2)

    @property
    def proto(self):
        return "udp" if self.client_query(READS_PROTO).proto == PROTO_UDP else "tcp"

    @property
    def tsig(self):
        cdef const CQuery *q = self.client_query()
        if not q.tsig & TSIG_GOOD:
            return UNSIGNED
        return Tsig(text_of(q.signature.key.name, q.signature.key.name_len), True)

    @property
    def server(self):
        cdef uint16_t listener = self.client_query(0).listener
        cdef tuple servers = self.request.bridge.servers
        return servers[listener] if listener < len(servers) else ""

    @property
    def zone(self):
        cdef const CQuery *q = self.client_query(0)
        return self.request.bridge.zones[q.block.index][q.zone]

    @property
    def context(self):
        self.request.reads |= READS_MORE
        if self.request.context is None:
            self.request.context = {}
        return self.request.context

    @property
    def metadata(self):
        cdef const CQuery *q = self.request.q
        self.request.reads |= READS_LABELS
        if self.request.metadata is None:
            if q == NULL or not q.block.metadata:
                return {}
            labels_begin(self.request)
        return self.request.metadata

    @property
    def deadline(self):
        cdef uint64_t at = self.client_query().deadline_ns
        return at * 1e-9 if at else None

    def reply(self, int rcode=0, *, bint aa=False, bint ra=False, bint ad=False):
        cdef Reply reply = Reply.__new__(Reply)
        cdef const Packet *p
        if not 0 <= rcode <= 4095:
            raise ValueError(f"{rcode} is no response code")
        p = self.packet(0)
        writer_reply(&reply.out, p, reply.out.p, reply.out.cap,
                     (FLAG_AA if aa else 0) | (FLAG_RA if ra else 0) | (FLAG_AD if ad else 0), rcode)
        reply.rcode = <uint16_t>rcode
        reply.qname_len = p.qname_len
        reply.qclass = p.qclass
        reply.ulen = reply.out.n
        return reply

    def replace(self, *, name=None, type=None, qclass=None, do=None, bufsize=None, options=None, aside=False):
        cdef Query query = Query.__new__(Query)
        cdef const Packet *p
        cdef uint8_t owner[256]
        cdef int n = 0 if name is None else name_wire(name, owner)
        cdef int kind = 0 if type is None else type
        cdef int klass = 0 if qclass is None else qclass
        cdef Opt opt
        cdef bytes rdata = None if options is None else options_wire(options)
        opt.wants_dnssec = -1 if do is None else bool(do)
        opt.size = -1 if bufsize is None else bufsize
        if not (0 <= kind <= 65535 and 0 <= klass <= 65535 and -1 <= opt.size <= 65535):
            raise ValueError("types, classes and sizes have 16 bits")
        # From here on nothing runs that could let another thread end the query.
        p = self.packet()
        if name is None:
            n = p.qname_len
            memcpy(owner, p.wire + WIRE_HEADER, n)
        query.request = self.request
        query.aside = aside
        derive(query, p, owner, n, p.qtype if type is None else kind, p.qclass if qclass is None else klass, &opt,
               rdata)
        return query

    def renamed(self, Reply reply, bint alias=False):
        cdef Reply made = Reply.__new__(Reply)
        cdef Message *m = &SCAN.m
        cdef const Packet *p = self.packet()
        cdef uint32_t n = reply.out.n
        cdef bint truncated = False
        cdef size_t size = 0
        cdef uint8_t *octets = NULL
        made.make_room(WIRE_MAX)
        octets = <uint8_t *>malloc(n + RECORD_MOST)
        if octets == NULL:
            raise MemoryError
        memcpy(octets, reply.out.p, n)
        if wire_scan(octets, n, m) == 0 and m.counts[0] == 1:
            if alias:
                put_alias(octets, m, p)
            size = wire_reply_to(octets, m, p, made.out.p, WIRE_MAX, &truncated)
        free(octets)
        if size == 0 or truncated:
            raise ValueError("a reply without a question, or of more than 65,535 octets")
        made.out.n = <uint32_t>size
        made.rcode = reply.rcode
        made.has_opt = reply.has_opt
        made.set_do = reply.set_do
        made.opt_size = reply.opt_size
        made.options = reply.options
        made.upstream = reply.upstream
        made.ulen = m.ulen if wire_scan(made.out.p, size, m) == 0 else <uint32_t>size
        if made.has_opt:
            made.ulen += OPT_OCTETS + (0 if made.options is None else <uint32_t>len(made.options))
        made.look()
        return made

    def lookup(self, name, int type):
        cdef uint8_t owner[256]
        cdef int n = name_wire(name, owner)
        cdef uint8_t out[512]
        cdef uint32_t size
        if not 0 <= type <= 65535:
            raise ValueError("types have 16 bits")
        size = question_wire(self.packet(), owner, n, <uint16_t>type, CLASS_IN, out, NULL, b"")
        put16(out + 2, FLAG_RD)
        return wait_for(self.request, DOWN_LOOKUP, 0, <bytes>out[:size])

    def option(self, int code):
        cdef const Packet *p = self.packet(0)
        cdef uint32_t at = p.opt_rdata
        cdef uint32_t end = p.opt_rdata + p.opt_rdlen if p.has_opt else at
        cdef uint32_t n
        while at + 4 <= end:
            n = get16(p.wire + at + 2)
            if n > end - at - 4:
                break
            if get16(p.wire + at) == code:
                return <bytes>p.wire[at + 4:at + 4 + n]
            at += 4 + n
        return None

    def once(self):
        self.request.reads |= READS_MORE

    def note(self, bytes octets not None):
        if len(octets) > NOTE_MOST:
            raise ValueError(f"a note has at most {NOTE_MOST} octets")
        if self.request.keeps or self.request.note is not None:
            # One for a compiled half of the plugin's own; where its answers are kept the server writes it.
            raise ValueError("nobody reads this note")
        self.request.note = octets

    def __repr__(self):
        return f"<Query {self.name} type {self.type} from {self.client}>"


cdef enum:
    NOTE_MOST = 4096            # octets of a note
    RECORD_MOST = 265           # octets of a record whose RDATA lies elsewhere
    OPT_OCTETS = 11             # ... of an OPT without options


cdef void put_alias(uint8_t *octets, Message *m, const Packet *p) noexcept nogil:
    # In front of the answers a CNAME record from the query's name to the first owner that is another. It is put behind
    # the message, where there is room for it; its RDATA is that owner as it stands.
    cdef uint8_t name[256]
    cdef size_t used = 0
    cdef uint32_t i, at
    cdef int n
    cdef Record other
    for i in range(m.n):
        if m.records[i].section != SECTION_ANSWER or m.n >= WIRE_RECORDS_MAX:
            return
        n = wire_name(octets, m.end, m.records[i].owner, name, &used)
        wire_lower(name, n)
        if n != p.qname_len or memcmp(name, p.qname, n) != 0:
            break
    else:
        return
    other = m.records[i]
    at = m.end
    memcpy(octets + at, p.wire + WIRE_HEADER, p.qname_len)
    at += p.qname_len
    put16(octets + at, TYPE_CNAME)
    put16(octets + at + 2, CLASS_IN)
    put32(octets + at + 4, other.ttl)
    memmove(m.records + 1, m.records, m.n * sizeof(Record))
    m.records[0].owner = m.end
    m.records[0].ttl_off = at + 4
    m.records[0].rdata = other.owner
    m.records[0].rdlen = <uint16_t>used
    m.records[0].ttl = other.ttl
    m.records[0].rtype = TYPE_CNAME
    m.records[0].rclass = CLASS_IN
    m.records[0].section = SECTION_ANSWER
    m.n += 1
    m.end = at + 10


cdef struct Opt:
    # What a replacement says of EDNS; -1: as the client did.
    int wants_dnssec
    int size


cdef bytes options_wire(object options):
    parts = []
    for code, data in options:
        if not 0 <= code <= 65535 or len(data) > WIRE_QUERY_MAX:
            raise ValueError(f"EDNS option {code} with {len(data)} octets")
        parts.append(code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + bytes(data))
    rdata = b"".join(parts)
    if len(rdata) > WIRE_QUERY_MAX:
        raise ValueError("the EDNS options of a query have at most a few thousand octets")
    return rdata


cdef uint32_t question_wire(const Packet *p, const uint8_t *name, int n, uint16_t qtype, uint16_t qclass, uint8_t *out,
                            const Opt *opt, bytes options):
    # A query with p's header, another question, and p's OPT as far as `opt` does not change it (NULL: its size and DO
    # alone). `options`: None, p's own. Room for 284 octets and the options. Octets.
    cdef uint32_t at = WIRE_HEADER
    cdef uint32_t length = p.opt_rdlen if options is None else <uint32_t>len(options)
    cdef uint16_t flags = p.opt_flags if opt != NULL else p.opt_flags & FLAG_DO
    cdef uint16_t size = p.udp_size
    memset(out, 0, WIRE_HEADER)
    put16(out, p.id)
    put16(out + 2, p.flags)
    put16(out + 4, 1)
    memcpy(out + at, name, n)
    at += <uint32_t>n
    put16(out + at, qtype)
    put16(out + at + 2, qclass)
    at += 4
    if not p.has_opt:
        if opt == NULL or (opt.wants_dnssec < 0 and opt.size < 0 and options is None):
            return at
        flags, size, length = 0, OPT_SIZE, 0 if options is None else <uint32_t>len(options)
    if opt != NULL and opt.wants_dnssec >= 0:
        flags = (flags & ~FLAG_DO) | (FLAG_DO if opt.wants_dnssec else 0)
    if opt != NULL and opt.size >= 0:
        size = <uint16_t>opt.size
    memset(out + at, 0, 11)
    put16(out + at + 1, TYPE_OPT)
    put16(out + at + 3, size)
    put16(out + at + 7, flags)
    put16(out + at + 9, length)
    if options is not None:
        memcpy(out + at + 11, <const uint8_t *>options, length)
    elif length:
        memcpy(out + at + 11, p.wire + p.opt_rdata, length)
    put16(out + 10, 1)
    return at + 11 + length


cdef int derive(Query query, const Packet *p, const uint8_t *name, int n, int qtype, int qclass, const Opt *opt,
                bytes options) except -1:
    cdef size_t room = sizeof(Packet) + 284 + (p.opt_rdlen if options is None else len(options))
    query.own = <Packet *>malloc(room)
    if query.own == NULL:
        raise MemoryError
    cdef uint8_t *wire = <uint8_t *>query.own + sizeof(Packet)
    cdef uint32_t size = question_wire(p, name, n, <uint16_t>qtype, <uint16_t>qclass, wire, opt, options)
    if wire_admit(wire, size, query.own) != ADMIT_OK:
        raise ValueError("the server would not accept such a query")
    return 0
