# SPDX-License-Identifier: Apache-2.0
"""Types of the shared counters (see _stats.pyx)."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "word"]
Labels = tuple[tuple[str, str], ...]
WIDTH_MAX: int
OVERFLOW_LABEL: str
KINDS: tuple[str, ...]
LOCK_SECONDS: float

@dataclass(frozen=True, slots=True)
class Series:
    name: str
    labels: Labels
    kind: str
    bounds: tuple[int, ...]
    help: str
    slot: int
    values: tuple[int, ...]

class Stats:
    @property
    def fd(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @classmethod
    def create(cls, rows: int, slots: int = 16384) -> Stats: ...
    @classmethod
    def attach(cls, fd: int) -> Stats: ...
    def get(self, slot: int) -> int: ...
    def get_row(self, row: int, slot: int) -> int: ...
    def add(self, row: int, slot: int, value: int = 1) -> None: ...
    def set(self, row: int, slot: int, value: int) -> None: ...
    def set_shared(self, slot: int, value: int) -> None: ...
    def observe(self, row: int, slot: int, bounds: tuple[int, ...], raw: int) -> None: ...
    def reset_row(self, row: int) -> None: ...
    def clear(self, name: str) -> None: ...
    def intern(
        self, name: str, labels: Labels = (), kind: str = "counter", bounds: tuple[int, ...] = (), help: str = ""
    ) -> int: ...
    def grid(
        self,
        name: str,
        labels: Labels,
        axes: tuple[tuple[str, tuple[str, ...]], ...],
        kind: str = "counter",
        bounds: tuple[int, ...] = (),
        help: str = "",
    ) -> int: ...
    def snapshot(self, words: bool = False) -> list[Series]: ...
