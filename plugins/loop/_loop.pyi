# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of loop."""

from fastdns._stage import CompiledStage

WORDS: tuple[str, ...]
WAY_WORDS: tuple[str, ...]
SEEN_MOST: int
PROBES: int
WAYS: int

def stage(qname: str, slots: list[int]) -> CompiledStage: ...
def quarantine(slots: list[tuple[int, ...]]) -> CompiledStage: ...
def probe(qname: str) -> tuple[bytes, bytes]: ...
