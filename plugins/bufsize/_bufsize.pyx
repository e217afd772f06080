# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of bufsize: lowers the size in the parsed query.

Strategy: whatever depends on the size - the query to an upstream, the limit of the reply, the OPT that goes back -
reads it from there, so one store does for all.
"""

from libc.stdint cimport uint16_t

from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef uint16_t size = (<const uint16_t *>s.config)[0]
    # Without OPT the size is 0.
    if q.pkt.udp_size > size:
        q.pkt.udp_size = size
    return NEXT


cdef StageOps OPS
OPS.name = b"bufsize"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage(int size) -> CompiledStage:
    """The stage that allows at most `size` octets, 512 to 4096. ValueError."""
    cdef Memory config
    if not 512 <= size <= 4096:
        raise ValueError(f"a size of {size} octets")
    config = zeroed(sizeof(uint16_t))
    (<uint16_t *>config.at)[0] = <uint16_t>size
    return compiled_stage(&OPS, config.at, config)
