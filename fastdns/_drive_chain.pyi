# SPDX-License-Identifier: Apache-2.0
"""Types of the chain's test kit (see _drive_chain.pyx)."""

from fastdns._cache import Segment
from fastdns._stage import CompiledStage
from fastdns._stats import Stats

Sent = tuple[int, int, bytes | None, int, bool]

def holder() -> CompiledStage: ...

class ChainBench:
    boot_ns: int
    now_ns: int
    def __init__(
        self,
        stages: list[CompiledStage],
        stats: Stats,
        segment: Segment | None = None,
        block_id: int = 1,
        zone: bytes = b"\0",
        row: int = 1,
        index: int = 0,
    ) -> None: ...
    def ask(self, wire: bytes, proto: int = 0, token: int = 0) -> list[Sent]: ...
    def sent(self) -> list[Sent]: ...
    @property
    def waiting(self) -> list[tuple[int, bytes, int, bool, int]]: ...
    @property
    def in_flight(self) -> int: ...
    def answer(
        self,
        number: int = 0,
        reply: bytes | None = None,
        rcode: int = 0,
        dropped: bool = False,
        has_opt: bool = False,
        set_do: bool = False,
    ) -> list[Sent]: ...
    @property
    def held(self) -> int: ...
    def let_go(self) -> list[Sent]: ...
    def tick(self) -> tuple[int, list[Sent]]: ...
    def time(self, wires: list[bytes], rounds: int) -> int: ...
