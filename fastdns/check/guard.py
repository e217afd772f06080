# SPDX-License-Identifier: Apache-2.0
"""Nothing happens here: while a Corefile is checked, this process opens no socket, writes no file and starts nobody.

Strategy: Python's audit hook sees each of these before it is done, whoever's code asks, a plugin's and a library's
alike. A hook cannot be taken away again, so it looks at a flag. What it raises is no `Exception`, so that code that
expects failures does not take it for one. C code that asks the kernel by itself is not seen: the list of the host's
interfaces, which `bind` reads, is the only such thing among our own plugins.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NETWORK = "use the network"
FILES = "write files"
PROCESSES = "start something"
REFUSED = {
    **dict.fromkeys(
        ("socket.__new__", "socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
         "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request"), NETWORK),
    **dict.fromkeys(
        ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod",
         "os.chown", "os.utime", "os.setxattr", "os.removexattr", "shutil.rmtree", "shutil.copyfile", "shutil.move",
         "tempfile.mkstemp", "tempfile.mkdtemp", "sqlite3.connect"), FILES),
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.kill",
         "signal.pthread_kill", "os.killpg"), PROCESSES),
}  # fmt: skip


class SideEffect(BaseException):
    """Something was about to be done; `deed` says what, `event` names Python's audit event."""

    def __init__(self, deed: str, event: str) -> None:
        super().__init__(f"would {deed} ({event})")
        self.deed = deed
        self.event = event


class _State:
    installed = False
    depth = 0
    refused: list[SideEffect]


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _State.depth:
        return
    deed = REFUSED.get(event)
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        by_flags = isinstance(flags, int) and flags & WRITES
        deed = FILES if by_flags or (isinstance(mode, str) and set(mode) & set("wax+")) else None
    elif event == "os.truncate" and isinstance(arguments[0], int):
        # Memory that is shared by a descriptor is sized so; a file's descriptor would have been refused when opened.
        deed = None
    if deed is not None:
        effect = SideEffect(deed, event)
        _State.refused.append(effect)
        raise effect


@contextlib.contextmanager
def nothing_happens() -> Iterator[list[SideEffect]]:
    """Refuses side effects within; gives the list of those that were tried, swallowed ones among them."""
    if not _State.installed:
        sys.addaudithook(_hook)
        _State.installed = True
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    outer = getattr(_State, "refused", [])
    tried: list[SideEffect] = []
    _State.refused = tried
    _State.depth += 1
    try:
        yield tried
    finally:
        _State.depth -= 1
        _State.refused = outer
        sys.dont_write_bytecode = writes
