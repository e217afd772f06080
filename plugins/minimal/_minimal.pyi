# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of minimal."""

from fastdns._stage import CompiledStage

def stage() -> CompiledStage: ...
