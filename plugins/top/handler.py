# SPDX-License-Identifier: Apache-2.0
"""The plugin class of top: one table for all blocks, a stage in each, and what the web process tells of it."""

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from fastdns._stats import Series
from fastdns._wire import name_to_text
from fastdns.plugin import BlockContext, BlockPlan, Observer, Plugin, SetupError

from .config import SHOWN_MOST, TOP
from .figures import Figures, client_text, figures
from .metrics import EVICTIONS, LOOKED, RATES

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

NANO = 1_000_000_000
PERIOD = 1 << 30  # nanoseconds in which the compiled half looks at so many queries
LABELS = {"clients": "client", "names": "name", "suffixes": "suffix"}


PREFIX = "top "


def key(layout: int, config: Any) -> str:
    """What says that a table means the same: its layout and all settings but how much of it is shown."""
    settings = {option.name: config[option.name] for option in TOP.options if option.name != "metrics"}
    return PREFIX + hashlib.sha256(json.dumps([layout, settings], sort_keys=True).encode()).hexdigest()


class Top(Plugin, Observer):
    """Counts the busiest clients and names."""

    name = "top"
    directive = TOP

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks for a table that outlives its processes and a reload with the same settings; of several blocks' the
        first one's is used. Mostly it is holes: a worker touches its own region and no other."""
        from ._top import LAYOUT, octets, region_octets

        entries = config["entries"]
        plan.ask("kept", key=key(LAYOUT, config), octets=octets(entries), touched=0, each=region_octets(entries))

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        from ._top import Table

        self.window = round(config["window"] * NANO)
        self.prefixes = (config["ipv4_prefix"], config["ipv6_prefix"])
        options = {option.name: config[option.name] for option in TOP.options}
        if block.common.setdefault("options", options) != options:
            raise SetupError(self.name, "options differ from those of another block: all blocks share one table")
        if "table" not in block.common:
            block.common["table"] = Table(
                block.stats,
                entries=config["entries"],
                window=self.window,
                budget=max(1, config["samples"] * PERIOD // NANO),
                prefixes=self.prefixes,
                depth=config["depth"],
                slots=(LOOKED.slot(stats=block.stats), EVICTIONS.slot(stats=block.stats)),
                fd=next((fd for name, fd in block.kept.items() if name.startswith(PREFIX)), -1),
            )
        self.table: Table = block.common["table"]

    def compiled(self) -> "CompiledStage":
        from ._top import stage

        return stage(self.table)

    # ---- in the web process

    def read(self, count: int) -> tuple[float, Figures]:
        """The seconds that figures are of, and these."""
        now = time.monotonic_ns()
        since = max(self.table.begun, (now // self.window - 1) * self.window)
        return max(1.0, (now - since) / NANO), figures(self.table.read(now), self.table.lists, count)

    def text(self, kind: str, key: bytes) -> str:
        """A key as people write it."""
        return client_text(key, self.prefixes) if kind == "clients" else name_to_text(key)

    def observed(self, count: int) -> dict[str, Any]:
        """The lists, and what their figures are of."""
        span, found = self.read(min(count, SHOWN_MOST))
        told: dict[str, Any] = {"seconds": round(span, 3), "queries": found.queries, "nxdomain": found.nxdomain}
        for kind, rows in found.lists.items():
            told[kind] = [{LABELS[kind]: self.text(kind, row.key), "least": row.least, "most": row.most}
                          for row in rows]
        return told

    def series(self) -> list[Series]:
        """The gauges of `metrics`, where it is written."""
        count = self.config["metrics"]
        if not count:
            return []
        span, found = self.read(count)
        out = []
        for kind, gauge in RATES.items():
            for row in found.lists[kind]:
                label = ((LABELS[kind], self.text(kind, row.key)),)
                # A rate is the one number here that may have a fraction.
                rate: Any = round(row.least / span, 3)
                out.append(Series(gauge.name, label, "gauge", (), gauge.help, 0, (rate,)))
        return out
