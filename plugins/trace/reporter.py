# SPDX-License-Identifier: Apache-2.0
"""From finished traces to the collector, in a worker's Python thread.

Strategy: two tasks. One takes traces off the compiled half, which rings when it has one and only if this side sleeps;
at most TAKEN at once, with a pause, so that tracing everything cannot eat the thread. The other sends what waits when
it is enough, or has waited long enough. What waits is bounded, and the oldest goes: a collector that is dead costs
memory for so many, a connection per interval, and no query anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdns.metrics import Counter

from .post import Failed, post, verified

if TYPE_CHECKING:
    import ssl

    from ._trace import Found, Tracer

TAKEN = 256
PAUSE_SECONDS = 0.05
RETRY_SECONDS = 0.5  # at least, after a failure
LAST_SECONDS = 0.7  # for what waits when the worker ends
REMIND_SECONDS = 60.0  # between two lines about the same trouble

QUERIES = Counter("fastdns_trace_queries_total", "Queries that were traced.")
DROPPED = Counter(
    "fastdns_trace_dropped_total",
    "What never reached a collector: queries that found no place in the table (table), spans that found none in a "
    "query (query), spans or traces that waited too long (backlog) or that the collector did not take (refused), and "
    "queries or batches that could not be made ready for it (error).",
    ("reason",),
)


@dataclass(frozen=True)
class Sending:
    """Where and how it is sent. `make` turns a trace into what waits, `encode` a batch into a body. `keep`: what could
    not be sent waits on."""

    url: str
    make: Callable[[Found], list[Any]]
    encode: Callable[[list[Any]], bytes]
    headers: Callable[[list[Any]], Iterable[tuple[str, str]]]
    backlog: int
    batch: int
    interval: float
    keep: bool


class Reporter:
    """Everything between a Tracer and its collector. Made on the worker's loop."""

    def __init__(self, tracer: Tracer, sending: Sending, log: logging.Logger) -> None:
        self.tracer = tracer
        self.sending = sending
        self.log = log
        self.waiting: deque[Any] = deque()
        self.gone = 0  # what was dropped off the front so far
        self._full = 0
        self._tls: ssl.SSLContext | None = None
        self._told = -REMIND_SECONDS
        self._loop = asyncio.get_running_loop()
        self._some, self._enough, self._rung = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.add_reader(self._fd, self._ring)
        self._tasks = [self._loop.create_task(self._take()), self._loop.create_task(self._send())]
        tracer.open(self._fd)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        self._rung.set()

    async def _take(self) -> None:
        while True:
            self._rung.clear()
            if not self.tracer.arm():
                await self._rung.wait()
            self.drain()
            await asyncio.sleep(PAUSE_SECONDS)

    def drain(self) -> int:
        """Takes what the compiled half has, at most TAKEN traces; how many."""
        found = self.tracer.drain(TAKEN)
        for one in found:
            try:
                self.waiting.extend(self.sending.make(one))
            except Exception as error:
                self.trouble("a trace cannot be sent", error)
                DROPPED.inc("error")
            if one[-2]:
                DROPPED.inc("query", by=one[-2])
        # Once: the hot thread counts on meanwhile.
        now = self.tracer.full
        full, self._full = now - self._full, now
        if full:
            DROPPED.inc("table", by=full)
        if found:
            QUERIES.inc(by=len(found))
        surplus = len(self.waiting) - self.sending.backlog
        for _ in range(surplus):
            self.waiting.popleft()
        if surplus > 0:
            self.gone += surplus
            DROPPED.inc("backlog", by=surplus)
        if self.waiting:
            self._some.set()
        if len(self.waiting) >= self.sending.batch:
            self._enough.set()
        return len(found)

    async def _send(self) -> None:
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                # Not wait_for, which forgets that the task was cancelled when the event comes at the same moment.
                async with asyncio.timeout(self.sending.interval):
                    await self._enough.wait()
            self._some.clear()
            self._enough.clear()
            if not await self.send():
                await asyncio.sleep(max(RETRY_SECONDS, self.sending.interval))
            if self.waiting:
                self._some.set()

    async def send(self, seconds: float | None = None) -> bool:
        """Sends what waits now; False where the collector could not be reached."""
        batch, gone = list(self.waiting), self.gone
        if not batch:
            return True
        how = self.sending
        reached = True
        try:
            if self._tls is None and how.url.startswith("https:"):
                self._tls = await asyncio.to_thread(verified)
            more = {} if seconds is None else {"seconds": seconds}
            status = await post(how.url, how.headers(batch), how.encode(batch), tls=self._tls, **more)
            if not 200 <= status <= 299:
                self.warn(f"failed the request with status code {status}")
                DROPPED.inc("refused", by=len(batch))
        except Failed as error:
            self.warn(f"failed to send the request: {error}")
            reached = False
            if how.keep:
                return False
            DROPPED.inc("refused", by=len(batch))
        except Exception as error:
            # Sent again it would fail again; the task goes on.
            self.trouble("failed to send the request", error)
            reached = False
            DROPPED.inc("error", by=len(batch))
        # What was dropped off the front meanwhile is not there any more.
        for _ in range(len(batch) - (self.gone - gone)):
            self.waiting.popleft()
        return reached

    def warn(self, text: str) -> None:
        """Logs a trouble, once a minute while it lasts."""
        now = self._loop.time()
        if now - self._told >= REMIND_SECONDS:
            self._told = now
            self.log.warning("%s", text)

    def trouble(self, text: str, error: Exception) -> None:
        """Logs what nobody thought of."""
        self.warn(f"{text}: {type(error).__name__}: {error}")

    async def stop(self) -> None:
        """Sends what is there, if it goes quickly, and ends."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self.drain():
            continue
        await self.send(LAST_SECONDS)
        self._loop.remove_reader(self._fd)
        self.tracer.open(-1)
        os.close(self._fd)
