# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of loop: counts the probe whenever it passes, or ends one that came back through an upstream.

Strategy: every query passes here, so the first test is the type: only HINFO goes on. The words are shared by all
processes (row 0), because each lap may land on another worker; they are touched by probes alone. With `action
quarantine` each upstream has words of its own for the two numbers of the probe that is on its way to it, which change
with each probe; whoever cannot know them cannot have an upstream quarantined.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

import secrets

from fastdns._stage cimport NEXT, RCODE, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._sys cimport fd_add_relaxed, fd_load_relaxed, fd_store_relaxed, memcmp, memcpy
from fastdns._wire cimport RCODE_REFUSED, wire_lower, wire_name_from_text

WORDS = ("seen", "off", "client_high", "client_low", "client_port")
SEEN_MOST = LAPS
WAY_WORDS = ("first", "second", "seen")
"""Of an upstream: the numbers in its probe's name, 0 while none is on its way, and how often one came back."""
PROBES = 8
"""Probes of one look: their first numbers are consecutive."""
WAYS = 1024
"""Upstreams of a block at most."""

cdef enum:
    TYPE_HINFO = 13
    SEEN = 0
    OFF = 1
    CLIENT_HIGH = 2
    CLIENT_LOW = 3
    CLIENT_PORT = 4             # family << 16 | port
    WORD_COUNT = 5
    PROBES_SENT = 8             # PROBES
    LAPS = 2                    # of the probe; one more is a loop

cdef struct Config:
    uint32_t slots[WORD_COUNT]
    uint16_t name_len
    uint8_t name[256]


cdef uint64_t big_endian(const uint8_t *p) noexcept nogil:
    cdef uint64_t v = 0
    cdef int i
    for i in range(8):
        v = (v << 8) | p[i]
    return v


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Config *c
    if q.pkt.qtype != TYPE_HINFO:
        return NEXT
    c = <Config *>s.config
    if (q.pkt.qname_len != c.name_len or memcmp(q.pkt.qname, c.name, c.name_len) != 0
            or fd_load_relaxed(w.shared + c.slots[OFF])):
        return NEXT
    fd_store_relaxed(w.shared + c.slots[CLIENT_HIGH], big_endian(q.client_ip))
    fd_store_relaxed(w.shared + c.slots[CLIENT_LOW], big_endian(q.client_ip + 8))
    fd_store_relaxed(w.shared + c.slots[CLIENT_PORT], (<uint64_t>q.family << 16) | q.client_port)
    fd_add_relaxed(w.shared + c.slots[SEEN], 1)
    # The lap before still waits for its answer: who joined it there would end the loop that is looked for. No more laps
    # than are needed.
    q.apart = fd_load_relaxed(w.shared + c.slots[SEEN]) <= LAPS
    return NEXT


cdef StageOps OPS
OPS.name = "loop"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


cdef struct Way:
    uint32_t first
    uint32_t second
    uint32_t seen

cdef struct Ways:
    uint32_t n
    Way *at


cdef uint32_t number_at(const uint8_t *label, uint64_t *out) noexcept nogil:
    # A label of decimal digits that fits 64 bits: its octets with the length; 0: it is none.
    cdef uint32_t n = label[0]
    cdef uint64_t value = 0
    cdef uint32_t i
    if not 0 < n < 20:
        return 0
    for i in range(1, n + 1):
        if not c'0' <= label[i] <= c'9':
            return 0
        value = value * 10 + (label[i] - c'0')
    out[0] = value
    return n + 1


cdef int returned(Worker *w, Stage *s, Query *q) noexcept nogil:
    # A probe that came back ends here. REFUSED: nobody on its way keeps that, or asks again.
    cdef const Ways *c
    cdef const Way *way
    cdef uint64_t first, second
    cdef uint32_t used, i
    if q.pkt.qtype != TYPE_HINFO:
        return NEXT
    used = number_at(q.pkt.qname, &first)
    if used == 0 or number_at(q.pkt.qname + used, &second) == 0 or second == 0:
        return NEXT
    c = <const Ways *>s.config
    for i in range(c.n):
        way = &c.at[i]
        if (fd_load_relaxed(w.shared + way.second) == second
                and first - fd_load_relaxed(w.shared + way.first) < PROBES_SENT):
            fd_add_relaxed(w.shared + way.seen, 1)
            q.rcode = RCODE_REFUSED
            return RCODE
    return NEXT


cdef StageOps RETURNED
RETURNED.name = "loop"
RETURNED.frame_size = 0
RETURNED.request = returned
RETURNED.response = NULL
RETURNED.start = NULL
RETURNED.stop = NULL


cdef bytes wire_form(str name):
    cdef uint8_t out[256]
    cdef bytes text = name.encode("ascii", "surrogateescape")
    cdef int n = wire_name_from_text(text, len(text), out)
    if n <= 0:
        raise ValueError(f"{name!r} is no domain name")
    wire_lower(out, n)
    return out[:n]


def stage(str qname, list slots) -> CompiledStage:
    """The stage that counts `qname` in the shared words `slots`, in the order of WORDS. ValueError for a bad name."""
    cdef bytes name = wire_form(qname)
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef int i
    if len(slots) != WORD_COUNT:
        raise ValueError(f"{WORD_COUNT} slots are needed")
    for i in range(WORD_COUNT):
        config.slots[i] = slots[i]
    config.name_len = <uint16_t>len(name)
    memcpy(config.name, <const uint8_t *>name, len(name))
    return compiled_stage(&OPS, config, memory)


def quarantine(list slots) -> CompiledStage:
    """The stage that ends probes of `action quarantine`. slots: of each upstream the shared words in the order of
    WAY_WORDS. ValueError for too many upstreams."""
    cdef Memory memory
    cdef Ways *ways
    if len(slots) > WAYS:
        raise ValueError(f"at most {WAYS} upstreams")
    memory = zeroed(sizeof(Ways) + len(slots) * sizeof(Way))
    ways = <Ways *>memory.at
    ways.at = <Way *>(ways + 1)
    for i, (first, second, seen) in enumerate(slots):
        ways.at[i].first = first
        ways.at[i].second = second
        ways.at[i].seen = seen
    ways.n = <uint32_t>len(slots)
    return compiled_stage(&RETURNED, ways, memory)


def probe(str qname) -> tuple:
    """(id, message): a recursive HINFO question for qname (RFC 1035 4.1)."""
    ident = secrets.token_bytes(2)
    return ident, ident + b"\x01\x00\0\1\0\0\0\0\0\0" + wire_form(qname) + b"\0\x0d\0\1"
