# SPDX-License-Identifier: Apache-2.0
#
# The driver: starts plugins, resumes them, and sends what they return back to the loop. Runs on the Python thread.
#
# Strategy. `Bridge.work` takes records from the ring and runs each query's plugin. The coroutine of an `eager` plugin
# is stepped at once: mostly it has ended then and no task was needed; one that waits for `next` or a look-up
# is stepped again when the result comes; one that awaits anything else continues inside a task. The coroutine of any
# other plugin is a task from the start, a plain function runs in a thread. However it ends - result, error, panic,
# deadline, nonsense - exactly one FINISH goes back for each query.

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
                    self.got_room(&u)
                elif u.kind == UP_PART:
                    self.child_part(&u)
                else:
                    self.child_ended(&u)
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
            self.complain(request, error)
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
            self.failed(request, error)
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
            self.failed(request, error)
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
        return self.finish(request, result, Py_REFCNT(query) == 1 and Py_REFCNT(rest) == 1)

    cdef int step(self, _Request request, coro, Query query, Next rest, _PythonStage stage) except -1:
        # Runs an eager coroutine to its end or its next pause.
        cdef PyObject *out = NULL
        cdef int paused
        try:
            paused = PyIter_Send(coro, None, &out)
        except BaseException as error:
            self.failed(request, error)
            return 0
        result = <object>out
        Py_XDECREF(out)
        if not paused:
            # Nobody but this function refers to the query: no copy is needed.
            coro = None
            self.finish(request, result, query is not None and Py_REFCNT(query) == 1 and Py_REFCNT(rest) == 1)
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
            self.failed(request, PluginError(RCODE_SERVFAIL, "cancelled"))
        elif future.exception() is not None:
            self.failed(request, future.exception())
        else:
            self.finish(request, future.result(), False)
        self.ring()

    # ------------------------------------------------------------------------------------------ children

    cdef int send_child(self, _Wait wait) except -1:
        cdef Down *d
        cdef size_t n = 0
        cdef size_t all
        cdef uint8_t *block = NULL
        cdef bytes labels
        if wait.request.done:
            raise RuntimeError("the query is over")
        if len(self.waits) >= BRIDGE_CHILDREN:
            raise PluginError(RCODE_SERVFAIL, "too many look-ups in flight")
        labels = labels_of(wait.request) if wait.kind == DOWN_NEXT else None
        if wait.wire is not None:
            n = len(wait.wire)
        all = n + (0 if labels is None else len(labels))
        if all > BRIDGE_INLINE:
            block = <uint8_t *>malloc(all)
            if block == NULL:
                raise MemoryError
        d = self.down_room()
        if d == NULL:
            free(block)
            raise PluginError(RCODE_SERVFAIL, "the worker is ending")
        self.last_token += 1
        d.kind = wait.kind
        d.pos = wait.pos
        d.q = wait.request.q
        d.token = self.last_token
        d.wire_len = <uint32_t>n
        d.block = block
        if n:
            memcpy(block if block != NULL else d.octets, <const uint8_t *>wait.wire, n)
        if labels is not None:
            d.outcome.labels_len = <uint32_t>len(labels)
            memcpy((block if block != NULL else d.octets) + n, <const uint8_t *>labels, len(labels))
        self.waits[self.last_token] = wait
        self.down_publish()
        self.ring()
        return 0

    cdef int child_part(self, Up *u) except -1:
        # A message of a child that streams; with the first one `next` has its result.
        cdef Reply reply = child_reply(u, b"")
        cdef _Source source = self.sources.get(u.token)
        cdef _Wait wait
        if source is None:
            wait = self.waits.pop(u.token)
            source = _Source.__new__(_Source)
            source.request = wait.request
            source.q = u.q
            source.token = u.token
            source.queue = collections.deque()
            self.sources[u.token] = source
            if wait.request.done:
                source.close()
            else:
                wait.request.sources = [*(wait.request.sources or ()), source]
            wait.value = Stream(source)
            self.wake(wait)
        if not source.closed:
            source.queue.append(reply)
            source.wake()
        return 0

    cdef int source_ended(self, _Source source, Up *u) except -1:
        cdef bytes text
        source.ended = True
        if u.outcome.verdict == PANIC:
            source.error = _Panicked()
        elif u.outcome.verdict != REPLY:
            text = u.block[:u.outcome.error_len] if u.outcome.error_len else b"the stream broke off"
            source.error = PluginError(u.outcome.rcode, text.decode("utf-8", "replace"))
        free(u.block)
        return source.wake()

    cdef int child_ended(self, Up *u) except -1:
        cdef _Source source = self.sources.pop(u.token, None)
        if source is not None:
            return self.source_ended(source, u)
        cdef _Wait wait = self.waits.pop(u.token)
        cdef uint8_t *block = u.block
        cdef uint32_t at = u.outcome.reply_len + u.outcome.options_len
        cdef bytes text = b""
        try:
            if u.outcome.error_len:
                text = block[at:at + u.outcome.error_len]
            at += u.outcome.error_len
            if u.outcome.asked_len and wait.kind == DOWN_NEXT:
                wait.request.asked = block[at:at + u.outcome.asked_len]
            if u.outcome.labels_len and wait.kind == DOWN_NEXT and not wait.request.done:
                labels_begin(wait.request)
                labels_read(wait.request, block + at + u.outcome.asked_len, u.outcome.labels_len)
            if u.outcome.verdict == REPLY:
                wait.value = child_reply(u, text)
                block = NULL
            elif u.outcome.verdict == PANIC:
                wait.error = _Panicked()
            elif u.outcome.verdict == DROP:
                wait.value = _DROPPED
            elif wait.kind == DOWN_LOOKUP and server_writes(u.outcome.rcode):
                wait.value = server_reply(wait, u.outcome.rcode)
            elif text:
                wait.error = PluginError(u.outcome.rcode, text.decode("utf-8", "replace"))
            else:
                wait.value = Rcode(u.outcome.rcode)
        finally:
            free(block)
        return self.wake(wait)

    cdef int wake(self, _Wait wait) except -1:
        cdef _Request request = wait.request
        wait.state = 2
        if wait.future is not None:
            if not wait.future.done():
                wait.future.set_result(None)
        elif request.coro is not None and not request.done:
            coro = request.coro
            request.coro = None
            self.step(request, coro, None, None, None)
        return 0

    # ------------------------------------------------------------------------------------------ streams

    cdef int begin_stream(self, _Request request, stream) except -1:
        cdef _PythonStage stage = request.stages[request.q.pos]
        cdef _Pump pump
        cdef Down *d
        if request.q.proto == PROTO_UDP or len(self.pumps) >= BRIDGE_STREAMS:
            self.close_stream(stream)
            if request.q.proto == PROTO_UDP:
                # A datagram has room for one message (RFC 5936 4.2).
                return self.send_end(request, RCODE, RCODE_REFUSED, b"", False)
            stat_add(self.row, self.slot_stream_shed, 1)
            text = f"plugin/{stage.name}: too many streams"
            return self.send_end(request, RCODE, RCODE_SERVFAIL, text.encode()[:160], False)
        if stage.threaded:
            stream.threaded(functools.partial(self.loop.run_in_executor, self.pool))
        pump = _Pump.__new__(_Pump)
        pump.request = request
        pump.stage = stage
        pump.stream = stream
        pump.sizes = collections.deque()
        self.last_token += 1
        pump.token = self.last_token
        pump.lane = ("tcp", request.q.handle) if request.q.origin == ORIGIN_TCP else ("own", pump.token)
        d = self.down_room()
        if d == NULL:
            self.close_stream(stream)
            return 0
        d.kind = DOWN_PART
        d.q = request.q
        d.token = pump.token
        self.down_publish()
        stat_add(self.row, self.slot_streams, 1)
        self.keep(request, stage)
        request.deadline = math.inf
        request.pump = pump
        self.pumps[pump.token] = pump
        request.task = pump.task = self.loop.create_task(_guarded(_pumped(self, pump)))
        pump.task.add_done_callback(functools.partial(self.stream_ended, pump))
        return 0

    cdef int close_stream(self, stream) except -1:
        task = self.loop.create_task(_closed(stream))
        self.closing.add(task)
        task.add_done_callback(self.stream_closed)
        return 0

    def stream_closed(self, task):
        """The iterator of a stream that nobody wanted has ended."""
        self.closing.discard(task)
        if not task.cancelled() and task.exception() is not None:
            stat_add(self.row, self.slot_panics, 1)
            self.log(LEVEL_ERROR, f"a stream that was refused cannot be closed: {task.exception()!r}")

    def enter_lane(self, _Pump pump):
        """A connection's turn: a lock of all streams that answer queries of the same connection."""
        lane = self.lanes.setdefault(pump.lane, [asyncio.Lock(), 0])
        lane[1] += 1
        return lane[0]

    def leave_lane(self, _Pump pump):
        """A stream does not want its connection any more."""
        lane = self.lanes[pump.lane]
        lane[1] -= 1
        if lane[1] == 0:
            del self.lanes[pump.lane]

    cdef int send_part(self, _Pump pump, Reply reply) except -1:
        cdef _Request request = pump.request
        cdef uint32_t options = <uint32_t>len(reply.options) if reply.options is not None else 0
        cdef size_t n = <size_t>reply.out.n + options
        cdef uint8_t *block = NULL
        cdef Down *d
        if pump.told or request.done:
            raise asyncio.CancelledError
        if reply.out.bad or reply.out.n < WIRE_HEADER:
            raise PluginError(RCODE_SERVFAIL, "the reply does not fit")
        if pump.sent == 0 and get16(reply.out.p + 4) != 1:
            raise PluginError(RCODE_SERVFAIL, f"plugin/{pump.stage.name}: a stream's first message has a question")
        if n > BRIDGE_INLINE:
            block = <uint8_t *>malloc(n)
            if block == NULL:
                raise MemoryError
        d = self.down_room()
        if d == NULL:
            free(block)
            raise asyncio.CancelledError
        d.kind = DOWN_PART
        d.q = request.q
        d.token = pump.token
        d.block = block
        write_reply(d, request, reply, options)
        self.down_publish()
        self.ring()
        pump.sent += 1
        pump.sizes.append(n)
        pump.octets += <uint32_t>n
        stat_add(self.row, self.slot_parts, 1)
        return 0

    cdef int got_room(self, Up *u) except -1:
        cdef _Pump pump = self.pumps.get(u.token)
        return 0 if pump is None else pump.room(u.outcome.verdict, u.outcome.ulen)

    def stream_ended(self, _Pump pump, future):
        """The pump of a stream has ended: so does its query, if it was not over before."""
        cdef _Request request = pump.request
        self.pumps.pop(pump.token, None)
        request.task = None
        error = None if future.cancelled() else future.exception()
        if request.done:
            return
        name = pump.stage.name
        if pump.told == STREAM_REFUSED:
            self.send_end(request, RCODE, RCODE_REFUSED, b"", False)
        elif pump.told == STREAM_UNFIT:
            self.failed(request, PluginError(RCODE_SERVFAIL, f"plugin/{name}: a message of the stream is too long"))
        elif pump.told:
            self.failed(request, PluginError(RCODE_SERVFAIL, f"plugin/{name}: the client left before the end"))
        elif future.cancelled():
            self.failed(request, PluginError(RCODE_SERVFAIL, "cancelled"))
        elif error is not None:
            self.failed(request, error)
        elif pump.sent == 0:
            self.failed(request, PluginError(RCODE_SERVFAIL, f"plugin/{name}: the stream has no message"))
        else:
            self.send_end(request, REPLY, 0, b"", False)
        self.ring()

    # ------------------------------------------------------------------------------------------ ends

    cdef int failed(self, _Request request, error) except -1:
        # CoreDNS's error return, or a panic.
        if request.done:
            return 0
        if isinstance(error, PluginError):
            self.send_end(request, RCODE, error.rcode & 4095, str(error.text).encode()[:160], False)
            return 0
        if not isinstance(error, _Panicked):
            stat_add(self.row, self.slot_panics, 1)
            self.complain(request, error)
        self.send_end(request, PANIC, RCODE_SERVFAIL, b"", False)
        return 0

    cdef int complain(self, _Request request, error) except -1:
        cdef uint16_t listener = request.q.listener
        cdef _PythonStage stage = request.stages[request.q.pos]
        server = self.servers[listener] if listener < len(self.servers) else ""
        if isinstance(error, _Left):
            error = error.__cause__
        last = None
        trace = error.__traceback__
        while trace is not None:
            last = trace
            trace = trace.tb_next
        where = ""
        if last is not None:
            where = f" ({os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno})"
        try:
            cause = f"{type(error).__name__}: {error}"
        except Exception:
            cause = type(error).__name__
        text = f'Recovered from panic in server: "{server}" plugin/{stage.name}: {cause}{where}'
        try:
            if self.fatal is not None:
                trace = "".join(traceback.format_exception(error)).rstrip()
                if self.fatal(listener, f'Panic in server: "{server}" plugin/{stage.name}: {cause}{where}\n{trace}'):
                    return 0
            if _wants_traceback(stage.plugin):
                text += "\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
            self.log(LEVEL_ERROR, text)
        except Exception:
            # A log that fails must not cost the query its answer.
            return 0
        return 0

    cdef int finish(self, _Request request, result, bint alone) except -1:
        cdef Reply reply
        if request.done:
            return 0
        if type(result) is not Reply and is_message(result):
            try:
                result = Reply(result)
            except BaseException as error:
                self.failed(request, error)
                return 0
        if type(result) is Reply:
            reply = result
            if reply.out.bad or reply.out.n < WIRE_HEADER:
                self.send_end(request, RCODE, RCODE_SERVFAIL, b"the reply does not fit", alone)
            else:
                self.send_reply(request, reply, alone)
        elif type(result) is Stream:
            self.begin_stream(request, result)
        elif type(result) is Rcode:
            self.send_end(request, RCODE, (<Rcode>result).rcode, b"", alone)
        elif result is _DROPPED:
            self.send_end(request, DROP, 0, b"", alone)
        else:
            name = (<_PythonStage>request.stages[request.q.pos]).name
            text = f"plugin/{name}: serve_dns returned {type(result).__name__}, which is no result"
            self.send_end(request, RCODE, RCODE_SERVFAIL, text.encode()[:160], alone)
        return 0

    cdef Down *begin_end(self, _Request request, size_t n) except? NULL:
        # A FINISH record with room for n octets; NULL when the loop has ended.
        cdef Down *d
        cdef uint8_t *block = NULL
        cdef bytes asked = request.asked
        cdef bytes labels = labels_of(request)
        cdef size_t of_asked = 0 if asked is None else len(asked)
        cdef size_t of_labels = 0 if labels is None else len(labels)
        cdef bytes note = request.note
        cdef size_t all = n + of_asked + of_labels + (0 if note is None else len(note))
        request.done = True
        request.coro = None
        self.pending.pop(request, None)
        if request.sources is not None:
            for source in request.sources:
                (<_Source>source).close()
            request.sources = None
        if all > BRIDGE_INLINE:
            block = <uint8_t *>malloc(all)
            if block == NULL:
                raise MemoryError
        d = self.down_room()
        if d == NULL:
            free(block)
            return NULL
        d.kind = DOWN_FINISH
        d.q = request.q
        d.block = block
        if asked is not None:
            d.outcome.asked_len = <uint16_t>len(asked)
            memcpy((block if block != NULL else d.octets) + n, <const uint8_t *>asked, len(asked))
        if labels is not None:
            d.outcome.labels_len = <uint32_t>len(labels)
            memcpy((block if block != NULL else d.octets) + n + of_asked, <const uint8_t *>labels, of_labels)
        if note is not None:
            d.outcome.note_len = <uint16_t>len(note)
            memcpy((block if block != NULL else d.octets) + n + of_asked + of_labels, <const uint8_t *>note, len(note))
        return d

    cdef int end_end(self, _Request request, bint alone) except -1:
        if alone:
            request.q = NULL
        else:
            request.freeze()
        self.down_publish()
        return 0

    cdef int send_end(self, _Request request, int verdict, int rcode, bytes text, bint alone) except -1:
        cdef Down *d = self.begin_end(request, len(text))
        if d == NULL:
            return 0
        d.outcome.verdict = <uint8_t>verdict
        d.outcome.rcode = <uint16_t>rcode
        d.outcome.error_len = <uint16_t>len(text)
        memcpy(d.block if d.block != NULL else d.octets, <const uint8_t *>text, len(text))
        if request.pump is not None and request.pump.sent:
            d.outcome.streamed = True
            if verdict != REPLY:
                stat_add(self.row, self.slot_cut, 1)
        request.pump = None
        return self.end_end(request, alone)

    cdef int send_reply(self, _Request request, Reply reply, bint alone) except -1:
        cdef uint32_t options = <uint32_t>len(reply.options) if reply.options is not None else 0
        cdef uint32_t error = <uint32_t>len(reply.error) if reply.error is not None else 0
        cdef Down *d = self.begin_end(request, <size_t>reply.out.n + options + error)
        if d == NULL:
            return 0
        write_reply(d, request, reply, options)
        if error:
            memcpy((d.block if d.block != NULL else d.octets) + reply.out.n + options, <const uint8_t *>reply.error,
                   error)
        d.outcome.error_len = <uint16_t>error
        return self.end_end(request, alone)

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
        self.send_end(request, RCODE, RCODE_SERVFAIL, text.encode()[:160], False)
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


cdef void write_reply(Down *d, _Request request, Reply reply, uint32_t options) noexcept:
    cdef uint8_t *octets = d.block if d.block != NULL else d.octets
    memcpy(octets, reply.out.p, reply.out.n)
    # A reply answers this query, wherever the plugin took it from.
    put16(octets, request.q.pkt.id)
    octets[2] |= FLAG_QR >> 8
    if options:
        memcpy(octets + reply.out.n, <const uint8_t *>reply.options, options)
    d.outcome.verdict = REPLY
    d.outcome.rcode = reply.rcode
    d.outcome.reply_len = reply.out.n
    d.outcome.ulen = reply.ulen
    d.outcome.has_opt = reply.has_opt
    d.outcome.set_do = reply.set_do
    d.outcome.opt_size = reply.opt_size
    d.outcome.upstream = reply.upstream
    d.outcome.options_len = options


cdef Reply child_reply(Up *u, bytes error):
    # The reply takes the block over.
    cdef Reply reply = Reply.__new__(Reply)
    cdef Outcome *o = &u.outcome
    reply.heap = u.block
    reply.out.p = u.block
    reply.out.n = reply.out.cap = o.reply_len
    reply.rcode = o.rcode
    reply.ulen = o.ulen
    reply.has_opt = o.has_opt
    reply.set_do = o.set_do
    reply.opt_size = o.opt_size
    reply.upstream = o.upstream
    reply.look()
    if o.options_len:
        reply.options = u.block[o.reply_len:o.reply_len + o.options_len]
    if error:
        reply.error = error
    return reply


cdef Reply server_reply(_Wait wait, int rcode):
    # The error reply that the server would write to a client.
    cdef Reply reply = Reply.__new__(Reply)
    cdef Packet packet
    cdef bytes wire = wait.wire
    wire_admit(wire, len(wire), &packet)
    writer_reply(&reply.out, &packet, reply.out.p, reply.out.cap, 0, rcode)
    reply.rcode = <uint16_t>rcode
    reply.ulen = reply.out.n
    reply.qclass = packet.qclass
    return reply
