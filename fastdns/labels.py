# SPDX-License-Identifier: Apache-2.0
"""Which metadata labels a block keeps for its queries, and where.

Strategy: a label costs a query only where somebody in the block reads it. Who reads one says so in `__init__`; who sets
one asks in `compiled`, when all readers have spoken, for its place among the query's labels (`_stage.pxd`).
"""

from __future__ import annotations

LABELS_MAX = 64
NOWHERE = -1


class Labels:
    """The labels of one block. `kept`: the block has `metadata`; without it every label reads empty."""

    def __init__(self, kept: bool = False) -> None:
        self.kept = kept
        self.names: list[str] = []

    def read(self, name: str) -> int:
        """The place of a label that the caller reads. ValueError when the block reads too many of them."""
        if not self.kept:
            return NOWHERE
        if name not in self.names:
            if len(self.names) == LABELS_MAX:
                raise ValueError(f"a block reads at most {LABELS_MAX} metadata labels")
            self.names.append(name)
        return self.names.index(name)

    def place(self, name: str) -> int:
        """The place of a label that the caller sets; NOWHERE when nobody reads it."""
        return self.names.index(name) if name in self.names else NOWHERE
