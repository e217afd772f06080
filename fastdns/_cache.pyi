# SPDX-License-Identifier: Apache-2.0
"""Types of the shared cache (see _cache.pyx)."""

from collections.abc import Iterable, Sequence

Sizes = tuple[int, int, int] | tuple[int, int, int, int]
Entry = tuple[int, int, int, int, tuple[int, ...], bytes]
HEADER: tuple[str, ...]
FIXED: tuple[str, ...]
RECORD_WORDS: tuple[str, ...]
RECORD_OCTETS_MAX: int
Match = tuple[bytes, int, int, bool, bool, bool, bool, int, int, int, int, int, int, int, int]

class Segment:
    @property
    def fd(self) -> int: ...
    @property
    def octets(self) -> int: ...
    @property
    def taken(self) -> int: ...
    @property
    def blocks(self) -> list[tuple[int, int, int, int]]: ...
    @staticmethod
    def size_for(blocks: Iterable[Sizes]) -> int: ...
    @staticmethod
    def least_for(blocks: Iterable[Sizes]) -> int: ...
    @classmethod
    def create(cls, blocks: Iterable[Sizes], most: int | None = None) -> Segment: ...
    @classmethod
    def attach(cls, fd: int) -> Segment: ...
    def entries(self, block_id: int) -> tuple[int, int]: ...
    def flush(self, block_id: int) -> None: ...
    def move_from(self, old: Segment) -> int: ...

class Look:
    def __init__(self, segment: Segment, block_id: int, row: int = 0) -> None: ...
    @property
    def segment(self) -> Segment: ...
    @property
    def epoch(self) -> int: ...
    @property
    def events(self) -> dict[str, int]: ...
    @property
    def heads(self) -> tuple[tuple[tuple[int, int], int], tuple[tuple[int, int], int]]: ...
    def get(
        self,
        name: bytes,
        qtype: int = 1,
        kind: int = 0,
        *,
        qclass: int = 1,
        do: bool = False,
        cd: bool = False,
        aside: bool = False,
        promote: bool = True,
    ) -> Entry | None: ...
    def put(
        self,
        name: bytes,
        wire: bytes,
        qtype: int = 1,
        kind: int = 0,
        *,
        qclass: int = 1,
        do: bool = False,
        cd: bool = False,
        aside: bool = False,
        stored_at: int = 1,
        ttl: int = 60,
        rcode: int = 0,
        mark: int = 0,
        upstream: int = 0,
        offsets: Sequence[int] = (),
        begun: int | None = None,
        epoch: int | None = None,
    ) -> int: ...
    def drop(
        self,
        name: bytes,
        qtype: int = 1,
        kind: int = 0,
        *,
        qclass: int = 1,
        do: bool = False,
        cd: bool = False,
        aside: bool = False,
    ) -> None: ...
    def claim(self, hash: int, now_ns: int, until_ns: int) -> bool: ...
    def claim_until(self, hash: int, until_ns: int) -> None: ...
    def note_hit(
        self, name: bytes, qtype: int = 1, kind: int = 0, *, now_ns: int, window_ns: int
    ) -> tuple[int, int]: ...
    def hash(
        self, name: bytes, qtype: int = 1, qclass: int = 1, do: bool = False, cd: bool = False, aside: bool = False
    ) -> int: ...
    def time_gets(self, names: list[bytes], rounds: int, qtype: int = 1) -> int: ...

class Survey(Look):
    def spans(self, most: int = 16384) -> list[tuple[int, int]]: ...
    def page(self, first: int, end: int, boot: int, wall: int, most: int = 262144) -> tuple[int, bytes, int]: ...
    def take(self, records: bytes, boot: int, wall: int, stale: int = 0) -> tuple[int, int, int]: ...
    def matching(
        self, first: int, end: int, name: bytes = b"", below: bool = False, qtype: int = -1, most: int = 1000
    ) -> list[Match]: ...
    def forbid(self) -> None: ...
    def remove(self, first: int, end: int, name: bytes = b"", below: bool = False, qtype: int = -1) -> int: ...
