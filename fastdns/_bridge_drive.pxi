# SPDX-License-Identifier: Apache-2.0
#
# The driver, on the Python thread: takes queries from the ring, starts their plugins and resumes them.
#
# Strategy. `Bridge.work` takes records from the ring and runs each query's plugin. The coroutine of an `eager` plugin
# is stepped at once: mostly it has ended then and no task was needed; one that waits for `next` or a look-up
# is stepped again when the result comes; one that awaits anything else continues inside a task. The coroutine of any
# other plugin is a task from the start, a plain function runs in a thread. However it ends, exactly one FINISH goes
# back for each query (_bridge_end.pxi). What `next` and look-ups send and get is _bridge_child.pxi, an answer of many
# messages _bridge_pump.pxi.

@cython.final
cdef class Bridge:
    # The Python thread's end.
    cdef Rings *r
    cdef Worker *w              # read at set-up alone
    cdef readonly Program program
    cdef list stages            # by block, by position: _PythonStage or None
    cdef object loop
    cdef object log             # callable (level, text)
    cdef object stats
    cdef object fatal           # told of a panic; True: it ends the server
    cdef object recorder        # notes what a plugin counts while its answer may be kept (fastdns/metrics.py)
    cdef object pool            # threads of plain functions
    cdef object threads         # (when it was called for, its future), of those that no thread may have begun
    cdef tuple servers          # labels by listener
    cdef list zones             # by block: names of its zones
    cdef list labels            # by block: names of the metadata labels that it keeps
    cdef dict waits             # token: _Wait
    cdef dict sources           # token: _Source, of children that stream
    cdef dict pumps             # token: _Pump
    cdef dict lanes             # connection: [its lock, streams that want it]
    cdef set closing            # tasks that end iterators
    cdef dict pending           # _Request: None, in order of arrival
    cdef uint64_t last_token
    cdef uint64_t *row
    cdef uint32_t slot_panics
    cdef uint32_t slot_queries
    cdef uint32_t slot_deadline
    cdef uint32_t slot_streams
    cdef uint32_t slot_parts
    cdef uint32_t slot_cut
    cdef uint32_t slot_stream_shed
    cdef bint sweeping
    cdef bint running
    cdef Up *aside              # a ring of queries that wait for the quota
    cdef uint32_t aside_at
    cdef uint32_t aside_n

    def __cinit__(self):
        cdef uint32_t i
        self.r = <Rings *>calloc(1, sizeof(Rings))
        if self.r == NULL:
            raise MemoryError
        self.r.python_fd = self.r.hot_fd = self.r.quota.fd = -1
        self.r.up = <Up *>calloc(BRIDGE_UP, sizeof(Up))
        self.r.down = <Down *>calloc(BRIDGE_DOWN, sizeof(Down))
        self.aside = <Up *>calloc(BRIDGE_QUERIES, sizeof(Up))
        if self.r.up == NULL or self.r.down == NULL or self.aside == NULL:
            raise MemoryError
        for i in range(BRIDGE_QUERIES):
            self.r.held[i].next_free = <uint16_t>(i + 1) if i + 1 < BRIDGE_QUERIES else <uint16_t>NO_HELD
        self.r.python_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.r.hot_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.r.python_sleeps = 1
        self.waits = {}
        self.sources = {}
        self.pumps = {}
        self.lanes = {}
        self.closing = set()
        self.threads = collections.deque()
        self.pending = {}
        self.servers = ()

    def __dealloc__(self):
        if self.r != NULL:
            if self.r.python_fd >= 0:
                os.close(self.r.python_fd)
            if self.r.hot_fd >= 0:
                os.close(self.r.hot_fd)
            quota_close(&self.r.quota)
            free(self.aside)
            free(self.r.up)
            free(self.r.down)
            free(self.r)

    @property
    def fd(self):
        return self.r.python_fd

    @property
    def in_python(self):
        return len(self.pending)

    @property
    def waiting(self):
        return self.aside_n

    def start(self, loop, Stats stats not None, uint32_t row, log, servers, fatal=None, recorder=None):
        if self.running:
            raise RuntimeError("the bridge runs already")
        self.row = stats.row(row)
        if self.row == NULL:
            raise ValueError(f"no row {row}")
        self.stats = stats
        self.loop = loop
        self.log = log
        self.fatal = fatal
        self.recorder = recorder
        self.servers = tuple(servers)
        self.slot_panics = stats.intern("coredns_panics_total")
        self.slot_queries = stats.intern("fastdns_python_queries_total", (), "counter", (), "Queries that Python ran.")
        self.slot_deadline = stats.intern(
            "fastdns_python_deadline_total", (), "counter", (), "Queries that Python did not answer in time.")
        self.r.slot_late = self.slot_deadline
        self.r.slot_shed = stats.intern(
            "fastdns_python_shed_total", (), "counter", (), "Queries refused because too many were in Python.")
        self.slot_streams = stats.intern(
            "fastdns_python_streams_total", (), "counter", (), "Answers of several messages that plugins began.")
        self.slot_parts = stats.intern(
            "fastdns_python_stream_messages_total", (), "counter", (), "Messages of such answers.")
        self.slot_cut = stats.intern(
            "fastdns_python_streams_cut_total", (), "counter", (), "Such answers that ended before their end.")
        self.slot_stream_shed = stats.intern(
            "fastdns_python_streams_shed_total", (), "counter", (), "Such answers refused because too many were sent.")
        self.r.slot_quota = stats.intern(
            "fastdns_python_quota_total", (), "counter", (),
            "Queries refused because Python waited for the CPU quota for a whole period.")
        self.running = True
        loop.add_reader(self.r.python_fd, self.drain)
        self.drain()

    def limit(self, path, scale, quota_ns, period_ns, workers):
        if self.running:
            raise RuntimeError("the bridge runs already")
        quota_open(&self.r.quota, path, scale, quota_ns, period_ns, workers)

    def stop(self):
        if not self.running:
            return
        self.running = False
        self.loop.remove_reader(self.r.python_fd)
        for request in list(self.pending):
            self.expire(request)
        for source in list(self.sources.values()):
            (<_Source>source).close()

    async def join(self):
        """Waits until the streams that `stop` ended are closed, and lets go of the threads."""
        left = [(<_Pump>pump).task for pump in self.pumps.values()] + list(self.closing)
        if left:
            await asyncio.wait(left)
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------------------------------ ring up

    def drain(self):
        """Runs what the loop handed over, a bounded number of queries; then asyncio's other work has its turn."""
        cdef int left = ROUNDS if self.r.quota.fd < 0 else BRIDGE_QUOTA_TURN
        hush(self.r.python_fd)
        while True:
            if self.r.quota.fd >= 0:
                self.pause()
            left -= self.work(left)
            self.ring()
            if not self.running:
                return
            if left <= 0:
                self.loop.call_soon(self.drain)
                return
            fd_store_release32(&self.r.python_sleeps, 1)
            fd_fence_seq_cst()
            if fd_load_acquire(&self.r.up_head) == self.r.up_tail and (self.aside_n == 0 or self.r.python_paused):
                return
            fd_store_release32(&self.r.python_sleeps, 0)

    cdef int pause(self) except -1:
        # New queries wait while the quota is nearly spent; a timer looks again.
        if not self.r.python_paused and fd_load_acquire32(&self.r.quota.spent):
            fd_store_release32(&self.r.python_paused, 1)
            self.loop.call_later(self.r.quota.period_ns / QUOTA_LOOKS * 1e-9, self.go_on)
        return 0

    def go_on(self):
        """Looks whether there is quota again."""
        fd_store_release32(&self.r.python_paused, 0)
        fd_fence_seq_cst()
        if self.running:
            self.drain()

    cdef bint next_query(self, Up *u) noexcept:
        # The first that was put aside, once there is quota again.
        if self.aside_n == 0 or self.r.python_paused:
            return False
        u[0] = self.aside[self.aside_at]
        self.aside_at = (self.aside_at + 1) % BRIDGE_QUERIES
        self.aside_n -= 1
        fd_store_release(&self.r.aside_ns, self.aside[self.aside_at].at_ns if self.aside_n else 0)
        return True

    cdef bint put_aside(self, const Up *u) noexcept:
        # Whether a query has to wait: for the quota, or for those that came before it. There is room for all that may
        # be in Python.
        if u.kind != UP_QUERY or (self.aside_n == 0 and not self.r.python_paused):
            return False
        self.aside[(self.aside_at + self.aside_n) % BRIDGE_QUERIES] = u[0]
        self.aside_n += 1
        if self.aside_n == 1:
            fd_store_release(&self.r.aside_ns, u.at_ns)
        return True

    cdef int work(self, int most) except -1:
        cdef Rings *r = self.r
        cdef Up u
        cdef int n = 0
        while n < most:
            if not self.next_query(&u):
                if fd_load_acquire(&r.up_head) == r.up_tail:
                    break
                u = r.up[r.up_tail & (BRIDGE_UP - 1)]
                fd_store_release(&r.up_tail, r.up_tail + 1)
                if self.put_aside(&u):
                    continue
            try:
                if u.kind == UP_QUERY:
                    self.begin(u.q, u.at_ns)
                elif u.kind == UP_ROOM:
                    got_room(self, &u)
                elif u.kind == UP_PART:
                    child_part(self, &u)
                else:
                    child_ended(self, &u)
            except Exception as error:
                # Memory is short. The hot thread answers the query when its deadline has passed.
                self.log(LEVEL_ERROR, f"a query was lost on its way through Python: {error!r}")
            n += 1
            if n & 63 == 0:
                self.ring()
        return n

    cdef void ring(self) noexcept:
        fd_fence_seq_cst()
        if fd_load_acquire32(&self.r.hot_sleeps) and fd_swap32(&self.r.hot_sleeps, 0):
            ring_bell(self.r.hot_fd)

    # ------------------------------------------------------------------------------------------ plugins

    cdef int refresh(self, _Request request, _PythonStage stage) except -1:
        # Gives a plugin what was published since its last query.
        if stage.generation == NULL or fd_load_relaxed(stage.generation) == stage.seen:
            return 0
        try:
            stage.seen, data = stage.board.read()
            stage.plugin.on_update(data, publications(stage.seen))
        except Exception as error:
            stat_add(self.row, self.slot_panics, 1)
            complain(self, request, error)
        return 0

    cdef int begin(self, CQuery *q, uint64_t pushed_ns) except -1:
        cdef _Request request = _Request.__new__(_Request)
        cdef Query query = Query.__new__(Query)
        cdef Next rest = Next.__new__(Next)
        cdef _PythonStage stage
        request.q = q
        request.bridge = self
        request.stages = self.stages[q.block.index]
        query.request = request
        rest.request = request
        rest.pos = q.pos + 1
        stage = request.stages[q.pos]
        if monotonic() - pushed_ns * 1e-9 >= stage.deadline:
            # Nobody waits for it any more.
            stat_add(self.row, self.slot_deadline, 1)
            return self.expire(request)
        stat_add(self.row, self.slot_queries, 1)
        self.refresh(request, stage)
        if stage.keeps and self.recorder is not None:
            return self.begin_kept(request, query, rest, stage)
        try:
            if stage.threaded:
                self.watch_end(request, self.in_thread(stage, query, rest), stage)
                return 0
            coro = stage.call(query, rest)
            if not stage.eager:
                self.watch_end(request, self.loop.create_task(_guarded(coro)), stage)
                return 0
        except BaseException as error:
            end_with_error(self, request, error)
            return 0
        self.step(request, coro, query, rest, stage)
        return 0

    cdef int begin_kept(self, _Request request, Query query, Next rest, _PythonStage stage) except -1:
        # An eager plugin whose answer may be kept, if it ends at once.
        cdef PyObject *out = NULL
        cdef int paused
        counts = []
        request.keeps = True
        self.recorder.begin(counts)
        try:
            coro = stage.call(query, rest)
            paused = PyIter_Send(coro, None, &out)
        except BaseException as error:
            self.recorder.end()
            end_with_error(self, request, error)
            return 0
        whole = self.recorder.end()
        result = <object>out
        Py_XDECREF(out)
        if paused:
            request.reads |= READS_MORE
            return self.paused(request, coro, query, stage, result)
        if whole and type(result) is Reply:
            request.note = note_of(request, stage.covered, <Reply>result, counts)
        coro = None
        return end_with(self, request, result, Py_REFCNT(query) == 1 and Py_REFCNT(rest) == 1)

    cdef int step(self, _Request request, coro, Query query, Next rest, _PythonStage stage) except -1:
        # Runs an eager coroutine to its end or its next pause.
        cdef PyObject *out = NULL
        cdef int paused
        try:
            paused = PyIter_Send(coro, None, &out)
        except BaseException as error:
            end_with_error(self, request, error)
            return 0
        result = <object>out
        Py_XDECREF(out)
        if not paused:
            # Nobody but this function refers to the query: no copy is needed.
            coro = None
            end_with(self, request, result, query is not None and Py_REFCNT(query) == 1 and Py_REFCNT(rest) == 1)
            return 0
        return self.paused(request, coro, query, stage, result)

    cdef int paused(self, _Request request, coro, Query query, _PythonStage stage, result) except -1:
        # An eager coroutine waits: for a child, or for something that needs a task.
        if type(result) is _Wait and (<_Wait>result).state == 1:
            request.coro = coro
            if query is not None:
                self.keep(request, stage)
        else:
            request.coro = None
            self.watch_end(request, self.loop.create_task(_guarded(_Adopted(coro, result))), stage)
        return 0

    cdef object in_thread(self, _PythonStage stage, Query query, Next rest):
        if self.pool is None:
            self.pool = ThreadPoolExecutor(THREADS, "plugin")
        call = stage.call
        if self.r.quota.fd >= 0:
            call = functools.partial(_within_quota, self, call)
        now = self.loop.time()
        while self.threads and not_waiting(self.threads[0][1]):
            self.threads.popleft()
        if self.threads and now - self.threads[0][0] > stage.deadline / QUEUE_SHARE:
            # As in the ring: what can only be late would take the time of what is not.
            stat_add(self.row, self.r.slot_shed, 1)
            raise PluginError(RCODE_SERVFAIL, f"plugin/{stage.name}: too many calls wait for a thread")
        future = self.pool.submit(_called, call, query, ThreadNext(rest, self.loop))
        self.threads.append((now, future))
        return asyncio.wrap_future(future, loop=self.loop)

    cdef int watch_end(self, _Request request, future, _PythonStage stage) except -1:
        request.task = future
        if stage is not None:
            self.keep(request, stage)
        future.add_done_callback(functools.partial(self.ended, request))
        return 0

    def ended(self, _Request request, future):
        """The task or thread of a query has ended."""
        request.task = None
        if future.cancelled():
            end_with_error(self, request, PluginError(RCODE_SERVFAIL, "cancelled"))
        elif future.exception() is not None:
            end_with_error(self, request, future.exception())
        else:
            end_with(self, request, future.result(), False)
        self.ring()

    # ------------------------------------------------------------------------------------------ ring down

    cdef Down *down_room(self) except? NULL:
        # The next record downwards, zeroed but for its octets. Waits for the hot thread when the ring is full; NULL
        # when that one takes nothing any more.
        cdef Rings *r = self.r
        cdef Down *d
        cdef timespec pause
        cdef int turns = 0
        pause.tv_sec = 0
        pause.tv_nsec = 100000
        while r.down_head - fd_load_acquire(&r.down_tail) >= BRIDGE_DOWN:
            self.ring()
            if turns > WAIT_MS * 10:
                return NULL
            turns += 1
            with nogil:
                c_nanosleep(&pause, NULL)
        d = &r.down[r.down_head & (BRIDGE_DOWN - 1)]
        d.kind = 0
        d.pos = 0
        d.wire_len = 0
        d.token = 0
        d.block = NULL
        memset(&d.outcome, 0, sizeof(Outcome))
        return d

    cdef void down_publish(self) noexcept:
        fd_store_release(&self.r.down_head, self.r.down_head + 1)

    # ------------------------------------------------------------------------------------------ deadlines

    cdef int keep(self, _Request request, _PythonStage stage) except -1:
        # A query that did not end at once: it is watched.
        request.deadline = self.loop.time() + stage.deadline
        self.pending[request] = None
        if not self.sweeping:
            self.sweeping = True
            self.loop.call_later(BRIDGE_SWEEP_MS / 1000.0, self.sweep)
        return 0

    def sweep(self):
        """Ends the queries whose deadline has passed."""
        now = self.loop.time()
        for request in list(self.pending):
            if (<_Request>request).deadline <= now:
                stat_add(self.row, self.slot_deadline, 1)
                try:
                    self.expire(request)
                except MemoryError:
                    # The hot thread answers for it.
                    continue
        self.sweeping = bool(self.pending) and self.running
        if self.sweeping:
            self.loop.call_later(BRIDGE_SWEEP_MS / 1000.0, self.sweep)
        self.ring()

    cdef int expire(self, _Request request) except -1:
        cdef _PythonStage stage = request.stages[request.q.pos]
        coro, task = request.coro, request.task
        text = f"plugin/{stage.name}: no answer within {stage.deadline:g} s"
        send_verdict(self, request, RCODE, RCODE_SERVFAIL, text.encode()[:160], False)
        if task is not None:
            task.cancel()
        elif coro is not None:
            try:
                coro.throw(asyncio.CancelledError())
                coro.close()
            except BaseException:
                # Whatever it says now is too late: its query has been answered.
                return 0
        return 0


cdef inline double monotonic() noexcept:
    # Seconds, read anew for each query: the one before may have taken long.
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef bint not_waiting(object future) except -1:
    # Whether a thread has taken a call, or nobody will.
    return future.running() or future.done()
