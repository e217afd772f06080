# SPDX-License-Identifier: Apache-2.0
"""The plugin class of ready: asks the block's plugins, in the keeper, and leaves their answers in shared memory.

Strategy: the web process answers /ready from words of the table of counters, so a plugin is asked once a second and not
once per request, and only where its own state lives. The word of `ready` itself stands for "has not asked yet".
"""

import asyncio
from typing import Any

from fastdns import metrics
from fastdns.plugin import BlockContext, BlockPlan, Channel, Plugin, ReadyCheck

from .config import CONTINUOUSLY, READY

SECONDS = 1.0


class Ready(Plugin):
    """Asks for /ready, and says who is."""

    name = "ready"
    chain = False
    directive = READY

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks the web process to serve."""
        plan.ask("http", service="ready", address=config["address"])

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        self._task: asyncio.Task[None] | None = None
        self._seen: set[str] = set()
        self._say(self._own, False)

    @property
    def _own(self) -> str:
        # One word per block, so that no block speaks for another.
        return self.name if self.block.index == 0 else f"{self.name}/{self.block.index}"

    def _say(self, plugin: str, ready: bool) -> None:
        metrics.set_ready(self.block.stats, self.block.generation, plugin, ready)

    def ask(self) -> bool:
        """Asks every plugin that may not be ready; whether all were."""
        answers: dict[str, bool] = {}
        for member in self.block.providers(ReadyCheck):
            name = getattr(member, "name", type(member).__name__)
            if name in self._seen and self.config["monitor"] != CONTINUOUSLY:
                continue
            # By name, as in CoreDNS: the last instance of a name speaks for it.
            answers[name] = member.ready()
        for name, ready in answers.items():
            self._say(name, ready)
            if ready:
                self._seen.add(name)
        return all(answers.values())

    async def start_server(self, channel: Channel) -> None:
        """Asks now, then once a second as long as somebody has to be asked."""
        done = self.ask()
        self._say(self._own, True)
        if not done or (self.config["monitor"] == CONTINUOUSLY and self.block.providers(ReadyCheck)):
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        done = False
        while not done or self.config["monitor"] == CONTINUOUSLY:
            await asyncio.sleep(SECONDS)
            done = self.ask()

    async def stop_server(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
