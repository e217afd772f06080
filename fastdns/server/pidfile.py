# SPDX-License-Identifier: Apache-2.0
"""The file that tells the supervisor's process id: there from the first answer on, gone with the process.

Strategy: a failure is told and changes nothing, as in CoreDNS.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Pidfile:
    """`path` is empty where none was asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.written = False

    def write(self) -> str:
        """Write it; returns why it could not be, or nothing."""
        if self.path:
            try:
                Path(self.path).write_text(f"{os.getpid()}\n", encoding="ascii")
                self.written = True
            except OSError as error:
                return f"open {self.path}: {os.strerror(error.errno or 0).lower()}"
        return ""

    def remove(self) -> None:
        """Remove it if it was written."""
        if self.written:
            self.written = False
            with contextlib.suppress(OSError):  # a folder that became read-only must not disturb the end
                if Path(self.path).is_file():  # not /dev/null
                    Path(self.path).unlink(missing_ok=True)
