# SPDX-License-Identifier: Apache-2.0
"""Where a stuck Python thread stands, asked from outside.

Strategy: faulthandler in the worker writes its stack to a memory file at SIGUSR2, from a C signal handler, so that it
works while Python does not; the supervisor holds the file's descriptor.
"""

from __future__ import annotations

import os
import re
import signal
import time

from .children import Child

WAIT_SECONDS = 0.05
OCTETS_MAX = 16384
_PLUGIN = re.compile(r"/plugins/([A-Za-z0-9_]+)/")


def ask(worker: Child) -> None:
    """Have the worker write its stack."""
    if worker.traceback_fd >= 0:
        worker.kill(signal.SIGUSR2)
        time.sleep(WAIT_SECONDS)


def read(worker: Child) -> str:
    """What it wrote; the innermost plugin first, where the stack names one."""
    if worker.traceback_fd < 0:
        return "(no stack)"
    text = os.pread(worker.traceback_fd, OCTETS_MAX, 0).decode("utf-8", "replace").rstrip()
    found = _PLUGIN.search(text)
    return (f"plugin {found.group(1)}\n" if found else "") + (text or "(no stack)")
