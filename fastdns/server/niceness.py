# SPDX-License-Identifier: Apache-2.0
"""Who gives way to the threads that answer.

Strategy: everything in Python runs at a niceness of its own, so that where cores are short the hot threads keep theirs.
It is only ever raised: a server that was started with a high one, as root too, has nobody before those who answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path


def give_way(nice: int, thread: int = 0) -> None:
    """Raise the niceness of a thread (its kernel number; 0: the calling one, and what it starts) to at least `nice`."""
    os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))


def aside(nice: int, work: Callable[[], None]) -> None:
    """Have a thread with that niceness do something; the calling one waits and keeps its own. What `work` raises is
    raised here. When this returns the thread has left the process, which may be forked."""
    raised: list[BaseException] = []
    number: list[int] = []

    def run() -> None:
        number.append(threading.get_native_id())
        give_way(nice, number[0])
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="aside")
    thread.start()
    thread.join()
    # What Python calls the end is some way from it, and a thread that gives way may have to wait for its turn.
    while number and Path(f"/proc/self/task/{number[0]}").exists():
        time.sleep(0.001)
    if raised:
        raise raised[0]
