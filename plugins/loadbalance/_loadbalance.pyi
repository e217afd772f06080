# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of loadbalance."""

from fastdns._stage import CompiledStage

def stage() -> CompiledStage: ...
def shuffled(
    reply: bytes, seed: int, qtype: int = 1, rcode: int = 0, options: bytes = b"", repeat: int = 1
) -> bytes: ...
