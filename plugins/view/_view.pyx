# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of view.

Strategy: the router has decided before the chain began, so the stage lets every query pass.
"""

from fastdns._stage cimport NEXT, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef StageOps OPS
OPS.name = b"view"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage() -> CompiledStage:
    """The stage that lets every query pass."""
    return compiled_stage(&OPS, NULL, None)
