# SPDX-License-Identifier: Apache-2.0
#
# Streams as plugins have them in their hands: what `serve_dns` returns, and what `next` gives where the stages behind
# send one.
#
# Strategy: a Stream is an iterator of replies and holds no more than the one in hand, whoever makes them: a generator
# of the plugin, in a thread where the plugin runs in threads, or a _Source, whose queue the loop fills as far as it is
# read. What takes the messages on to the loop is the pump (_bridge_pump.pxi).

_ENDED = object()


def _next_or_end(iterator):
    return next(iterator, _ENDED)


class Stream:
    """See _bridge.pyi."""

    __slots__ = ("_call", "_job", "_later", "_messages")

    def __init__(self, messages):
        if hasattr(type(messages), "__aiter__"):
            self._later = True
            self._messages = messages.__aiter__()
        elif hasattr(type(messages), "__iter__") and not isinstance(messages, (str, bytes, bytearray)):
            self._later = False
            self._messages = iter(messages)
        else:
            raise TypeError(f"a stream is made of an iterable of messages, not of {type(messages).__name__}")
        self._call = self._job = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._later:
            message = await self._messages.__anext__()
        elif self._call is None:
            message = next(self._messages, _ENDED)
        else:
            # A job that has begun ends, whoever stops waiting for it.
            self._job = self._call(_next_or_end, self._messages)
            message = await asyncio.shield(self._job)
        if message is _ENDED:
            raise StopAsyncIteration
        return message if type(message) is Reply else Reply(message)

    async def aclose(self):
        """Ends the iterator; a generator's `finally` runs."""
        close = getattr(self._messages, "aclose" if self._later else "close", None)
        if self._job is not None:
            await asyncio.wait([self._job])
        if close is None:
            return
        if self._later:
            await close()
        elif self._call is None:
            close()
        else:
            await self._call(close)

    def threaded(self, call):
        """A plain iterator runs in the threads that `call(function, ...)` reaches."""
        self._call = call


@cython.final
cdef class _Source:
    # The messages of a child, as the stages behind send them: what a Stream that comes from `next` iterates.
    cdef object __weakref__
    cdef _Request request
    cdef CQuery *q              # the child, to be named in records only
    cdef uint64_t token
    cdef object queue           # replies that were not read yet, at most STREAM_WINDOW
    cdef object future          # where the reader waits
    cdef object error
    cdef bint ended
    cdef bint closed

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not self.queue:
            if self.error is not None:
                raise self.error
            if self.ended or self.closed:
                raise StopAsyncIteration
            self.future = self.request.bridge.loop.create_future()
            await self.future
        reply = self.queue.popleft()
        self.say(STREAM_GO)
        return reply

    async def aclose(self):
        self.close()

    cdef int wake(self) except -1:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)
        return 0

    cdef int say(self, int verdict) except -1:
        cdef Down *d
        cdef Bridge bridge = self.request.bridge
        if self.ended or self.closed:
            return 0
        d = bridge.down_room()
        if d != NULL:
            d.kind = DOWN_ROOM
            d.q = self.q
            d.token = self.token
            d.outcome.verdict = <uint8_t>verdict
            bridge.down_publish()
            bridge.ring()
        return 0

    cdef int close(self) except -1:
        self.say(STREAM_GONE)
        self.closed = True
        self.queue.clear()
        return self.wake()
