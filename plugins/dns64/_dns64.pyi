# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of dns64."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

def stage(prefix: bytes, translate_all: bool, allow_ipv4: bool, slots: Sequence[int]) -> CompiledStage: ...
