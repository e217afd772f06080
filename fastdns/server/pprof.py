# SPDX-License-Identifier: Apache-2.0
"""/debug/pprof/ of the web process: profiles of all processes of the server as one.

Strategy: paths, parameters, statuses and errors are those of Go's net/http/pprof, so `go tool pprof http://ADDRESS` and
scripts around it go on working. The web process asks every process to look at its own threads (`sampler.py`) and adds
the answers up, each below a frame with the process's name and one with the thread's. Of processes that run nothing
besides waiting (supervisor, template, spares) the CPU clocks are read from here. One look at a time, for at most
SECONDS_MAX; a process that does not answer is left out after GRACE seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import psutil

from . import control, pprof_views, sampler
from .http import Answer, Field
from .look import TICK_NS
from .pprof_views import Found
from .thread_clocks import process_clock

PREFIX = "/debug/pprof"
SECONDS_MAX = 300.0
SECONDS = {"cpu": 30, "block": 5, "heap": 5}  # where the request does not say
GRACE = 5.0  # seconds for the answers to come
FOUND_MAX = 32 << 20  # octets of a process's answer
PACKET_MAX = sampler.PIECE + sampler.PIECE_HEAD.size
NAMES = {"profile": "cpu", "block": "block", "goroutine": "goroutine", "heap": "heap"}
NOSNIFF = ("X-Content-Type-Options", "nosniff")
IN_USE = "Could not enable {title} profiling: {name} profiling already in use"
POSITIVE = 'invalid value for "seconds" - must be a positive integer'


def refused(status: int, text: str) -> Answer:
    """An error as Go's handlers word and mark it."""
    return Answer(status, f"{text}\n".encode(), fields=(NOSNIFF, ("X-Go-Pprof", "1")))


def attached(name: str, body: bytes) -> Answer:
    """A profile."""
    fields: tuple[Field, ...] = (NOSNIFF, ("Content-Disposition", f'attachment; filename="{name}"'))
    return Answer(200, body, "application/octet-stream", fields)


class Profiler:
    """Answers one address. `rate`: nanoseconds of waiting for a sample of `block`, 0 and less: it is off."""

    def __init__(self, channel: control.Channel, rate: int = 0) -> None:
        self.channel = channel
        self.rate = rate
        self.busy = False

    async def answer(self, path: str, query: str) -> Answer:
        """The answer to PREFIX and what is below it."""
        words = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
        name = path.removeprefix(PREFIX)
        if name == "":
            where = f"{PREFIX}/"
            return Answer(302, f'<a href="{where}">Found</a>.\n\n'.encode(), pprof_views.HTML, (("Location", where),))
        name = name[1:]
        if name == "":
            return Answer(200, pprof_views.index(self.rate > 0), pprof_views.HTML, (NOSNIFF,))
        if name == "cmdline":
            return Answer(200, command_line(os.getppid()), fields=(NOSNIFF,))
        if name == "symbol":
            # Profiles name their functions themselves; there is no address to look up.
            return Answer(200, b"num_symbols: 0\n", fields=(NOSNIFF,))
        if name != "trace" and name not in NAMES:
            return refused(404, "Unknown profile")
        try:
            return await (self._trace(words) if name == "trace" else self._profile(name, words))
        except (OSError, RuntimeError) as error:
            # No descriptors or no threads to be had.
            return refused(500, f"cannot look: {error}")

    async def _profile(self, name: str, words: dict[str, str]) -> Answer:
        kind = NAMES[name]
        seconds: float = SECONDS.get(kind, 0)
        text = words.get("seconds", "")
        if kind == "goroutine":
            if "seconds" in words:
                return refused(400, '"seconds" makes no sense for goroutine')
        elif text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
            seconds = float(text)
        elif "seconds" in words and kind != "cpu":
            return refused(400, POSITIVE)
        if seconds > SECONDS_MAX:
            return refused(400, f"profile duration exceeds {SECONDS_MAX:g} seconds")
        if self.busy:
            return refused(500, IN_USE.format(title="CPU" if kind == "cpu" else kind, name=kind))
        asked: dict[str, Any] = {"kind": kind, "seconds": seconds}
        if kind == "block":
            asked["period_ns"] = self.rate
        if kind == "heap":
            asked["gc"] = words.get("gc", "0") not in ("", "0")
        began, began_ns = time.time_ns(), time.monotonic_ns()
        off = kind == "block" and self.rate <= 0
        found, clocks, silent = ([], {}, []) if off else await self.gather(asked)
        took = time.monotonic_ns() - began_ns
        if words.get("debug", "0") not in ("", "0") and kind != "cpu":
            return Answer(200, pprof_views.text(kind, found, silent), fields=(NOSNIFF,))
        period = max(TICK_NS, self.rate) if kind == "block" else TICK_NS
        profile = await asyncio.to_thread(pprof_views.profile, kind, found, clocks, silent, period, began, took)
        return attached(name if kind in ("cpu", "goroutine") else f"{name}-delta", profile)

    async def _trace(self, words: dict[str, str]) -> Answer:
        try:
            seconds = float(words.get("seconds", ""))
        except ValueError:
            seconds = 1.0
        seconds = seconds if seconds > 0 else 1.0
        if not seconds <= SECONDS_MAX:
            return refused(400, f"profile duration exceeds {SECONDS_MAX:g} seconds")
        if self.busy:
            return refused(500, "Could not enable tracing: tracing is already enabled")
        found, _, silent = await self.gather({"kind": "trace", "seconds": seconds})
        return Answer(200, await asyncio.to_thread(pprof_views.events, found, silent), "application/json",
                      (NOSNIFF, ("Content-Disposition", 'attachment; filename="trace.json"')))

    async def gather(self, words: dict[str, Any]) -> tuple[list[Found], dict[str, int], list[str]]:
        """What the processes found, CPU nanoseconds of those that did not look themselves, and of whom nothing came."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.busy = True
        try:
            ours.setblocking(False)
            theirs.setblocking(False)
            before = await asyncio.to_thread(clocks_of_all) if words["kind"] == "cpu" else {}
            sampler.begin(words, [os.dup(theirs.fileno())], "web", asyncio.get_running_loop())
            with contextlib.suppress(control.Closed):
                # Without a supervisor there is nobody else to ask.
                self.channel.send({"ask": 0, "do": "profile", "words": words}, [theirs.fileno()])
            theirs.close()
            found, silent = await receive(ours, words["seconds"] + GRACE)
            after = await asyncio.to_thread(clocks_of_all) if words["kind"] == "cpu" else {}
        finally:
            ours.close()
            theirs.close()
            self.busy = False
        looked = {one["pid"] for one in found}
        spent: dict[str, int] = {}
        for pid, (who, ns) in after.items():
            if pid not in looked:
                spent[who] = spent.get(who, 0) + max(0, ns - before.get(pid, ("", 0))[1])
        return found, spent, silent


async def receive(sock: socket.socket, seconds: float) -> tuple[list[Found], list[str]]:
    """The answers of all who hold the other end, until the last of them has closed it or the time is over; and who is
    not among them, in words."""
    loop = asyncio.get_running_loop()
    parts: dict[int, bytearray] = {}
    found: list[Found] = []
    names: dict[int, str] = {}
    late = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                packet = await loop.sock_recv(sock, PACKET_MAX)
                if not packet:
                    late = False
                    break
                if len(packet) < sampler.PIECE_HEAD.size:
                    continue
                pid, kind = sampler.PIECE_HEAD.unpack_from(packet)
                if kind == sampler.NAME:
                    names[pid] = packet[sampler.PIECE_HEAD.size:].decode("utf-8", "replace")
                    continue
                part = parts.setdefault(pid, bytearray())
                if len(part) <= FOUND_MAX:
                    part += packet[sampler.PIECE_HEAD.size:]
                if kind == sampler.LAST:
                    with contextlib.suppress(ValueError):
                        found.append(json.loads(parts.pop(pid)))
                        names.pop(pid, None)
    silent = [f"{name} (pid {pid}): no answer" for pid, name in sorted(names.items())]
    if late:
        silent.append(f"not everybody has answered in {seconds:g} s")
    return found, silent


def clocks_of_all() -> dict[int, tuple[str, int]]:
    """Name and CPU nanoseconds so far of every process of the server, by its id."""
    found = {}
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(os.getppid())
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                name = "supervisor" if process == root else process.name().removeprefix("fastdns:")
                found[process.pid] = name, time.clock_gettime_ns(process_clock(process.pid))
    return found


def command_line(pid: int) -> bytes:
    """The words of the server's command line, separated by NUL, as Go's handler gives them."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return b""
