# SPDX-License-Identifier: Apache-2.0
"""The plugin class of hosts: reads the file in the keeper, once for the whole server, and again when it changed.

Strategy: the keeper makes an image of the file before any worker serves, and after that beside its loop, so a million
names hold nobody up. Workers map it (fastdns/published.py). The lines in the Corefile are an image of their own, made
at set-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdns._wire import name_from_text
from fastdns.corefile.names import under
from fastdns.errors import CorefileError
from fastdns.plugin import BlockContext, Channel, Plugin, Settings, SetupError, end_task

from ._hosts import Image, stage
from .config import FILE, HOSTS
from .metrics import ENTRIES, RELOADED

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage
    from fastdns.published import Board

FILE_MOST = 256 << 20  # octets of a file


def wire(zones: tuple[str, ...]) -> list[bytes]:
    """Zones as compiled code has them."""
    return [name_from_text(zone) for zone in zones]


class Hosts(Plugin):
    """Answers from a hosts file."""

    name = "hosts"
    directive = HOSTS
    board: Board

    @classmethod
    def publishes(cls, config: Settings) -> bool:
        """Images of the file."""
        return True

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
        inline = bytearray(self.inline.octets)
        self.inline.pack(inline)
        return stage(self.zones, wire(config.fallthrough), config.fallthrough_unsupported, config.ttl,
                     bytes(inline) if self.inline.names else b"", self.board)

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

    def refresh(self, channel: Channel) -> bool:
        """Reads the file if it changed; whether workers have a new image."""
        found = self.read()
        if found is None:
            return False
        text, state = found
        try:
            image = Image(text, self.zones, not self.config.no_reverse)
            self.log.debug("Parsed hosts file into %d entries", image.entries)
            channel.publish(image)
        except (MemoryError, ValueError, OSError) as error:
            self.log.error("%s is not used: %s", self.path, error or type(error).__name__)
            return False
        self.state = state
        ENTRIES.set(image.entries + self.inline.entries, self.path)
        RELOADED.set(state[0] / 1e9)
        return True

    async def start_server(self, channel: Channel) -> None:
        """The first image is there before a worker serves."""
        await asyncio.to_thread(self.refresh, channel)
        if self.config.reload:
            self.task = asyncio.get_running_loop().create_task(self.watch(channel))

    async def stop_server(self) -> None:
        """Ends the watching."""
        task, self.task = self.task, None
        await end_task(task)

    async def watch(self, channel: Channel) -> None:
        """Looks at the file at its interval."""
        while True:
            await asyncio.sleep(self.config.reload)
            await asyncio.to_thread(self.refresh, channel)


def _without_waiting(path: str, flags: int) -> int:
    # A pipe would wait for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


__all__ = ["FILE_MOST", "Hosts"]
