# SPDX-License-Identifier: Apache-2.0
"""A look at a CPU quota: what the hot thread pays sixteen times a period while queries are in Python."""

from __future__ import annotations

import itertools
from pathlib import Path

from fastdns._quota import Gauge

MS = 1_000_000


def bench_look(benchmark, tmp_path: Path) -> None:
    """One pread, two clocks, the marks of two periods."""
    (tmp_path / "use").write_text("usage_usec 123456\nuser_usec 100000\n")
    gauge = Gauge(tmp_path / "use", 1000, 50 * MS, 100 * MS)
    now = itertools.count(10**12, 10 * MS)
    benchmark(lambda: gauge.look(next(now)))


def bench_too_early(benchmark, tmp_path: Path) -> None:
    """A query between two looks."""
    (tmp_path / "use").write_text("usage_usec 123456\n")
    gauge = Gauge(tmp_path / "use", 1000, 50 * MS, 100 * MS)
    gauge.look(10**12)
    benchmark(lambda: gauge.look(10**12))
