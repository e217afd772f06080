# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of cancel: notes in the query when its time is over.

Strategy: one addition and one store. Who tries something for the query looks at the note before it tries again.
"""

from libc.stdint cimport uint64_t

from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    # The earlier counts: of a look-up of the server's own, perhaps that of the query behind it.
    cdef uint64_t at = w.now_ns + (<const uint64_t *>s.config)[0]
    if q.deadline_ns == 0 or at < q.deadline_ns:
        q.deadline_ns = at
    return NEXT


cdef StageOps OPS
OPS.name = b"cancel"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage(double seconds) -> CompiledStage:
    """The stage that gives queries `seconds`, more than 0 and less than 300 years."""
    cdef Memory config
    if not 0 < seconds < 9.3e9:
        raise ValueError(f"a timeout of {seconds} s")
    config = zeroed(sizeof(uint64_t))
    (<uint64_t *>config.at)[0] = <uint64_t>(seconds * 1e9)
    return compiled_stage(&OPS, config.at, config)
