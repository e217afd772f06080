# SPDX-License-Identifier: Apache-2.0
"""The control socket's clients, in the web process: lines of JSON in, lines of JSON out.

Strategy: a request is an object with `do`, checked word by word before anything runs (`ctl_commands`). Everything that
a client may use up is bounded: lines, clients, time to ask and time to read, answers. Work on the whole cache runs in
one thread in small pieces, so that two clients cannot take two CPUs and a scrape is served meanwhile. No worker takes
part. The kernel says who is at the other end; only the server's own user and root are heard.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from . import control, ctl_cache, ctl_commands, ctl_top
from .ctl_site import Refused, Site
from .ctl_socket import peer
from .niceness import give_way

MODULES = (ctl_cache, ctl_commands, ctl_top)  # whose import fills the table of commands
CLIENTS_MAX = 8
LINE_MAX = 65536  # octets of a request
ANSWER_MAX = 16 << 20
IDLE_SECONDS = 30.0  # for a whole request to come
SEND_SECONDS = 5.0  # for an answer to be read
COMMAND_SECONDS = 300.0
ASK_SECONDS = 120.0  # for the supervisor's answer: a reload
ACCEPT_PAUSE_SECONDS = 0.1
LAST_SECONDS = 0.5  # for answers that are ready when the process ends
ANCILLARY = socket.CMSG_SPACE(4 * 4)
NICE = 15

T = TypeVar("T")
Going = Callable[[], bool]
log = logging.getLogger("control")


class Gone(Exception):
    """The client has left, or is not to be heard any more."""


class Control:
    """Serves one listening socket. `channel` leads to the supervisor."""

    def __init__(self, site: Site, channel: control.Channel, sock: socket.socket) -> None:
        self.site = site
        self.channel = channel
        self.sock = sock
        self.loop = asyncio.get_running_loop()
        self.clients: dict[asyncio.Task[None], Client] = {}
        self.asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.number = 0
        self.ending = False
        self.thread = ThreadPoolExecutor(1, "control", give_way, (NICE,))
        sock.setblocking(False)
        self._listen()

    def listen_at(self, sock: socket.socket) -> None:
        """Another socket takes the place of the one so far: its name had gone."""
        self.accept_no_more()
        self.sock = sock
        sock.setblocking(False)
        self._listen()

    def _listen(self) -> None:
        if not self.ending and self.sock.fileno() >= 0:
            self.loop.add_reader(self.sock.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self.sock.accept()
        except OSError:
            # Out of descriptors, most likely: the socket stays readable, so looking again at once would spin.
            self.loop.remove_reader(self.sock.fileno())
            self.loop.call_later(ACCEPT_PAUSE_SECONDS, self._listen)
            return
        sock.setblocking(False)
        why: dict[str, Any] = {}
        uid = peer(sock)[1]
        if uid not in (0, os.geteuid()):
            why = {"error": f"user {uid} may not"}
        elif len(self.clients) >= CLIENTS_MAX:
            # `busy`: worth asking again.
            why = {"error": f"{CLIENTS_MAX} clients are connected already", "busy": True}
        if why:
            with contextlib.suppress(OSError):
                sock.send(line({"ok": False, **why}))
            sock.close()
            return
        client = Client(self, sock)
        task = self.loop.create_task(client.run())
        self.clients[task] = client
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self.clients.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a client's connection ended by an error", exc_info=error)

    async def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """What the supervisor answers. Refused with its reason."""
        self.number += 1
        number, future = self.number, self.loop.create_future()
        self.asked[number] = future
        try:
            self.channel.send({"ask": number, "do": do, **words})
            answer = await asyncio.wait_for(future, ASK_SECONDS)
        except (control.Closed, TimeoutError):
            raise Refused("the supervisor does not answer") from None
        finally:
            del self.asked[number]
        if "error" in answer:
            raise Refused(str(answer["error"]))
        return dict(answer)

    def told(self, words: control.Message) -> None:
        """The supervisor has answered."""
        future = self.asked.get(words["told"])
        if future is not None and not future.done():
            future.set_result(words["answer"])

    async def slowly(self, work: Callable[[Going], T], fd: int = -1) -> T:
        """Runs what goes over the whole cache, one after another; it asks between its pieces whether to go on. `fd` is
        closed when the work has ended or will not begin."""
        until = time.monotonic() + COMMAND_SECONDS
        job = self.thread.submit(work, lambda: not self.ending and time.monotonic() < until)
        if fd >= 0:
            job.add_done_callback(lambda _: os.close(fd))
        return await asyncio.wrap_future(job)

    def accept_no_more(self) -> None:
        """Another process accepts from now on."""
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.sock.close()

    async def stop(self) -> None:
        """Serve no more; answers that are nearly ready still leave."""
        self.accept_no_more()
        self.ending = True
        busy = [task for task, client in self.clients.items() if client.busy]
        if busy:
            await asyncio.wait(busy, timeout=LAST_SECONDS)
        tasks = list(self.clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.thread.shutdown(wait=False, cancel_futures=True)


def line(answer: dict[str, Any]) -> bytes:
    """An answer as it is sent."""
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


class Client:
    """One connection: a request, its answer, the next request."""

    def __init__(self, host: Control, sock: socket.socket) -> None:
        self.host = host
        self.sock = sock
        self.octets = bytearray()
        self.fds: list[int] = []
        self.busy = False

    async def run(self) -> None:
        """Serve until the client leaves, stalls or sends what is no request line."""
        with contextlib.suppress(Gone, TimeoutError, OSError):
            while not self.host.ending:
                request = await asyncio.wait_for(self._line(), IDLE_SECONDS)
                self.busy = True
                answer = line(await self._answer(request))
                if len(answer) > ANSWER_MAX:
                    answer = line({"ok": False, "error": "the answer is too long: ask for less"})
                await asyncio.wait_for(self.host.loop.sock_sendall(self.sock, answer), SEND_SECONDS)
                self.busy = False

    async def _line(self) -> bytes:
        while True:
            end = self.octets.find(b"\n")
            if end >= 0:
                found = bytes(self.octets[:end])
                del self.octets[:end + 1]
                return found
            if len(self.octets) > LINE_MAX:
                self._send_last(f"a request has at most {LINE_MAX} octets")
                raise Gone
            try:
                data, parts, _, _ = self.sock.recvmsg(4096, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await self._readable()
                continue
            for level, kind, octets in parts:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(octets[:len(octets) - len(octets) % fds.itemsize])
                    self.fds.extend(fds)
            if len(self.fds) > 1:
                self._send_last("a request has at most one descriptor")
                raise Gone
            if not data:
                raise Gone
            self.octets += data

    def _send_last(self, why: str) -> None:
        with contextlib.suppress(OSError):
            self.sock.send(line({"ok": False, "error": why}))

    async def _readable(self) -> None:
        ready = asyncio.Event()
        self.host.loop.add_reader(self.sock.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            self.host.loop.remove_reader(self.sock.fileno())

    async def _answer(self, request: bytes) -> dict[str, Any]:
        fd = self.fds.pop() if self.fds else -1
        try:
            run: Coroutine[Any, Any, dict[str, Any]] = ctl_commands.prepare(self.host, request, fd)
            found = await asyncio.wait_for(run, COMMAND_SECONDS)
        except Refused as error:
            return {"ok": False, "error": str(error)}
        except TimeoutError:
            return {"ok": False, "error": f"not done in {COMMAND_SECONDS:g} seconds"}
        except Exception as error:
            log.exception("a command failed")
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
        finally:
            if fd >= 0:
                os.close(fd)
        return {"ok": True, **found}

    def close(self) -> None:
        """Forget the client."""
        control.close_all(self.fds)
        self.fds = []
        self.sock.close()
