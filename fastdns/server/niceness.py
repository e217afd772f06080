# SPDX-License-Identifier: Apache-2.0
"""Who gives way to the threads that answer.

Strategy: everything in Python runs at a niceness of its own, so that where cores are short the hot threads keep theirs.
It is only ever raised: a server that was started with a high one, as root too, has nobody before those who answer.
"""

from __future__ import annotations

import os


def give_way(nice: int, thread: int = 0) -> None:
    """Raise the niceness of a thread (its kernel number; 0: the calling one, and what it starts) to at least `nice`."""
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))
