# SPDX-License-Identifier: Apache-2.0
"""The memory that the keeper puts images in and every worker maps.

Strategy: two memory files, inherited over the fork, take turns, so that a million names are there once for all
workers. They can grow but are sealed against shrinking: no reader can be hit by missing memory. A shared word has the
version that counts; its last bit says which file. The file of the version before is given back a little later, when
each worker that was in the middle of an answer has long finished it; one that has not finds the version in front
zeroed and begins anew. One process writes.

A template that is started again, or a program that took over, finds a word that counts already, and memory of its own
that nobody fills: `fill` is for them. Workers that cannot find the version that counts keep what they have.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

from ._hosts import HEAD_OCTETS

if TYPE_CHECKING:
    from fastdns._stats import Stats

    from ._hosts import Image

VERSION = 8  # octets of it, in front of an image


class Board:
    """Made before the fork. `slot` is the shared word that holds the current version; 0: there is none yet."""

    def __init__(self, stats: Stats, name: str) -> None:
        self.stats = stats
        self.slot = stats.intern("fastdns_hosts_version", (("block", name),), "word")
        self.version = 0  # the last that was published here
        self.files = [self._file(side) for side in "ab"]

    @staticmethod
    def _file(side: str) -> int:
        file = os.memfd_create(f"fastdns-hosts-{side}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return file

    def __del__(self) -> None:
        for file in getattr(self, "files", ()):
            os.close(file)

    @property
    def pair(self) -> tuple[int, int]:
        """The descriptors."""
        return self.files[0], self.files[1]

    def current(self) -> int:
        """The version that counts."""
        return max(self.version, self.stats.get(self.slot))

    def publish(self, image: Image) -> None:
        """Makes an image the current one. Raises OSError when memory is short; the one before then stays."""
        version = self.current() + 1
        if self.version and not (version - self.version) & 1:
            version += 1  # somebody else counted on: never into the file that is read
        self._write(image, version)
        self.version = version
        self.stats.set_shared(self.slot, version)

    def fill(self, image: Image) -> None:
        """Puts an image where the current version belongs, for those who are forked from here."""
        self._write(image, self.current())

    def _write(self, image: Image, version: int) -> None:
        file = self.files[version & 1]
        self._clear(file)
        os.posix_fallocate(file, 0, image.octets)
        with mmap.mmap(file, image.octets) as room:
            image.pack(room, version)

    def retire(self) -> None:
        """Gives back the memory of the version before the current one."""
        self._clear(self.files[((self.version or self.current()) + 1) & 1])

    def octets(self) -> int:
        """Memory that is taken."""
        return sum(os.fstat(file).st_blocks * 512 for file in self.files)

    @staticmethod
    def _clear(file: int) -> None:
        size = os.fstat(file).st_size
        if size >= HEAD_OCTETS:
            with mmap.mmap(file, size) as room:
                room[:VERSION] = bytes(VERSION)
                room.madvise(mmap.MADV_REMOVE)
