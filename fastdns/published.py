# SPDX-License-Identifier: Apache-2.0
"""Data that a plugin publishes in the keeper and reads in every worker: the newest version, whole or not at all.

Strategy: one memory file for each plugin instance, whose two sides take turns (`_published.pyx` has the layout and the
order of stores). Compiled stages follow it in C, without the interpreter; Python plugins by `on_update`. The
supervisor makes the files and owns them as long as their configuration lives, so a template that is started again, and
whoever is forked from it, has what the keeper of before published. One process writes. What was replaced is given back
a little later, when everybody who was in the middle of an answer has long finished it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
import threading
from typing import Protocol

from ._published import COUNT, HEAD, PAGE, SIDE, Mapped

OCTETS_MOST = SIDE - HEAD
GRACE_SECONDS = 1.0  # until what was replaced is given back
READS = 100  # of publications that end under the reader's hands
WORD = struct.Struct("=Q")
FRONT = struct.Struct("=QQ")  # of a side: generation, octets


class Packs(Protocol):
    """Data that is not yet octets in a row: an image that can be as large as the memory it goes to."""

    @property
    def octets(self) -> int:
        """How many there will be."""

    def pack(self, room: memoryview) -> None:
        """Writes them to the begin of `room`."""


def make(configuration: int = 0) -> int:
    """A file for a board, with nothing published; `configuration` is the number of the one that it belongs to: two of
    them never count the same generation. OSError."""
    fd = os.memfd_create("fastdns-published", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, PAGE + 2 * SIDE)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        os.pwrite(fd, WORD.pack(configuration * (COUNT + 1)), 0)
    except OSError:
        os.close(fd)
        raise
    return fd


class Board(Mapped):
    """One plugin instance's data, made before the fork. The descriptor becomes the board's own."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._turn = threading.Lock()  # a publication may run in another thread than what gives memory back

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def version(self) -> int:
        """How often something was published."""
        return self.generation & COUNT

    def publish(self, data: bytes | Packs) -> int:
        """Makes `data` the current version; returns its number, from 1. OSError when memory is short, and whatever
        `pack` raises: the version before then stays."""
        octets = len(data) if isinstance(data, bytes) else data.octets
        if not 0 <= octets <= OCTETS_MOST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        with self._turn:
            generation = self.generation + 1
            side, at = generation & 1, self._at(generation)
            self._clear(side)
            # First of all how much it will be: whoever comes after a publisher that was killed gives it back.
            os.pwrite(self.fd, WORD.pack(octets), WORD.size * (1 + side))
            os.posix_fallocate(self.fd, at, HEAD + octets)
            with mmap.mmap(self.fd, HEAD + octets, offset=at) as room:
                FRONT.pack_into(room, 0, 0, octets)
                if isinstance(data, bytes):
                    room[HEAD:] = data
                else:
                    with memoryview(room) as whole, whole[HEAD:] as body:
                        data.pack(body)
            self._store(at, generation)
            self._store(0, generation)
        return generation & COUNT

    def retire(self, version: int) -> None:
        """Gives back the memory of the version before this one, if it still is the current one. OSError."""
        if self._turn.acquire(blocking=False):  # otherwise that memory is being written anew
            try:
                if self.version == version:
                    self._clear((version + 1) & 1)
            finally:
                self._turn.release()

    def read(self) -> tuple[int, bytes]:
        """(generation, data) as they are now; version 0 has no octets. RuntimeError when it never rests."""
        for _ in range(READS):
            if (found := self._read()) is not None:
                return found
        raise RuntimeError("the published data changes faster than it can be read")

    def octets(self) -> int:
        """Memory that is taken."""
        return os.fstat(self.fd).st_blocks * 512

    def _at(self, side: int) -> int:
        return PAGE + (side & 1) * SIDE

    def _clear(self, side: int) -> None:
        place = WORD.size * (1 + side)
        (octets,) = WORD.unpack(os.pread(self.fd, WORD.size, place))
        if os.pread(self.fd, FRONT.size, self._at(side)) != bytes(FRONT.size):
            self._store(self._at(side), 0)  # before anything else is touched
        if 0 < octets <= OCTETS_MOST:
            with mmap.mmap(self.fd, HEAD + octets, offset=self._at(side)) as room:
                room.madvise(mmap.MADV_REMOVE)
            os.pwrite(self.fd, bytes(WORD.size), place)
