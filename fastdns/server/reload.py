# SPDX-License-Identifier: Apache-2.0
"""Watching the Corefile for `reload`: read it again every so often and tell the supervisor when its hash changes.

Strategy: reading and parsing happen in the keeper, so that a slow file system stalls nobody who serves. The hash is
over the parsed text (imports and environment resolved); a content that failed is not tried again until it changes.
The supervisor does the reload itself, from the text that was hashed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from ..corefile.source import Corefile, Source, load_source, read_source
from ..errors import ConfigError


def period(interval: float, jitter: float, chance: float | None = None) -> float:
    """Seconds between two looks: `interval` give or take half of `jitter`, drawn once a load."""
    jitter = min(jitter, interval / 2)
    draw = random.random() if chance is None else chance
    return interval + (draw - 0.5) * jitter


class Watcher:
    """`words`: conf, port, hash (of what runs), interval and jitter in seconds. `tell` tells the supervisor."""

    def __init__(self, words: dict[str, Any], tell: Callable[[dict[str, Any]], object]) -> None:
        self.conf: str = words["conf"]
        self.port: int = words["port"]
        self.hash: str = words["hash"]
        self.period = period(words["interval"], words["jitter"])
        self.tell = tell

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self.period)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        try:
            source = await asyncio.to_thread(read_source, self.conf, self.port, again=True)
        except (ConfigError, OSError):
            # A file that is being replaced: the next look finds it.
            return
        try:
            corefile = await asyncio.to_thread(self.parse, source)
        except ConfigError as error:
            self.tell({"unparsed": str(error)})
            return
        digest = corefile.sha512()
        if digest != self.hash:
            self.hash = digest
            self.tell({"changed": digest, "filename": source.filename, "body": source.body.hex()})

    def parse(self, source: Source) -> Corefile:
        """Parse without asking any plugin."""
        from .. import chain

        return load_source(source, chain.known(), chain.not_built(), self.port)
