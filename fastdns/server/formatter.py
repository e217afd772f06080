# SPDX-License-Identifier: Apache-2.0
"""The formatter process: takes the records off all log rings and writes them to stdout as lines.

Strategy: nice 10, and the only process that may wait for stdout. While it waits the rings fill and their producers drop
and count; nobody else notices. It looks at the rings every few milliseconds while there is traffic, so that no worker
has to wake it, and sleeps on an eventfd when there is none. Formats and `errors` directives are found in the table of
counters by number, so it outlives reloads. What is left in the rings when the server stops is written first.
"""

from __future__ import annotations

import gc
import os
import select
import stat
import time
from collections.abc import Callable

from .. import metrics
from .._log import DROPPED_HELP, LEVELS, Formatter, Rings
from .._stats import Stats
from . import control, sampler
from .consolidate import Consolidator
from .niceness import give_way

NICE = 10
NAP = 0.005  # seconds between looks while there is traffic
IDLE_NAPS = 40  # looks in vain before it sleeps on the eventfd
DOZE = 1.0  # seconds asleep at most
ATOMIC = 4096  # octets that a pipe takes whole once poll says so
STALL = 0.2  # seconds between looks at the channel while stdout is full
COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)


class Writer:
    """Standard output: lines go out whole where a pipe allows it. `lost` counts lines that could not be written."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.lost = 0
        mode = os.fstat(fd).st_mode
        self._piece = ATOMIC if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else 1 << 20
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, octets: bytes, patient: Callable[[], bool]) -> None:
        """Writes all of it, as long as `patient`, asked every STALL seconds that nothing is taken, says to wait."""
        at = 0
        while at < len(octets):
            end = len(octets)
            if end - at > self._piece:
                newline = octets.rfind(b"\n", at, at + self._piece)
                end = newline + 1 if newline >= 0 else at + self._piece
            if not self._poll.poll(int(STALL * 1000)):
                if not patient():
                    self.lost += octets.count(b"\n", at)
                    return
                continue
            try:
                at += os.write(self.fd, octets[at:end])
            except BlockingIOError:
                # Somebody made the terminal's description non-blocking.
                time.sleep(NAP)
            except OSError:
                self.lost += octets.count(b"\n", at)
                return


class Printer:
    """Rings to stdout."""

    def __init__(self, rings: Rings, stats: Stats, wake_fd: int, channel: control.Channel, fd: int) -> None:
        self.stats = stats
        self.wake_fd = wake_fd
        self.channel = channel
        self.out = Writer(fd)
        self.format = Formatter(rings, self.resolve, COMMON)
        self.extra: list[bytes] = []
        self.consolidator = Consolidator(self.say, self.resolve)
        self.stopping = False
        self._channel_poll = select.poll()
        self._channel_poll.register(channel.fileno(), select.POLLIN)
        self._lost = stats.intern("fastdns_log_dropped_total", (), "counter", (), DROPPED_HELP)
        self._damaged = stats.intern(
            "fastdns_log_damaged_total", (), "counter", (), "Log records that made no sense and were skipped."
        )
        self._counted = (0, 0)

    def resolve(self, number: int) -> str | None:
        """The text behind the number of a format or of an errors directive."""
        for series in self.stats.snapshot(words=True):
            if series.slot == number and series.name in ("fastdns_log_format", "fastdns_errors_site"):
                return series.labels[0][1]
        return None

    def say(self, level: int, text: str) -> None:
        """A line of the formatter's own."""
        self.extra.append(f"[{LEVELS[level]}] {text}\n".encode("utf-8", "backslashreplace"))

    def turn(self) -> bool:
        """One look at all rings; whether there was anything."""
        now = time.monotonic()
        block = self.format.collect()
        for site, rcode, name, qtype, text in self.format.errors:
            self.consolidator.error(site, rcode, name, qtype, text, now)
        self.format.errors.clear()
        self.consolidator.tick(now)
        return self._put(block)

    def _put(self, block: bytes) -> bool:
        if self.extra:
            block += b"".join(self.extra)
            self.extra.clear()
        self.out.write(block, self._patient)
        lost, damaged = self.out.lost - self._counted[0], self.format.damaged - self._counted[1]
        if lost or damaged:
            # Row 0: its additions are atomic, and this process has no row of its own.
            self.stats.add(0, self._lost, lost)
            self.stats.add(0, self._damaged, damaged)
            self._counted = (self.out.lost, self.format.damaged)
        return bool(block)

    def _patient(self) -> bool:
        # Whoever does not read must not keep the server from ending.
        if not self.stopping and self._channel_poll.poll(0):
            self.told()
        return not self.stopping

    def told(self) -> None:
        """Reads the channel."""
        try:
            for message, fds in self.channel.receive():
                if "profile" in message:
                    sampler.begin(message["profile"], fds, "formatter")
                control.close_all(fds)
                self.stopping = self.stopping or "stop" in message
        except control.Closed:
            self.stopping = True

    def loop(self) -> None:
        """Until told to stop."""
        both = select.poll()
        both.register(self.channel.fileno(), select.POLLIN)
        both.register(self.wake_fd, select.POLLIN)
        idle = 0
        while not self.stopping:
            idle = 0 if self.turn() else idle + 1
            if idle < IDLE_NAPS:
                if self._channel_poll.poll(int(NAP * 1000)):
                    self.told()
                continue
            if self.format.sleep():
                due = self.consolidator.next()
                seconds = DOZE if due is None else min(DOZE, max(0.0, due - time.monotonic()))
                for fd, _events in both.poll(int(seconds * 1000) + 1):
                    if fd == self.wake_fd:
                        os.eventfd_read(self.wake_fd)
                        idle = 0
                    else:
                        self.told()
                self.format.awake()

    def finish(self) -> None:
        """Writes what is left, then what was being consolidated."""
        while self.turn():
            continue
        self.consolidator.flush()
        self._put(b"")


def run(rings: Rings, stats: Stats, wake_fd: int, channel: control.Channel, row: int, fd: int = 1) -> None:
    """The process's life: until the channel says {"stop": ...} or closes. Producers write to the eventfd `wake_fd`."""
    gc.enable()
    give_way(NICE)
    metrics.attach(stats, row)
    printer = Printer(rings, stats, wake_fd, channel, fd)
    channel.send({"started": "formatter"})
    printer.loop()
    printer.finish()
