# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of chaos."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

AUTHORS_OCTETS: int

def stage(version: bytes, hostname: bytes, authors: Sequence[bytes]) -> CompiledStage: ...
