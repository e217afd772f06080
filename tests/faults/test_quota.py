# SPDX-License-Identifier: Apache-2.0
"""A CPU quota and a plugin that would spend it: the server in a real control group, with the watch on it and without.

Strategy: 0.4 of a CPU, and queries for a plugin that takes a millisecond of CPU each ask for a whole one. The kernel's
own counters say in how many periods it halted the group.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastdns.server import cgroup
from tests.faults.serving import Server, load, page, query
from tests.probes import installed

PERIOD_US, QUOTA_US = 100_000, 40_000
HALTED_MIN = 0.15  # share of the periods, without the watch: less shows nothing
SECONDS = 3.0
# A task, eager, a plain function in a thread; the probes want each other in a chain.
KINDS = {"probe": "probe", "eager": "eager\n    probe", "plain": "plain\n    eager\n    probe"}
COREFILE = """burn.test:{port} {
    bind 127.0.0.1
    multisocket 1
    errors
    prometheus 127.0.0.1:{port2}
    KIND
}
.:{port} {
    bind 127.0.0.1
    multisocket 1
    prometheus 127.0.0.1:{port2}
}
"""
JOIN = """import os, sys
for path in sys.argv.pop(1).split(":"):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
if sys.argv.pop(1) == "blind":
    import fastdns.server.placement as placement
    placement.watched_quota = lambda have: None
from fastdns.cli import entry
entry()
"""

pytestmark = pytest.mark.unsanitized


class Group(NamedTuple):
    """Control groups made for a test: a process joins all of them, the first has the quota and the counters."""

    folders: list[Path]

    def stat(self, name: str) -> int:
        """A counter of cpu.stat."""
        words = (self.folders[0] / "cpu.stat").read_text().split()
        return int(words[words.index(name) + 1])

    def periods(self) -> tuple[int, int]:
        """Periods in which the group ran, and those of them in which the kernel halted it."""
        return self.stat("nr_periods"), self.stat("nr_throttled")


def make(version: int, controllers: tuple[str, ...]) -> Group | None:
    folders = []
    try:
        for controller in controllers:
            _, here = next(level for level in cgroup.directories(controller) if level[0] == version)
            folder = here / f"fastdns-test-{os.getpid()}"
            folder.mkdir()
            folders.append(folder)
        if version == 2:
            (folders[0] / "cpu.max").write_text(f"{QUOTA_US} {PERIOD_US}")
        else:
            (folders[0] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (folders[0] / "cpu.cfs_quota_us").write_text(str(QUOTA_US))
    except (OSError, StopIteration):
        for folder in folders:
            folder.rmdir()
        return None
    return Group(folders)


@pytest.fixture
def group() -> Iterator[Group]:
    found = make(2, ("cpu",)) or make(1, ("cpu", "cpuacct")) or make(1, ("cpu",))
    if found is None:
        pytest.skip("no control group with a CPU quota can be made here")
    yield found
    for folder in found.folders:
        folder.rmdir()


class Seen(NamedTuple):
    """What a run was like."""

    halted: float  # share of the periods
    lost: int
    burnt: int
    refused: int
    text: str
    metrics: str


def run(folder: Path, group: Group, mode: str, kind: str) -> Seen:
    """Compiled answers at 300 a second beside 1,000 a second for the plugin."""
    folder.mkdir()
    procs = ":".join(str(path / "cgroup.procs") for path in group.folders)
    with Server(folder, COREFILE.replace("KIND", KINDS[kind]), program=("-c", JOIN, procs, mode), ports=2) as server:
        server.wait_line("CPU quota 0.4")
        ran, halted = group.periods()
        rcodes: dict[int, int] = {}
        with load(server.port) as compiled, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", server.port))
            sock.setblocking(False)
            number, end = 0, time.monotonic() + SECONDS
            while time.monotonic() < end:
                for _ in range(10):
                    number += 1
                    sock.send(query(number, b"\4burn\4burn\4test\0"))
                compiled.run(0.01, 300)
                try:
                    while True:
                        rcode = sock.recv(512)[3] & 15
                        rcodes[rcode] = rcodes.get(rcode, 0) + 1
                except BlockingIOError:
                    continue
            now = group.periods()
            lost = compiled.settle(5.0)
        text = page(server.ports[1])
        out = server.out
    return Seen((now[1] - halted) / max(1, now[0] - ran), lost, rcodes.get(0, 0), rcodes.get(2, 0), out, text)


@pytest.mark.parametrize("kind", KINDS)
def test_python_leaves_the_hits_their_part_of_a_quota(
    kind: str, tmp_path: Path, group: Group, monkeypatch, record_property
) -> None:
    (tmp_path / "site").mkdir()
    with installed(tmp_path / "site") as environ:
        monkeypatch.setenv("PYTHONPATH", environ["PYTHONPATH"])
        watched = run(tmp_path / "watched", group, "watched", kind)
        for attempt in range(3):
            blind = run(tmp_path / f"blind{attempt}", group, "blind", kind)
            if blind.halted >= HALTED_MIN:
                break
        else:
            pytest.skip("this machine is too busy for the server to spend its quota")
    for name, seen in (("watched", watched), ("blind", blind)):
        print(f"{name}: halted in {seen.halted:.0%} of the periods, hits lost {seen.lost}, "
              f"in Python {seen.burnt} answered and {seen.refused} refused")
        record_property(f"{name}_halted_periods", seen.halted)
    assert watched.lost == 0
    assert watched.halted * 3 < blind.halted
    # Python has its part, and spends it on queries that can still be answered.
    assert watched.burnt * 4 > blind.burnt
    assert "quota is nearly spent" not in blind.text
    if kind == "plain":
        return  # its queries wait for a thread, not in the ring
    assert watched.refused > 0
    assert f"plugin/{kind}: the CPU quota is nearly spent" in watched.text
    counted = [line for line in watched.metrics.splitlines() if line.startswith("fastdns_python_quota_total ")]
    assert counted and float(counted[0].split()[1]) > 0
