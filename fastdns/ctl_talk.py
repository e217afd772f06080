# SPDX-License-Identifier: Apache-2.0
"""The client's end of the control socket: the words of a command, which server is meant, a request, its answer.

Strategy: without a path the usual folder is looked through; one living server is the one that is meant, several must
be told apart by the user. Words that make no sense end with another status than a server that does not answer.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from .errors import FastdnsError
from .server.ctl_socket import default_path, folder, servers

ANSWER_MAX = 16 << 20
ONCE = ("dump",)  # commands that are not asked for again by themselves
SECONDS = 310.0  # a little longer than the server gives a command
BUSY_SECONDS = 5.0  # for a server that has as many clients as it hears at once
BUSY_PAUSE_SECONDS = 0.05


USAGE_EXIT = 2


class UsageError(Exception):
    """Words that make no sense."""


class Parser(argparse.ArgumentParser):
    """Of a command that asks a server."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage()}{self.prog}: {message}")


def read(parser: Parser, arguments: Sequence[str], err: TextIO) -> argparse.Namespace | int:
    """The words, or the exit status where there is nothing more to do."""
    try:
        return parser.parse_args(list(arguments))
    except UsageError as error:
        err.write(f"{error}\n")
        return USAGE_EXIT
    except SystemExit as error:  # --help
        return int(error.code or 0)


def plain(text: object) -> str:
    """What comes from names in the cache cannot steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


class TalkError(FastdnsError):
    """No server, or none that answers."""


def find(path: str, pid: int | None) -> Path:
    """The socket that is meant. TalkError where that is none or not clear."""
    if path:
        return Path(path)
    if pid is not None:
        return default_path(pid)
    there = servers()
    if not there:
        raise TalkError(f"no server has a control socket in {folder()} that you may use: say --socket PATH")
    if len(there) > 1:
        known = "".join(f"\n  --pid {number}" for number in there)
        raise TalkError(f"several servers run, say which:{known}")
    return next(iter(there.values()))


def talk(path: Path, request: dict[str, Any], fd: int = -1) -> dict[str, Any]:
    """Asks, with a descriptor or without. TalkError when nothing that makes sense comes back."""
    try:
        try:
            return _heard(path, request, fd)
        except ConnectionResetError:
            # The process that had accepted ends with a reload; the next one has the socket. Asked twice, everything is
            # as if it were asked once, but for a file that the first may have begun, or still be at.
            if request["do"] in ONCE:
                raise TalkError("the process that was asked ended with a reload: ask again") from None
            return _heard(path, request, fd)
    except OSError as error:
        raise TalkError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _heard(path: Path, request: dict[str, Any], fd: int) -> dict[str, Any]:
    """Asks until it is its turn: a server that hears as many as it may says so at once, and has done nothing."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            answer = _once(path, request, fd)
            if not answer.get("busy") or time.monotonic() > until:
                return answer
        except BlockingIOError:  # so many wait to be accepted that the kernel lets no more of them wait
            if time.monotonic() > until:
                raise
        time.sleep(BUSY_PAUSE_SECONDS)


def _once(path: Path, request: dict[str, Any], fd: int) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        sock.connect(str(path))
        line = json.dumps(request).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        with contextlib.suppress(BrokenPipeError):  # it may have answered, and gone, without a question
            sent = sock.sendmsg([line], rights)
            if rest := line[sent:]:  # sending nothing fails too, where the server has answered and gone
                sock.sendall(rest)
        return _answer(sock)


def _answer(sock: socket.socket) -> dict[str, Any]:
    octets = bytearray()
    while not octets.endswith(b"\n") and len(octets) <= ANSWER_MAX:
        data = sock.recv(65536)
        if not data:
            break
        octets += data
    if not octets:
        raise ConnectionResetError("the server ended the connection without an answer")
    try:
        answer = json.loads(octets)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise TalkError("the answer makes no sense")
    return answer
