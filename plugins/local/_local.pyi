# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of local."""

from fastdns._stage import CompiledStage

def stage(prefix: bool, counter: int) -> CompiledStage: ...
