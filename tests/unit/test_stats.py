# SPDX-License-Identifier: Apache-2.0
"""The shared counters: interning, overflow, rows, and what a dead or stopped process leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns import _stats
from fastdns._stats import Stats

BOUNDS = (10, 100, 1000)


def by_labels(stats: Stats, name: str) -> dict[tuple[tuple[str, str], ...], tuple[int, ...]]:
    return {s.labels: s.values for s in stats.snapshot(words=True) if s.name == name}


def test_interning_is_idempotent_and_never_gives_slot_zero() -> None:
    stats = Stats.create(8, 4096)
    seen = {stats.intern("a_total", (("server", str(i)),)) for i in range(50)}
    assert len(seen) == 50
    assert 0 not in seen
    assert stats.intern("a_total", (("server", "7"),)) == stats.intern("a_total", (("server", "7"),))


def test_two_mappings_agree_and_rows_sum() -> None:
    one = Stats.create(8, 4096)
    two = Stats.attach(one.fd)
    slot = two.intern("x_total", (("k", "v"),))
    assert one.intern("x_total", (("k", "v"),)) == slot
    one.add(1, slot, 2)
    two.add(3, slot, 5)
    two.add(0, slot)
    assert one.get(slot) == two.get(slot) == 8
    assert one.get_row(3, slot) == 5
    assert by_labels(two, "x_total") == {(("k", "v"),): (8,)}


def test_interning_from_many_processes_gives_each_series_one_slot() -> None:
    stats = Stats.create(8, 4096)
    code = (
        "import sys; from fastdns._stats import Stats\n"
        "s = Stats.attach(int(sys.argv[1])); row = int(sys.argv[2])\n"
        "for i in range(60): s.add(row, s.intern('many_total', (('i', str(i)),)))\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(stats.fd), str(row)], pass_fds=[stats.fd])
        for row in range(1, 5)
    ]
    assert [c.wait(60) for c in children] == [0] * 4
    assert by_labels(stats, "many_total") == {(("i", str(i)),): (4,) for i in range(60)}


def test_unlabelled_series_exist_from_the_start_and_labelled_from_first_use() -> None:
    stats = Stats.create(8, 4096)
    stats.intern("plain_total", help="h")
    stats.intern("plain_seconds", kind="histogram", bounds=BOUNDS)
    labelled = stats.intern("labelled_total", (("a", "b"),))
    assert {s.name for s in stats.snapshot()} == {"fastdns_stats_overflow_total", "plain_total", "plain_seconds"}
    stats.add(2, labelled)
    assert "labelled_total" in {s.name for s in stats.snapshot()}


def test_grid_layout_is_the_product_of_its_axes() -> None:
    stats = Stats.create(8, 4096)
    axes = (("proto", ("udp", "tcp")), ("family", ("1", "2", "3")))
    base = stats.grid("g_seconds", (("zone", "."),), axes, "histogram", BOUNDS)
    width = len(BOUNDS) + 3
    stats.observe(1, base + (1 * 3 + 2) * width, BOUNDS, 100)
    stats.observe(1, base + (1 * 3 + 2) * width, BOUNDS, 5000)
    assert by_labels(stats, "g_seconds") == {
        (("zone", "."), ("proto", "tcp"), ("family", "3")): (0, 1, 0, 1, 5100, 2),
    }


def test_a_full_table_uses_the_family_overflow_and_counts() -> None:
    stats = Stats.create(4, 64)
    slots = [stats.intern("crowd_total", (("n", str(i)),)) for i in range(4000)]
    for slot in slots:
        stats.add(1, slot)
    values = by_labels(stats, "crowd_total")
    lost = values[(("n", _stats.OVERFLOW_LABEL),)][0]
    assert lost > 0
    assert sum(v[0] for v in values.values()) == 4000
    assert by_labels(stats, "fastdns_stats_overflow_total")[()] == (lost,)
    late = stats.intern("late_total", (("n", "1"),))
    stats.add(1, late)
    assert by_labels(stats, "late_total") == {}


def test_a_full_directory_overflows_too() -> None:
    stats = Stats.create(4, 64)
    room = [stats.intern("long_total", (("n", f"{i}" + "x" * 20000),)) for i in range(60)]
    assert len(set(room)) < 60
    assert stats.intern("long_total", (("n", "short"),)) > 0


@pytest.mark.parametrize(
    "again",
    [
        {"kind": "gauge"},
        {"labels": (("b", "v"),)},
        {"kind": "histogram", "bounds": (1, 2)},
    ],
)
def test_a_name_has_one_shape(again: dict) -> None:
    stats = Stats.create(4, 4096)
    stats.intern("shape_total", (("a", "v"),))
    with pytest.raises(ValueError, match="declared twice"):
        stats.intern("shape_total", **({"labels": (("a", "w"),)} | again))


@pytest.mark.parametrize("bounds", [(), (2, 1), (1, 1)])
def test_a_histogram_needs_ascending_bounds(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        Stats.create(4, 4096).intern("h", kind="histogram", bounds=bounds)


def test_out_of_range_is_refused() -> None:
    stats = Stats.create(4, 4096)
    for row, slot in ((4, 0), (-1, 0), (0, stats.slots), (0, -1)):
        with pytest.raises(IndexError):
            stats.add(row, slot)
    with pytest.raises(IndexError):
        stats.get(stats.slots)
    with pytest.raises(ValueError, match="rows"):
        Stats.create(1)
    with pytest.raises(ValueError, match="slots"):
        Stats.create(4, 1)


def test_attach_refuses_what_is_no_segment() -> None:
    fd = os.memfd_create("other")
    with pytest.raises(ValueError, match="segment"):
        Stats.attach(fd)
    os.ftruncate(fd, 1 << 16)
    with pytest.raises(ValueError, match="segment"):
        Stats.attach(fd)
    os.close(fd)


def test_gauges_of_a_dead_row_are_reset_and_counters_stay() -> None:
    stats = Stats.create(8, 4096)
    gauge, counter = stats.intern("g", kind="gauge"), stats.intern("c_total")
    for row in (1, 3):
        stats.set(row, gauge, 4)
        stats.add(row, counter, 4)
    stats.add(1, gauge, -5)
    assert stats.get(gauge) == 3
    stats.reset_row(3)
    assert (stats.get(gauge), stats.get(counter)) == (-1, 8)
    stats.clear("g")
    assert stats.get(gauge) == 0


def test_words_are_not_exported() -> None:
    stats = Stats.create(4, 4096)
    slot = stats.intern("beat", (("worker", "1"),), kind="word")
    stats.set_shared(slot, 9)
    assert all(s.name != "beat" for s in stats.snapshot())
    assert by_labels(stats, "beat")[(("worker", "1"),)] == (9,)


HOLDER = (
    "import fcntl, sys, time\nfd = int(sys.argv[1])\n"
    "fcntl.lockf(fd, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)\n"
)


def holder(stats: Stats) -> subprocess.Popen:
    """A process that holds the directory's lock."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(stats.fd)], pass_fds=[stats.fd], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as said:
        assert said.readline() == b"held\n"
    return child


def test_a_dead_holder_of_the_lock_blocks_nobody() -> None:
    stats = Stats.create(4, 4096)
    child = holder(stats)
    child.send_signal(signal.SIGKILL)
    child.wait()
    slot = stats.intern("after_total", (("a", "1"),))
    stats.add(1, slot)
    assert by_labels(stats, "after_total") == {(("a", "1"),): (1,)}


def test_a_stopped_holder_of_the_lock_costs_an_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = Stats.create(4, 4096)
    known = stats.intern("stuck_total", (("a", "1"),))
    monkeypatch.setattr(_stats, "LOCK_SECONDS", 0.05)
    child = holder(stats)
    child.send_signal(signal.SIGSTOP)
    try:
        assert stats.intern("stuck_total", (("a", "1"),)) == known
        stuck = stats.intern("stuck_total", (("a", "2"),))
        assert stuck == stats.intern("stuck_total", (("a", "overflow"),))
        assert by_labels(stats, "fastdns_stats_overflow_total")[()] == (1,)
    finally:
        child.kill()
        child.wait()
    assert stats.intern("stuck_total", (("a", "2"),)) not in (stuck, known)


def test_an_unpublished_record_is_written_over() -> None:
    """What a process leaves that died before it moved the end of the log is not seen."""
    stats = Stats.create(4, 4096)
    end = int.from_bytes(os.pread(stats.fd, 8, 32), "little")
    os.pwrite(stats.fd, b"\xff" * 64, 4096 + end)
    slot = stats.intern("fresh_total", (("a", "1"),))
    assert Stats.attach(stats.fd).intern("fresh_total", (("a", "1"),)) == slot


def test_a_damaged_log_is_an_error_not_a_crash() -> None:
    stats = Stats.create(4, 4096)
    os.pwrite(stats.fd, b"\xff\xff\xff\x7f", 4096)
    with pytest.raises(ValueError, match="damaged"):
        Stats.attach(stats.fd)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=20))
def test_any_text_is_a_label_value(pairs: list[tuple[str, str]]) -> None:
    stats = Stats.create(4, 4096)
    slots = {pair: stats.intern("text_total", (("a", pair[0]), ("b", pair[1]))) for pair in pairs}
    assert len(set(slots.values())) == len(set(pairs))
    assert all(Stats.attach(stats.fd).intern("text_total", (("a", a), ("b", b))) == s for (a, b), s in slots.items())
