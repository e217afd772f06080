# SPDX-License-Identifier: Apache-2.0
"""What the control groups allow this process: CPU quota and memory, version 1 and 2.

Strategy: /proc/self/cgroup says where the process is, /proc/self/mountinfo where the trees are mounted and which
part of each (in a container often only a branch). Every level from the process up to the mount is read, because
the smallest limit on the way is the one that counts. What cannot be read limits nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

UNLIMITED = 1 << 60  # version 1 writes "no limit" as a huge number


class Mount(NamedTuple):
    """A mounted tree: `version` 1 or 2, the controllers of version 1, the branch and where it is mounted."""

    version: int
    controllers: frozenset[str]
    root: str
    point: str


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def mounts(proc: Path) -> list[Mount]:
    """The cgroup trees of /proc/self/mountinfo."""
    found = []
    for line in _read(proc / "self/mountinfo").splitlines():
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(), right.split()
        if not dash or len(fields) < 5 or len(kinds) < 3 or kinds[0] not in ("cgroup", "cgroup2"):
            continue
        point = fields[4].replace("\\040", " ")
        controllers = frozenset(kinds[2].split(",")) if kinds[0] == "cgroup" else frozenset()
        found.append(Mount(2 if kinds[0] == "cgroup2" else 1, controllers, fields[3], point))
    return found


def directories(controller: str, proc: Path = Path("/proc")) -> Iterator[tuple[int, Path]]:
    """(version, directory) of each level that may limit `controller`, from the process up to the mount."""
    trees = mounts(proc)
    for line in _read(proc / "self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        version = 2 if number == "0" and not names else 1
        if version == 1 and controller not in names.split(","):
            continue
        for tree in trees:
            if tree.version != version or (version == 1 and controller not in tree.controllers):
                continue
            yield from ((version, level) for level in _levels(tree, path))
            break


def _levels(tree: Mount, path: str) -> Iterator[Path]:
    top = Path(tree.point)
    if tree.root != "/" and (path == tree.root or path.startswith(tree.root + "/")):
        path = path[len(tree.root):]
    # In a cgroup namespace the path may climb above the mount; the mount itself is then the process's level.
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth])


class Quota(NamedTuple):
    """A CPU quota: `cpu_us` of CPU time in each `period_us`. `usage` is the file that says what the group has used, in
    units of `scale` nanoseconds; "" where the group has none."""

    cpu_us: int
    period_us: int
    usage: str
    scale: int

    @property
    def cpus(self) -> float:
        """The quota in CPUs."""
        return self.cpu_us / self.period_us


def cpu_quota(proc: Path = Path("/proc")) -> Quota | None:
    """The smallest CPU quota on the way up, or None."""
    quotas = []
    for version, level in directories("cpu", proc):
        if version == 2:
            words = _read(level / "cpu.max").split()
        else:
            words = (_read(level / "cpu.cfs_quota_us") + " " + _read(level / "cpu.cfs_period_us")).split()
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[0]) and int(words[1]):
            usage = level / "cpu.stat" if version == 2 else _usage_file(level, proc)
            readable = usage is not None and bool(_read(usage))
            quotas.append(Quota(int(words[0]), int(words[1]), str(usage) if readable else "",
                                1000 if version == 2 else 1))
    return min(quotas, default=None, key=lambda quota: quota.cpus)


def _usage_file(level: Path, proc: Path) -> Path | None:
    """Version 1: cpuacct beside cpu as a rule; in a tree of its own it counts the same processes only at the same
    path."""
    if (beside := level / "cpuacct.usage").exists():
        return beside
    cpu, accounts = ([at for version, at in directories(name, proc) if version == 1] for name in ("cpu", "cpuacct"))
    if [at.name for at in cpu[:-1]] != [at.name for at in accounts[:-1]]:
        return None
    return accounts[cpu.index(level)] / "cpuacct.usage"


def memory_limit(proc: Path = Path("/proc")) -> int | None:
    """The smallest memory limit on the way up, the machine's memory included, in octets, or None."""
    limits = []
    for version, level in directories("memory", proc):
        text = _read(level / ("memory.max" if version == 2 else "memory.limit_in_bytes")).strip()
        if text.isdigit() and int(text) < UNLIMITED:
            limits.append(int(text))
    for line in _read(proc / "meminfo").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:" and words[1].isdigit():
            limits.append(int(words[1]) * 1024)
    return min(limits, default=None)
