# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The Python-visible half of the stage contract: the object that carries a compiled stage to the chain."""

from fastdns._sys cimport calloc, free


cdef class CompiledStage:
    """A table of C functions and its configuration. Made by a plugin's compiled half only."""

    def __init__(self):
        if self.ops == NULL:
            raise TypeError("a compiled stage is made by the compiled half of a plugin")

    def __repr__(self):
        return f"CompiledStage({self.name})"


cdef class Memory:
    """Memory of a stage's configuration, made by `zeroed` only."""

    def __init__(self):
        raise TypeError("memory of a stage is made by the compiled half of a plugin")

    def __dealloc__(self):
        free(self.at)

    cdef void *room(self, size_t n, size_t size) except NULL:
        cdef Memory part = Memory.__new__(Memory)
        part.at = calloc(n or 1, size)
        if part.at == NULL:
            raise MemoryError
        if self.parts is None:
            self.parts = []
        self.parts.append(part)
        return part.at


cdef Memory zeroed(size_t octets):
    cdef Memory made = Memory.__new__(Memory)
    made.at = calloc(1, octets)
    if made.at == NULL:
        raise MemoryError
    return made


cdef CompiledStage compiled_stage(const StageOps *ops, void *config, object owner, object python=None):
    cdef CompiledStage stage = CompiledStage.__new__(CompiledStage)
    stage.ops = ops
    stage.config = config
    stage.owner = owner
    stage.python = python
    stage.name = ops.name.decode("ascii") if python is None else python.name
    return stage


cdef int _pass(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


def passing(name: str) -> CompiledStage:
    """The stage of a plugin that does nothing at its place in the chain: every query goes on, none through Python."""
    cdef Memory memory = zeroed(sizeof(StageOps))
    cdef StageOps *ops = <StageOps *>memory.at
    cdef bytes octets = name.encode("ascii")
    ops.name = octets
    ops.request = _pass
    return compiled_stage(ops, NULL, (memory, octets))
