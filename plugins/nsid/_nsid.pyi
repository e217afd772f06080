# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of nsid."""

from fastdns._stage import CompiledStage

def stage(data: bytes) -> CompiledStage: ...
