# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own lines on stdout.

Strategy: written at once and never waited for: a reader that has stalled costs lines (counted), not supervision.
"""

from __future__ import annotations

import os
import select

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "FATAL")
ATOMIC = 4096  # a pipe that polls writable takes this much without blocking


class Output:
    """`lost` counts lines that nobody took."""

    def __init__(self, fd: int = 1) -> None:
        self.fd = fd
        self.least = 0  # levels below this are not written
        self.lost = 0

    def write(self, text: str) -> None:
        """Write text, whole lines, in pieces that cannot block."""
        octets = text.encode("utf-8", "backslashreplace")
        while octets:
            piece, octets = octets[:ATOMIC], octets[ATOMIC:]
            if not self._ready() or not self._put(piece):
                self.lost += 1
                return

    def _ready(self) -> bool:
        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poller.poll(0))

    def _put(self, piece: bytes) -> bool:
        try:
            while piece:
                piece = piece[os.write(self.fd, piece):]
        except OSError:
            return False
        return True

    def log(self, level: str, text: str) -> None:
        """`[LEVEL] text`; further lines of text follow as they are."""
        if level not in LEVELS[:self.least]:
            self.write(f"[{level}] {text}\n")
