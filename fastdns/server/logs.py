# SPDX-License-Identifier: Apache-2.0
"""Python's logging in a process of the server: CoreDNS's line format, through the process's log ring.

Strategy: `[LEVEL] plugin/NAME: message`, no time, as CoreDNS prints. A record becomes one LOG_TEXT record of the ring
and costs no system call; a full ring drops it and counts. Where there is no ring (a process that starts before the
formatter, or outlives it) lines go to stdout as far as it takes them at once.
"""

from __future__ import annotations

import logging

from .. import metrics
from .._log import RingHandle
from .._stats import Stats
from . import output
from .output import Output

LEVELS = ((logging.CRITICAL, 4), (logging.ERROR, 3), (logging.WARNING, 2), (logging.INFO, 1))
OURS = ("plugin/", "root", "fastdns")  # whose lines of level DEBUG are shown: a library's are not what is looked for
NAMES = output.LEVELS


def line(record: logging.LogRecord) -> str:
    """The text of a record without its level: the plugin's name, the message, and the traceback if it has one."""
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return f"{record.name}: {text}" if record.name.startswith("plugin/") else text


def level(record: logging.LogRecord) -> int:
    """The ring's level of a record: 0 debug .. 4 fatal."""
    return next((mine for theirs, mine in LEVELS if record.levelno >= theirs), 0)


class RingHandler(logging.Handler):
    """Writes to a ring, or to stdout without waiting for it."""

    def __init__(self, handle: RingHandle | None) -> None:
        super().__init__()
        self.handle_of_ring = handle
        self.output = Output()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record; never raises, never waits."""
        if record.levelno < logging.INFO and not record.name.startswith(OURS):
            return
        try:
            text = line(record)
        except Exception as error:
            text = f"a log call with wrong arguments: {record.msg!r}: {error!r}"
        if self.handle_of_ring is None:
            self.output.log(NAMES[level(record)], text)
        else:
            self.handle_of_ring.text(level(record), text)


def setup(handle: RingHandle | None, debug: bool = False) -> None:
    """Has everything that this process logs, from INFO on, written by a RingHandler; replaces an earlier one."""
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, RingHandler)]:
        root.removeHandler(old)
    root.addHandler(RingHandler(handle))
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def follow(stats: Stats) -> None:
    """Takes up the level that an operator has chosen (`fastdns ctl log LEVEL`), if one has."""
    chosen = metrics.log_level(stats)
    if chosen is not None:
        logging.getLogger().setLevel(logging.DEBUG + 10 * min(chosen, len(NAMES) - 1))
