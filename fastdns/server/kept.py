# SPDX-License-Identifier: Apache-2.0
"""Memory that a plugin keeps over reloads and upgrades: named files in memory, owned by the supervisor.

Strategy: a plugin's plan asks for octets under a key that says what they mean (`ask("kept", key=..., octets=...)`);
equal keys of two generations get the same file, another key or size a new one, all zeros. What the memory holds is the
plugin's business. A file lives as long as the configuration that serves asks for it, or one that may come to serve.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import StartError

F_ADD_SEALS, SEALS = 1033, 0x0006  # <linux/fcntl.h>: neither shrink nor grow
OCTETS_MOST = 1 << 40
Ask = dict[str, Any]


def names(asks: Iterable[Ask]) -> list[str]:
    """The files' names, in the order of the asks. Of equal asks each has its own."""
    found, seen = [], dict[tuple[str, int], int]()
    for ask in asks:
        key = ask["key"], ask["octets"]
        seen[key] = seen.get(key, 0) + 1
        found.append(f"{ask['octets']}.{seen[key]}.{ask['key']}")
    return found


class Kept:
    """The files by name."""

    def __init__(self) -> None:
        self.files: dict[str, int] = {}

    def open(self, asks: Iterable[Ask]) -> list[int]:
        """Descriptors for a plan's asks, in their order; what is not there yet is made. StartError."""
        asks = list(asks)
        found = []
        for ask, name in zip(asks, names(asks), strict=True):
            if name not in self.files:
                try:
                    self.files[name] = make(ask["octets"])
                except (OSError, ValueError) as error:
                    raise StartError(f"a plugin's memory of {ask['octets']} octets cannot be made: {error}") from None
            found.append(self.files[name])
        return found

    def settle(self, asks: Iterable[Ask]) -> None:
        """These are the asks of the configuration that serves: lets go of everything else."""
        wanted = set(names(asks))
        for name in [name for name in self.files if name not in wanted]:
            os.close(self.files.pop(name))

    def save(self, note: Callable[[int], int]) -> list[list[Any]]:
        """What `restore` needs; `note` hears of every descriptor."""
        return [[name, note(fd)] for name, fd in self.files.items()]

    def restore(self, saved: list[list[Any]]) -> None:
        """Go on where `save` was called."""
        self.files = {str(name): int(fd) for name, fd in saved}


def make(octets: int) -> int:
    """A file of zeros that cannot change its size."""
    if not 0 < octets <= OCTETS_MOST:
        raise ValueError("out of range")
    fd = os.memfd_create("fastdns-kept", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, octets)
        fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd
