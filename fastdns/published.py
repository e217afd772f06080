# SPDX-License-Identifier: Apache-2.0
"""Data that a plugin publishes in the keeper and reads in every worker: the newest version, whole or not at all.

Strategy: two memory files, inherited over the fork, take turns; each holds its version's number, length and octets.
The number of the current version is a word in the table of counters, so that a worker sees with one load
whether there is anything new. A reader that is overtaken while it copies finds another number in front of the
octets and reads again. One process writes.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._stats import Stats

HEAD = struct.Struct("=QQ")  # version, octets
READS = 100  # of versions that change under the reader's hands


class Board:
    """One plugin instance's data. Made before the fork; `slot` is the word that holds the current version."""

    def __init__(self, stats: Stats, generation: int, name: str) -> None:
        labels = (("generation", str(generation)), ("plugin", name))
        self.stats = stats
        self.slot = stats.intern("fastdns_published", labels, "word")
        stats.set_shared(self.slot, 0)
        self.files = [os.memfd_create(f"fastdns-published-{side}", os.MFD_CLOEXEC) for side in "ab"]

    def __del__(self) -> None:
        for file in getattr(self, "files", ()):
            os.close(file)

    def publish(self, data: bytes) -> int:
        """Makes `data` the current version; returns its number, from 1. Raises OSError when memory is short."""
        version = self.stats.get(self.slot) + 1
        file = self.files[version & 1]
        os.pwrite(file, HEAD.pack(0, 0), 0)
        os.ftruncate(file, HEAD.size + len(data))
        written = 0
        while written < len(data):
            written += os.pwrite(file, memoryview(data)[written:], HEAD.size + written)
        os.pwrite(file, HEAD.pack(version, len(data)), 0)
        self.stats.set_shared(self.slot, version)
        return version

    def read(self) -> tuple[int, bytes]:
        """The current version and its octets; version 0 before there is any. RuntimeError when it never rests."""
        for _ in range(READS):
            version = self.stats.get(self.slot)
            if version == 0:
                return 0, b""
            file = self.files[version & 1]
            found, length = HEAD.unpack(os.pread(file, HEAD.size, 0).ljust(HEAD.size, b"\0"))
            if found != version:
                continue
            data = b""
            while len(data) < length and (piece := os.pread(file, length - len(data), HEAD.size + len(data))):
                data += piece
            if len(data) == length and os.pread(file, HEAD.size, 0) == HEAD.pack(version, length):
                return version, data
        raise RuntimeError("the published data changes faster than it can be read")
