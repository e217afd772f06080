# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Turns a worker's loop by hand, with clients and upstreams of its own on the same thread: measures whole paths.

Strategy: a real Engine, made of a real Corefile, whose loop never runs. A batch of queries is sent to its sockets, the
loop is turned once, the upstreams answer what has arrived, and so on until every query has its reply: loopback
delivers before a send returns, so each run takes the same steps. The turn is called through a pointer: a profiler
finds it as a function of its own, and what clients and upstreams do lies outside it.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._chain cimport chain_drain_ready, worker_clock
from fastdns._ingress cimport egress, ingress
from fastdns._stage cimport MODULES, ORIGIN_UDP, PROTO_UDP, Query, Worker, sink_fn
from fastdns._sys cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_NONBLOCK, c_accept4, c_close, c_recv, c_send, calloc, epoll_event, epoll_wait,
    free, iovec, memcpy, mmsghdr, recvmmsg, sendmmsg, sockaddr_in6,
)
from fastdns._udp cimport Engine
from fastdns._wire cimport ADMIT_OK, FLAG_QR, FLAG_RA, WIRE_HEADER, Packet, get16, put16, put32, wire_admit

TURN, STAGES, MARK = (f"__pyx_f_7fastdns_13_drive_engine_{name}" for name in ("turn", "stages", "mark"))
"""Symbols of the functions that a profiler looks for: all that a turn does, all that `run_stages` does, `mark`."""

cdef enum:
    BATCH = 64                  # queries sent before the loop is turned
    EVENTS = 64
    CLIENTS = 1024
    UPSTREAMS = 16
    STREAMS = 256               # TCP connections from the forwarder
    OCTETS = 512                # of a query, and of an upstream's message
    TURNS = 64                  # until all replies of a batch must have come
    DIGITS_AT = WIRE_HEADER + 1     # a fresh name has its number here, as eight hexadecimal digits
    DIGITS = 8
    REPLY_TTL = 3600            # seconds

cdef const char *HEX = b"0123456789abcdef"

ctypedef void (*turn_fn)(Worker *w) noexcept nogil
ctypedef void (*mark_fn)() noexcept nogil
ctypedef uint64_t (*stages_fn)(Worker *w, Query *q, const iovec *queries, uint32_t n) noexcept nogil


cdef void turn(Worker *w) noexcept nogil:
    # One turn of _udp.loop, without its sleep.
    cdef epoll_event events[EVENTS]
    cdef int n, i, m
    for m in range(MODULES):
        if w.on_tick[m] != NULL:
            w.on_tick[m](w)
    chain_drain_ready(w)
    n = epoll_wait(w.epoll_fd, events, EVENTS, 0)
    worker_clock(w)
    for i in range(n):
        m = <int>(events[i].data.u64 >> 56)
        w.on_event[m](w, events[i].data.u64 & 0xffffffffffffffULL, events[i].events)
        chain_drain_ready(w)
    for m in range(MODULES):
        if w.on_flush[m] != NULL:
            w.on_flush[m](w)


cdef void mark() noexcept nogil:
    # A place for a profiler to stop at, and nothing else.
    return


cdef void finish_only(Worker *w, Query *q) noexcept nogil:
    # The sink without a socket. The octets are counted where nobody else counts: a module without state.
    (<uint64_t *>w.mod[MODULES - 1])[0] += egress(w, q) != 0
    w.arena_at = 0


cdef uint64_t stages(Worker *w, Query *q, const iovec *queries, uint32_t n) noexcept nogil:
    cdef uint64_t replies = 0
    cdef size_t error
    cdef uint32_t i
    for i in range(n):
        if not ingress(w, q, <const uint8_t *>queries[i].iov_base, queries[i].iov_len, &error):
            replies += error != 0
            w.arena_at = 0
    return replies


cdef uint32_t answer(const uint8_t *question, size_t n, uint8_t *out) noexcept nogil:
    # What an upstream says to it: one address, no OPT. out has OCTETS + 16. 0: it is no question.
    cdef Packet p
    cdef uint32_t end
    if n > OCTETS or wire_admit(question, n, &p) != ADMIT_OK:
        return 0
    end = WIRE_HEADER + p.qname_len + 4
    memcpy(out, question, end)
    put16(out + 2, p.flags | FLAG_QR | FLAG_RA)
    put16(out + 6, 1)
    put16(out + 8, 0)
    put16(out + 10, 0)
    put16(out + end, 0xc00c)
    put16(out + end + 2, p.qtype)
    put16(out + end + 4, p.qclass)
    put32(out + end + 6, REPLY_TTL)
    put16(out + end + 10, 4)
    put32(out + end + 12, 0xc0000201u)
    return end + 16


cdef class EngineBench:
    """Drives a started Engine. The sockets stay the caller's, and open as long as this lives.

    clients: descriptors of UDP sockets that are connected to the engine's listener, at most 1,024. upstreams, streams:
    descriptors of the upstreams' bound UDP sockets and listening TCP sockets, non-blocking, at most 16.
    """

    cdef Engine engine
    cdef turn_fn turn_once
    cdef stages_fn stages_once
    cdef mark_fn mark_once
    cdef int clients[CLIENTS]
    cdef uint32_t client_n
    cdef int upstreams[UPSTREAMS]
    cdef uint32_t upstream_n
    cdef int listeners[UPSTREAMS]
    cdef uint32_t listener_n
    cdef int streams[STREAMS]
    cdef uint32_t stream_n
    cdef uint32_t number        # of the next fresh name
    cdef mmsghdr rx[BATCH]
    cdef iovec rx_iov[BATCH]
    cdef sockaddr_in6 peers[BATCH]
    cdef uint8_t octets[BATCH][OCTETS + 16]
    cdef uint8_t question[OCTETS + 16]

    def __cinit__(self, Engine engine not None, clients, upstreams=(), streams=()):
        cdef int i
        if len(clients) > CLIENTS or len(upstreams) > UPSTREAMS or len(streams) > UPSTREAMS:
            raise ValueError("too many sockets")
        if not engine.started:
            raise RuntimeError("the engine has not started")
        self.engine = engine
        self.turn_once = turn
        self.stages_once = stages
        self.mark_once = mark
        for fd in clients:
            self.clients[self.client_n] = fd
            self.client_n += 1
        for fd in upstreams:
            self.upstreams[self.upstream_n] = fd
            self.upstream_n += 1
        for fd in streams:
            self.listeners[self.listener_n] = fd
            self.listener_n += 1
        for i in range(BATCH):
            self.rx_iov[i].iov_base = &self.octets[i][0]
            self.rx[i].msg_hdr.msg_iov = &self.rx_iov[i]
            self.rx[i].msg_hdr.msg_iovlen = 1
            self.rx[i].msg_hdr.msg_name = &self.peers[i]

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.stream_n):
            c_close(self.streams[i])

    @property
    def in_flight(self):
        """Queries that wait for an upstream or for Python."""
        return self.engine.w.in_flight

    def turn(self, uint32_t times=1):
        """Turns the loop."""
        cdef uint32_t _turn
        with nogil:
            for _turn in range(times):
                self.turn_once(&self.engine.w)

    def mark(self):
        """Calls an empty function: a profiler that watches it (MARK) ends a phase there."""
        self.mark_once()

    def send(self, list wires not None):
        """Sends each query once, from the clients in turn. OSError when a socket takes it not."""
        cdef bytes wire
        if not self.client_n:
            raise ValueError("there must be a client")
        for i, wire in enumerate(wires):
            if c_send(self.clients[i % self.client_n], <const uint8_t *>wire, len(wire), MSG_DONTWAIT) < 0:
                raise OSError("a query could not be sent")

    def collect(self):
        """Takes what has arrived at the clients; returns how many replies."""
        return self._collect()

    def run(self, list wires not None, uint32_t batches=1, uint32_t batch=BATCH, bint fresh=False):
        """Sends batches of `batch` queries (at most 64), taken from `wires` in turn, and turns the loop until they are
        answered. Returns the replies.

        fresh: the first label of each name, of eight octets, becomes a number that was not asked for before.
        RuntimeError when a reply does not come.
        """
        cdef iovec *queries = self._queries(wires, fresh)
        cdef uint32_t n = <uint32_t>len(wires)
        cdef uint32_t at = 0
        cdef uint32_t _turn
        cdef uint64_t replies = 0
        cdef bint complete = True
        try:
            if not 1 <= batch <= BATCH or not self.client_n:
                raise ValueError("a batch has 1 to 64 queries, and there must be a client")
            with nogil:
                for _turn in range(batches):
                    if not self._batch(queries, n, &at, batch, fresh):
                        complete = False
                        break
                    replies += batch
        finally:
            free(queries)
        if not complete:
            raise RuntimeError(f"a reply is missing after {replies} queries")
        return replies

    def run_stages(self, list wires not None, uint32_t rounds=1):
        """Takes every query `rounds` times through ingress, chain and egress, without sockets; returns the replies.

        For queries that are answered at once: what an upstream is asked for is not sent.
        """
        cdef Worker *w = &self.engine.w
        cdef iovec *queries = self._queries(wires, False)
        cdef uint32_t n = <uint32_t>len(wires)
        cdef uint32_t _turn
        cdef uint64_t replies = 0
        cdef uint64_t sunk = 0
        cdef Query *q = <Query *>calloc(1, sizeof(Query))
        cdef uint8_t *frames = <uint8_t *>calloc(1, w.frame_octets + 8)
        cdef void *kept = w.mod[MODULES - 1]
        cdef sink_fn sink = w.sink[ORIGIN_UDP]
        try:
            if q == NULL or frames == NULL:
                raise MemoryError
            q.frames = frames
            q.origin = ORIGIN_UDP
            q.proto = PROTO_UDP
            q.family = 1
            q.client_ip[0] = 127
            w.mod[MODULES - 1] = &sunk
            w.sink[ORIGIN_UDP] = finish_only
            with nogil:
                worker_clock(w)
                w.arena_at = 0
                for _turn in range(rounds):
                    replies += self.stages_once(w, q, queries, n)
        finally:
            w.sink[ORIGIN_UDP] = sink
            w.mod[MODULES - 1] = kept
            free(frames)
            free(q)
            free(queries)
        return replies + sunk

    cdef iovec *_queries(self, list wires, bint fresh) except NULL:
        # Points into the bytes objects, which the caller's list keeps.
        cdef iovec *out
        cdef bytes wire
        if not wires:
            raise ValueError("no query")
        for wire in wires:
            if len(wire) > OCTETS or (fresh and (len(wire) <= DIGITS_AT + DIGITS or wire[WIRE_HEADER] != DIGITS)):
                raise ValueError(f"a query has at most {OCTETS} octets; a fresh one's first label has {DIGITS}")
        out = <iovec *>calloc(len(wires), sizeof(iovec))
        if out == NULL:
            raise MemoryError
        for i, wire in enumerate(wires):
            out[i].iov_base = <void *><const uint8_t *>wire
            out[i].iov_len = len(wire)
        return out

    cdef bint _batch(self, const iovec *queries, uint32_t n, uint32_t *at, uint32_t batch, bint fresh) noexcept nogil:
        cdef const uint8_t *octets
        cdef size_t length
        cdef uint32_t i
        cdef uint32_t got = 0
        cdef int k
        cdef int _turn
        for i in range(batch):
            octets = <const uint8_t *>queries[at[0]].iov_base
            length = queries[at[0]].iov_len
            if fresh:
                memcpy(self.question, octets, length)
                for k in range(DIGITS):
                    self.question[DIGITS_AT + k] = <uint8_t>HEX[(self.number >> (28 - 4 * k)) & 15]
                self.number += 1
                octets = self.question
            if c_send(self.clients[i % self.client_n], octets, length, MSG_DONTWAIT) < 0:
                return False
            at[0] = at[0] + 1 if at[0] + 1 < n else 0
        for _turn in range(TURNS):
            self.turn_once(&self.engine.w)
            got += self._collect()
            if got >= batch:
                return True
            for i in range(self.upstream_n):
                self._serve_udp(self.upstreams[i])
            if self.listener_n:
                self._serve_tcp()
        return False

    cdef uint32_t _collect(self) noexcept nogil:
        cdef uint8_t reply[4096]
        cdef uint32_t i
        cdef uint32_t n = 0
        for i in range(self.client_n):
            while c_recv(self.clients[i], reply, sizeof(reply), MSG_DONTWAIT) > 0:
                n += 1
        return n

    cdef void _serve_udp(self, int fd) noexcept nogil:
        cdef uint8_t reply[OCTETS + 16]
        cdef int n, i, sent
        cdef uint32_t length
        while True:
            for i in range(BATCH):
                self.rx[i].msg_hdr.msg_namelen = sizeof(sockaddr_in6)
                self.rx_iov[i].iov_len = OCTETS
            n = recvmmsg(fd, self.rx, BATCH, MSG_DONTWAIT, NULL)
            if n <= 0:
                return
            for i in range(n):
                length = answer(&self.octets[i][0], self.rx[i].msg_len, reply)
                memcpy(&self.octets[i][0], reply, length)
                self.rx_iov[i].iov_len = length
            sent = 0
            while sent < n:
                i = sendmmsg(fd, &self.rx[sent], <unsigned int>(n - sent), MSG_DONTWAIT)
                if i <= 0:
                    return
                sent += i

    cdef void _serve_tcp(self) noexcept nogil:
        # Each message of the forwarder comes in one piece, because nothing else is on that connection.
        cdef uint8_t message[OCTETS + 2]
        cdef uint8_t reply[OCTETS + 18]
        cdef uint32_t i, length
        cdef ssize_t n
        cdef int fd
        for i in range(self.listener_n):
            while self.stream_n < STREAMS:
                fd = c_accept4(self.listeners[i], NULL, NULL, SOCK_NONBLOCK)
                if fd < 0:
                    break
                self.streams[self.stream_n] = fd
                self.stream_n += 1
        i = 0
        while i < self.stream_n:
            n = c_recv(self.streams[i], message, sizeof(message), MSG_DONTWAIT)
            if n == 0:
                c_close(self.streams[i])
                self.stream_n -= 1
                self.streams[i] = self.streams[self.stream_n]
                continue
            if n > 2 and get16(message) == n - 2:
                length = answer(message + 2, <size_t>(n - 2), reply + 2)
                put16(reply, length)
                c_send(self.streams[i], reply, length + 2, MSG_DONTWAIT | MSG_NOSIGNAL)
            i += 1
