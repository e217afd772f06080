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
