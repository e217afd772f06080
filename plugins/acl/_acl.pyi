# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of acl."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

Table = tuple[bytes, bytes]

def stage(
    zones: Sequence[bytes],
    rules: Sequence[tuple[Sequence[int], Table, Table]],
    decisions: Sequence[tuple[int, Sequence[tuple[int, int]]]],
    slots: Sequence[tuple[int, Sequence[int]]],
) -> CompiledStage: ...
