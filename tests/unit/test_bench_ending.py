# SPDX-License-Identifier: Apache-2.0
"""Measurements that are told to end: no server that they started outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastdns.bench import ending
from fastdns.bench.cpu import tree

ROOT = Path(__file__).resolve().parents[2]
BENCH = ["fastdns", "bench", "-conf", "Corefile", "-l", "600", "--warm", "0"]
TUNE = ["fastdns", "tune", "-conf", "Corefile", "--seconds", "600"]
LOAD = ["bench.load", "whoami", "--seconds", "600"]
SECONDS = 60.0


def running(pid: int) -> list[str]:
    """Names of the processes below a process."""
    found = []
    for one in tree([pid]):
        try:
            found.append(Path(f"/proc/{one}/comm").read_text().strip())
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", ending.SIGNALS)
@pytest.mark.parametrize("words", [BENCH, TUNE, LOAD], ids=lambda words: words[0] + words[1])
def test_servers_end_with_the_measurement(tmp_path: Path, words: list[str], number: signal.Signals) -> None:
    (tmp_path / "Corefile").write_text(". {\n    bind 127.0.0.1\n    whoami\n}\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", *words], cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        deadline = time.monotonic() + SECONDS
        while not any(name.startswith("fastdns:worker") for name in running(bench.pid)):
            assert bench.poll() is None
            assert time.monotonic() < deadline, "it starts no server"
            time.sleep(0.02)
        pids = tree([bench.pid])
        bench.send_signal(number)
        assert bench.wait(SECONDS) == 128 + number
        deadline = time.monotonic() + SECONDS
        while any(alive(pid) for pid in pids):
            assert time.monotonic() < deadline, f"left behind: {[pid for pid in pids if alive(pid)]}"
            time.sleep(0.02)


def test_a_signal_waits_for_what_must_not_be_interrupted() -> None:
    done = []
    with pytest.raises(ending.Ended) as caught, ending.by_signals(), ending.held_back():
        with ending.held_back():
            signal.raise_signal(signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert caught.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_on_the_way_out_are_ignored() -> None:
    done = []
    with pytest.raises(ending.Ended), ending.by_signals():
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGTERM)
            done.append("ended in order")
    assert done == ["ended in order"]


def test_whoever_handles_signals_goes_on_doing_so() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
    try:
        with ending.by_signals():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_another_thread_leaves_signals_alone() -> None:
    found = []

    def run() -> None:
        with ending.by_signals(), ending.held_back():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
