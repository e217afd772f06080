# SPDX-License-Identifier: Apache-2.0
"""A process of the server looks at its own threads when `pprof` asks: who may, for how long, and how the result leaves.

Strategy: the web process asks by way of the supervisor, with one end of a socket pair that every process gets a copy
of. A look (`look.py`) runs in a thread that lives as long as the request; nothing is hooked, so a process that nobody
asks pays nothing. The result leaves in packets, each marked with the sender; a process that dies closes its copy, and
the asker's closing ends the look at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import struct
import threading
from typing import Any

from .look import Look
from .main_thread import install

RUNNING_MAX = 2  # looks at a time: of two web processes during a reload
PIECE = 32_768
PIECE_HEAD = struct.Struct("!IB")  # process id, whether it is the last piece
SEND_SECONDS = 5.0
ALL = ("cpu", "block", "goroutine", "heap", "trace")

_running: list[threading.Thread] = []


def begin(words: dict[str, Any], fds: list[int], who: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Starts the look that `words` asks for: kind, seconds, and period_ns of `block`, gc of `heap`. Takes the first of
    `fds`; `who` is this process's name in the profile, `loop` where its tasks run."""
    if not fds:
        return
    sock = socket.socket(fileno=fds.pop(0))
    _running[:] = [thread for thread in _running if thread.is_alive()]
    if len(_running) >= RUNNING_MAX or words.get("kind") not in ALL:
        sock.close()
        return
    install()
    thread = threading.Thread(target=_run, args=(words, sock, who, loop), name="pprof", daemon=True)
    _running.append(thread)
    thread.start()


def _run(words: dict[str, Any], sock: socket.socket, who: str, loop: asyncio.AbstractEventLoop | None) -> None:
    with sock, contextlib.suppress(OSError):
        look = Look(float(words["seconds"]), sock, loop)
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
        last = start + PIECE >= len(octets)
        piece = PIECE_HEAD.pack(os.getpid(), last) + octets[start:start + PIECE]
        while True:
            try:
                sock.send(piece, socket.MSG_NOSIGNAL)
                break
            except BlockingIOError:
                if not poller.poll(int(SEND_SECONDS * 1000)):
                    raise TimeoutError from None
