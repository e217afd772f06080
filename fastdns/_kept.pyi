# SPDX-License-Identifier: Apache-2.0
"""Types of the shelf of kept answers and of its compiled stage."""

from collections.abc import Sequence
from typing import Any

from ._cache import Segment
from ._published import Mapped
from ._stage import CompiledStage
from ._stats import Stats

READS: dict[str, int]

class Shelf:
    """Where a generation keeps what its plugins in Python decided. Its memory, 0.6 KiB an entry, is taken as it is used
    and given back with the object."""

    lanes: int

    @staticmethod
    def size_for(entries: int) -> int:
        """Octets of a shelf that is full."""

    def __init__(self, stats: Stats, entries: int) -> None: ...
    @property
    def segment(self) -> Segment: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def entries(self) -> int:
        """Living entries."""

    def lane(self) -> int:
        """A number that no other stage has on this shelf."""

    def counters(self, name: str) -> tuple[int, int, int]:
        """Slots of what a plugin's stage counts: hits, misses, what was stored."""

def stage(plugin: Any, shelf: Shelf, bits: int, prefixes: tuple[int, int], codes: Sequence[int], labels: Sequence[int],
          board: Mapped | None) -> CompiledStage:
    """The stage that gives a plugin's answers again. `bits`: READS that the key covers; `prefixes` of the client's
    address in the key; `codes` of options, places of `labels`, the board that the plugin reads."""
