# SPDX-License-Identifier: Apache-2.0
"""The plugin class of trace: its compiled half takes traces, each worker's Python thread sends them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fastdns.plugin import Dispenser, Plugin

from .config import BACKLOG, BATCH, INTERVAL, TRACE, merged

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

    from ._trace import Found, Tracer
    from .reporter import Reporter, Sending

TRACE_ID = "trace/traceid"
DATADOG_BACKLOG, DATADOG_BATCH, DATADOG_INTERVAL = 1000, 1000, 2.0  # in traces


class Trace(Plugin):
    """Traces queries."""

    name = "trace"
    directive = TRACE
    tracer: Tracer
    reporter: Reporter | None = None

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, whatever the number of lines."""
        return [merged(super().parse(dispenser))]

    def compiled(self) -> CompiledStage:
        from ._trace import Tracer

        config = self.config
        self.tracer = Tracer(config["every"], self.block.labels.place(TRACE_ID), config["type"] == "datadog")
        return self.tracer.stage()

    def zipkin(self) -> Sending:
        """How spans get to Zipkin."""
        from . import spans, zipkin
        from .reporter import Sending

        block, config = self.block, self.config
        at = zipkin.local(config["service"], block.servers[block.listeners[0]] if block.listeners else "")

        def make(found: Found) -> list[Any]:
            return zipkin.spans(spans.read(found, block.chain), at)

        return Sending(
            config["endpoint"], make, zipkin.encode, lambda _: zipkin.HEADERS,
            config["zipkin_max_backlog_size"] or BACKLOG, config["zipkin_max_batch_size"] or BATCH,
            config["zipkin_max_batch_interval"] or INTERVAL, keep=True)

    def datadog(self) -> Sending:
        """How traces get to Datadog."""
        from . import datadog, spans
        from .reporter import Sending

        config, chain = self.config, self.block.chain

        def make(found: Found) -> list[Any]:
            return [datadog.trace(spans.read(found, chain), config["service"], config["datadog_analytics_rate"])]

        return Sending(
            f"http://{config['endpoint']}{datadog.PATH}", make, datadog.pack, functools.partial(datadog.headers),
            DATADOG_BACKLOG, DATADOG_BATCH, DATADOG_INTERVAL, keep=False)

    async def start_worker(self) -> None:
        """Traces from now on."""
        if self.config["every"]:
            from .reporter import Reporter

            sending = self.zipkin() if self.config["type"] == "zipkin" else self.datadog()
            self.reporter = Reporter(self.tracer, sending, self.log)

    async def stop_worker(self) -> None:
        """Sends what is left."""
        if self.reporter is not None:
            await self.reporter.stop()
