# SPDX-License-Identifier: Apache-2.0
"""What a server costs before its first query: memory of two idle workers, time to the first answer, imports."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.serving import Server, ask, wait_for

IDLE = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n errors\n whoami\n}\n"
PSS_MOST_KIB = 60 * 1024

pytestmark = pytest.mark.unsanitized


def pss(pid: int) -> int:
    """Proportional memory of a process in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss line")


def test_two_idle_workers_take_at_most_60_mib(tmp_path: Path, record_property) -> None:
    with Server(tmp_path, IDLE) as server:
        wait_for(lambda: len(server.children("worker")) == 3, "two workers and a spare")
        assert ask(server.port) is not None
        workers = sum(pss(pid) for pid in server.children("worker"))
        everybody = sum(pss(pid) for pid in [server.process.pid, *server.children()])
        record_property("workers_and_spare_pss_kib", workers)
        record_property("all_processes_pss_kib", everybody)
        print(f"two workers and their spare: {workers} KiB; all processes: {everybody} KiB")
        assert workers <= PSS_MOST_KIB


def test_hundreds_of_caches_take_what_they_hold(tmp_path: Path) -> None:
    """300 blocks whose caches may come to 3.3 GiB start small, and in any machine that can hold their indexes."""
    blocks = "".join(f"z{n}.test:{{port}} {{\n bind 127.0.0.1\n cache\n whoami\n}}\n" for n in range(300))
    with Server(tmp_path, IDLE + blocks) as server:
        wait_for(lambda: len(server.children("worker")) == 3, "two workers and a spare")
        everybody = sum(pss(pid) for pid in [server.process.pid, *server.children()])
        print(f"all processes: {everybody} KiB")
        assert everybody <= 2 * PSS_MOST_KIB


def test_start_to_first_answer_is_reported(tmp_path: Path, record_property) -> None:
    begin = time.monotonic()
    with Server(tmp_path, IDLE, wait=False) as server:
        wait_for(lambda: ask(server.port, seconds=0.02), "an answer")
        seconds = time.monotonic() - begin
        record_property("first_answer_seconds", seconds)
        print(f"start to first answer: {seconds:.3f} s")


def test_the_supervisor_imports_no_plugin_and_nothing_heavy() -> None:
    code = ("import sys, fastdns.cli, fastdns.server.supervisor as s; import fastdns.server.memory, fastdns._cache; "
            "from fastdns.corefile.source import read_source; print(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not {name for name in modules if name.startswith("fastdns.plugins")}
    assert not modules & {"asyncio", "psutil", "dnslib", "subprocess", "multiprocessing", "ssl", "http", "argparse",
                          "fastdns.chain", "fastdns.registry", "fastdns.plugin", "pickle"}


def test_the_command_line_imports_nothing_of_the_server() -> None:
    code = "import sys, fastdns.cli; print(*(name for name in sys.modules if name.startswith('fastdns')))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(found) == {"fastdns", "fastdns.cli"}
