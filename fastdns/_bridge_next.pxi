# SPDX-License-Identifier: Apache-2.0
#
# The rest of the chain as plugins see it: `next`, what it gives to await, and what runs a plugin of each kind.
#
# Strategy: `next(query)` costs one object. An eager coroutine that awaits it is stepped again by the driver when the
# child has ended; a task waits on a future; a thread blocks. Exceptions that would end the event loop are wrapped.

cdef class _PythonStage:
    # A plugin instance in a block's chain.
    cdef object plugin
    cdef object call
    cdef object name
    cdef bint eager
    cdef bint threaded
    cdef bint begins_in_c       # the compiled half is asked first
    cdef bint keeps             # its answers may be kept ...
    cdef uint32_t covered       # ... by these facts
    cdef double deadline        # seconds
    cdef object board
    cdef const uint64_t *generation     # of what the plugin publishes; NULL: it does not
    cdef uint64_t seen

    def __init__(self, plugin):
        self.plugin = plugin
        self.call = plugin.serve_dns
        self.name = plugin.name
        self.threaded = not inspect.iscoroutinefunction(plugin.serve_dns)
        self.eager = bool(plugin.eager) and not self.threaded
        self.deadline = float(plugin.deadline)
        self.board = plugin.board
        if self.board is not None:
            self.generation = (<Mapped?>self.board).feed.generation
            self.seen = fd_load_acquire(self.generation)
            self.seen -= publications(self.seen)
        covered = getattr(plugin, "covered", None)
        self.keeps = covered is not None
        self.covered = covered or 0


def _wants_traceback(plugin):
    """Whether a plugin of the same block asks for the traceback of a panic: `errors` with its option `stacktrace`."""
    members = getattr(getattr(plugin, "block", None), "members", ())
    return any(getattr(member, "stacktrace", False) for _, member in members)


class _Panicked(Exception):
    """A plugin further down the chain panicked; whoever lets this pass has panicked too."""


@cython.freelist(256)
@cython.final
cdef class _Wait:
    # A child under way: what `next(query)` and `query.lookup(...)` give, to be awaited once.
    cdef _Request request
    cdef bytes wire             # of the child; None: the client's own octets
    cdef uint8_t kind
    cdef uint16_t pos
    cdef uint8_t state          # 0 new, 1 sent, 2 ended
    cdef object future          # where a task waits
    cdef object pause           # the future's iterator
    cdef object value
    cdef object error

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.state == 0:
            send_child(self.request.bridge, self)
            self.state = 1
            if asyncio.current_task() is None:
                return self
            self.future = self.request.bridge.loop.create_future()
            self.pause = self.future.__await__()
        if self.state == 1:
            if self.pause is None:
                return self
            return next(self.pause)
        if self.error is not None:
            raise self.error
        raise StopIteration(self.value)


cdef _Wait wait_for(_Request request, int kind, int pos, bytes wire):
    cdef _Wait wait = _Wait.__new__(_Wait)
    wait.request = request
    wait.kind = <uint8_t>kind
    wait.pos = <uint16_t>pos
    wait.wire = wire
    return wait


cdef bytes asked_of(const Packet *p):
    cdef Asked asked
    asked_fill(&asked, p)
    return (<uint8_t *>&asked)[:asked_octets(&asked)]


@cython.freelist(256)
@cython.final
cdef class Next:
    # The rest of the chain, as a plugin calls it.
    cdef _Request request
    cdef uint16_t pos           # of the stage that comes next

    def __call__(self, query):
        cdef _Request request = self.request
        cdef _PythonStage stage = None
        cdef Query view
        cdef Next rest
        if type(query) is not Query or (<Query>query).request is not request:
            raise TypeError("next() takes the query that came in, or a replacement of it")
        if request.done:
            raise RuntimeError("the query is over")
        view = query
        request.reads |= READS_MORE
        request.asked = None if view.own == NULL or view.aside else asked_of(view.own)
        if self.pos < len(request.stages):
            stage = request.stages[self.pos]
        if stage is None or stage.begins_in_c:
            return wait_for(request, DOWN_NEXT, self.pos,
                            None if view.own == NULL else <bytes>view.own.wire[:view.own.length])
        rest = Next.__new__(Next)
        rest.request = request
        rest.pos = self.pos + 1
        request.bridge.refresh(request, stage)
        if stage.threaded:
            return request.bridge.in_thread(stage, view, rest)
        if stage.eager or asyncio.current_task() is not None:
            return stage.call(view, rest)
        return request.bridge.loop.create_task(_guarded(stage.call(view, rest)))


class ThreadNext:
    """The rest of the chain for a plain function, which runs in a thread of its own: calls block."""

    def __init__(self, rest, loop):
        self._rest = rest
        self._loop = loop

    def __call__(self, query):
        return self.run(query, self._rest)

    def run(self, query, call):
        """Runs `call(query)`, which gives an awaitable, on the event loop and returns what it ends with."""
        return asyncio.run_coroutine_threadsafe(_awaited(call, query), self._loop).result()


async def _awaited(call, query):
    return await call(query)


class _Adopted:
    # A coroutine that paused before a task took it over.
    def __init__(self, coro, first):
        self.coro = coro
        self.first = first

    def __await__(self):
        coro, pause = self.coro, self.first
        while True:
            try:
                value = yield pause
            except BaseException as error:
                try:
                    pause = coro.throw(error)
                except StopIteration as stop:
                    return stop.value
            else:
                try:
                    pause = coro.send(value)
                except StopIteration as stop:
                    return stop.value


class _Left(Exception):
    """Stands for SystemExit and its like, which would end the event loop if a task raised them."""


async def _guarded(coro):
    try:
        return await coro
    except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
        raise _Left from error


def _called(call, query, rest):
    try:
        return call(query, rest)
    except (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration) as error:
        raise _Left from error


def _within_quota(Bridge bridge, call, query, rest):
    # In a plugin's thread: like the ring, it begins nothing while the quota is nearly spent.
    while fd_load_acquire32(&bridge.r.quota.spent) and bridge.running:
        time.sleep(bridge.r.quota.period_ns / QUOTA_LOOKS * 1e-9)
    return call(query, rest)
