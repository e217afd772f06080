# SPDX-License-Identifier: Apache-2.0
"""Servers that are started to be measured: up when they answer, gone afterwards, and their last words when they
fail."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastdns.bench._load import Load
from fastdns.bench.questions import query, synthetic
from fastdns.bench.target import Address, Target, TargetError, answers
from fastdns.ports import free_port
from tests.planted import Planted

COREFILE = """. {
    whoami
}
"""


def alive(pid: int) -> bool:
    """Whether it runs: of one that was killed, its parent may not have been told yet."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("segment", [False, True])
def test_the_floor_as_a_process(segment):
    with Target.floor(segment=segment) as floor:
        tally = Load(floor.address, floor.port, synthetic(100, rcode=0), segment=segment).run(
            60, lambda tally: tally.completed < 5000, interval=0.01
        )
        assert tally.completed >= 5000 and tally.wrong == 0
        (pid,) = floor.pids()
        assert floor.start_seconds > 0
    assert not alive(pid) and floor.pids() == []
    floor.stop()


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_fastdns_from_a_corefile(protocol):
    cpu = str(min(os.sched_getaffinity(0)))
    with Target.fastdns(COREFILE, cpus=cpu, protocol=protocol) as server:
        pids = server.pids()
        assert len(pids) > 2
        assert {str(min(os.sched_getaffinity(pid))) for pid in pids} == {cpu}
        load = Load(server.address, server.port, synthetic(10, rcode=0), protocol=protocol, sockets=2)
        tally = load.run(60, lambda tally: tally.completed < 500, interval=0.01)
        assert tally.completed >= 500 and tally.wrong == 0
        (corefile,) = server._files
    assert not any(alive(pid) for pid in pids)
    assert not corefile.exists()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((server.address, server.port))


def test_a_port_in_the_corefile():
    with Target.fastdns(".:{port} {\n    whoami\n}\n") as server:
        assert answers(server.address, server.port, query("www.example.org", 1))


def test_a_server_that_ends_says_why():
    with pytest.raises(TargetError, match=r"ended with 1: .*Unknown directive 'smoke'"):
        Target.fastdns(". {\n    smoke\n}\n").start()


def test_a_program_that_does_not_exist(tmp_path):
    with pytest.raises(TargetError, match="nothing-here"):
        Target([str(tmp_path / "nothing-here")], free_port()).start()


def test_a_server_that_never_answers():
    target = Target([sys.executable, "-c", "print('here', flush=True); import time; time.sleep(60)"], 1, patience=1.0)
    with pytest.raises(TargetError, match=r"no answer from 127\.0\.0\.1 port 1: here"):
        target.start()
    assert target.pids() == []


def test_what_a_server_leaves_behind_is_killed(tmp_path):
    note = tmp_path / "pid"
    script = f"""
import os, sys, subprocess
from fastdns.bench.floor import main
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(note)!r}, "w").write(str(child.pid))
sys.exit(main([sys.argv[1]]))
"""
    port = free_port()
    with Target([sys.executable, "-c", script, str(port)], port) as server:
        child = int(Path(note).read_text())
        assert child in server.pids()
    end = time.monotonic() + 10
    while alive(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not alive(child)


def test_a_server_that_runs_already():
    with Planted() as server, Address("127.0.0.1", server.port, pids=[os.getpid()]) as there:
        assert os.getpid() in there.pids()
        assert answers(there.address, there.port, query("www.example.org", 1))
        assert answers(there.address, there.port, query("www.example.org", 1), "tcp")
        assert not answers(there.address, there.port, query("id-1.example.org", 1))
        assert not answers(there.address, there.port, query("id-1.example.org", 1), "tcp")
    assert Address("::1").pids() == []
    with pytest.raises(ValueError, match="nowhere"):
        Address("nowhere")


def test_the_floor_says_what_it_cannot_have():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        argv = [sys.executable, "-m", "fastdns.bench.floor", str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"floor: 127.0.0.1 port {port}: ")
