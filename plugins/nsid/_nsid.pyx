# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of nsid: the option goes into the OPT of a reply whose query asked for it (RFC 5001 2.1).

Strategy: all is done on the way back, and only for a query with the option; any other leaves after two loads. The usual
reply has no OPT of its own: the options are then the one that was made at set-up, in place, and the server's OPT gets
them. A reply with options (of an upstream) has them copied behind it, with every NSID replaced, or one added.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._sys cimport memcpy, memmove
from fastdns._wire cimport OPTION_NSID, WIRE_MAX, get16, put16

cdef enum:
    OPTION_HEAD = 4             # octets before an option's data: code and length
    OPT_FIXED = 11              # octets of an OPT without options


cdef struct Config:
    uint32_t len                # octets of the option
    uint8_t *option             # code, length, data


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef uint32_t replaced(const Config *c, const uint8_t *options, uint32_t n, uint8_t *out, uint32_t cap) noexcept nogil:
    # The options with ours in the place of each NSID, or behind them. Octets; 0 when they do not fit or make no sense.
    cdef uint32_t at = 0
    cdef uint32_t used = 0
    cdef uint32_t size
    cdef bint found = False
    while at < n:
        if n - at < OPTION_HEAD or n - at - OPTION_HEAD < get16(options + at + 2):
            return 0
        size = OPTION_HEAD + get16(options + at + 2)
        if get16(options + at) == OPTION_NSID:
            if cap - used < c.len:
                return 0
            memcpy(out + used, c.option, c.len)
            used += c.len
            found = True
        else:
            if cap - used < size:
                return 0
            memcpy(out + used, options + at, size)
            used += size
        at += size
    if not found:
        if cap - used < c.len:
            return 0
        memcpy(out + used, c.option, c.len)
        used += c.len
    return used


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const uint8_t *reply = q.reply
    cdef uint8_t *out
    cdef uint32_t n
    if not q.pkt.has_nsid or not q.written or not q.pkt.has_opt:
        return
    if not q.has_opt:
        # CoreDNS makes an OPT of the client's size, with DO.
        q.has_opt = True
        q.set_do = True
        q.opt_size = q.pkt.udp_size
        q.options = c.option
        q.options_len = c.len
        q.ulen += OPT_FIXED + c.len
        return
    n = replaced(c, q.options, q.options_len, w.scratch, WIRE_MAX)
    if n == 0:
        return
    # The reply moves to where there is room for more, the options to the end of that room: the server writes its OPT
    # right behind the reply.
    if q.reply_len + OPT_FIXED + 2 * n > <uint32_t>WIRE_MAX:
        return
    w.api.reply_room(w, q)
    out = q.reply
    memmove(out, reply, q.reply_len)
    memcpy(out + WIRE_MAX - n, w.scratch, n)
    q.ulen += n - q.options_len
    q.options = out + WIRE_MAX - n
    q.options_len = n


cdef StageOps OPS
OPS.name = b"nsid"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.message = response
OPS.start = NULL
OPS.stop = NULL


def stage(bytes data) -> CompiledStage:
    """The stage that answers NSID with `data`. ValueError when it fits no option."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    if len(data) > WIRE_MAX - OPTION_HEAD:
        raise ValueError(f"an option of {len(data)} octets")
    config.option = <uint8_t *>memory.room(OPTION_HEAD + len(data), 1)
    put16(config.option, OPTION_NSID)
    put16(config.option + 2, <uint32_t>len(data))
    memcpy(config.option + OPTION_HEAD, <const uint8_t *>data, len(data))
    config.len = OPTION_HEAD + <uint32_t>len(data)
    return compiled_stage(&OPS, config, memory)
