# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of top."""

from fastdns._stage import CompiledStage
from fastdns._stats import Stats

LAYOUT: int
LIST_NAMES: tuple[str, ...]

_List = tuple[dict[bytes, tuple[int, int, int]], list[int]]

def octets(entries: int) -> int: ...
def region_octets(entries: int) -> int: ...

class Table:
    lists: tuple[str, ...]
    octets: int
    worker_octets: int
    entries: int
    begun: int
    def __init__(
        self,
        stats: Stats,
        *,
        entries: int,
        window: int,
        budget: int,
        prefixes: tuple[int, int],
        depth: int,
        slots: tuple[int, int],
        fd: int = -1,
    ) -> None: ...
    def read(self, now_ns: int) -> list[tuple[int, int, int, tuple[_List, ...]]]: ...

def stage(table: Table) -> CompiledStage: ...
