# SPDX-License-Identifier: Apache-2.0
"""Types of the stage contract's Python half."""

class Memory: ...

class CompiledStage:
    @property
    def name(self) -> str: ...
    @property
    def owner(self) -> object: ...
    @property
    def python(self) -> object: ...

def passing(name: str) -> CompiledStage:
    """The stage of a plugin that does nothing at its place in the chain: every query goes on."""
