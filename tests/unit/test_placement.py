# SPDX-License-Identifier: Apache-2.0
"""Worker count and pinning, and the control groups they follow, on fake trees."""

from pathlib import Path

import pytest

from fastdns import chain
from fastdns._stats import Stats
from fastdns.corefile import Source, load_source
from fastdns.server import cgroup, placement
from fastdns.server.memory import plugin_octets
from fastdns.server.placement import BASE_OCTETS, WORKER_OCTETS, Limits


class Tree:
    """A fake /proc and cgroup file system below a temporary directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.proc = root / "proc"
        (self.proc / "self").mkdir(parents=True)
        self.mounts: list[str] = []
        self.groups: list[str] = []

    def mount(self, version: int, point: str, root: str = "/", controllers: str = "") -> None:
        kind, options = ("cgroup2", "rw") if version == 2 else ("cgroup", f"rw,{controllers}")
        self.mounts.append(f"30 23 0:26 {root} {self.root / point} rw,nosuid - {kind} cgroup {options}")

    def group(self, line: str) -> None:
        self.groups.append(line)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def done(self) -> Path:
        (self.proc / "self/mountinfo").write_text("\n".join([*self.mounts, "broken line", ""]))
        (self.proc / "self/cgroup").write_text("\n".join([*self.groups, ""]))
        return self.proc


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_version_2_takes_the_smallest_quota_on_the_way_up(tree: Tree) -> None:
    tree.mount(2, "cg")
    tree.group("0::/a/b")
    tree.write("cg/a/b/cpu.max", "max 100000\n")
    tree.write("cg/a/cpu.max", "150000 100000\n")
    tree.write("cg/cpu.max", "400000 100000\n")
    assert cgroup.cpu_quota(tree.done()) == (150000, 100000, "", 1000)
    tree.write("cg/a/cpu.stat", "usage_usec 12\nuser_usec 7\n")
    found = cgroup.cpu_quota(tree.proc)
    assert found is not None and found.cpus == 1.5 and found.usage == str(tree.root / "cg/a/cpu.stat")


def test_version_1_with_joined_controllers(tree: Tree) -> None:
    tree.mount(1, "cpu", controllers="cpu,cpuacct")
    tree.mount(1, "memory", controllers="memory")
    tree.group("4:cpu,cpuacct:/pod")
    tree.group("5:memory:/pod")
    tree.write("cpu/pod/cpu.cfs_quota_us", "50000")
    tree.write("cpu/pod/cpu.cfs_period_us", "100000")
    tree.write("cpu/cpu.cfs_quota_us", "-1")
    tree.write("cpu/cpu.cfs_period_us", "100000")
    tree.write("memory/pod/memory.limit_in_bytes", "9223372036854771712")
    tree.write("memory/memory.limit_in_bytes", "268435456")
    proc = tree.done()
    found = cgroup.cpu_quota(proc)
    assert found is not None and found.cpus == 0.5 and found.usage == ""
    tree.write("cpu/pod/cpuacct.usage", "12\n")
    assert cgroup.cpu_quota(proc) == (50000, 100000, str(tree.root / "cpu/pod/cpuacct.usage"), 1)
    assert cgroup.memory_limit(proc) == 268435456


def test_a_container_sees_a_branch_as_its_root(tree: Tree) -> None:
    tree.mount(2, "cg", root="/kubepods/pod7")
    tree.group("0::/kubepods/pod7/x")
    tree.write("cg/x/memory.max", "max")
    tree.write("cg/memory.max", "1000000")
    assert cgroup.memory_limit(tree.done()) == 1000000


def test_a_path_above_the_mount_stands_for_the_mount(tree: Tree) -> None:
    tree.mount(2, "cg")
    tree.group("0::/../../other")
    tree.write("cg/cpu.max", "200000 100000")
    found = cgroup.cpu_quota(tree.done())
    assert found is not None and found.cpus == 2.0


def test_the_machines_memory_is_a_limit(tree: Tree) -> None:
    tree.write("proc/meminfo", "MemTotal:  2048 kB\nMemFree: 1 kB\n")
    assert cgroup.memory_limit(tree.done()) == 2048 * 1024


@pytest.mark.parametrize(("path", "usage"), [("/pod", "acct/pod/cpuacct.usage"), ("/", "")])
def test_version_1_with_use_in_a_tree_of_its_own(tree: Tree, path: str, usage: str) -> None:
    """It counts the same processes only where it has the same path."""
    tree.mount(1, "cpu", controllers="cpu")
    tree.mount(1, "acct", controllers="cpuacct")
    tree.group("4:cpu:/pod")
    tree.group(f"5:cpuacct:{path}")
    tree.write("cpu/pod/cpu.cfs_quota_us", "50000")
    tree.write("cpu/pod/cpu.cfs_period_us", "100000")
    tree.write("acct/cpuacct.usage", "99\n")
    tree.write("acct/pod/cpuacct.usage", "12\n")
    assert cgroup.cpu_quota(tree.done()) == (50000, 100000, str(tree.root / usage) if usage else "", 1)


@pytest.mark.parametrize(("quota", "watched"), [
    (cgroup.Quota(150000, 100000, "/use", 1), True),
    (cgroup.Quota(400000, 100000, "/use", 1), False),  # four CPUs cannot exceed it
    (cgroup.Quota(150000, 100000, "", 1), False),  # nobody says what is used
    (None, False),
])
def test_which_quota_is_watched(quota: cgroup.Quota | None, watched: bool) -> None:
    have = Limits(FOUR, quota.cpus if quota else None, None, quota)
    assert (placement.watched_quota(have) is not None) is watched


@pytest.mark.parametrize(("memory", "least", "full", "found"), [
    (None, 1, 5 << 30, 5 << 30),
    (2 << 30, 300 << 20, 3500 << 20, 1 << 30),  # hundreds of blocks: half the limit
    (2 << 30, 1 << 20, 12 << 20, 12 << 20),
    (512 << 20, 300 << 20, 3500 << 20, 300 << 20),
])
def test_what_a_cache_is_expected_to_take(memory: int | None, least: int, full: int, found: int) -> None:
    assert placement.expected(Limits(FOUR, None, memory), least, full) == found


def test_what_is_left_for_the_cache() -> None:
    assert placement.room(Limits(FOUR), 4) is None
    assert placement.room(Limits(FOUR, None, 1 << 30), 4) == (1 << 30) - BASE_OCTETS - 4 * WORKER_OCTETS


@pytest.mark.parametrize("text", ["", "max", "x y", "0 100000", "100000 0", "-1 100000", "1"])
def test_what_is_no_quota_limits_nothing(tree: Tree, text: str) -> None:
    tree.mount(2, "cg")
    tree.group("0::/")
    tree.write("cg/cpu.max", text)
    proc = tree.done()
    assert cgroup.cpu_quota(proc) is None
    assert cgroup.memory_limit(proc) is None


def test_no_files_at_all(tmp_path: Path) -> None:
    assert cgroup.cpu_quota(tmp_path) is None
    assert cgroup.memory_limit(tmp_path) is None


FOUR = (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("have", "sockets", "workers", "cpus"),
    [
        (Limits(FOUR), [0], 4, FOUR),                             # fills the allowed set
        (Limits((2, 5)), [0, 0], 2, (2, 5)),                      # inside the allowed set
        (Limits(FOUR, 1.2), [0], 2, None),                        # a quota is rounded up, nothing is pinned
        (Limits(FOUR, 3.5), [0], 4, FOUR),
        (Limits(FOUR, 0.2), [0], 1, None),
        (Limits(FOUR, 64.0), [0], 4, FOUR),
        (Limits(FOUR), [2], 2, (0, 1)),                           # multisocket is always pinned
        (Limits((0, 1)), [5], 5, (0, 1, 0, 1, 0)),                # more sockets than cores share them evenly
        (Limits(FOUR, 1.0), [3], 3, (0, 1, 2)),                   # ... and always honoured
        (Limits((0, 1)), [1, 0], 2, (0, 1)),                      # one address asks, the other gets the usual number
        (Limits((0, 1)), [1], 1, (0,)),
        (Limits(FOUR, None, BASE_OCTETS + 2 * WORKER_OCTETS), [0], 2, None),
        (Limits(FOUR, None, 1), [0], 1, None),
    ],
)
def test_placement(have: Limits, sockets: list[int], workers: int, cpus: tuple[int, ...] | None) -> None:
    place = placement.place(have, sockets)
    assert (place.workers, place.cpus) == (workers, cpus)
    assert str(workers) in place.why


def test_the_reason_is_told() -> None:
    assert placement.place(Limits(FOUR, 1.5), [0]).why == "2 workers (CPU quota 1.5), not pinned"
    assert placement.place(Limits((3,)), [0]).why == "1 worker (1 usable CPU), pinned to CPU 3"
    assert placement.place(Limits((0, 1)), [4]).why == "4 workers (asked for by multisocket), pinned to CPU 0,1"


def test_a_start_that_cannot_fit_is_refused_with_both_figures() -> None:
    need = BASE_OCTETS + 5 + 3 * WORKER_OCTETS
    assert placement.too_large(Limits(FOUR, None, need), 3, 5) is None
    text = placement.too_large(Limits(FOUR, None, need - 1), 3, 5)
    assert text is not None
    assert f"need {need} octets, the limit is {need - 1}" in text
    assert placement.too_large(Limits(FOUR), 1000, 1 << 40) is None


def test_what_plugins_take_counts() -> None:
    memory = BASE_OCTETS + 3 * WORKER_OCTETS
    have = Limits(FOUR, None, memory)
    assert placement.place(have, [0]).workers == 3
    assert placement.place(have, [0], 1, 0).workers == placement.place(have, [0], 0, 1).workers == 2
    assert placement.room(have, 2, 5, 7) == WORKER_OCTETS - 5 - 14
    assert placement.too_large(have, 2, WORKER_OCTETS - 14, 7) is None
    assert f"need {memory + 1} octets" in str(placement.too_large(have, 2, WORKER_OCTETS - 13, 7))


def test_what_plugins_may_come_to_take() -> None:
    # `rrl` fills its table; `top` in two blocks has one table, of which a worker takes a region; `shed` keeps replies
    # at each listener that has a block with it.
    text = """
a.test:1053 {
    bind 127.0.0.1
    rrl {
        queries 5
    }
    top
    shed
}
b.test:1053 c.test:1054 {
    bind 127.0.0.1
    top
    shed
}
c.test:1055 {
    bind 127.0.0.1
    whoami
}
"""
    source = Source("Corefile", text.encode())
    plan = chain.load(load_source(source, chain.known(), chain.not_built())).plan()
    octets = {ask["key"].partition(" ")[0].partition("/")[0]: ask["octets"] for ask in plan["asks"]["kept"]}
    tables, each = plugin_octets(plan)
    assert 0 < tables < 64 << 20 and tables in octets.values()
    region = next(ask["each"] for ask in plan["asks"]["kept"] if "each" in ask)
    assert 0 < region < 4 << 20 and each == region + 2 * (4 << 20)
    assert max(octets.values()) > 1000 * region  # the address space of the sketches
    assert plugin_octets({"asks": {}, "listeners": plan["listeners"]}) == (0, 0)


@pytest.mark.parametrize(("lines", "keeps"), [
    ("whoami", False),
    ("demo", True),
    ("template IN A {\n answer \"{{ .Name }} 60 IN A 192.0.2.1\"\n}", True),
    ("rewrite name exact a.test b.test\nwhoami", False),
    ("rewrite name regex (.*)\\.a\\.test {1}.b.test\nwhoami", True),
])
def test_the_shelf_of_kept_answers_is_counted_where_one_is_made(lines: str, keeps: bool) -> None:
    source = Source("Corefile", f"a.test:1053 {{\nbind 127.0.0.1\n{lines}\n}}\n".encode())
    generation = chain.load(load_source(source, chain.known(), chain.not_built()))
    plan = generation.plan()
    generation.build(Stats.create(4), None, [1], 1)
    assert (generation.shelf is not None) is keeps
    octets = generation.shelf.segment.octets if generation.shelf is not None else 0
    assert plugin_octets(plan) == (octets, 0)
    if keeps:
        have = Limits((0, 1), memory=BASE_OCTETS + 2 * WORKER_OCTETS + octets - 1)
        assert 16 << 20 < octets <= 19 << 20
        assert placement.default_workers(have, octets) == 1  # there is no room for a second one beside the shelf


def test_limits_of_this_machine() -> None:
    have = placement.limits()
    assert have.cpus
    assert have.memory is None or have.memory > 1 << 20
