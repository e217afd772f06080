# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of loop: counts the probe whenever it passes.

Strategy: every query passes here, so the first test is the type: only HINFO goes on. The words are shared by all
processes (row 0), because each lap may land on another worker; they are touched by the probe alone.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

import secrets

from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._sys cimport fd_add_relaxed, fd_load_relaxed, fd_store_relaxed, memcmp, memcpy
from fastdns._wire cimport wire_lower, wire_name_from_text

WORDS = ("seen", "off", "client_high", "client_low", "client_port")

cdef enum:
    TYPE_HINFO = 13
    SEEN = 0
    OFF = 1
    CLIENT_HIGH = 2
    CLIENT_LOW = 3
    CLIENT_PORT = 4             # family << 16 | port
    WORD_COUNT = 5

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
    return NEXT


cdef StageOps OPS
OPS.name = "loop"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


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


def probe(str qname) -> tuple:
    """(id, message): a recursive HINFO question for qname (RFC 1035 4.1)."""
    ident = secrets.token_bytes(2)
    return ident, ident + b"\x01\x00\0\1\0\0\0\0\0\0" + wire_form(qname) + b"\0\x0d\0\1"
