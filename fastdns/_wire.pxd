# SPDX-License-Identifier: Apache-2.0
#
# The DNS message on the wire: packet in (parse, normalise), packet out (assemble, fit, finish).
#
# Strategy: free functions over caller-owned memory, `noexcept nogil`, no allocation, no Python. Octets
# are read and written only through the cursors below, which check every bound and remember a failure;
# a parser checks `cursor.bad` once where it decides. All lengths are size_t or uint32_t.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    WIRE_HEADER = 12            # octets of a DNS header (RFC 1035 4.1.1)
    WIRE_NAME_MAX = 255         # octets of a name, root label included (RFC 1035 2.3.4)
    WIRE_QUERY_MAX = 4096       # octets of a query that we read over UDP
    WIRE_MAX = 65535
    WIRE_RECORDS_MAX = 5957     # 65,535 octets hold no more records of 11 octets

    FLAG_QR = 0x8000
    FLAG_AA = 0x0400
    FLAG_TC = 0x0200
    FLAG_RD = 0x0100
    FLAG_RA = 0x0080
    FLAG_Z = 0x0040
    FLAG_AD = 0x0020
    FLAG_CD = 0x0010
    FLAG_DO = 0x8000            # in the OPT's TTL field

    RCODE_NOERROR = 0
    RCODE_FORMERR = 1
    RCODE_SERVFAIL = 2
    RCODE_NXDOMAIN = 3
    RCODE_NOTIMP = 4
    RCODE_REFUSED = 5
    RCODE_NOTAUTH = 9
    RCODE_BADVERS = 16

    OPCODE_QUERY = 0
    OPCODE_NOTIFY = 4

    TYPE_A = 1
    TYPE_NS = 2
    TYPE_CNAME = 5
    TYPE_SOA = 6
    TYPE_PTR = 12
    TYPE_MX = 15
    TYPE_TXT = 16
    TYPE_AAAA = 28
    TYPE_SRV = 33
    TYPE_DNAME = 39
    TYPE_OPT = 41
    TYPE_DS = 43
    TYPE_RRSIG = 46
    TYPE_NSEC = 47
    TYPE_NXNAME = 128
    TYPE_TSIG = 250
    TYPE_IXFR = 251
    TYPE_AXFR = 252
    TYPE_ANY = 255
    CLASS_IN = 1
    CLASS_CH = 3
    CLASS_ANY = 255

    OPTION_NSID = 3
    OPTION_ECS = 8
    OPTION_EXPIRE = 9
    OPTION_COOKIE = 10
    OPTION_KEEPALIVE = 11
    OPTION_PADDING = 12

    SECTION_ANSWER = 0
    SECTION_AUTHORITY = 1
    SECTION_ADDITIONAL = 2

cdef enum Admission:
    # What the compiled ingress says of a message (compat: the request acceptance table; malformed
    # shapes beyond it by the stricter rule of the probe set: two OPT, OPT elsewhere than in the additional
    # section, OPT owner not root, option past the OPT's end, QTYPE OPT or NXNAME: FORMERR).
    ADMIT_OK = 0
    ADMIT_SHORT = 1             # fewer than 12 octets: silence
    ADMIT_RESPONSE = 2          # QR set: silence
    ADMIT_NOTIMP = 3            # opcode: header only
    ADMIT_FORMERR = 4           # header, or header and question when pkt.qname_len != 0
    ADMIT_BADVERS = 5           # question and OPT of version 0, size 0 (RFC 6891 6.1.3)

cdef enum:                      # the shape of RDATA that holds names
    SHAPE_NAMES = 0x03          # how many names
    SHAPE_COMPRESS = 0x04       # RFC 1035 type: its names may be written compressed (RFC 3597 4)
    SHAPE_STRINGS = 0x08        # three character-strings before the name (NAPTR)
    SHAPE_REST = 0x10           # any octets after
    SHAPE_SOA = 0x20            # 20 octets after
    SHAPE_PARAMS = 0x40         # SvcParams after (RFC 9460 2.2)
    SHAPE_BEFORE = 8            # shift: octets before the names

cdef struct Packet:
    # A parsed query. `wire` belongs to the caller. Valid after ADMIT_OK and ADMIT_BADVERS; after
    # ADMIT_FORMERR id, flags and, when qname_len != 0, the question.
    const uint8_t *wire
    uint32_t length             # octets received
    uint32_t end                # octets up to the end of the last counted record
    uint16_t id
    uint16_t flags              # the header's second word, as received
    uint16_t qtype
    uint16_t qclass
    uint16_t qname_len          # octets of the name, root label included; 0: no question was read
    uint8_t opcode
    uint8_t labels              # labels without the root
    bint has_opt
    uint8_t opt_version
    bint has_tsig
    uint16_t opt_flags          # DO and the other bits of the OPT's TTL
    uint16_t udp_size           # as the client wrote it (after bufsize's clamp)
    uint32_t opt_off            # where the OPT record starts in wire
    uint32_t opt_rdata          # where its options start
    uint16_t opt_rdlen
    uint16_t options            # options counted
    bint has_nsid               # an option 3 is present
    uint16_t option_codes       # one bit for each option code below 16 that is present
    uint32_t tsig_off           # where the TSIG record starts in wire
    uint64_t hash               # keyed hash of qname (lower case); set by the caller that needs it
    uint8_t qname[256]          # lower-cased, wire form

# ---- admission

cdef int wire_admit(const uint8_t *data, size_t n, Packet *pkt) noexcept nogil
    # Judges and parses a message of n octets; returns an Admission.

cdef size_t wire_error(const Packet *pkt, int admission, uint8_t *out, size_t cap) noexcept nogil
    # The reply to NOTIMP, FORMERR, BADVERS (RD/AD/CD/RA/TC echoed, AA and Z cleared; see CoreDNS). Octets
    # written, 0 when nothing is to be sent. Never longer than the query but for BADVERS's OPT.

cdef size_t wire_rcode(const Packet *pkt, int rcode, uint8_t *out, size_t cap) noexcept nogil
    # A reply without records: header (id, opcode, RD, CD, QR, rcode & 15) and the question as the client
    # wrote it. No OPT: wire_finish adds it.

# ---- hashing and names

cdef uint64_t wire_siphash13(const uint64_t *key, const uint8_t *data, size_t n) noexcept nogil
cdef int wire_name(const uint8_t *msg, size_t n, size_t off, uint8_t *out, size_t *used) noexcept nogil
    # Decompresses the name at off (pointers only backwards, at most 126, at most 255 octets) into out[256],
    # case kept. Returns octets of the expanded name, or 0 when it is malformed; *used: octets at off.
cdef void wire_lower(uint8_t *name, size_t n) noexcept nogil
    # Folds A-Z only (RFC 4343); label length octets (< 64) are untouched by construction.
cdef size_t wire_name_text(const uint8_t *name, size_t n, char *out, size_t cap) noexcept nogil
    # Presentation form with trailing dot, CoreDNS's escapes (\. \\ \DDD, `\ ` for a space ...), NUL-terminated.
    # At most 1,021 characters. Returns characters, 0 when cap is too small.
cdef int wire_name_from_text(const char *text, size_t n, uint8_t *out) noexcept nogil
    # Text to wire form (out[256]), escapes understood; octets, or 0 when it is no name.
cdef bint wire_name_under(const uint8_t *name, size_t n, const uint8_t *zone, size_t zn) noexcept nogil
    # Whether name equals zone or lies below it, on a label boundary. Both lower-cased.

# ---- whole messages (replies)

cdef struct Record:
    uint32_t owner              # offset of the owner name
    uint32_t ttl_off            # offset of the TTL; type is at ttl_off-4, class at ttl_off-2, RDLENGTH at +4
    uint32_t rdata              # offset of the RDATA
    uint32_t ttl                # seconds; a set top bit reads as 0 (RFC 2181 8)
    uint16_t rtype
    uint16_t rclass
    uint16_t rdlen
    uint8_t section

cdef struct Message:
    # The index of a checked message. `records` is the caller's array of WIRE_RECORDS_MAX.
    uint16_t id
    uint16_t flags
    uint16_t qtype
    uint16_t qclass
    uint16_t counts[4]          # QD AN NS AR, as in the header
    uint16_t rcode              # with the OPT's high bits
    uint32_t question_end       # offset past the question section
    uint32_t n                  # records, OPT and TSIG excluded
    Record *records
    bint has_opt
    uint32_t opt_off            # offset of the OPT record
    uint32_t opt_len            # its octets, owner to end
    uint32_t opt_rdata
    uint16_t opt_rdlen
    uint16_t opt_flags
    uint16_t opt_size
    bint opt_last               # the OPT is the last record
    bint has_tsig               # a TSIG, which is always the last record
    uint32_t tsig_off           # offset of the TSIG record
    uint32_t end                # offset past the last counted record
    uint32_t ulen               # octets of the message without OPT, uncompressed

cdef int wire_scan(const uint8_t *msg, size_t n, Message *m) noexcept nogil
    # Checks a whole reply (names, counts, lengths, embedded names inside their RDATA, at most one OPT) and
    # indexes it. Returns 0, or -1 when it is malformed. Work is bounded by n. QDCOUNT must be 0 or 1.

cdef int wire_question_matches(const uint8_t *msg, size_t n, const Packet *pkt, bint exact_case) noexcept nogil
    # Whether a reply's question section is exactly one question, that of pkt (name, type, class).

cdef size_t wire_strip_opt(const uint8_t *msg, const Message *m, uint8_t *out, size_t cap) noexcept nogil
    # Copies the message without its OPT and TSIG (ARCOUNT corrected); re-encodes when they are not last.
    # Octets, 0 when cap is too small. The caller scans again if it needs offsets and the OPT was not last.

cdef size_t wire_compress(const uint8_t *msg, const Message *m, uint8_t *out, size_t limit,
                          bint *truncated) noexcept nogil
    # Writes the message anew with names compressed (owner names and RDATA of RFC 1035 types), whole records
    # dropped from the first that does not fit in limit octets, counts corrected, TC set then and *truncated.
    # OPT excluded. Octets written.

cdef size_t wire_reply_to(const uint8_t *msg, const Message *m, const Packet *pkt, uint8_t *out, size_t limit,
                          bint *truncated) noexcept nogil
    # wire_compress, but the question is written as the query has it: same name, type and class, other letters' case
    # perhaps. The records keep their letters' case, so names in msg that pointed to the question are written out.

cdef size_t wire_recase(const uint8_t *msg, size_t n, const Packet *pkt, uint8_t *out, size_t cap) noexcept nogil
    # wire_reply_to in a tenth of its time, for a message that wire_scan has accepted and that has no OPT: only pointers
    # are changed. Octets; 0 when that does not do (much has to move, or a pointer leads to where no name starts).

cdef uint32_t rdata_shape(uint16_t rtype) noexcept nogil
    # What names the RDATA of a type holds: see SHAPE_; 0: none.

cdef uint32_t rdata_names_at(const uint8_t *msg, uint32_t at, uint32_t end, uint32_t shape) noexcept nogil
    # Where the first name of the RDATA [at, end) starts; 0 when it would start past the end.

# ---- finishing: the client's OPT, echoed options, size (compat: EDNS in responses; size, truncation)

cdef struct Finish:
    # What the finisher needs to know of a reply besides its octets.
    const uint8_t *options      # options (code, length, data ...) that a stage or upstream put into the reply's OPT
    uint32_t options_len
    uint16_t rcode              # 12 bits
    bint has_opt                # the reply carried an OPT
    bint set_do                 # ... with DO
    uint16_t opt_size           # UDP size to write when the client sent no OPT and has_opt (4096 by acl, template)
    uint32_t ulen               # octets uncompressed, without OPT
    uint32_t limit              # octets: wire_limit()
    bint ipv6                   # the client's family
    bint udp
    uint32_t reserve            # octets a later finisher (TSIG) wants
    const uint8_t *cookie       # octets of the only COOKIE option that the OPT shall have (RFC 7873); NULL: as it comes
    uint32_t cookie_len         # at most 40

cdef void wire_echo(uint16_t code) noexcept nogil
    # Asks for a further option code to be echoed (`rewrite edns0 local`). At set-up, before the fork.

cdef void wire_echo_none() noexcept nogil
    # Forgets those that were asked for: another configuration is set up in this process.

cdef uint32_t wire_opt(const Packet *pkt, bint udp) noexcept nogil
    # Octets of the OPT record that wire_finish puts into a reply without one of its own; 0: none.

cdef uint32_t wire_limit(const Packet *pkt, bint udp) noexcept nogil
    # max(512, advertised) for UDP (at most what a datagram carries, 65,507), 65,535 for TCP.

cdef size_t wire_finish(const Packet *pkt, const Finish *f, uint8_t *reply, size_t n, size_t cap,
                        Message *scratch, uint8_t *scratch_buf) noexcept nogil
    # In place: appends the OPT (the client's size, version 0, DO kept, Z cleared, options echoed: NSID EXPIRE
    # COOKIE KEEPALIVE(not over UDP) PADDING; or the reply's own), puts in the extended rcode, and fits to the
    # limit (compressing, then cutting whole records, TC). scratch and scratch_buf (65,536 octets) are the
    # worker's. Octets to send; 0 when the reply cannot be sent (extended rcode without OPT).

cdef bint wire_cuts(const Packet *pkt, const Finish *f, const uint8_t *reply, size_t n, Message *scratch,
                    uint8_t *scratch_buf) noexcept nogil
    # Whether wire_finish will cut records off this reply and set TC: what a log says of it before. Reads of f only
    # options, options_len, has_opt, limit, udp and the cookie.

# ---- building small replies (compiled builders for plugins)

cdef struct Writer:
    uint8_t *p                  # message start
    uint32_t n                  # octets so far
    uint32_t cap
    bint bad                    # something did not fit

cdef void writer_reply(Writer *w, const Packet *pkt, uint8_t *out, size_t cap, uint16_t flags, int rcode) noexcept nogil
    # Header and question of a reply to pkt; flags are or-ed in (FLAG_AA ...).
cdef void writer_rr(Writer *w, int section, const uint8_t *owner, size_t owner_len, uint16_t rtype, uint16_t rclass,
                    uint32_t ttl, const uint8_t *rdata, size_t rdlen) noexcept nogil
    # Appends one record; owner NULL: a pointer to the question name. Sections must come in order.

# ---- cursors

cdef struct Cursor:
    const uint8_t *base
    uint32_t at
    uint32_t end
    bint bad

cdef inline void cursor_open(Cursor *c, const uint8_t *base, uint32_t at, uint32_t end) noexcept nogil:
    c.base = base
    c.at = at
    c.end = end
    c.bad = at > end

cdef inline uint32_t cursor_left(const Cursor *c) noexcept nogil:
    return 0 if c.bad else c.end - c.at

cdef inline uint8_t cursor_u8(Cursor *c) noexcept nogil:
    if c.bad or c.end - c.at < 1:
        c.bad = True
        return 0
    c.at += 1
    return c.base[c.at - 1]

cdef inline uint16_t cursor_u16(Cursor *c) noexcept nogil:
    if c.bad or c.end - c.at < 2:
        c.bad = True
        return 0
    c.at += 2
    return <uint16_t>((<uint32_t>c.base[c.at - 2] << 8) | c.base[c.at - 1])

cdef inline uint32_t cursor_u32(Cursor *c) noexcept nogil:
    if c.bad or c.end - c.at < 4:
        c.bad = True
        return 0
    c.at += 4
    return ((<uint32_t>c.base[c.at - 4] << 24) | (<uint32_t>c.base[c.at - 3] << 16)
            | (<uint32_t>c.base[c.at - 2] << 8) | c.base[c.at - 1])

cdef inline const uint8_t *cursor_take(Cursor *c, uint32_t n) noexcept nogil:
    if c.bad or c.end - c.at < n:
        c.bad = True
        return NULL
    c.at += n
    return c.base + c.at - n

cdef inline uint16_t get16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((<uint32_t>p[0] << 8) | p[1])

cdef inline uint32_t get32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]

cdef inline void put16(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 8)
    p[1] = <uint8_t>v

cdef inline void put32(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v
