# SPDX-License-Identifier: Apache-2.0
"""How an interpreter begins beside a server that serves: reading modules costs it most, and that gives way.

Strategy: niceness belongs to a thread and cannot be lowered again without a privilege, and the threads that answer are
descendants of this process. So a thread of its own, which is nice, reads the modules while the first one waits and
keeps its weight. What the processes that are forked later need is read here too, once instead of in each of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from .niceness import aside

VARIABLE = "FASTDNS_ADOPT"  # in the environment of a program that follows another: the descriptor of the state
NICE = 12  # as a worker's Python: a share of a core that is busy with answers, so that a reload comes to its end
SUPERVISOR = ("fastdns.corefile.source", "fastdns.server.supervisor", "fastdns._stats", "fastdns._log",
              "fastdns._cache")
TEMPLATE = ("fastdns.chain", "fastdns._chain", "fastdns._udp", "fastdns._count", "fastdns.server.template",
            "fastdns.server.worker", "fastdns.server.keeper", "fastdns.server.web", "fastdns.server.helpers",
            "fastdns.server.formatter", "fastdns.server.ctl_commands", "fastdns.server.logs", "psutil")


def read(names: Sequence[str]) -> None:
    """Import modules."""
    for name in names:
        importlib.import_module(name)


def gently(names: Sequence[str]) -> None:
    """Import modules while others answer."""
    aside(NICE, lambda: read(names))


def main(fd: int, beside: bool) -> None:
    """A template's entry point: `fd` is the inherited end of its channel, `beside`: a server serves meanwhile."""
    (gently if beside else read)(TEMPLATE)
    from .template import main as live

    live(fd)
