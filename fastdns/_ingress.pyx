# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The one compiled ingress, and the common end of every answer.

Strategy: a transport knows sockets and framing, nothing of DNS. It hands octets to `ingress`, which judges them
before anything is allocated and starts the chain, and its sink asks `egress` for the octets to send. Every way in or
out of the server is counted here, by name.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from fastdns._chain cimport chain_start
from fastdns._signed cimport signed_finish, signed_look
from fastdns._stage cimport PROTO_UDP, Query, Stage, Worker
from fastdns._stats cimport stat_add
from fastdns._sys cimport AF_INET, memcmp, memcpy, ntohs, sockaddr_in, sockaddr_in6
from fastdns._tsig cimport TSIG_SIGN
from fastdns._wire cimport (
    ADMIT_BADVERS, ADMIT_OK, ADMIT_RESPONSE, ADMIT_SHORT, CLASS_IN, RCODE_FORMERR, RCODE_NOTIMP, RCODE_REFUSED,
    RCODE_SERVFAIL, WIRE_MAX, Finish, wire_admit, wire_error, wire_finish, wire_limit, wire_rcode,
)

# What each counter of the loop means, in the order of the enum in _ingress.pxd: the label `event` of
# fastdns_ingress_total.
NAMES = (
    "query", "short", "response", "notimp", "formerr", "badvers", "unsendable", "silent", "send_error",
    "segment_fallback", "tcp_accepted", "tcp_evicted", "tcp_paused", "tcp_timeout", "udp_batch",
)

cdef enum:
    UDP_PAYLOAD_MAX = 65507     # the largest datagram that IPv4 carries


cdef void identify(Query *q, const sockaddr_in6 *peer, uint32_t peer_len) noexcept nogil:
    cdef const sockaddr_in *v4 = <const sockaddr_in *>peer
    q.peer_len = peer_len
    q.client_scope = 0
    if peer.sin6_family == AF_INET:
        q.family = 1
        q.client_port = ntohs(v4.sin_port)
        memcpy(q.client_ip, &v4.sin_addr, 4)
        return
    q.client_port = ntohs(peer.sin6_port)
    if memcmp(peer.sin6_addr.s6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        q.family = 1
        memcpy(q.client_ip, &peer.sin6_addr.s6_addr[12], 4)
        return
    q.family = 2
    q.client_scope = peer.sin6_scope_id
    memcpy(q.client_ip, peer.sin6_addr.s6_addr, 16)


cdef bint ingress(Worker *w, Query *q, const uint8_t *octets, size_t n, size_t *error) noexcept nogil:
    cdef int admission = wire_admit(octets, n, &q.pkt)
    q.tsig = 0
    if admission == ADMIT_OK and q.pkt.has_tsig and w.listeners[q.listener].keys != NULL:
        admission = signed_look(w, q)
    stat_add(w.row, w.counts[admission], 1)
    error[0] = 0
    if admission == ADMIT_BADVERS and q.pkt.qclass != CLASS_IN and not w.listeners[q.listener].any_class:
        admission = ADMIT_OK    # the class decides first, as in CoreDNS: the router refuses it
    if admission == ADMIT_OK:
        q.start_ns = w.now_ns
        q.deadline_ns = 0
        q.depth = 0
        q.background = False
        q.detached = False
        chain_start(w, q)
        return True
    if admission != ADMIT_SHORT and admission != ADMIT_RESPONSE:
        w.api.reply_room(w, q)
        error[0] = wire_error(&q.pkt, admission, q.reply, WIRE_MAX)
    return False


cdef size_t egress(Worker *w, Query *q) noexcept nogil:
    cdef Finish f
    cdef Stage *watcher
    cdef uint8_t *reply
    cdef size_t n
    cdef bint udp = q.proto == PROTO_UDP
    if not q.written:
        # The four rcodes that mean "nobody wrote": the server does. Any other is a deliberate silence.
        if q.dropped or not (q.rcode == RCODE_SERVFAIL or q.rcode == RCODE_REFUSED or q.rcode == RCODE_FORMERR
                             or q.rcode == RCODE_NOTIMP):
            stat_add(w.row, w.counts[COUNT_SILENT], 1)
            return 0
        w.api.reply_room(w, q)
        q.reply_len = <uint32_t>wire_rcode(&q.pkt, q.rcode, q.reply, WIRE_MAX)
        q.ulen = q.reply_len
        q.has_opt = False
        q.options_len = 0
    elif q.reply != w.arena + w.arena_at:
        reply = q.reply
        w.api.reply_room(w, q)
        memcpy(q.reply, reply, q.reply_len)
    f.options = q.options
    f.options_len = q.options_len
    f.rcode = q.rcode
    f.has_opt = q.has_opt
    f.set_do = q.set_do
    f.opt_size = q.opt_size
    f.ulen = q.ulen
    if q.has_opt and f.ulen > q.options_len + 11:
        f.ulen -= q.options_len + 11    # the finisher counts the OPT itself
    f.limit = wire_limit(&q.pkt, udp)
    if udp and f.limit > UDP_PAYLOAD_MAX:
        f.limit = UDP_PAYLOAD_MAX
    f.ipv6 = q.family == 2
    f.udp = udp
    f.reserve = 0
    f.cookie = q.cookie if q.cookie_len else NULL
    f.cookie_len = q.cookie_len
    if q.tsig & TSIG_SIGN:
        n = signed_finish(w, q, &f)
    else:
        n = wire_finish(&q.pkt, &f, q.reply, q.reply_len, WIRE_MAX, w.scan, w.scratch)
    if n == 0:
        stat_add(w.row, w.counts[COUNT_UNSENDABLE], 1)
    elif q.tapped:
        watcher = &q.block.stages[q.tapped - 1]
        watcher.ops.sent(w, watcher, q, q.reply, <uint32_t>n)
    return n
