# SPDX-License-Identifier: Apache-2.0
"""The formatter process and the log handler: lines reach stdout, a stalled stdout costs lines only, and how it ends."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time

import pytest

from fastdns import metrics
from fastdns._log import Rings, error_record, query_record
from fastdns._stats import Stats
from fastdns.server import control, formatter, logs

NAME = b"\x01a\x00"


class Run:
    """A formatter in a thread of this process, writing to a pipe or to whatever `fd` is."""

    def __init__(self, fd: int | None = None) -> None:
        self.stats = Stats.create(8)
        self.rings = Rings.create(8, 1 << 16, 1 << 16)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.channel, theirs = control.pair()
        self.theirs = control.Channel(theirs)
        self.read, self.write = os.pipe()
        printer = formatter.Printer(self.rings, self.stats, self.wake, self.theirs, self.write if fd is None else fd)
        self.printer = printer
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        self.printer.loop()
        self.printer.finish()

    def handle(self, row: int):
        return self.rings.handle(row, self.wake, self.stats)

    def line(self, seconds: float = 10.0) -> bytes:
        """What comes next on stdout, up to a newline."""
        got = b""
        poll = select.poll()        # select() takes no descriptor over 1,023
        poll.register(self.read, select.POLLIN)
        while not got.endswith(b"\n"):
            assert poll.poll(seconds * 1000), f"nothing but {got!r}"
            got += os.read(self.read, 1)
        return got

    def rest(self) -> bytes:
        os.close(self.write)
        got = b""
        while block := os.read(self.read, 65536):
            got += block
        return got

    def stop(self) -> None:
        self.channel.send({"stop": 1.0})
        self.thread.join(20)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.channel.close()
        self.thread.join(20)
        self.theirs.close()
        os.close(self.read)
        os.close(self.wake)


@pytest.fixture
def run():
    made = Run()
    yield made
    made.close()


def record(stats: Stats, text: str) -> bytes:
    return query_record({"format": metrics.log_format(stats, text), "qtype": 1}, NAME)


def test_lines_of_every_kind(run: Run) -> None:
    hot, python = run.handle(1), run.handle(2)
    hot.record(1, record(run.stats, "{type} {name}"))
    assert run.line() == b"[INFO] A a.\n"
    python.text(2, "plugin/x: careful")
    assert run.line() == b"[WARNING] plugin/x: careful\n"
    time.sleep(0.5)
    hot.record(1, record(run.stats, "a format of a later generation"))
    assert run.line() == b"[INFO] a format of a later generation\n"


def test_it_sleeps_and_is_woken(run: Run) -> None:
    deadline = time.monotonic() + 10
    sleeping = 0
    while not sleeping and time.monotonic() < deadline:
        sleeping = int.from_bytes(os.pread(run.rings.fd, 4, 64), "little")
    assert sleeping
    run.handle(1).text(1, "up")
    assert run.line() == b"[INFO] up\n"


def test_errors_are_consolidated_and_flushed_at_the_end(run: Run) -> None:
    site = metrics.errors_site(run.stats, '{"block":0,"patterns":[[3600,"time","warning",false]]}')
    for row in (1, 3):
        for text in (b"i/o timeout", b"refused"):
            run.handle(row).record(2, error_record(site, 2, 1, NAME, text))
    refused = b"[ERROR] plugin/errors: 2 a. A: refused\n"
    assert run.line() + run.line() == 2 * refused
    run.stop()
    assert run.rest() == b"[WARNING] plugin/errors: 2 errors like 'time' occurred in last 1h0m0s\n"


def test_periods_end_by_themselves(run: Run) -> None:
    site = metrics.errors_site(run.stats, '{"block":0,"patterns":[[0.3,"x","error",false]]}')
    run.handle(1).record(2, error_record(site, 2, 1, NAME, b"x"))
    assert run.line() == b"[ERROR] plugin/errors: 1 errors like 'x' occurred in last 300ms\n"


def test_what_is_left_is_written_at_the_end(run: Run) -> None:
    handle = run.handle(1)
    assert all(handle.text(1, f"line {i}") for i in range(500))
    run.stop()
    assert run.rest().decode().splitlines() == [f"[INFO] line {i}" for i in range(500)]


def test_a_stalled_reader_costs_lines_and_nothing_else(run: Run) -> None:
    handle = run.handle(1)
    sent = 0
    while run.stats.get(run.stats.intern("fastdns_log_dropped_total")) == 0:
        handle.text(1, "x" * 1000)
        sent += 1
        assert sent < 1_000_000
    assert os.read(run.read, 1000).startswith(b"[INFO] xxx")
    run.stop()


def test_a_stalled_reader_does_not_delay_the_end() -> None:
    made = Run()
    for _ in range(300):
        made.handle(1).text(1, "x" * 1000)
    time.sleep(0.3)
    made.stop()
    assert made.stats.get(made.stats.intern("fastdns_log_dropped_total")) > 0
    os.close(made.write)
    made.close()


def test_a_closed_stdout_loses_lines_and_counts_them() -> None:
    left, right = socket.socketpair()
    right.close()
    made = Run(left.fileno())
    made.handle(1).text(1, "nobody reads")
    slot = made.stats.intern("fastdns_log_dropped_total")
    deadline = time.monotonic() + 10
    while made.stats.get(slot) == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made.stats.get(slot) == 1
    os.close(made.write)
    made.close()
    left.close()


def test_lines_go_out_whole(run: Run) -> None:
    handle = run.handle(1)
    want = [f"[INFO] {i:03} " + "y" * 700 for i in range(60)]
    assert all(handle.text(1, line[7:]) for line in want)
    assert [run.line().decode().rstrip("\n") for _ in want] == want


@pytest.mark.parametrize(
    ("name", "level", "want"),
    [
        ("plugin/forward", logging.WARNING, "[WARNING] plugin/forward: a b\n"),
        ("fastdns", logging.ERROR, "[ERROR] a b\n"),
        ("plugin/x", logging.CRITICAL, "[FATAL] plugin/x: a b\n"),
        ("plugin/x", logging.INFO, "[INFO] plugin/x: a b\n"),
    ],
)
def test_python_logging_goes_through_the_ring(run: Run, name: str, level: int, want: str) -> None:
    handler = logs.RingHandler(run.handle(4))
    handler.emit(logging.LogRecord(name, level, "", 1, "a %s", ("b",), None))
    assert run.line().decode() == want


def test_a_wrong_log_call_is_told_not_raised(run: Run) -> None:
    logs.RingHandler(run.handle(4)).emit(logging.LogRecord("x", logging.INFO, "", 1, "%d", ("b",), None))
    assert b"wrong arguments: '%d'" in run.line()


def test_a_traceback_follows_its_line(run: Run) -> None:
    try:
        raise KeyError("gone")
    except KeyError as error:
        told = (KeyError, error, error.__traceback__)
    logs.RingHandler(run.handle(4)).emit(logging.LogRecord("plugin/x", logging.ERROR, "", 1, "broke", (), told))
    assert run.line() == b"[ERROR] plugin/x: broke\n"
    assert run.line() == b"Traceback (most recent call last):\n"


def test_setup_replaces_and_passes_info() -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.setup(None)
        logs.setup(None)
        assert len([h for h in root.handlers if isinstance(h, logs.RingHandler)]) == 1
        assert root.level == logging.INFO
    finally:
        root.handlers[:] = before
        root.setLevel(level)
