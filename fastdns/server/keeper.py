# SPDX-License-Identifier: Apache-2.0
"""The keeper: what is watched, probed or fetched once for the whole server runs here.

Strategy: one asyncio loop at the Python threads' niceness. It starts every plugin's server side, reports started or
the error that stops the start, then waits for orders: events of the server's life, and the end. Without a
supervisor it outlives the workers' own deadline by a little, since they use what it publishes.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .. import metrics
from . import control, logs, sampler
from .memory import keeper_row
from .niceness import give_way
from .reload import Watcher
from .shared import Shared
from .worker import NICE, ORPHAN_SECONDS

STOP_SECONDS = 5.0


def run(shared: Shared, channel: control.Channel, words: dict[str, Any]) -> None:
    """The keeper's life."""
    give_way(NICE)
    row = keeper_row(shared.stats.rows)
    metrics.attach(shared.stats, row)
    shared.become(row)
    asyncio.run(Keeper(shared, channel, words).main())


class Keeper:
    """Also the `channel` that plugins' start_server gets: `log`, `fatal`."""

    def __init__(self, shared: Shared, channel: control.Channel, words: dict[str, Any]) -> None:
        self.shared = shared
        self.generation = shared.generation
        self.channel = channel
        self.words = words
        self.end = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def main(self) -> None:
        """Start, serve orders, stop."""
        loop = asyncio.get_running_loop()
        await self.generation.start_server(self)
        self.channel.send({"started": "keeper"})
        loop.add_reader(self.channel.fileno(), self._orders)
        await self.end.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.generation.stop_server(), STOP_SECONDS)

    def _orders(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for words, fds in self.channel.receive():
                if "profile" in words:
                    sampler.begin(words["profile"], fds, "keeper", loop)
                control.close_all(fds)
                self._order(words)
        except control.Closed:
            loop.remove_reader(self.channel.fileno())
            loop.call_later(ORPHAN_SECONDS + 2 * STOP_SECONDS, self.end.set)

    def _order(self, words: dict[str, Any]) -> None:
        if "stop" in words:
            self.end.set()
        elif "level" in words:
            logs.follow(self.shared.stats)
        elif "watch" in words:
            self._spawn(Watcher(words["watch"], self.tell).run())
        elif "event" in words:
            self._spawn(self._event(words["event"]))

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _event(self, name: str) -> None:
        failed = ""
        try:
            await self.generation.event(name)
        except Exception as error:
            failed = f"{name}: {error}"
        self.tell({"done": name, "failed": failed})

    def tell(self, message: control.Message) -> None:
        """Send to the supervisor; nobody hears it when that is gone."""
        with contextlib.suppress(control.Closed):
            self.channel.send(message)

    def log(self, level: str, text: str) -> None:
        """A line on stdout: level is INFO, WARNING, ERROR ..."""
        self.tell({"log": [level, text]})

    def fatal(self, text: str) -> None:
        """Log at level FATAL and end the whole server with status 1 (CoreDNS's log.Fatal)."""
        self.tell({"fatal": text})
