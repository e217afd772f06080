# SPDX-License-Identifier: Apache-2.0
"""CPU time of process trees: what ends meanwhile is counted, whoever waited for it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fastdns.bench.cpu import CoreMeter, CpuMeter, cpu_seconds, machine, process, scheduled_seconds, tree

pytestmark = pytest.mark.unsanitized

BURN = """
import os, sys, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
def say(word):
    sys.stdout.write(word + "\\n")
    sys.stdout.flush()
"""


@contextlib.contextmanager
def running(script: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that does `script`; it waits for lines and says lines."""
    argv = [sys.executable, "-S", "-c", BURN + script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def ask(child: subprocess.Popen[str]) -> str:
    assert child.stdin and child.stdout
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


# Each burns 0.3 s after it was asked.
OWN = "sys.stdin.readline(); burn(0.3); say('done'); sys.stdin.readline()"
THREAD_THAT_ENDS = """
sys.stdin.readline()
t = threading.Thread(target=burn, args=(0.3,)); t.start(); t.join()
say('done'); sys.stdin.readline()
"""
CHILD_THAT_ENDS = """
sys.stdin.readline()
if os.fork() == 0:
    burn(0.3); os._exit(0)
os.wait(); say('done'); sys.stdin.readline()
"""
CHILD_FROM_BEFORE_THAT_ENDS = """
here, there = os.pipe()
if os.fork() == 0:
    burn(0.2); say('ready'); os.read(here, 1); burn(0.3); os._exit(0)
sys.stdin.readline(); os.write(there, b'x'); os.wait(); say('done'); sys.stdin.readline()
"""
CHILD_THAT_LIVES = """
here, there = os.pipe()
if os.fork() == 0:
    sys.stdin.readline(); burn(0.3); say('done'); os.read(here, 1); os._exit(0)
os.read(here, 1)
"""


@pytest.mark.parametrize(
    ("script", "first"),
    [
        (OWN, ""),
        (THREAD_THAT_ENDS, ""),
        (CHILD_THAT_ENDS, ""),
        (CHILD_FROM_BEFORE_THAT_ENDS, "ready"),
        (CHILD_THAT_LIVES, ""),
    ],
    ids=["own", "thread-that-ends", "child-that-ends", "child-from-before", "child-that-lives"],
)
def test_all_of_it_is_counted_and_nothing_else(script, first):
    with running(script) as child:
        if first:
            assert child.stdout and child.stdout.readline().strip() == first
        with CpuMeter(child.pid) as meter:
            assert ask(child) == "done"
            inside = meter.seconds
        assert inside <= meter.seconds
        # The clocks of fork, exit and the interpreter's start are on top; ticks of 10 ms below.
        assert 0.27 <= meter.seconds <= 0.5


def test_an_orphan_is_still_counted():
    script = """
here, there = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        say('ready'); sys.stdin.readline(); burn(0.3); say('done'); os.read(here, 1); os._exit(0)
    os.read(here, 1); os._exit(0)
os.read(here, 1)
"""
    with running(script) as child:
        assert child.stdout and child.stdout.readline().strip() == "ready"
        (middle, orphan) = [pid for pid in tree([child.pid]) if pid != child.pid]
        parent = process(orphan)
        if parent and parent.parent != middle:
            middle, orphan = orphan, middle
        try:
            with CpuMeter(child.pid) as meter:
                os.kill(middle, 9)
                assert ask(child) == "done"
            assert 0.27 <= meter.seconds <= 0.5
        finally:
            os.kill(orphan, 9)


def test_named_processes_below_each_other_count_once_and_may_end():
    with running(CHILD_FROM_BEFORE_THAT_ENDS) as child:
        assert child.stdout and child.stdout.readline().strip() == "ready"
        pids = tree([child.pid])
        assert len(pids) == 2
        with CpuMeter(pids) as meter:
            assert ask(child) == "done"
        assert 0.27 <= meter.seconds <= 0.5


def test_a_server_that_ends_has_no_figure():
    with running("sys.stdin.readline()") as child, pytest.raises(RuntimeError, match=f"process {child.pid} ended"):
        with CpuMeter(child.pid):
            child.kill()
            child.wait()
    with pytest.raises(RuntimeError, match="ended"):
        CpuMeter(child.pid).__enter__()


def test_a_failure_inside_is_not_covered_up():
    with running("sys.stdin.readline()") as child, pytest.raises(ZeroDivisionError):
        with CpuMeter(child.pid):
            child.kill()
            child.wait()
            raise ZeroDivisionError


def test_nothing_to_measure():
    with CpuMeter([]) as meter:
        assert meter.seconds == 0.0


def test_both_ways_of_reading_agree():
    before = cpu_seconds(os.getpid())
    threads = [threading.Thread(target=sum, args=(range(300_000),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cpu_seconds(os.getpid()) > before
    # The scheduler's counters lose what ended threads used, and nothing else but the last tick.
    assert scheduled_seconds(os.getpid()) <= cpu_seconds(os.getpid()) + 0.02
    with running("burn(0.2); say('ready'); sys.stdin.readline()") as child:
        assert child.stdout and child.stdout.readline().strip() == "ready"
        assert scheduled_seconds(child.pid) == pytest.approx(cpu_seconds(child.pid), abs=0.02)
    for read in (cpu_seconds, scheduled_seconds):
        with pytest.raises(ProcessLookupError):
            read(child.pid)


def test_cores():
    with CoreMeter() as cores:
        end = time.thread_time() + 0.3
        while time.thread_time() < end:
            pass
    assert set(cores.cores) >= os.sched_getaffinity(0)
    assert all(0 <= core.busy <= 1 and 0 <= core.stolen <= 1 for core in cores.cores.values())
    assert max(core.busy for core in cores.cores.values()) > 0.1


def test_what_machine_this_is():
    facts = machine()
    assert facts["cores"] == os.cpu_count() and facts["usable_cores"] == len(os.sched_getaffinity(0))
    assert facts["kernel"] == os.uname().release
    assert facts["compiler"] and facts["cpu"]
    assert str(facts["python"]).endswith(".".join(map(str, sys.version_info[:3])))
