# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of header."""

from fastdns._stage import CompiledStage

def stage(query: tuple[int, int], response: tuple[int, int]) -> CompiledStage: ...
