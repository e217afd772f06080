# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The Python-visible half of the stage contract: the object that carries a compiled stage to the chain."""


cdef class CompiledStage:
    """A table of C functions and its configuration. Made by a plugin's compiled half only."""

    def __init__(self):
        if self.ops == NULL:
            raise TypeError("a compiled stage is made by the compiled half of a plugin")

    def __repr__(self):
        return f"CompiledStage({self.name})"


cdef CompiledStage compiled_stage(const StageOps *ops, void *config, object owner):
    cdef CompiledStage stage = CompiledStage.__new__(CompiledStage)
    stage.ops = ops
    stage.config = config
    stage.owner = owner
    stage.name = ops.name.decode("ascii")
    return stage
