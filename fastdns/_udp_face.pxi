# SPDX-License-Identifier: Apache-2.0
#
# The Python face of a worker's loop: `Engine`. A part of _udp.
#
# Strategy: everything that can fail or takes memory happens in `start`, before the first query; then `run` gives the
# thread to the loop until `stop`. The main thread speaks to a running loop by a word and an eventfd (`stop`, `rest`),
# and hears of it by eventfds that become readable (`quiet_fd`, `rest_fd`): neither side waits for the other.

cdef class Engine:
    """One worker's loop.

    program: the compiled Corefile. stats: the shared counters. segment: the shared cache, or None without a cache
    block. ring: this worker's log ring, or None. options: `tcp_first_query_ms`, `tcp_idle_ms`, `tcp_write_ms`
    (milliseconds), for listeners without `timeouts`.
    """

    def __cinit__(self, Program program not None, Stats stats not None, Segment segment, options=None):
        self.program = program
        self.stats = stats
        self.segment = segment
        self.options = dict(options or {})
        self.wake_fd = -1
        self.leaving.quiet_fd = self.leaving.rest_fd = -1
        self.w.epoll_fd = -1

    def listener(self, uint32_t index, int udp_fd, int tcp_fd):
        """Gives this worker its sockets of a listener (-1: none). Before start()."""
        if index >= self.program.listener_count:
            raise IndexError(f"no listener {index}")
        self.program.listeners[index].udp_fd = udp_fd
        self.program.listeners[index].tcp_fd = tcp_fd
        if tcp_fd >= 0:
            os.set_blocking(tcp_fd, False)

    def start(self, uint32_t index, uint32_t row, RingHandle ring=None):
        """Allocates, seeds and registers everything, in the worker's own process. OSError, MemoryError, RuntimeError.

        index: the worker's number; row: its row of counters.
        """
        cdef Worker *w = &self.w
        cdef Stats stats = self.stats
        cdef Segment segment
        w.index = index
        self.row = row
        w.row = stats.row(row)
        w.shared = stats.row(0)
        self.ring = ring
        if ring is not None:
            w.ring = &ring.ring
        self.count(stats)
        w.dropped = dropped_reply
        worker_open(w, self.program)
        w.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        if w.epoll_fd < 0:
            raise OSError(errno, "epoll_create1")
        if self.segment is not None:
            segment = self.segment
            segment.view(&self.view)
            self.view.row = w.row
            w.cache = &self.view
        self.udp_open()
        tcp_open(w, self.options.get("tcp_first_query_ms", 3000), self.options.get("tcp_idle_ms", 10000),
                 self.options.get("tcp_write_ms", 5000))
        self.bridge = bridge_open(w, self.program)
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.leaving.quiet_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.leaving.rest_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        w.mod[MOD_CONTROL] = &self.leaving
        self.leaving.last = <uint8_t *>calloc(w.listener_count or 1, 1)
        if self.leaving.last == NULL:
            raise MemoryError
        w.on_event[MOD_CONTROL] = woken
        w.api.watch(w, self.wake_fd, MOD_CONTROL, <uint64_t>self.wake_fd, EPOLLIN)
        self.start_stages()
        self.open_backlogs()
        for i in range(w.listener_count):
            if w.listeners[i].udp_fd >= 0 and not w.api.watch(w, w.listeners[i].udp_fd, MOD_LISTEN, i, EPOLLIN):
                raise OSError(errno, "epoll_ctl")
            if w.listeners[i].tcp_fd >= 0 and not tcp_listen(w, i):
                raise OSError(errno, "epoll_ctl")
        self.started = True

    cdef int count(self, object stats) except -1:
        cdef Worker *w = &self.w
        for i, name in enumerate(NAMES):
            w.counts[i] = stats.intern("fastdns_ingress_total", (("event", name),), "counter", (),
                                       "Messages by what became of them at the sockets")
        w.slot_beat = stats.intern("fastdns_worker_beat", (("row", str(self.row)),), "word")
        w.slot_pool_full = stats.intern("fastdns_in_flight_full_total", (), "counter", (),
                                        "Queries refused because too many were in flight")
        return 0

    cdef int udp_open(self) except -1:
        cdef Worker *w = &self.w
        cdef Udp *u = <Udp *>calloc(1, sizeof(Udp))
        cdef uint32_t i
        if u == NULL:
            raise MemoryError
        u.octets = <uint8_t *>mmap(NULL, BATCH * SLOT_OCTETS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                   -1, 0)
        u.frames = <uint8_t *>calloc(1, w.frame_octets + 8)
        u.sockets = <Socket *>calloc(w.listener_count or 1, sizeof(Socket))
        if u.octets == <uint8_t *>-1 or u.frames == NULL or u.sockets == NULL:
            raise MemoryError
        for i in range(BATCH):
            u.rx_iov[i].iov_base = u.octets + i * SLOT_OCTETS
            u.rx_iov[i].iov_len = 65536
            u.rx[i].msg_hdr.msg_iov = &u.rx_iov[i]
            u.rx[i].msg_hdr.msg_iovlen = 1
            u.rx[i].msg_hdr.msg_name = &u.peers[i]
            u.rx[i].msg_hdr.msg_control = &u.rx_control[i][0]
        u.slot.frames = u.frames
        u.rx_used = BATCH
        w.mod[MOD_LISTEN] = u
        w.on_event[MOD_LISTEN] = udp_receive
        w.on_flush[MOD_LISTEN] = udp_flush
        w.sink[ORIGIN_UDP] = udp_sink
        w.arena_flush = udp_flush
        for i in range(w.listener_count):
            if w.listeners[i].udp_fd >= 0:
                self.own_address(u, i)
        return 0

    cdef int own_address(self, Udp *u, uint32_t i) except -1:
        # A socket bound to one address answers from it by itself; a wildcard socket needs the packet info.
        cdef sockaddr_in6 sa
        cdef socklen_t n = sizeof(sa)
        cdef Query q
        cdef uint8_t zero[16]
        cdef int one = 1
        memset(zero, 0, 16)
        if c_getsockname(self.w.listeners[i].udp_fd, <sockaddr *>&sa, &n) < 0:
            raise OSError(errno, "getsockname")
        identify(&q, &sa, n)
        # One receive may then bring a whole train of one client's queries. A kernel without it brings one by one.
        c_setsockopt(self.w.listeners[i].udp_fd, SOL_UDP, UDP_GRO, &one, sizeof(one))
        u.sockets[i].v6 = sa.sin6_family == AF_INET6
        u.sockets[i].local_len = 4 if q.family == 1 else 16
        if memcmp(q.client_ip, zero, u.sockets[i].local_len) == 0:
            u.sockets[i].local_len = 0
        else:
            memcpy(u.sockets[i].local_ip, q.client_ip, u.sockets[i].local_len)
        return 0

    cdef int start_stages(self) except -1:
        cdef Worker *w = &self.w
        cdef Stage *s
        cdef int status
        for b in range(w.block_count):
            for p in range(w.blocks[b].stage_count):
                s = &w.blocks[b].stages[p]
                if s.ops == NULL or s.ops.start == NULL:
                    continue
                status = s.ops.start(w, s)
                if status:
                    raise RuntimeError(f"plugin/{s.ops.name.decode()}: cannot start in worker {w.index}: {status}")
        return 0

    cdef int open_backlogs(self) except -1:
        cdef Worker *w = &self.w
        cdef Udp *u = <Udp *>w.mod[MOD_LISTEN]
        cdef Backlog *b
        for i in range(w.listener_count):
            if not w.listeners[i].keeps or w.listeners[i].udp_fd < 0:
                continue
            b = <Backlog *>calloc(1, sizeof(Backlog))
            if b == NULL:
                raise MemoryError
            b.room = <uint8_t *>mmap(NULL, <size_t>BACKLOG * BACKLOG_OCTETS, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            if b.room == <uint8_t *>-1:
                raise MemoryError
            u.sockets[i].backlog = b
        return 0

    def run(self):
        """Serves until stop(). The calling thread blocks all signals and holds no GIL meanwhile."""
        cdef sigset_t all_signals
        if not self.started:
            raise RuntimeError("start() comes before run()")
        sigfillset(&all_signals)
        pthread_sigmask(SIG_BLOCK, &all_signals, NULL)
        # Who has nothing to read sleeps a second first, and /health would not count it as one that lives.
        worker_clock(&self.w)
        fd_store_relaxed(self.w.row + self.w.slot_beat, self.w.now_ns)
        with nogil:
            loop(&self.w, &self.leaving)
        self.stop_stages()

    cdef int stop_stages(self) except -1:
        cdef Worker *w = &self.w
        cdef Stage *s
        for b in range(w.block_count):
            for p in range(w.blocks[b].stage_count):
                s = &w.blocks[b].stages[p]
                if s.ops != NULL and s.ops.stop != NULL:
                    s.ops.stop(w, s)
        return 0

    def stop(self, double drain_seconds=5.0, last=()):
        """Makes run() return once every query that was read is answered, at the latest after drain_seconds.

        last: the listeners whose sockets nobody reads after this worker, and which have left their groups: what waits
        there is read first.
        """
        import time
        if self.leaving.last != NULL:
            for i in last:
                if 0 <= i < self.w.listener_count:
                    self.leaving.last[<uint32_t>i] = 1
        self.leaving.stop_by_ns = <uint64_t>((time.monotonic() + drain_seconds) * 1e9)
        fd_store_release32(&self.leaving.stop_word, 1)
        fd_fence_seq_cst()
        if self.wake_fd >= 0:
            os.eventfd_write(self.wake_fd, 1)

    def rest(self, uint32_t index, int fd, bint stream):
        """Has the loop read a socket of a listener to its end and close it: one that nobody else reads, and that gets
        nothing new. Called by one thread. IndexError, OverflowError."""
        cdef Rest *r
        if index >= self.w.listener_count:
            raise IndexError(f"no listener {index}")
        if self.leaving.rest_n == RESTS:
            raise OverflowError(f"more than {RESTS} sockets to read to their end")
        os.set_blocking(fd, False)
        r = &self.leaving.rest[self.leaving.rest_n]
        r.fd, r.listener, r.stream = fd, index, stream
        fd_store_release32(&self.leaving.rest_n, self.leaving.rest_n + 1)
        os.eventfd_write(self.wake_fd, 1)

    @property
    def rest_fd(self) -> int:
        """Readable once everything that rest() was given is read."""
        return self.leaving.rest_fd

    @property
    def quiet_fd(self) -> int:
        """Readable once a stopped loop reads nothing more from clients: no later query gets an answer of it."""
        return self.leaving.quiet_fd

    @property
    def in_flight(self) -> int:
        """Queries that wait: for an upstream, for Python."""
        return self.w.in_flight
