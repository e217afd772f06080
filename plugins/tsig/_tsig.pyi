# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of tsig."""

from collections.abc import Collection, Sequence

from fastdns._stage import CompiledStage

def stage(
    types: Collection[int] | None, opcodes: Collection[int] | None, whole: bool, slots: Sequence[Sequence[int]]
) -> CompiledStage: ...
