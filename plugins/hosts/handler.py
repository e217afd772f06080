# SPDX-License-Identifier: Apache-2.0
"""The plugin class of hosts: reads the file in the keeper, once for the whole server, and again when it changed.

Strategy: the keeper makes an image of the file before any worker serves, and after that beside its loop, so a million
names hold nobody up. Workers map it (board.py). The lines in the Corefile are an image of their own, made at set-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdns._wire import name_from_text
from fastdns.corefile.names import under
from fastdns.errors import CorefileError
from fastdns.plugin import BlockContext, Channel, Plugin, Settings, SetupError

from ._hosts import Image, stage
from .board import Board
from .config import FILE, HOSTS
from .metrics import ENTRIES, RELOADED

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

FILE_MOST = 256 << 20  # octets of a file
GRACE_SECONDS = 1.0  # until an image that was replaced is given back


def wire(zones: tuple[str, ...]) -> list[bytes]:
    """Zones as compiled code has them."""
    return [name_from_text(zone) for zone in zones]


class Hosts(Plugin):
    """Answers from a hosts file."""

    name = "hosts"
    directive = HOSTS

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Names in its zones, and addresses whatever its zones are."""
        return any(under(name, zone) for zone in (*config.zones, "in-addr.arpa.", "ip6.arpa."))

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self.path = FILE if config.path is None else block.path(config.path)
        if config.path is not None:
            self.look()
        self.zones = wire(config.zones)
        self.inline = Image("\n".join(config.inline).encode("utf-8", "surrogateescape"), self.zones,
                            not config.no_reverse)
        self.memory = Board(block.stats, f"{block.generation}.{block.index}")
        self.state: tuple[int, int] | None = None  # time and size of what was read
        self.task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Says of a file that it is not there: it may appear later."""
        try:
            if not self.path:  # Path makes it the folder that the server runs in
                raise FileNotFoundError
            if stat.S_ISDIR(Path(self.path).stat().st_mode):
                self.log.warning('Hosts file "%s" is a directory', self.path)
        except FileNotFoundError:
            self.log.warning("File does not exist: %s", self.path)
        except (OSError, ValueError) as error:
            why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            text = f"unable to access hosts file '{self.path}': stat {self.path}: {why}"
            config = self.config
            raise SetupError(self.name, CorefileError(config.file, config.line, text, config.column)) from None

    def compiled(self) -> CompiledStage:
        config = self.config
        if self.memory.current():
            # The server has been serving: its keeper fills memory that what is forked from here does not have.
            self.refresh(self.memory.fill)
        inline = bytearray(self.inline.octets)
        self.inline.pack(inline, 1)
        return stage(self.zones, wire(config.fallthrough), config.fallthrough_unsupported, config.ttl,
                     bytes(inline) if self.inline.names else b"", self.memory.pair, self.memory.slot, self.memory)

    # ---- the file

    def read(self) -> tuple[bytes, tuple[int, int]] | None:
        """The file's octets, its time and size; None: it is as it was, or cannot be read."""
        with contextlib.suppress(OSError, ValueError), open(self.path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            state = found.st_mtime_ns, found.st_size
            if state == self.state:
                return None
            if not stat.S_ISREG(found.st_mode):
                return b"", state  # a folder or a device has no lines
            text = file.read(FILE_MOST + 1)
            if len(text) > FILE_MOST:
                self.log.error("%s has more than %d octets: not read", self.path, FILE_MOST)
                self.state = state
                return None
            return text, state
        return None

    def refresh(self, give: Callable[[Image], None] | None = None) -> bool:
        """Reads the file if it changed; whether workers have a new image."""
        found = self.read()
        if found is None:
            return False
        text, state = found
        try:
            image = Image(text, self.zones, not self.config.no_reverse)
            (give or self.memory.publish)(image)
        except (MemoryError, ValueError, OSError) as error:
            self.log.error("%s is not used: %s", self.path, error or type(error).__name__)
            return False
        self.state = state
        if give is None:
            ENTRIES.set(image.entries + self.inline.entries, self.path)
            RELOADED.set(state[0] / 1e9)
        return True

    async def start_server(self, channel: Channel) -> None:
        """The first image is there before a worker serves."""
        await asyncio.to_thread(self.refresh)
        self.task = asyncio.get_running_loop().create_task(self.watch())

    async def stop_server(self) -> None:
        """Ends the watching."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def watch(self) -> None:
        """Looks at the file at its interval, and gives back what was replaced: at first by a keeper before this one."""
        every = self.config.reload
        pause = min(GRACE_SECONDS, every or GRACE_SECONDS)
        replaced = True
        while True:
            await asyncio.sleep(pause)
            if replaced:
                with contextlib.suppress(OSError):  # then it is given back at the next change
                    self.memory.retire()
            if not every:
                return
            await asyncio.sleep(every - pause)
            replaced = await asyncio.to_thread(self.refresh)


def _without_waiting(path: str, flags: int) -> int:
    # A pipe would wait for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


__all__ = ["FILE_MOST", "Hosts"]
