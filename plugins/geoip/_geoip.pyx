# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of geoip: nothing happens at its own place in the chain.

Strategy: `metadata` asks for the labels, in Python, in blocks that have it; in all others no query passes Python.
"""

from fastdns._stage cimport NEXT, CompiledStage, Query, Stage, StageOps, Worker, compiled_stage


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef StageOps OPS
OPS.name = b"geoip"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage() -> CompiledStage:
    """The stage; it has no configuration."""
    return compiled_stage(&OPS, NULL, None)
