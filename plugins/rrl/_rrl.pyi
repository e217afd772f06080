# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of rrl."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

Ranges = Sequence[tuple[bytes, bytes]]

LAYOUT: int

def octets(networks: int) -> int: ...
def stage(
    limits: Sequence[tuple[int, int]],
    prefixes: tuple[int, int],
    slip: int,
    report: bool,
    at_misses: bool,
    allow: tuple[Ranges, Ranges],
    networks: int,
    slots: Sequence[tuple[Sequence[int], Sequence[int]]],
    events: tuple[int, int],
    table: int = -1,
) -> CompiledStage: ...
