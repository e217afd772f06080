# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of published data."""

from typing import Final

PAGE: Final[int]
HEAD: Final[int]
SIDE: Final[int]
COUNT: Final[int]

class Mapped:
    """A board's memory file, and its first page."""

    fd: int
    def __init__(self, fd: int) -> None: ...
    @property
    def generation(self) -> int:
        """The DATA generation."""

    def _store(self, at: int, value: int) -> None: ...
    def _read(self) -> tuple[int, bytes] | None: ...
