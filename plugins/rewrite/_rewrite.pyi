# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of rewrite."""

from collections.abc import Iterable
from typing import Any

from fastdns._kept import Shelf
from fastdns._stage import CompiledStage

RULES: int
"""Rules that a stage has at most."""

RENAMES: int
"""... name rules of them that may match one query."""

ADDED: int
"""Octets that options may add to a query."""

KINDS: dict[str, int]
MATCHES: dict[str, int]
ACTIONS: dict[str, int]

Row = tuple[int, int, int, bool, bool, int, int, bytes, bytes]
"""Kind, match, action, stop, whether names are mapped back, two numbers (from and to, least and most, code and 0), two
texts (old and new; data and nothing)."""

def stage(rows: Iterable[Row], echoes: Iterable[int], plugin: Any = None, shelf: Shelf | None = None) -> CompiledStage:
    """A stage with these rules. `echoes`: codes of options that replies repeat. ValueError when they are too many.
    Where rules have expressions: `plugin` that says what they make of a name, `shelf` on which that is kept."""
