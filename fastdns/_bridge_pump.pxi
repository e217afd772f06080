# SPDX-License-Identifier: Apache-2.0
#
# The pump between a stream that a plugin returned and the loop.
#
# Strategy: a task pumps the stream into the ring: it asks for the next message only when fewer than STREAM_WINDOW
# messages and STREAM_OCTETS octets are on their way, so the client's pace is the plugin's. While it waits for the
# client no deadline runs; while it waits for the plugin, the plugin's does. A connection has one stream at a time,
# others wait for their turn (its lane). However a stream ends, its iterator's `aclose` (or `close`) has run.

@cython.final
cdef class _Pump:
    # A stream on its way to the loop.
    cdef _Request request
    cdef _PythonStage stage
    cdef object stream
    cdef object task
    cdef object sizes           # octets of each message that is on its way
    cdef object future          # where the pump waits for room
    cdef object lane            # what names its connection
    cdef uint64_t token
    cdef uint64_t sent
    cdef uint32_t octets        # of `sizes` together
    cdef uint8_t told           # why nothing more is wanted: STREAM_...

    cdef bint full(self):
        return not self.told and (len(self.sizes) >= STREAM_WINDOW or self.octets >= STREAM_OCTETS)

    cdef int room(self, int verdict, uint32_t taken) except -1:
        cdef uint32_t _n
        for _n in range(min(taken, <uint32_t>len(self.sizes))):
            self.octets -= <uint32_t>self.sizes.popleft()
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        if verdict != STREAM_GO:
            self.told = <uint8_t>verdict
            self.task.cancel()
        return 0


async def _pumped(Bridge bridge, _Pump pump):
    stream = pump.stream
    request = pump.request
    lane = enter_lane(bridge, pump)
    try:
        async with lane:
            while True:
                request.deadline = bridge.loop.time() + pump.stage.deadline
                try:
                    reply = await stream.__anext__()
                except StopAsyncIteration:
                    break
                request.deadline = math.inf
                push_part(bridge, pump, reply)
                while pump.full():
                    pump.future = bridge.loop.create_future()
                    await pump.future
            # The last messages may still be refused, and their room in the ring is not another stream's yet.
            request.deadline = math.inf
            while pump.sizes and not pump.told:
                pump.future = bridge.loop.create_future()
                await pump.future
    finally:
        request.deadline = bridge.loop.time() + pump.stage.deadline
        leave_lane(bridge, pump)
        await stream.aclose()


async def _closed(stream):
    await stream.aclose()


cdef int begin_stream(Bridge bridge, _Request request, stream) except -1:
    cdef _PythonStage stage = request.stages[request.q.pos]
    cdef _Pump pump
    cdef Down *d
    if request.q.proto == PROTO_UDP or len(bridge.pumps) >= BRIDGE_STREAMS:
        close_stream(bridge, stream)
        if request.q.proto == PROTO_UDP:
            # A datagram has room for one message (RFC 5936 4.2).
            return send_verdict(bridge, request, RCODE, RCODE_REFUSED, b"", False)
        stat_add(bridge.row, bridge.slot_stream_shed, 1)
        text = f"plugin/{stage.name}: too many streams"
        return send_verdict(bridge, request, RCODE, RCODE_SERVFAIL, text.encode()[:160], False)
    if stage.threaded:
        stream.threaded(functools.partial(bridge.loop.run_in_executor, bridge.pool))
    pump = _Pump.__new__(_Pump)
    pump.request = request
    pump.stage = stage
    pump.stream = stream
    pump.sizes = collections.deque()
    bridge.last_token += 1
    pump.token = bridge.last_token
    pump.lane = ("tcp", request.q.handle) if request.q.origin == ORIGIN_TCP else ("own", pump.token)
    d = bridge.down_room()
    if d == NULL:
        close_stream(bridge, stream)
        return 0
    d.kind = DOWN_PART
    d.q = request.q
    d.token = pump.token
    bridge.down_publish()
    stat_add(bridge.row, bridge.slot_streams, 1)
    bridge.keep(request, stage)
    request.deadline = math.inf
    request.pump = pump
    bridge.pumps[pump.token] = pump
    request.task = pump.task = bridge.loop.create_task(_guarded(_pumped(bridge, pump)))
    pump.task.add_done_callback(functools.partial(_stream_ended, bridge, pump))
    return 0


cdef int close_stream(Bridge bridge, stream) except -1:
    task = bridge.loop.create_task(_closed(stream))
    bridge.closing.add(task)
    task.add_done_callback(functools.partial(_stream_closed, bridge))
    return 0


def _stream_closed(Bridge bridge, task):
    """The iterator of a stream that nobody wanted has ended."""
    bridge.closing.discard(task)
    if not task.cancelled() and task.exception() is not None:
        stat_add(bridge.row, bridge.slot_panics, 1)
        bridge.log(LEVEL_ERROR, f"a stream that was refused cannot be closed: {task.exception()!r}")


cdef object enter_lane(Bridge bridge, _Pump pump):
    # A connection's turn: a lock of all streams that answer queries of the same connection.
    lane = bridge.lanes.setdefault(pump.lane, [asyncio.Lock(), 0])
    lane[1] += 1
    return lane[0]


cdef int leave_lane(Bridge bridge, _Pump pump) except -1:
    # A stream does not want its connection any more.
    lane = bridge.lanes[pump.lane]
    lane[1] -= 1
    if lane[1] == 0:
        del bridge.lanes[pump.lane]
    return 0


cdef int push_part(Bridge bridge, _Pump pump, Reply reply) except -1:
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
    d = bridge.down_room()
    if d == NULL:
        free(block)
        raise asyncio.CancelledError
    d.kind = DOWN_PART
    d.q = request.q
    d.token = pump.token
    d.block = block
    write_reply(d, request, reply, options)
    bridge.down_publish()
    bridge.ring()
    pump.sent += 1
    pump.sizes.append(n)
    pump.octets += <uint32_t>n
    stat_add(bridge.row, bridge.slot_parts, 1)
    return 0


cdef int got_room(Bridge bridge, Up *u) except -1:
    cdef _Pump pump = bridge.pumps.get(u.token)
    return 0 if pump is None else pump.room(u.outcome.verdict, u.outcome.ulen)


def _stream_ended(Bridge bridge, _Pump pump, future):
    """The pump of a stream has ended: so does its query, if it was not over before."""
    cdef _Request request = pump.request
    bridge.pumps.pop(pump.token, None)
    request.task = None
    error = None if future.cancelled() else future.exception()
    if request.done:
        return
    name = pump.stage.name
    if pump.told == STREAM_REFUSED:
        send_verdict(bridge, request, RCODE, RCODE_REFUSED, b"", False)
    elif pump.told == STREAM_UNFIT:
        text = f"plugin/{name}: a message of the stream is too long"
        end_with_error(bridge, request, PluginError(RCODE_SERVFAIL, text))
    elif pump.told:
        end_with_error(bridge, request, PluginError(RCODE_SERVFAIL, f"plugin/{name}: the client left before the end"))
    elif future.cancelled():
        end_with_error(bridge, request, PluginError(RCODE_SERVFAIL, "cancelled"))
    elif error is not None:
        end_with_error(bridge, request, error)
    elif pump.sent == 0:
        end_with_error(bridge, request, PluginError(RCODE_SERVFAIL, f"plugin/{name}: the stream has no message"))
    else:
        send_verdict(bridge, request, REPLY, 0, b"", False)
    bridge.ring()
