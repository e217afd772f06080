# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of cancel."""

from fastdns._stage import CompiledStage

def stage(seconds: float) -> CompiledStage: ...
