# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of bufsize."""

from fastdns._stage import CompiledStage

def stage(size: int) -> CompiledStage: ...
