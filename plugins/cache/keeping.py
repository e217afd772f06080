# SPDX-License-Identifier: Apache-2.0
"""cache { snapshot }: a block's entries in a file, by the keeper alone.

Strategy: loaded before any worker serves, saved in a thread every so often and when the server ends; a save that is
under way when another is due is enough. Whatever is wrong with the file costs a line of the log and an empty cache, and
what is wrong with a save costs a line and leaves the old file.
"""

import asyncio
import os
from pathlib import Path

from fastdns import snapshot
from fastdns._cache import Segment, Survey
from fastdns.plugin import Channel, end_task

from .metrics import SNAPSHOTS

SHORTEST = 1.0  # seconds between saves, whatever is configured


class Keeping:
    """The snapshot of one block. `interval` in seconds, 0: only at the end; `stale` seconds that expired entries are of
    use."""

    def __init__(self, path: str, interval: float, segment: Segment, part: snapshot.Part, stale: int) -> None:
        self.path = str(Path(path).absolute())
        self.interval = interval and max(interval, SHORTEST)
        self.segment = segment
        self.part = part
        self.stale = min(stale, 0x7FFFFFFF)
        self.task: asyncio.Task[None] | None = None
        self.saving = asyncio.Lock()

    async def start(self, channel: Channel, load: bool) -> None:
        """Loads the file if `load`, and begins to save."""
        self.channel = channel
        # A keeper that takes over from one that died finds what lives, and what was flushed stays so.
        number = self.part.block_id
        if load and self.segment.entries(number) == (0, 0) and Survey(self.segment, number).epoch == 0:
            self.tell(*await asyncio.to_thread(self.load))
        if self.interval:
            self.task = asyncio.get_running_loop().create_task(self.repeat())

    async def stop(self) -> None:
        """Saves no more."""
        task, self.task = self.task, None
        await end_task(task)

    async def repeat(self) -> None:
        """Saves every `interval`."""
        while True:
            await asyncio.sleep(self.interval)
            await self.save()

    async def save(self) -> None:
        """Saves now."""
        async with self.saving:
            self.tell(*await asyncio.to_thread(self._save))

    def _save(self) -> tuple[str, str, str]:
        try:
            snapshot.save(self.path, self.segment, [self.part])
        except BlockingIOError:
            return "skipped", "", ""  # a keeper that is about to end saves the same entries
        except OSError as error:
            return "failed", "ERROR", f": {(error.strerror or str(error)).lower()}"
        return "saved", "", ""

    def tell(self, result: str, level: str, text: str) -> None:
        """Counts and logs, in the loop: neither is for several threads."""
        SNAPSHOTS.inc(result)
        if text:
            self.channel.log(level, f"plugin/cache: snapshot {self.path}{text}")

    def load(self) -> tuple[str, str, str]:
        """Loads the file; nothing about it can fail the start."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return "absent", "", ""
        except OSError as error:
            return self.refused((error.strerror or str(error)).lower())
        try:
            found = snapshot.load(fd, self.segment, self.choose)
        except (ValueError, OSError) as error:
            return self.refused(str(error))
        finally:
            os.close(fd)
        if found.foreign:
            return self.refused("it was saved with other settings of this block")
        return ("loaded", "INFO", f": {found.stored} entries loaded, {found.expired} had expired, {found.refused} were "
                                  f"refused")

    @staticmethod
    def refused(why: str) -> tuple[str, str, str]:
        """The cache begins empty."""
        return "refused", "WARNING", f" is not loaded: {why}"

    def choose(self, _zones: tuple[str, ...], settings: str) -> tuple[int, int] | None:
        """Only entries of the same settings, as after a reload."""
        return (self.part.block_id, self.stale) if settings == self.part.settings else None
