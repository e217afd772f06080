# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of hosts."""

from collections.abc import Sequence

from fastdns._published import Mapped
from fastdns._stage import CompiledStage

class Image:
    @property
    def octets(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def names(self) -> int: ...
    def __init__(self, text: bytes, zones: Sequence[bytes], reverse: bool) -> None: ...
    def pack(self, out: bytearray | memoryview) -> None: ...

def stage(
    zones: Sequence[bytes],
    through: Sequence[bytes],
    unsupported: bool,
    ttl: int,
    inline: bytes,
    board: Mapped,
) -> CompiledStage: ...
