# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of loop."""

from fastdns._stage import CompiledStage

WORDS: tuple[str, ...]

def stage(qname: str, slots: list[int]) -> CompiledStage: ...
def probe(qname: str) -> tuple[bytes, bytes]: ...
