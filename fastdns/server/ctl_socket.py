# SPDX-License-Identifier: Apache-2.0
"""Where the control socket lies, and its opening by the supervisor, who keeps it for as long as the server lives.

Strategy: `-control PATH`, else `control-PID.sock` in $RUNTIME_DIRECTORY or /run/fastdns. A path that was asked for must
open; the usual place is a convenience whose lack is said once. The socket has mode 0600, so the file system is the
first to judge who may connect. What dead servers left behind is cleared away.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import struct
from pathlib import Path

from ..errors import StartError

FOLDER = Path("/run/fastdns")
NAME = re.compile(r"control-(\d{1,10})\.sock")
PATH_MAX = 107  # octets of sockaddr_un's path
BACKLOG = 16
LOOKED_AT = 1000  # names of the folder that are looked at
CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


def folder() -> Path:
    """Where servers put their sockets unless told otherwise."""
    # systemd separates several by colons.
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else FOLDER


def default_path(pid: int) -> Path:
    """The usual path of the server whose supervisor is `pid`."""
    return folder() / f"control-{pid}.sock"


def peer(sock: socket.socket) -> tuple[int, int]:
    """(process, user) at the other end; of a connected client's end, the process that called listen()."""
    pid, uid, _ = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return pid, uid


def listener_of(path: Path) -> int:
    """The process that listens at a path; 0: none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(str(path))
        except BlockingIOError:
            return -1  # somebody is there, with a full backlog
        except OSError:
            return 0
        return peer(sock)[0]


def servers() -> dict[int, Path]:
    """The sockets in the usual folder that somebody listens at, by supervisor."""
    return {pid: path for pid, path in _there() if listener_of(path)}


def _there() -> list[tuple[int, Path]]:
    found = []
    with contextlib.suppress(OSError), os.scandir(folder()) as entries:
        for entry, _ in zip(entries, range(LOOKED_AT), strict=False):
            if match := NAME.fullmatch(entry.name):
                found.append((int(match[1]), Path(entry.path)))
    return sorted(found)


class ControlSocket:
    """The supervisor's. `sock` is None where there is none; `why` then says the reason."""

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.path = Path(asked).absolute() if asked else default_path(os.getpid())
        self.sock: socket.socket | None = None
        self.why = ""
        self._own = 0  # its inode in the file system: whether the name is still this socket's

    def save(self) -> tuple[int, int]:
        """What `adopt` needs: (descriptor, -1 for none; inode)."""
        return self.sock.fileno() if self.sock is not None else -1, self._own

    def adopt(self, fd: int, inode: int) -> None:
        """Go on with the socket of the program before this one, which clients are connected to and wait at."""
        self.sock, self._own = socket.socket(fileno=fd) if fd >= 0 else None, inode

    def named(self) -> bool:
        """Whether a client that looks for the path finds this socket."""
        try:
            return self.sock is not None and self.path.lstat().st_ino == self._own
        except OSError:
            return False

    def open(self) -> None:
        """Listen, unless that is so. StartError if a path that was asked for cannot be opened."""
        if self.named():
            return
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        try:
            if not self.asked:
                self._prepare()
            self._bind()
        except OSError as error:
            self.why = f"control socket {self.path}: {(error.strerror or str(error)).lower()}"
            if self.asked:
                raise StartError(self.why) from None

    def _prepare(self) -> None:
        home = self.path.parent
        if os.geteuid() == 0 and not home.exists():
            home.mkdir(mode=0o750, parents=True, exist_ok=True)
        for pid, path in _there():
            if pid != os.getpid() and not Path(f"/proc/{pid}").exists() and listener_of(path) == 0:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _bind(self) -> None:
        if len(os.fsencode(self.path)) > PATH_MAX:
            raise OSError(f"a path has at most {PATH_MAX} octets")
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise OSError("there is something else at this path")
            # An upgraded server finds the one that it listened at itself.
            if listener_of(self.path) not in (0, os.getpid()):
                raise OSError("another process listens there")
            self.path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            sock.bind(str(self.path))
            self._own = self.path.lstat().st_ino
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(mask)
        self.sock = sock

    def close(self) -> None:
        """Listen no more, and take the name away if it is still this socket's."""
        if self.sock is None:
            return
        if self.named():
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.sock.close()
        self.sock = None
