# SPDX-License-Identifier: Apache-2.0
"""A worker: the hot thread that answers, the Python thread that runs plugins, and a thread that listens to the
supervisor.

Strategy: a worker is born as a spare; `take` gives it an index (which sockets, which CPU) and a pair of counter rows.
The main thread runs asyncio; the hot thread never holds the GIL. Orders come to a thread of their own, so that a
plugin that never returns cannot keep its worker from draining. If the supervisor dies the worker serves on for
ORPHAN_SECONDS, long enough for a supervisor that is started again, then drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import select
import signal
import threading
from typing import Any

from .. import metrics
from . import control, logs, sampler
from .niceness import give_way
from .shared import Shared

ORPHAN_SECONDS = 30.0
DRAIN_SECONDS = 5.0
BEAT_SECONDS = 0.5
REST_SECONDS = 2.0
STOP_SECONDS = 1.0  # for the plugins' stop_worker
# Beside a plugin that spins, on one core, nice 10 left the hits 0.84 of their rate, nice 12 0.94; demo costs the same.
NICE = 12


def run(shared: Shared, channel: control.Channel, _words: dict[str, Any]) -> None:
    """A worker's life; ends the process."""
    trace = os.memfd_create("fastdns-traceback", os.MFD_CLOEXEC)
    faulthandler.register(signal.SIGUSR2, file=trace, all_threads=False)
    channel.send({"started": "worker"}, [trace])
    words, _ = channel.wait()
    if "take" not in words:
        os._exit(0)
    Worker(shared, channel, words["take"], words["row"], words["cpu"]).run()


class Worker:
    """`index` says which sockets, `row` is the hot thread's row of counters, `cpu` where to run (None: anywhere)."""

    def __init__(self, shared: Shared, channel: control.Channel, index: int, row: int, cpu: int | None) -> None:
        from fastdns._udp import Engine

        self.shared = shared
        self.channel = channel
        self.index = index
        self.row = row
        if cpu is not None:
            pin(cpu)
        metrics.attach(shared.stats, row + 1)
        metrics.serves(shared.stats, row, index)
        shared.become(row + 1)
        self.engine = Engine(shared.program, shared.stats, shared.segment, shared.plan.get("engine", {}))
        for listener in range(len(shared.sockets)):
            self.engine.listener(listener, *shared.fds(listener, index))
        ring = shared.rings.handle(row, shared.log_wake, shared.stats)
        self.engine.start(index, row, ring)
        if "quota" in shared.words:
            with contextlib.suppress(OSError):
                self.engine.bridge.limit(*shared.words["quota"])
        self.hot = threading.Thread(target=self._hot, name="hot", daemon=True)
        self.orders = threading.Thread(target=self._listen, name="orders", daemon=True)
        self.finished = threading.Event()
        self.stopping = False
        self.failure = ""

    def run(self) -> None:
        """Serve until told to stop; never returns."""
        asyncio.run(self._main())
        self.finished.set()
        if self.failure:
            with contextlib.suppress(control.Closed):
                self.channel.send({"error": self.failure})
        os._exit(1 if self.failure else 0)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop, self.end = loop, asyncio.Event()
        await self.shared.generation.start_worker(self.engine, self.shared.stats, self.row, self.fatal)
        self.hot.start()
        # The hot thread keeps its weight; this one and its helpers share the core with it.
        give_way(NICE, threading.get_native_id())
        self.orders.start()
        self.channel.send({"serving": self.index})
        slot = metrics.beat_slot(self.shared.stats, self.row + 1)
        while not self.end.is_set():
            self.shared.stats.set(self.row + 1, slot, int(loop.time() * 1e9))
            logs.follow(self.shared.stats)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.end.wait(), BEAT_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.shared.generation.stop_worker(), STOP_SECONDS)

    def fatal(self, text: str) -> None:
        """Has the supervisor log a text at level FATAL and end the whole server with status 1."""
        with contextlib.suppress(control.Closed):
            self.channel.send({"fatal": text})

    def _hot(self) -> None:
        try:
            self.engine.run()
        except BaseException as error:
            self.failure = f"worker {self.index}: {error!r}"
        if not self.stopping:
            self.failure = self.failure or f"worker {self.index}: its loop ended by itself"
            self.loop.call_soon_threadsafe(self.end.set)

    def _listen(self) -> None:
        seconds, last = DRAIN_SECONDS, list[int]()
        try:
            while True:
                words, fds = self.channel.wait()
                if "profile" in words:
                    sampler.begin(words["profile"], fds, f"worker {self.index}", self.loop)
                if "rest" in words:
                    self._read_rest(words["rest"], fds)
                    continue
                control.close_all(fds)
                if "stop" in words:
                    seconds, last = float(words["stop"]), list(words.get("last", ()))
                    break
        except control.Closed:
            self.hot.join(ORPHAN_SECONDS)
        self.drain(seconds, last)

    def _read_rest(self, rest: list[list[Any]], fds: list[int]) -> None:
        # Sockets that nobody reads, to be read to their end.
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.engine.rest_fd)
        for number, (listener, stream) in enumerate(rest):
            try:
                self.engine.rest(listener, fds[number], stream)
            except OverflowError as error:
                self.channel.send({"log": ["WARNING", f"socket activation: {error}: what is queued there is lost"]})
                control.close_all(fds[number:])
                break
        poller = select.poll()
        poller.register(self.engine.rest_fd, select.POLLIN)
        poller.poll(REST_SECONDS * 1000)
        self.channel.send({"rested": True})

    def drain(self, seconds: float, last: list[int]) -> None:
        """Answer what was read, at most for `seconds`, then end the process. `last`: the listeners whose sockets nobody
        reads after this worker."""
        self.stopping = True
        self.engine.stop(seconds, last)
        # The supervisor says that the configuration is replaced when nobody reads queries for this one.
        poller = select.poll()
        poller.register(self.engine.quiet_fd, select.POLLIN)
        if poller.poll(seconds * 1000):
            with contextlib.suppress(control.Closed):
                self.channel.send({"quiet": True})
        self.hot.join(seconds + STOP_SECONDS)
        self.loop.call_soon_threadsafe(self.end.set)
        self.finished.wait(2 * STOP_SECONDS)
        os._exit(0)


def pin(cpu: int) -> None:
    """Bind this process to one CPU. A set that shrank meanwhile costs the binding, nothing else."""
    import psutil

    with contextlib.suppress(OSError, ValueError):
        psutil.Process().cpu_affinity([cpu])
