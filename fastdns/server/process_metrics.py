# SPDX-License-Identifier: Apache-2.0
"""process_* and python_info: what the server's processes use, added up as if they were one.

Strategy: read at each scrape, from the supervisor down. Memory is proportional (a page that n processes share counts
1/n in each), so that the sum is what the server takes from the machine. CPU includes children that have ended
and were waited for, so that the counter does not fall when a worker is replaced.
"""

from __future__ import annotations

import contextlib
import gc
import platform
import resource

import psutil

from .._stats import Series
from ..metrics import NANO


def read(supervisor: int, runtime: bool) -> list[Series]:
    """The series of the process tree below `supervisor`; with `runtime` also the interpreter's own."""
    cpu = memory = virtual = fds = 0.0
    start = 0.0
    tree = []
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(supervisor)
        start = root.create_time()
        times = root.cpu_times()
        cpu += times.children_user + times.children_system
        tree = [root, *root.children(recursive=True)]
    for process in tree:
        with contextlib.suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            cpu += times.user + times.system
            virtual += process.memory_info().vms
            fds += process.num_fds()
            memory += process.memory_full_info().pss
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    out = [
        _one("process_cpu_seconds_total", "counter", "CPU time of all processes of the server.", cpu * NANO),
        _one("process_max_fds", "gauge", "File descriptors that one process may have.", limit),
        _one("process_open_fds", "gauge", "File descriptors of all processes of the server.", fds),
        _one("process_resident_memory_bytes", "gauge", "Memory of all processes, shared pages shared.", memory),
        _one("process_start_time_seconds", "gauge", "When the server started (Unix time).", start * NANO),
        _one("process_virtual_memory_bytes", "gauge", "Address space of all processes of the server.", virtual),
        Series("python_info", _python(), "gauge", (), "The interpreter.", 0, (1,)),
    ]
    return [*out, *_collector()] if runtime else out


def _one(name: str, kind: str, help: str, value: float, labels: tuple[tuple[str, str], ...] = ()) -> Series:
    return Series(name, labels, kind, (), help, 0, (round(value),))


def _python() -> tuple[tuple[str, str], ...]:
    return (("implementation", platform.python_implementation()), ("version", platform.python_version()))


def _collector() -> list[Series]:
    # The garbage collector of the process that answers the scrape, in place of Go's runtime metrics.
    out = []
    for generation, numbers in enumerate(gc.get_stats()):
        label = (("generation", str(generation)),)
        for key in ("collected", "collections", "uncollectable"):
            name = f"python_gc_{'objects_' if key != 'collections' else ''}{key}_total"
            out.append(_one(name, "counter", "The web process's garbage collector.", numbers[key], label))
    return out
