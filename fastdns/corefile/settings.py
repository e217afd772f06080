# SPDX-License-Identifier: Apache-2.0
"""What one occurrence of a directive says, as a value.

Strategy: a flat read-only mapping of plain values; it pickles, because it is parsed in one process and used in others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Settings(Mapping[str, Any]):
    """What one occurrence of a directive says: a read-only mapping whose keys are attributes as well.

    `given` holds the names of the options that were written; `line` and `file` are the occurrence's.
    """

    __slots__ = ("_values", "file", "given", "line")

    def __init__(self, values: Mapping[str, Any], given: Sequence[str] = (), file: str = "", line: int = 0) -> None:
        self._values = dict(values)
        self.given = frozenset(given)
        self.file = file
        self.line = line

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(key) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self._values, tuple(sorted(self.given)), self.file, self.line)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values and self.given == other.given

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Settings({self._values!r})"

    def replace(self, **changes: Any) -> Settings:
        """A copy with some values changed."""
        return Settings({**self._values, **changes}, tuple(self.given), self.file, self.line)
