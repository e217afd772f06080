# SPDX-License-Identifier: Apache-2.0
"""The plugin class of dnstap: a compiled stage notes what passes, the keeper sends it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any

import fastdns
from fastdns._log import format_labels, parse_format
from fastdns.plugin import BlockContext, BlockPlan, Channel, Dispenser, Event, Plugin, SetupError

from .config import DNSTAP, Tap
from .metrics import DAMAGED

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

    from ._dnstap import Table
    from .feed import Block, Feed, Line
    from .listening import Listening
    from .outgoing import Outgoing

PREFIX = "dnstap "
# Each generation has rings of its own: two of them have a keeper each, and a ring has one reader. A template that is
# started again gets the memory that the first one of its generation asked for.
TOKEN = secrets.token_hex(8)


def octets(text: str) -> bytes:
    """A word of the Corefile as it was written there."""
    return text.encode("utf-8", "surrogateescape")


def varies(extra: str) -> bool:
    """Whether a text has anything to fill in."""
    return any(operation for operation, _ in parse_format(extra))


class Dnstap(Plugin):
    """Tells collectors of messages."""

    name = "dnstap"
    directive = DNSTAP

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance with the taps of all lines of the block."""
        return [tuple(super().parse(dispenser))]

    @classmethod
    def plan(cls, config: tuple[Tap, ...], plan: BlockPlan) -> None:
        """Asks for rings that every process of the generation can map; of several blocks' the first one's are used."""
        from ._dnstap import LAYOUT, octets

        plan.ask("kept", key=f"{PREFIX}{LAYOUT} {TOKEN}", octets=octets())

    def __init__(self, config: tuple[Tap, ...], block: BlockContext) -> None:
        super().__init__(config, block)
        self.taps = config
        DAMAGED.declare(block.stats)
        self.formats = [tap.extra for tap in config if varies(tap.extra)]
        if importlib.util.find_spec("google") is None or importlib.util.find_spec("google.protobuf") is None:
            raise SetupError(self.name, "it needs protobuf: pip install 'fastdns[dnstap]'")
        try:
            self.labels = [block.labels.read(name) for text in self.formats for name in format_labels(text)]
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None

    def compiled(self) -> CompiledStage:
        from ._dnstap import Table

        common = self.block.common
        if "table" not in common:
            common["wake_fd"] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            fd = next((fd for name, fd in self.block.kept.items() if name.startswith(PREFIX)), -1)
            common["table"] = Table(self.block.stats, common["wake_fd"], fd)
            common["members"] = []
        table: Table = common["table"]
        try:
            stage = table.stage(self.labels, any(tap.full for tap in self.taps), bool(self.formats))
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None
        common["members"].append(self)
        return stage

    # ---- in the keeper

    @property
    def feed(self) -> Feed | None:
        """What reads the rings for all instances; None before the first of them started."""
        return self.block.common.get("feed")

    def _line(self, tap: Tap) -> Line:
        from .feed import Line
        from .listening import Listening
        from .outgoing import Outgoing

        to = f"{tap.proto}://{tap.endpoint}"
        sink = Listening(tap, f"listen {to}", self.log) if tap.listen else Outgoing(tap, to, self.log)
        self.sinks.append(sink)
        identity = octets(socket.gethostname() if tap.identity is None else tap.identity)
        version = octets(f"fastdns-{fastdns.__version__}" if tap.version is None else tap.version)
        place = self.formats.index(tap.extra) if varies(tap.extra) else None
        return Line(sink, tap.full, identity, version, octets(tap.extra) if tap.extra else None, place)

    def _block(self) -> Block:
        from .feed import Block

        self.sinks: list[Listening | Outgoing] = []
        return Block([self._line(tap) for tap in self.taps], self.formats)

    async def start_server(self, channel: Channel) -> None:
        """The first instance starts what all share."""
        common = self.block.common
        if "feed" not in common:
            from .feed import Feed

            blocks = [member._block() for member in common["members"]]
            common["feed"] = Feed(common["table"], blocks, common["wake_fd"], self.log)

    async def stop_server(self) -> None:
        """Sends what is left."""
        if self.feed is not None:
            await self.feed.stop()

    async def on_event(self, event: Event) -> None:
        """A listener makes room for the next configuration's; at the end of the server there is less time."""
        if self.feed is None:
            return
        if event == Event.FINAL_SHUTDOWN:
            self.feed.final = True
        for sink in self.sinks:
            if event == Event.RESTART:
                await sink.restart()
            elif event == Event.RESTART_FAILED:
                await sink.restart_failed()
