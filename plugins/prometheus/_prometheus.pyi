# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of prometheus."""

from collections.abc import Mapping

from fastdns._stage import CompiledStage

def stage(listeners: int, zones: int, cells: Mapping[tuple[int, int], Mapping[str, object]]) -> CompiledStage: ...
