# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The load generator: questions out, answers judged and timed, nothing else.

Strategy. `_load.pxd` says how ids work. In the closed loop each socket keeps so many queries in flight: an answer
makes room, and the room is filled before the next socket is looked at. At a fixed rate a query has a moment when it
is due, counted from the start and independent of every answer; its latency is counted from that moment, so a server
(or this generator) that stands still for a while is charged for each query that should have left meanwhile (no
coordinated omission). The clock is read once per batch received. `run` gives the GIL up and takes it back for the
tick and for signals only.

Transports: `_load_udp.pxi`, `_load_tcp.pxi`.
"""

import os
import socket
import time

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._sys cimport (
    CLOCK_MONOTONIC, CMSG_LEN, CMSG_SPACE, C_COMPILER, EAGAIN, ECONNREFUSED, EINPROGRESS, EINTR, EINVAL, EIO,
    EMSGSIZE, ENOBUFS, ENOPROTOOPT, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, EPOLL_CTL_ADD,
    EPOLL_CTL_MOD, IPPROTO_TCP, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, POLLOUT, SOCK_CLOEXEC, SOCK_DGRAM,
    SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, SOL_UDP, SO_ERROR, SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE,
    SYS_epoll_pwait2, TCP_NODELAY, UDP_SEGMENT, c_close, c_connect, c_getpeername, c_getsockopt, c_poll, c_recv,
    c_send, c_setsockopt, c_socket, c_syscall, calloc, clock_gettime, cmsghdr, epoll_create1, epoll_ctl,
    epoll_event, epoll_wait, errno, free, malloc, memcmp, memcpy, memmove, memset, pollfd, recvmmsg, sendmmsg,
    sockaddr, socklen_t, timespec,
)
from fastdns._wire cimport get16, put16
from fastdns.bench._histogram cimport Histogram, distribution_add

from fastdns.bench.tally import Tally

cdef enum:
    QR = 0x80                   # of a header's third octet
    TC = 0x02
    NXDOMAIN = 3
    FEWEST_PLACES = 16
    MOST_PLACES = 65536         # as many as there are ids
    REST = 2                    # timeouts that a lost query's place rests
    SWEEPS = 64                 # looks for lost queries per timeout
    ROUNDS = 4                  # full batches received from one socket before the others have their turn
    SPIN_NS = 30000             # a sleep shorter than this is not worth its wake-up
    SIGNALS_NS = 100000000      # how often signals are looked for
    SEND_WAITS = 10             # milliseconds that a full send buffer is waited for
    REFUSALS = 3                # errors of earlier datagrams that are skipped before a query is given up
    RETRY_NS = 100000000        # between two attempts to connect
    BUFFER = 4194304            # octets of a socket's buffers, where allowed
    MOST_SOCKETS = 65536
    MOST_FLIGHTS = 16777216     # over all sockets: 400 MB

COMPILER = C_COMPILER.decode()


# ---------------------------------------------------------------------------------------------- questions

cdef uint32_t question_end(const uint8_t *wire, uint32_t n) noexcept nogil:
    # Where the question section of a query ends; 0 unless it holds one question with an uncompressed name.
    cdef uint32_t at = 12, label
    if n < 17 or n > QUERY_MAX or wire[2] & QR or get16(wire + 4) != 1:
        return 0
    while True:
        if at >= n:
            return 0
        label = wire[at]
        at += 1 + label
        if label > 63 or at - 12 > 255:
            return 0
        if label == 0:
            break
    return at + 4 if at + 4 <= n else 0


cdef class Questions:
    """Queries in wire form, packed: what a generator asks, in this order. Immutable.

    `rcodes`: the expected response code of each (0 .. 15, as in a header), -1 for any. ValueError names the first
    query that is not one: no header, no question, more than one, over 512 octets.
    """

    def __cinit__(self, wires, rcodes=None):
        wires = list(wires)
        rcodes = None if rcodes is None else list(rcodes)
        if not wires:
            raise ValueError("no question to ask")
        if rcodes is not None and len(rcodes) != len(wires):
            raise ValueError(f"{len(wires)} questions and {len(rcodes)} expected rcodes")
        packed = b"".join(wires)
        if len(wires) >= 1 << 31 or len(packed) >= 1 << 32:
            raise ValueError(f"{len(wires)} questions of {len(packed)} octets: too many")
        self.n = <uint32_t>len(wires)
        self.table = <Question *>calloc(self.n, sizeof(Question))
        self.octets = <uint8_t *>malloc(len(packed))
        if self.table == NULL or self.octets == NULL:
            raise MemoryError("questions")
        memcpy(self.octets, <const uint8_t *>(<bytes>packed), len(packed))
        cdef uint32_t at = 0, i
        cdef Question *q
        cdef int rcode
        for i in range(self.n):
            q = &self.table[i]
            q.at = at
            q.octets = <uint16_t>min(len(wires[i]), 0xffff)
            q.end = <uint16_t>question_end(self.octets + at, <uint32_t>min(len(wires[i]), 0xffff))
            rcode = -1 if rcodes is None else rcodes[i]
            if q.end == 0 or not -1 <= rcode <= 15:
                raise ValueError(f"question {i}: " + (f"rcode {rcode}" if q.end else "not a query of one question"))
            q.rcode = <int16_t>rcode
            at += q.octets

    def __init__(self, wires, rcodes=None):
        pass

    def __dealloc__(self):
        free(self.table)
        free(self.octets)

    def __len__(self) -> int:
        return self.n

    def wire(self, index: int) -> bytes:
        """The query at `index` (from 0), with the id it was given. IndexError."""
        if not 0 <= index < self.n:
            raise IndexError(f"question {index} of {self.n}")
        cdef Question *q = &self.table[<uint32_t>index]
        return (<const char *>self.octets)[q.at:q.at + q.octets]

    def rcode(self, index: int) -> int:
        """The rcode expected for the query at `index`, -1 for any. IndexError."""
        if not 0 <= index < self.n:
            raise IndexError(f"question {index} of {self.n}")
        return self.table[<uint32_t>index].rcode


# ---------------------------------------------------------------------------------------------- flights

cdef inline void clock(Generator *g) noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    g.now_ns = <uint64_t>t.tv_sec * 1000000000u + <uint64_t>t.tv_nsec


cdef inline void place_free(Conn *c, uint32_t place) noexcept nogil:
    c.ring[(c.free_at + c.free_n) & (c.places - 1)] = <uint16_t>place
    c.free_n += 1


cdef inline uint32_t drawable(const Generator *g, const Conn *c, uint32_t n) noexcept nogil:
    # How many of n queries there are places on this socket, and questions, for.
    if n > c.free_n:
        n = c.free_n
    if not g.again and n > g.question_n - g.cursor:
        n = g.question_n - g.cursor
    return n if g.sending else 0


cdef inline const Question *upcoming(const Generator *g, uint32_t ahead) noexcept nogil:
    return &g.questions[<uint32_t>((<uint64_t>g.cursor + ahead) % g.question_n)]


cdef inline uint32_t compose(Generator *g, Conn *c, uint8_t *out) noexcept nogil:
    # Writes the next query, under an id of its own; returns its octets. `drawable` said that it may.
    cdef uint32_t place = c.ring[c.free_at]
    cdef Flight *f = &c.flights[place]
    cdef const Question *q = &g.questions[g.cursor]
    c.free_at = (c.free_at + 1) & (c.places - 1)
    c.free_n -= 1
    f.raw += <uint16_t>c.places             # the next of this place's ids
    f.question = g.cursor
    f.state = FLYING
    f.sent_ns = g.now_ns
    f.due_ns = g.now_ns if g.rate == 0 else g.start_ns + <uint64_t>(<double>g.drawn * 1e9 / g.rate)
    g.cursor += 1
    if g.cursor == g.question_n and g.again:
        g.cursor = 0
    g.drawn += 1
    g.n.sent += 1
    g.n.octets_sent += q.octets
    g.flying += 1
    c.flying += 1
    memcpy(out, g.octets + q.at, q.octets)
    put16(out, f.raw ^ c.mask)
    return q.octets


cdef void refused(Generator *g, Conn *c, const uint8_t *query, uint32_t octets) noexcept nogil:
    # The kernel did not take a query that was composed.
    cdef uint32_t place = (get16(query) ^ c.mask) & (c.places - 1)
    c.flights[place].state = DONE
    place_free(c, place)
    c.flying -= 1
    g.flying -= 1
    g.n.sent -= 1
    g.n.octets_sent -= octets
    g.n.send_errors += 1


cdef inline bint same_question(const uint8_t *a, const uint8_t *b, uint32_t n) noexcept nogil:
    # Names are equal whatever the case of their letters (RFC 1035 2.3.3); a server may answer in another one.
    cdef uint32_t i
    cdef uint8_t x
    if memcmp(a, b, n) == 0:
        return True
    if memcmp(a + n - 4, b + n - 4, 4):
        return False
    for i in range(n - 4):
        x = a[i] | 0x20
        if a[i] != b[i] and (x != b[i] | 0x20 or x < 97 or x > 122):
            return False
    return True


cdef inline void complete(Generator *g, Conn *c, Flight *f, const uint8_t *reply, const Question *q) noexcept nogil:
    cdef uint32_t rcode = reply[3] & 15
    g.n.completed += 1
    g.n.in_window += g.sending or g.now_ns <= g.end_ns
    g.n.rcodes[rcode] += 1
    g.n.truncated += (reply[2] & TC) != 0
    g.n.wrong_rcode += q.rcode >= 0 and <uint32_t>q.rcode != rcode
    g.answer_ns = g.now_ns
    distribution_add(&g.latency, g.now_ns - f.due_ns if g.now_ns > f.due_ns else 0)


cdef void judge(Generator *g, Conn *c, const uint8_t *reply, uint32_t have, uint32_t octets) noexcept nogil:
    # One message from the server: `have` octets of it at `reply`, `octets` in all.
    cdef uint32_t raw, place
    cdef Flight *f
    cdef const Question *q
    g.n.octets_received += octets
    if have < 12 or not reply[2] & QR:
        g.n.malformed += 1
        return
    raw = get16(reply) ^ c.mask
    place = raw & (c.places - 1)
    f = &c.flights[place]
    if f.state == UNUSED or f.raw != raw:
        g.n.wrong_id += 1
        return
    q = &g.questions[f.question]
    if get16(reply + 4) == 0 and reply[3] & 15 != 0 and reply[3] & 15 != NXDOMAIN:
        pass                    # an error about the message as a whole may leave the question out
    elif (get16(reply + 4) != 1 or have < q.end
          or not same_question(reply + 12, g.octets + q.at + 12, <uint32_t>q.end - 12)):
        g.n.wrong_question += 1
        return
    if f.state == FLYING:
        g.flying -= 1
        c.flying -= 1
        place_free(c, place)
        if g.now_ns - f.sent_ns > g.timeout_ns:
            g.n.lost += 1       # its time was up; nobody had looked yet
            g.n.late += 1
        else:
            complete(g, c, f, reply, q)
    elif f.state == LOST:
        g.n.late += 1
        c.resting -= 1
        place_free(c, place)
    elif f.state == GONE:
        g.n.late += 1
    else:
        g.n.duplicates += 1
    f.state = DONE


cdef void expire(Generator *g, Conn *c) noexcept nogil:
    # Finds what is lost on one socket, and places that have rested long enough.
    cdef uint64_t oldest = g.now_ns, age
    cdef uint32_t i
    cdef Flight *f
    for i in range(c.places):
        f = &c.flights[i]
        if f.state != FLYING and f.state != LOST:
            continue
        age = g.now_ns - f.sent_ns
        if f.state == FLYING and age > g.timeout_ns:
            f.state = LOST
            c.flying -= 1
            c.resting += 1
            g.flying -= 1
            g.n.lost += 1
        if f.state == LOST and age > (1 + REST) * g.timeout_ns:
            f.state = GONE
            c.resting -= 1
            place_free(c, i)
        elif f.state == FLYING and f.sent_ns < oldest:
            oldest = f.sent_ns
    # What is sent from now on is younger than the oldest that was found.
    c.check_ns = oldest + g.timeout_ns


cdef void abandon(Generator *g, Conn *c) noexcept nogil:
    # No answer can come any more on this socket: what is under way is lost now, and no place needs to rest.
    cdef uint32_t i
    cdef Flight *f
    for i in range(c.places):
        f = &c.flights[i]
        if f.state == FLYING:
            c.flying -= 1
            g.flying -= 1
            g.n.lost += 1
        elif f.state == LOST:
            c.resting -= 1
        else:
            continue
        f.state = GONE
        place_free(c, i)


include "_load_udp.pxi"
include "_load_tcp.pxi"


# ---------------------------------------------------------------------------------------------- the loop

cdef inline void refill(Generator *g, Conn *c) noexcept nogil:
    # The closed loop's whole rule.
    if g.rate == 0 and c.flying < g.in_flight:
        g.transport.send(g, c, g.in_flight - c.flying)


cdef uint64_t due_by(const Generator *g, uint64_t ns) noexcept nogil:
    # How many queries should have left at that time: the first one is due at the start.
    cdef double passed = <double>(ns - g.start_ns) * 1e-9 * g.rate
    cdef uint64_t n = <uint64_t>passed
    return n if ns == g.end_ns and passed - <double>n < 1e-6 else n + 1


cdef void pace(Generator *g) noexcept nogil:
    # Sends what is due, spread evenly over the sockets; to each a whole batch where batches are segmented.
    cdef uint64_t due = due_by(g, g.now_ns if g.now_ns < g.end_ns else g.end_ns)
    cdef uint64_t behind = due - g.drawn if due > g.drawn else 0
    cdef uint32_t share, sent, refusals = 0
    share = BATCH if g.segment else <uint32_t>min(<uint64_t>BATCH, 1 + behind // g.conn_n)
    while behind and refusals < g.conn_n:
        sent = g.transport.send(g, &g.conns[g.turn], <uint32_t>min(<uint64_t>share, behind))
        g.turn = g.turn + 1 if g.turn + 1 < g.conn_n else 0
        refusals = 0 if sent else refusals + 1
        behind -= sent


cdef void sweep(Generator *g) noexcept nogil:
    cdef uint32_t i
    cdef Conn *c
    g.sweep_ns = g.now_ns + g.sweep_every_ns
    for i in range(g.conn_n):
        c = &g.conns[i]
        if (c.flying or c.resting) and g.now_ns >= c.check_ns:
            expire(g, c)
            refill(g, c)
        if g.transport.tend != NULL:
            g.transport.tend(g, c)


cdef void stop_sending(Generator *g) noexcept nogil:
    g.sending = False
    g.stopped_ns = g.now_ns
    if g.now_ns < g.end_ns:
        g.end_ns = g.now_ns


cdef uint64_t sleep_ns(const Generator *g, uint64_t wake_ns) noexcept nogil:
    # Until something has to be done without an event.
    cdef uint64_t next_ns = min(wake_ns, g.sweep_ns)
    if g.sending:
        next_ns = min(next_ns, g.end_ns)
        if g.rate:
            next_ns = min(next_ns, g.start_ns + <uint64_t>(<double>g.drawn * 1e9 / g.rate))
    return next_ns - g.now_ns if next_ns > g.now_ns + SPIN_NS else 0


cdef int wait(Generator *g, uint64_t ns) noexcept nogil:
    cdef timespec t
    cdef long n
    if ns == 0 or g.spin:
        return epoll_wait(g.epoll, g.events, EVENTS, 0)
    t.tv_sec = <long>(ns // 1000000000u)
    t.tv_nsec = <long>(ns % 1000000000u)
    n = c_syscall(SYS_epoll_pwait2, g.epoll, g.events, <int>EVENTS, &t, <void *>NULL, <size_t>0)
    if n < 0 and errno != EINTR:
        # An older kernel: milliseconds, rounded down, so that no query leaves late because of it.
        return epoll_wait(g.epoll, g.events, EVENTS, <int>min(ns // 1000000u, <uint64_t>1000))
    return <int>n


cdef bint turn_until(Generator *g, uint64_t wake_ns) noexcept nogil:
    # Turns of the loop until `wake_ns`, or until the run is over: then it returns True.
    cdef int i, n
    cdef Conn *c
    while True:
        clock(g)
        if g.sending and g.rate:
            pace(g)
        if g.sending and (g.now_ns >= g.end_ns or (not g.again and g.cursor >= g.question_n)):
            stop_sending(g)
        if not g.sending and g.flying == 0:
            return True
        if g.now_ns >= wake_ns:
            return False
        if g.now_ns >= g.sweep_ns:
            sweep(g)
        n = wait(g, sleep_ns(g, wake_ns))
        if n <= 0:
            continue
        clock(g)
        for i in range(n):
            c = &g.conns[<uint32_t>g.events[i].data.u64]
            g.transport.event(g, c, g.events[i].events)
            refill(g, c)


# ---------------------------------------------------------------------------------------------- the face

cdef int watch(Generator *g, Conn *c, int operation, uint32_t events) noexcept nogil:
    cdef epoll_event e
    e.events = events
    e.data.u64 = <uint64_t>(c - g.conns)
    return errno if epoll_ctl(g.epoll, operation, c.fd, &e) < 0 else 0


cdef void close_conn(Conn *c) noexcept nogil:
    if c.fd >= 0:
        c_close(c.fd)
    c.fd = -1
    c.stage = SHUT


cdef void release(Generator *g) noexcept nogil:
    cdef uint32_t i
    if g == NULL:
        return
    if g.conns != NULL:
        for i in range(g.conn_n):
            close_conn(&g.conns[i])
            free(g.conns[i].flights)
            free(g.conns[i].ring)
            free(g.conns[i].stream)
    free(g.conns)
    if g.epoll >= 0:
        c_close(g.epoll)
    free(g)


cdef bint conn_init(Conn *c, uint32_t places, uint16_t mask, bint stream, bint segment) noexcept nogil:
    cdef uint32_t i
    c.fd = -1
    c.places = places
    c.mask = mask
    c.segment = segment
    c.flights = <Flight *>calloc(places, sizeof(Flight))
    c.ring = <uint16_t *>malloc(places * sizeof(uint16_t))
    if stream:
        c.stream = <Stream *>calloc(1, sizeof(Stream))
    if c.flights == NULL or c.ring == NULL or (stream and c.stream == NULL):
        return False
    for i in range(places):
        c.flights[i].raw = <uint16_t>i
        place_free(c, i)
    return True


cdef void prepare_messages(Generator *g) noexcept nogil:
    cdef uint32_t i
    for i in range(BATCH):
        g.rx_iov[i].iov_base = g.rx_head[i]
        g.rx_iov[i].iov_len = HEAD
        g.rx[i].msg_hdr.msg_iov = &g.rx_iov[i]
        g.rx[i].msg_hdr.msg_iovlen = 1
        g.tx[i].msg_hdr.msg_iov = &g.tx_iov[i]
        g.tx[i].msg_hdr.msg_iovlen = 1


cdef int find_peer(Generator *g, str address, int port) except -1:
    # The address in the kernel's form: of a datagram socket connected there, which sends nothing.
    cdef socklen_t n = sizeof(g.peer)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"{address} port {port}: {error}") from None
        if c_getpeername(<int>probe.fileno(), <sockaddr *>&g.peer, &n) < 0:
            raise OSError(errno, f"{address} port {port}")
    g.peer_len = n
    return 0


cdef object must_be(bint fine, str what, value, str range):
    if not fine:
        raise ValueError(f"{what} {value!r}: must be {range}")


TRANSPORTS = ("udp", "tcp")
"""The protocols that `Load` speaks."""


cdef class Load:
    """One thread of load on one address.

    rate 0: closed loop, `sockets` times `in_flight` queries under way. rate > 0 (queries per second): open loop, in
    which only the ids limit what is under way. `segment`: equal-sized queries leave as segmented datagrams (UDP).
    `timeout`, in seconds: when a query is lost. `first`: the question to begin with; each run continues where the
    last one stopped (`next_index`). `loop` False: each question is asked at most once. `cpu`: where the calling
    thread runs meanwhile, -1 anywhere. `spin`: it never sleeps, and needs a core for itself: on one machine the sender
    of an answer pays for waking the one who waits for it, which no server does for its clients in a network.

    ValueError for values that make no sense, OSError when sockets cannot be had.
    """

    def __cinit__(self, address, port, questions, *, protocol="udp", sockets=64, in_flight=4, rate=0.0,
                  segment=False, timeout=2.0, first=0, loop=True, cpu=-1, spin=False):
        must_be(protocol in TRANSPORTS, "protocol", protocol, "one of " + ", ".join(TRANSPORTS))
        must_be(1 <= sockets <= MOST_SOCKETS, "sockets", sockets, f"1 .. {MOST_SOCKETS}")
        must_be(1 <= in_flight <= MOST_PLACES // 2, "in_flight", in_flight, f"1 .. {MOST_PLACES // 2}")
        must_be(0 <= rate <= 1e9, "rate", rate, "0 (closed loop) .. 10^9 queries per second")
        must_be(0.001 <= timeout <= 600, "timeout", timeout, "0.001 .. 600 seconds")
        must_be(0 <= first <= len(questions), "first", first, f"0 .. {len(questions)}")
        must_be(not (segment and protocol != "udp"), "segment", segment, "False: only datagrams are segmented")
        must_be(1 <= port <= 65535, "port", port, "1 .. 65535")
        self.questions, self.protocol, self.address, self.port, self.cpu = questions, protocol, address, port, cpu
        self.g = <Generator *>calloc(1, sizeof(Generator))
        if self.g == NULL:
            raise MemoryError("a load generator")
        cdef Generator *g = self.g
        cdef uint32_t i, places = FEWEST_PLACES
        g.epoll = -1
        g.transport = &UDP if protocol == "udp" else &TCP
        g.conn_n, g.in_flight, g.rate, g.segment, g.spin = sockets, in_flight, rate, segment, spin
        g.timeout_ns = <uint64_t>(<double>timeout * 1e9)
        g.sweep_every_ns = max(g.timeout_ns // SWEEPS, <uint64_t>500000)
        g.questions, g.octets, g.question_n = self.questions.table, self.questions.octets, self.questions.n
        g.again = loop
        g.cursor = first if first < len(questions) or not loop else 0
        # At a fixed rate: what is under way on a socket, and what rests, if no query were answered.
        wanted = 4 * in_flight if rate == 0 else (1 + REST) * 1.25 * rate * timeout / sockets
        while places < wanted and places < MOST_PLACES:
            places *= 2
        must_be(places * sockets <= MOST_FLIGHTS, "sockets", sockets, f"fewer: {MOST_FLIGHTS} queries are kept at most")
        prepare_messages(g)
        find_peer(g, address, port)
        g.conns = <Conn *>calloc(g.conn_n, sizeof(Conn))
        g.epoll = epoll_create1(EPOLL_CLOEXEC)
        if g.conns == NULL or g.epoll < 0:
            g.conn_n = 0
            raise MemoryError("a load generator's sockets") if g.conns == NULL else OSError(errno, "epoll_create1")
        cdef bytes masks = os.urandom(2 * sockets)
        cdef const uint8_t *mask = masks
        cdef bint stream = protocol != "udp"
        for i in range(g.conn_n):
            g.conns[i].fd = -1
        for i in range(g.conn_n):
            if not conn_init(&g.conns[i], places, get16(mask + 2 * i), stream, segment):
                raise MemoryError("a load generator's sockets")
        self.histogram = Histogram()

    def __init__(self, address, port, questions, *, protocol="udp", sockets=64, in_flight=4, rate=0.0,
                 segment=False, timeout=2.0, first=0, loop=True, cpu=-1, spin=False):
        pass

    def __dealloc__(self):
        release(self.g)

    @property
    def next_index(self) -> int:
        """The question to be asked next; the number of questions when all were asked and they are not repeated."""
        return self.g.cursor

    @property
    def sockets(self) -> int:
        return self.g.conn_n

    @property
    def segmenting(self) -> bool:
        """Whether segmented datagrams are asked for and the kernel has refused none so far."""
        cdef uint32_t i
        for i in range(self.g.conn_n):
            if not self.g.conns[i].segment:
                return False
        return True

    def close(self) -> None:
        """Close every socket; a later run opens them again. RuntimeError during a run."""
        if self.running:
            raise RuntimeError("the load generator is running")
        cdef uint32_t i
        for i in range(self.g.conn_n):
            close_conn(&self.g.conns[i])

    def run(self, seconds: float, tick=None, interval: float = 0.5):
        """Load for so many seconds, then wait for what is under way (a timeout at most); returns the `Tally`.

        `tick` is called with the tally so far every `interval` seconds; returning False, it ends the run. The sockets
        of UDP stay open between runs, connections are made anew. ValueError, OSError; RuntimeError when it runs
        already.
        """
        must_be(0 < seconds <= 1e7, "seconds", seconds, "over 0, at most 10^7")
        must_be(0 < interval, "interval", interval, "over 0 seconds")
        if self.running:
            raise RuntimeError("the load generator is running")
        affinity = None
        if self.cpu >= 0:
            affinity = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {self.cpu})
        self.running = True
        try:
            self.cpu_start = time.thread_time()
            self.begin(seconds)
            self.turns(tick, interval)
            return self.tally(True)
        finally:
            self.end()
            self.running = False
            if affinity is not None:
                os.sched_setaffinity(0, affinity)

    cdef begin(self, double seconds):
        cdef Generator *g = self.g
        cdef Histogram latency = Histogram()
        cdef uint32_t i
        cdef int error
        self.histogram = latency
        g.latency = latency.d
        memset(&g.n, 0, sizeof(g.n))
        g.drawn = g.turn = 0
        clock(g)
        for i in range(g.conn_n):
            if g.conns[i].fd < 0:
                error = g.transport.open(g, &g.conns[i])
                if error:
                    raise OSError(error, f"{os.strerror(error)}: socket {i + 1} of {g.conn_n} to {self.address}")
        clock(g)
        g.start_ns = g.answer_ns = g.now_ns
        g.end_ns = g.start_ns + <uint64_t>(seconds * 1e9)
        g.sweep_ns = g.now_ns + g.sweep_every_ns
        g.sending = g.again or g.cursor < g.question_n
        g.stopped_ns = 0 if g.sending else g.start_ns
        with nogil:
            for i in range(g.conn_n):
                refill(g, &g.conns[i])

    cdef turns(self, tick, double interval):
        cdef Generator *g = self.g
        cdef uint64_t every_ns = <uint64_t>(min(interval, 1e9) * 1e9), tick_ns = g.start_ns + every_ns, wake_ns
        cdef bint over = False
        while not over:
            wake_ns = g.now_ns + SIGNALS_NS
            if tick is not None:
                wake_ns = min(wake_ns, tick_ns)
            with nogil:
                over = turn_until(g, wake_ns)
            PyErr_CheckSignals()
            if tick is not None and not over and g.now_ns >= tick_ns:
                tick_ns = max(tick_ns + every_ns, g.now_ns)
                if tick(self.tally(False)) is False and g.sending:
                    stop_sending(g)

    cdef end(self):
        # Also after an exception: whatever still flies will not be waited for.
        cdef Generator *g = self.g
        cdef uint32_t i
        g.sending = False
        for i in range(g.conn_n):
            if g.conns[i].flying:
                abandon(g, &g.conns[i])
            if g.transport.close != NULL:
                g.transport.close(g, &g.conns[i])

    cdef tally(self, bint final):
        cdef Generator *g = self.g
        cdef Histogram latency = self.histogram
        cdef uint64_t until = g.now_ns, in_window = g.n.in_window
        cdef uint64_t due
        if not g.sending:
            until = g.end_ns
            if not g.again and g.cursor >= g.question_n:
                # Questions that ran out end the window with their last answer, and all answers lie within it.
                until = max(g.answer_ns, g.stopped_ns)
                in_window = g.n.completed
        latency.d = g.latency
        due = due_by(g, min(until, g.end_ns)) if g.rate and (g.again or g.cursor < g.question_n) else 0
        cdef Counters *n = &g.n
        return Tally(
            seconds=(until - g.start_ns) / 1e9, sent=n.sent, completed=n.completed,
            in_window=in_window, lost=n.lost, late=n.late, duplicates=n.duplicates, wrong_id=n.wrong_id,
            wrong_question=n.wrong_question, wrong_rcode=n.wrong_rcode, malformed=n.malformed, truncated=n.truncated,
            unsent=due - g.drawn if due > g.drawn else 0, octets_sent=n.octets_sent, octets_received=n.octets_received,
            rcodes={code: n.rcodes[code] for code in range(16) if n.rcodes[code]}, send_errors=n.send_errors,
            receive_errors=n.receive_errors, connect_errors=n.connect_errors, reconnects=n.reconnects,
            cpu_seconds=time.thread_time() - self.cpu_start, latency=latency if final else latency.copy(),
        )
