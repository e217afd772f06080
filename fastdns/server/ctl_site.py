# SPDX-License-Identifier: Apache-2.0
"""What the web process knows of its server, and which of it a request means.

Strategy: all of it was there when the process was forked; the figures behind it are in shared memory and are read when
somebody asks (`ctl_report`, `ctl_cache`, `ctl_top`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._cache import Segment
    from .._kept import Shelf
    from .._stats import Stats
    from ..plugin import Observer

Answer = dict[str, Any]


class Refused(Exception):
    """Why a request is not done."""


@dataclass
class Site:
    """What the web process knows of its server."""

    stats: Stats
    segment: Segment | None
    generation: int
    plan: dict[str, Any]
    block_ids: list[int]
    observer: Observer | None = None
    shelf: Shelf | None = None

    def caches(self) -> list[dict[str, Any]]:
        """The blocks with a cache: id, zones, settings, and what `cache` asked for."""
        blocks = self.plan["blocks"]
        return [{**ask, "id": self.block_ids[ask["block"]], "zones": blocks[ask["block"]]["zones"],
                 "settings": blocks[ask["block"]]["settings"]} for ask in self.plan["cache"]]

    def chosen(self, words: Answer) -> list[dict[str, Any]]:
        """The caches that a request means by `block`, a number or a zone. Refused where there is none."""
        found = self.caches()
        want = words.get("block")
        if want is not None:
            zone = want.lower().removesuffix(".") + "."
            found = [one for one in found if str(one["id"]) == want or zone in one["zones"]]
        if not found or self.segment is None:
            raise Refused("no block has a cache" if want is None else f"no block with a cache is {want!r}")
        return found
