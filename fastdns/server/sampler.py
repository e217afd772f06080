# SPDX-License-Identifier: Apache-2.0
"""A process of the server looks at its own threads when `pprof` asks: who may, for how long, and how the result leaves.

Strategy: the web process asks by way of the supervisor, with one end of a socket pair that every process gets a copy
of. A look (`look.py`) runs in a thread that lives as long as the request; nothing is hooked, so a process that nobody
asks pays nothing. The result leaves in packets, each marked with the sender; a process that dies closes its copy, and
the asker's closing ends the look at once. Who calls `begin` has other work that must go on, so whatever goes wrong ends
the look alone. What a look needs is imported with the first one, or by a template whose configuration has `pprof`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

from . import control

if TYPE_CHECKING:
    import asyncio

    from .look import Look

RUNNING_MAX = 2  # looks at a time: of two web processes during a reload
PIECE = 32_768
PIECE_HEAD = struct.Struct("!IB")  # process id, kind
MORE, LAST, NAME = 0, 1, 2  # kinds: a piece, the last one, who begins or cannot
SEND_SECONDS = 5.0
ALL = ("cpu", "block", "goroutine", "heap", "trace")

_running: list[threading.Thread] = []


def begin(words: dict[str, Any], fds: list[int], who: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Starts the look that `words` asks for: kind, seconds, and period_ns of `block`, gc of `heap`. Takes the first of
    `fds`; `who` is this process's name in the profile, `loop` where its tasks run. Never raises: no thread to be had or
    a program that was replaced on disk costs the look, which the asker notices by the socket that closes."""
    if not fds:
        return
    fd = fds.pop(0)
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        control.close_all([fd])
        return
    try:
        # First of all, so that the asker knows who was heard and who was not.
        sock.send(PIECE_HEAD.pack(os.getpid(), NAME) + who.encode(), socket.MSG_NOSIGNAL)
        _begin(words, sock, who, loop)
    except Exception:
        sock.close()


def _begin(words: dict[str, Any], sock: socket.socket, who: str, loop: asyncio.AbstractEventLoop | None) -> None:
    _running[:] = [thread for thread in _running if thread.is_alive()]
    if len(_running) >= RUNNING_MAX or words.get("kind") not in ALL:
        sock.close()
        return
    from . import look, main_thread

    main_thread.install()
    thread = threading.Thread(target=_run, args=(look.Look, words, sock, who, loop), name="pprof", daemon=True)
    thread.start()
    _running.append(thread)


def _run(kind: type[Look], words: dict[str, Any], sock: socket.socket, who: str,
         loop: asyncio.AbstractEventLoop | None) -> None:
    with sock, contextlib.suppress(OSError):
        look = kind(float(words["seconds"]), sock, loop)
        {"cpu": look.cpu, "block": lambda: look.block(int(words.get("period_ns", 0))), "goroutine": look.goroutine,
         "heap": lambda: look.heap(bool(words.get("gc"))), "trace": look.trace}[words["kind"]]()
        found = {"who": who, "pid": os.getpid(), "functions": look.functions, "samples": look.samples(),
                 "events": look.events, "lost": look.lost}
        send(sock, json.dumps(found, separators=(",", ":")).encode("utf-8", "backslashreplace"))


def send(sock: socket.socket, octets: bytes) -> None:
    """Sends in pieces, each marked with this process's id. OSError when nobody reads."""
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLOUT)
    for start in range(0, len(octets), PIECE):
        kind = LAST if start + PIECE >= len(octets) else MORE
        piece = PIECE_HEAD.pack(os.getpid(), kind) + octets[start:start + PIECE]
        while True:
            try:
                sock.send(piece, socket.MSG_NOSIGNAL)
                break
            except BlockingIOError:
                if not poller.poll(int(SEND_SECONDS * 1000)):
                    raise TimeoutError from None
