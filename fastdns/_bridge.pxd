# SPDX-License-Identifier: Apache-2.0
#
# The bridge between a worker's hot thread and its Python thread: two rings, and who owns what.
#
# Strategy. Each direction has one writer and one reader, so a ring is an array and two positions, each written by
# one side. Whoever adds to a ring wakes the other side once per batch, and only if that one sleeps: the sleeper
# announces it, passes a sequentially consistent fence and looks at the ring again; the waker passes a fence and looks
# at the announcement. Nothing here blocks the hot thread.
#
# Ownership. A query on its way to Python is detached: its memory lies in the worker's pool, which is never unmapped.
# From bridge_push until the FINISH record for it, the hot thread writes nothing in it and the Python thread may read
# it; with FINISH it goes back, and no Python object may point to it any more (what is still referred to is copied
# before). Octets that do not fit into a record travel in a malloc'd block that the receiver frees.
#
# Bounds. At most BRIDGE_QUERIES queries of a worker are in Python at once: one more is not taken, and the runner
# answers SERVFAIL. Nor is one taken while the first in the ring has waited for a quarter of the deadline: what can only
# be answered too late would take the time of those that can be answered. At most BRIDGE_CHILDREN look-ups of theirs are
# under way, and BRIDGE_STREAMS streams, each of which has at most STREAM_WINDOW messages that were not yet
# acknowledged, here and at the Python stage that reads it. So the ring up, which has room for all of these, is never
# full; where the ring down is full, the Python thread waits for the hot thread. A query that Python keeps beyond its
# deadline, because the thread hangs, is answered SERVFAIL by the hot thread through a copy; the original stays
# Python's. A stream has no deadline here: its client's silence is the connection's to judge, its plugin's the Python
# thread's.
#
# A CPU quota (_quota). While it is nearly spent the Python thread begins no query, and hits have the rest: it puts new
# ones aside and goes on with those that it has begun. So a burst waits for some milliseconds; when the first that was
# not begun has waited a whole period, no more are taken. Meanwhile new queries alone do not wake the Python thread: a
# timer of its own looks for them.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._chain cimport Program
from fastdns._quota cimport Quota
from fastdns._stage cimport Query as CQuery, Worker

cdef enum:
    BRIDGE_QUERIES = 4096
    BRIDGE_CHILDREN = 2816
    BRIDGE_STREAMS = 128
    STREAM_WINDOW = 4           # messages of a stream on their way
    STREAM_OCTETS = 65536       # octets of a stream on their way, before one more message is sent
    BRIDGE_UP = 8192            # records, a power of two
    BRIDGE_DOWN = 1024          # records, a power of two
    BRIDGE_INLINE = 256         # octets inside a record
    BRIDGE_TURN = 512           # records that one turn of the loop takes
    BRIDGE_GRACE_MS = 500       # beyond its deadline, before the hot thread answers instead of Python
    BRIDGE_SWEEP_MS = 250
    BRIDGE_QUOTA_TURN = 8       # records that Python takes between two looks of asyncio, under a quota

cdef enum:                      # kinds of records, up
    UP_QUERY = 0                # run from q.pos
    UP_RESULT = 1               # how the child of `token` ended
    UP_ROOM = 2                 # ulen messages of the stream `token` have gone; or its verdict says that none will
    UP_PART = 3                 # a message of the child of `token`, which is q

cdef enum:                      # kinds of records, down
    DOWN_FINISH = 0             # the Python stage ended with `verdict`
    DOWN_NEXT = 1               # run a child of q from `pos`, with the octets given, or else q's own
    DOWN_LOOKUP = 2             # run a child of q through the whole server
    DOWN_PART = 3               # a message of q's stream, `token`; without octets: it begins
    DOWN_ROOM = 4               # one message of the child q of `token` was read, or (STREAM_GONE) none will be

cdef enum:                      # added since the last flush
    DIRTY_QUERY = 1
    DIRTY_OTHER = 2

cdef enum:                      # one more verdict beside those of _stage
    PANIC = 16                  # an exception: SERVFAIL, no stage above hears of it

cdef struct Outcome:
    # How a query ended: what both directions say of it. The octets are reply, options, error text, and what the stages
    # behind were asked instead (Asked), the metadata labels, and what the plugin noted for its compiled half, in this
    # order.
    uint8_t verdict
    uint8_t has_opt
    uint8_t set_do
    uint8_t streamed            # the end of a stream: REPLY, or it broke off
    uint16_t rcode
    uint16_t opt_size
    uint16_t upstream
    uint16_t error_len
    uint16_t asked_len
    uint16_t note_len
    uint32_t reply_len
    uint32_t options_len
    uint32_t ulen
    uint32_t labels_len

cdef struct Up:
    uint8_t kind
    Outcome outcome
    uint64_t token
    uint64_t at_ns              # when it was pushed
    CQuery *q
    uint8_t *block              # outcome's octets, NULL when there are none; the Python thread frees it

cdef struct Down:
    uint8_t kind
    uint16_t pos
    Outcome outcome
    uint32_t wire_len           # of a child's octets; its labels behind them
    uint64_t token
    CQuery *q
    uint8_t *block              # the octets when they exceed BRIDGE_INLINE; the hot thread frees it
    uint8_t octets[BRIDGE_INLINE]

cdef struct Held:
    # A query that is in Python.
    CQuery *q
    uint64_t deadline_ns
    uint16_t next_free
    bint answered               # the hot thread has answered for Python
    uint64_t stream             # token of its stream
    uint32_t owed               # messages of the stream that were taken and not yet acknowledged
    bint told                   # that nobody reads the stream

cdef struct Rings:
    Up *up
    Down *down
    int python_fd               # eventfd that wakes the Python thread
    int hot_fd                  # ... and the hot thread
    uint8_t pad0[64]
    uint64_t up_head            # written by the hot thread
    uint32_t hot_sleeps
    uint8_t pad1[64]
    uint64_t up_tail            # written by the Python thread
    uint32_t python_sleeps
    uint32_t python_paused      # it begins no query
    uint64_t aside_ns           # when the first query that it has put aside was pushed; 0: none
    uint8_t pad2[64]
    uint64_t down_head          # written by the Python thread
    uint8_t pad3[64]
    uint64_t down_tail          # written by the hot thread
    uint8_t pad4[64]
    # -- the hot thread's own
    Held held[BRIDGE_QUERIES]
    uint16_t free_held
    uint16_t held_n
    uint8_t dirty               # what was added since the last flush: DIRTY_...
    bint panicking              # the query that is being finished ended in a panic
    uint64_t sweep_ns
    uint32_t slot_shed          # counters: queries not taken
    uint32_t slot_late          # queries that the hot thread answered instead of Python
    uint32_t slot_quota         # queries not taken because of the quota
    Quota quota

cdef object bridge_open(Worker *w, Program program)
    # Makes a worker's bridge and hangs it into the loop: its Bridge. Raises MemoryError, OSError.
cdef const char *bridge_push(Worker *w, CQuery *q) noexcept nogil
    # Hands a detached query over to Python, to run from q.pos. Not NULL: not taken, and why; it stays the caller's.
cdef void bridge_flush(Worker *w) noexcept nogil
    # Wakes the Python thread if something was pushed and it sleeps. The loop calls it after each batch.
