# SPDX-License-Identifier: Apache-2.0
"""The weight file of loadbalance: read by the keeper, once for the whole server.

Strategy: the file is read whole in a thread, and parsed only when its octets differ from those seen last, good or bad;
what cannot be parsed leaves the weights that there are. Errors have CoreDNS's words.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

from fastdns.corefile.addresses import parse_ip
from fastdns.corefile.units import format_duration, parse_uint
from fastdns.plugin import Channel, StartError, end_task

FILE_MOST = 16 << 20  # octets
LINE_MOST = 65536
WEIGHTS_MOST = 131_072
SHORTEST = 0.1  # seconds between two looks, whatever is configured
OPEN_ERROR = "weight file open error"

Weight = tuple[str, bytes, int]


class NotOpened(ValueError):
    """The file cannot be opened, which may change."""


def mapped(text: str) -> bytes | None:
    """An address in 16 octets, IPv4 mapped; None for what is none."""
    address = parse_ip(text)
    if address is None:
        return None
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def parse(octets: bytes, path: str) -> Iterator[Weight]:
    """(name with final dot, address, weight) for each line that has one. Raises ValueError."""
    name = ""
    for raw in octets.split(b"\n"):
        if len(raw) >= LINE_MOST:
            raise ValueError(f"weight file {path} parsing error:bufio.Scanner: token too long")
        line = raw.decode("utf-8", "surrogateescape").strip()
        if not line or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) == 1:
            if mapped(fields[0]) is not None:
                raise ValueError(
                    f'wrong domain name:"{fields[0]}" in weight file {path}. (Maybe a missing weight value?)')
            name = fields[0] if fields[0].endswith(".") else f"{fields[0]}."
        elif len(fields) == 2:
            yield name, *_weight(fields, name, path)
        else:
            raise ValueError(f'could not parse weight line:"{line}" in weight file {path}')


def _weight(fields: list[str], name: str, path: str) -> tuple[bytes, int]:
    address = mapped(fields[0])
    if address is None:
        raise ValueError(f'wrong IP address:"{fields[0]}" in weight file {path}')
    try:
        weight = parse_uint(fields[1], 8)
    except ValueError:
        weight = 0
    if weight == 0:
        raise ValueError(f'wrong weight value:"{fields[1]}" in weight file {path}')
    if not name:
        raise ValueError(f"missing domain name in weight file {path}")
    return address, weight


class Watch:
    """Publishes what the file says. `interval` in seconds, 0: the file is read once."""

    def __init__(self, path: str, interval: float) -> None:
        self.path = path
        self.interval = interval
        self.seen = b""
        self.task: asyncio.Task[None] | None = None

    async def start(self, channel: Channel) -> None:
        """Reads the file and begins to watch it. Raises StartError for a file that cannot be parsed, and for one that
        cannot be opened if nobody would look again."""
        self.channel = channel
        try:
            await self.look()
        except NotOpened as error:
            if not self.interval:
                raise StartError(f"plugin/loadbalance: {error}") from None
            when = format_duration(self.interval)
            self.say("WARNING", f"Failed to open weight file:{error}. Will try again in {when}")
        except ValueError as error:
            raise StartError(f"plugin/loadbalance: {error}") from None
        if self.interval:
            self.task = asyncio.get_running_loop().create_task(self.repeat())

    async def stop(self) -> None:
        """Looks no more."""
        task, self.task = self.task, None
        await end_task(task)

    async def repeat(self) -> None:
        """Looks every `interval`."""
        while True:
            await asyncio.sleep(max(self.interval, SHORTEST))
            try:
                await self.look()
            except ValueError as error:
                self.say("ERROR", str(error))

    async def look(self) -> None:
        """Reads the file, and publishes its weights if they are others. Raises ValueError."""
        octets = await asyncio.to_thread(self._read)
        digest = hashlib.sha256(octets).digest()
        if digest == self.seen:
            return
        self.seen = digest
        image = await asyncio.to_thread(self._image, octets)
        try:
            self.channel.publish(image)
        except OSError as error:
            self.seen = b""  # the next look tries again
            raise ValueError(f"weight file {self.path} is not used: {error.strerror}") from None
        self.say("INFO", f"Successfully reloaded weight file {self.path}")

    def _read(self) -> bytes:
        try:
            with Path(self.path).open("rb") as file:
                octets = file.read(FILE_MOST + 1)
        except OSError:
            raise NotOpened(OPEN_ERROR) from None
        if len(octets) > FILE_MOST:
            raise ValueError(f"weight file {self.path} has more than {FILE_MOST} octets")
        return octets

    def _image(self, octets: bytes) -> bytes:
        from fastdns._wire import name_from_text, name_lower

        from ._loadbalance import image

        names: dict[str, bytes] = {}
        found = []
        for name, address, weight in parse(octets, self.path):
            if name not in names:
                try:
                    names[name] = name_lower(name_from_text(name))
                except ValueError:
                    names[name] = b""  # no record has such an owner
            if names[name]:
                found.append((names[name], address, weight))
        if len(found) > WEIGHTS_MOST:
            raise ValueError(f"weight file {self.path} has more than {WEIGHTS_MOST} weights")
        return image(found)

    def say(self, level: str, text: str) -> None:
        """A line of the log."""
        self.channel.log(level, f"plugin/loadbalance: {text}")
