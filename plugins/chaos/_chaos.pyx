# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of chaos: TXT records of class CH under five names.

Strategy: one comparison lets every query of class IN pass. The strings are made at set-up; authors are written from a
random starting point and in a random direction and stride, so that no list is copied or shuffled.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._stage cimport (
    NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, query_replied, zeroed,
)
from fastdns._sys cimport memcmp, memcpy
from fastdns._wire cimport (
    CLASS_CH, RCODE_NOERROR, SECTION_ANSWER, TYPE_TXT, WIRE_MAX, Writer, writer_reply, writer_rr,
)

cdef enum:
    TEXT_MAX = 255
    RECORD = 12                 # octets of a record before its RDATA, with a pointer for its owner
    AUTHORS_MAX = 60000         # octets of all authors' records: what fits a message

AUTHORS_OCTETS = AUTHORS_MAX

cdef const char *VERSION_BIND = b"\x07version\x04bind\x00"
cdef const char *VERSION_SERVER = b"\x07version\x06server\x00"
cdef const char *AUTHORS_BIND = b"\x07authors\x04bind\x00"
cdef const char *HOSTNAME_BIND = b"\x08hostname\x04bind\x00"
cdef const char *ID_SERVER = b"\x02id\x06server\x00"

cdef struct Text:
    uint32_t len                # octets of `rdata`
    uint8_t rdata[TEXT_MAX + 1]

cdef struct Config:
    Text version
    Text hostname
    uint32_t count
    Text *authors


cdef inline bint asks(const Query *q, const char *name, uint32_t n) noexcept nogil:
    return q.pkt.qname_len == n and memcmp(q.pkt.qname, name, n) == 0


cdef void put(Writer *out, const Text *text) noexcept nogil:
    writer_rr(out, SECTION_ANSWER, NULL, 0, TYPE_TXT, CLASS_CH, 0, text.rdata, text.len)


cdef void put_authors(Worker *w, const Config *c, Writer *out) noexcept nogil:
    # A stride that shares no divisor with the count comes by everybody once.
    cdef uint64_t bits = w.api.random(w)
    cdef uint32_t at, stride, a, b, _author
    if c.count == 0:
        return
    at = <uint32_t>(bits >> 32) % c.count
    stride = <uint32_t>bits % c.count
    while True:
        a, b = stride, c.count
        while b:
            a, b = b, a % b
        if a == 1:
            break
        stride = (stride + 1) % c.count
    for _author in range(c.count):
        put(out, &c.authors[at])
        at = (at + stride) % c.count


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const Text *text = NULL
    cdef uint32_t records = 1
    cdef Writer out
    if q.pkt.qclass != CLASS_CH or q.pkt.qtype != TYPE_TXT:
        return NEXT
    if asks(q, VERSION_BIND, 14) or asks(q, VERSION_SERVER, 16):
        text = &c.version
    elif asks(q, HOSTNAME_BIND, 15) or asks(q, ID_SERVER, 11):
        text = &c.hostname
    elif not asks(q, AUTHORS_BIND, 14):
        return NEXT
    w.api.reply_room(w, q)
    writer_reply(&out, &q.pkt, q.reply, WIRE_MAX, 0, RCODE_NOERROR)
    if text != NULL:
        put(&out, text)
    else:
        records = c.count
        put_authors(w, c, &out)
    return query_replied(q, &out, out.n + records * (q.pkt.qname_len - 2))


cdef StageOps OPS
OPS.name = b"chaos"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


cdef int fill(Text *text, bytes octets) except -1:
    if len(octets) > TEXT_MAX:
        raise ValueError(f"a text of {len(octets)} octets")
    text.rdata[0] = <uint8_t>len(octets)
    memcpy(text.rdata + 1, <const uint8_t *>octets, len(octets))
    text.len = 1 + <uint32_t>len(octets)
    return 0


def stage(bytes version, bytes hostname, authors) -> CompiledStage:
    """The stage that says these. ValueError for a text of more than 255 octets, and for authors whose records, twelve
    octets and the text's, are more than AUTHORS_OCTETS."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    if sum(RECORD + 1 + len(author) for author in authors) > AUTHORS_MAX:
        raise ValueError(f"authors take at most {AUTHORS_MAX} octets")
    fill(&config.version, version)
    fill(&config.hostname, hostname)
    config.authors = <Text *>memory.room(len(authors), sizeof(Text))
    for i, author in enumerate(authors):
        fill(&config.authors[i], author)
    config.count = <uint32_t>len(authors)
    return compiled_stage(&OPS, config, memory)
