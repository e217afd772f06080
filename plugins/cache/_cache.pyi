# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of cache."""

from collections.abc import Iterable, Sequence

from fastdns._stage import CompiledStage

def stage(
    block_id: int,
    zones: Sequence[bytes] | None,
    disabled: Sequence[Sequence[bytes]],
    ttls: tuple[tuple[int, int], tuple[int, int]],
    servfail: int,
    prefetch: tuple[int, int, int],
    stale: tuple[int, bool, int, bool, int, int],
    keepttl: bool,
    slots: Sequence[tuple[int, ...]],
    events: Iterable[int],
) -> CompiledStage: ...
