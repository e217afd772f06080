# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of shed."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

def stage(slots: Sequence[tuple[int, int] | None]) -> CompiledStage: ...
