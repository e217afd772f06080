# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""What signed queries have beside others on their way in and out, the same on every transport.

Strategy: a module of its own, because nothing of it may be in the way of a query that is not signed: that one pays for
three looks at one octet. The signature itself is _tsig's.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._stage cimport Query, Worker, block_signs, query_room, query_signs, query_sized
from fastdns._sys cimport CLOCK_REALTIME, clock_gettime, timespec
from fastdns._tsig cimport (
    TSIG_CUT, TSIG_FORMERR, TSIG_GOOD, TSIG_SEEN, TSIG_SIGN, TSIG_SIZED, tsig_hash_size, tsig_sign, tsig_verify,
)
from fastdns._wire cimport (
    ADMIT_FORMERR, ADMIT_OK, FLAG_TC, WIRE_HEADER, WIRE_MAX, Finish, wire_finish, wire_rcode,
)

cdef enum:
    OPT_FIXED = 11              # octets of an OPT record without options
    OPTION_FIXED = 4            # ... of an option without data


cdef uint64_t wall_clock() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_REALTIME, &ts)
    return <uint64_t>ts.tv_sec


cdef int signed_look(Worker *w, Query *q) noexcept nogil:
    # The octets are as they came, and nobody has looked at the question. What is wrong is `tsig`'s business to say, if
    # the name is one of its own; what cannot be understood is nobody's. The admission that follows.
    cdef int found = tsig_verify(w.listeners[q.listener].keys, &q.pkt, wall_clock(), &q.signature)
    if found == TSIG_FORMERR:
        return ADMIT_FORMERR
    q.tsig = TSIG_SEEN
    if found == 0:
        q.tsig |= TSIG_GOOD
        if q.signature.mac_len < tsig_hash_size(&q.signature):
            q.tsig |= TSIG_CUT
    return ADMIT_OK


cdef void signed_enter(Query *q) noexcept nogil:
    q.tsig &= <uint8_t>~TSIG_SIGN
    if block_signs(q.block, q.pkt.qname, q.pkt.qname_len):
        q.tsig |= TSIG_SIGN


cdef size_t signed_finish(Worker *w, Query *q, Finish *f) noexcept nogil:
    # The record always fits, and where that leaves no room for all others the reply has none of them (RFC 8945 5.3):
    # the client asks again over TCP.
    cdef bint was_cut = (q.reply[2] & FLAG_TC >> 8) != 0
    cdef uint32_t least
    cdef size_t n
    if not query_signs(q):
        return wire_finish(&q.pkt, f, q.reply, q.reply_len, WIRE_MAX, w.scan, w.scratch)
    f.reserve = query_room(q)
    # The query had a name, an OPT, a cookie and such a record too: a reply with no more than these is no longer.
    least = WIRE_HEADER + <uint32_t>q.pkt.qname_len + 4 + OPT_FIXED + OPTION_FIXED + f.cookie_len + f.reserve
    if f.limit < least:
        f.limit = least
    if q.tsig & TSIG_SIZED and f.ulen > query_sized(q):
        f.ulen -= query_sized(q)
    n = wire_finish(&q.pkt, f, q.reply, q.reply_len, WIRE_MAX, w.scan, w.scratch)
    if n and q.reply[2] & FLAG_TC >> 8 and not was_cut:
        q.reply_len = <uint32_t>wire_rcode(&q.pkt, 0, q.reply, WIRE_MAX)
        q.reply[2] |= FLAG_TC >> 8
        f.rcode = 0
        n = wire_finish(&q.pkt, f, q.reply, q.reply_len, WIRE_MAX, w.scan, w.scratch)
    if n == 0:
        return 0
    return tsig_sign(&q.signature, &q.pkt, q.reply, <uint32_t>n, wall_clock(), q.streamed > 0)
