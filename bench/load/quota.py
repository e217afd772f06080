# SPDX-License-Identifier: Apache-2.0
"""A control group with a CPU quota, version 2 or 1, for a server and all its children.

Strategy: the group is made at the top of the tree that is mounted here, or else below the group of this process,
wherever that is allowed. A shell moves itself into it and becomes the server, so no process of the server is ever
outside.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from fastdns.server.cgroup import directories, mounts

PERIOD = 100_000  # microseconds, the kernel's default and what Kubernetes uses
ENTER = 'echo $$ > "$0" && exec "$@"'
EMPTY_SECONDS = 5.0


class NoQuota(RuntimeError):
    """No control group can be made here; the text says why."""


def places() -> Iterator[tuple[int, Path]]:
    """(version, directory) where a group may be made: the tops of the trees first."""
    for tree in mounts(Path("/proc")):
        if tree.version == 2 or "cpu" in tree.controllers:
            yield tree.version, Path(tree.point)
    yield from directories("cpu")


def limit(group: Path, version: int, cpus: float) -> None:
    """Writes the quota. Raises OSError."""
    quota = str(round(PERIOD * cpus))
    if version == 2:
        (group / "cpu.max").write_text(f"{quota} {PERIOD}")
    else:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group / "cpu.cfs_quota_us").write_text(quota)


@contextlib.contextmanager
def quota(name: str, cpus: float) -> Iterator[list[str]]:
    """Makes a group for as long as the context lasts; gives the words to put before a command. Raises NoQuota."""
    why = "no control group with a CPU controller is mounted"
    for version, place in places():
        group = place / f"fastdns-bench-{os.getpid()}-{name}"
        try:
            group.mkdir()
        except OSError as error:
            why = f"{group}: {error.strerror}"
            continue
        try:
            try:
                limit(group, version, cpus)
            except OSError as error:
                why = f"{group}: no CPU controller ({error.strerror})"
                continue
            yield ["sh", "-c", ENTER, str(group / "cgroup.procs")]
            return
        finally:
            remove(group)
    raise NoQuota(why)


def remove(group: Path) -> None:
    """Removes a group; waits a little for its last process to be gone."""
    until = time.monotonic() + EMPTY_SECONDS
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
