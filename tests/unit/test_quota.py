# SPDX-License-Identifier: Apache-2.0
"""What is left of a CPU quota: the rule on figures of our own, and the files it is read from."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns._quota import Gauge

MS = 1_000_000
PERIOD, QUOTA = 100 * MS, 50 * MS
START = 10**12


def gauge(folder: Path, text: str = "0\n", workers: int = 1) -> Gauge:
    (folder / "use").write_text(text)
    return Gauge(folder / "use", 1, QUOTA, PERIOD, workers)


def test_three_quarters_within_a_period_is_nearly_spent(tmp_path: Path) -> None:
    watch = gauge(tmp_path)
    spent = [watch.judge(START + ms * MS, ms * MS / 2, ms * MS / 2) for ms in range(0, 160, 5)]
    # Half a CPU: 37.5 ms are used after 75 ms, and never less in the last 100 ms from then on.
    assert spent == [ms >= 75 for ms in range(0, 160, 5)]
    # It pauses, and what was used leaves the period: 75 % are reached until 25 ms later.
    paused = [watch.judge(START + (155 + ms) * MS, 155 * MS / 2, 155 * MS / 2) for ms in range(5, 60, 5)]
    assert paused == [ms <= 25 for ms in range(5, 60, 5)]


@pytest.mark.parametrize("rate, spent", [(0.3, False), (0.45, True)])
def test_a_long_pause_between_looks_counts_by_proportion(tmp_path: Path, rate: float, spent: bool) -> None:
    watch = gauge(tmp_path)
    assert not watch.judge(START, 0, 0)
    assert watch.judge(START + 10_000 * MS, 10_000 * MS * rate, 10_000 * MS * rate) is spent


@pytest.mark.parametrize("workers, own_ms, spent", [(1, 6, False), (1, 7, True), (2, 3, False), (2, 4, True)])
def test_python_has_a_floor_whoever_spends_the_rest(tmp_path: Path, workers: int, own_ms: int, spent: bool) -> None:
    watch = gauge(tmp_path, workers=workers)
    watch.judge(START, 0, 0)
    assert watch.judge(START + PERIOD, 2 * QUOTA, own_ms * MS) is spent


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0, 1)), min_size=1, max_size=200))
def test_no_verdict_without_the_use(tmp_path_factory, steps: list[tuple[int, float]]) -> None:
    """Whatever the looks' rhythm: what used less than 3/4 of the quota in every period is never called spent."""
    watch = gauge(tmp_path_factory.mktemp("quota"))
    now, used = START, 0.0
    for milliseconds, share in steps:
        now += milliseconds * MS
        used += milliseconds * MS * 0.374 * share
        assert not watch.judge(now, used, used)


@pytest.mark.parametrize("text, found", [
    ("123456\n", 123456.0),
    ("usage_usec 77\nuser_usec 70\n", 77.0),
    ("", -1.0),
    ("nothing\n", -1.0),
    ("9" * 200, float("9" * 64)),
])
def test_the_file_of_a_group(tmp_path: Path, text: str, found: float) -> None:
    assert gauge(tmp_path, text).group_ns == pytest.approx(found)


def test_a_look_reads_file_and_clocks_sixteen_times_a_period(tmp_path: Path) -> None:
    (tmp_path / "use").write_text("usage_usec 0\n")
    watch = Gauge(tmp_path / "use", 1000, 1000, 100 * MS)  # this process uses its floor of 125 ns at once
    assert not watch.look(START)
    sum(range(1000))
    (tmp_path / "use").write_text("usage_usec 5000\n")
    assert not watch.look(START + 6 * MS)  # too early: not looked
    (tmp_path / "use").write_text("nonsense\n")
    assert not watch.look(START + 7 * MS)


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Gauge(tmp_path / "none", 1, QUOTA, PERIOD)
    (tmp_path / "use").write_text("0\n")
    for quota, period, workers in ((0, PERIOD, 1), (QUOTA, 0, 1), (QUOTA, PERIOD, 0)):
        with pytest.raises(ValueError, match="a quota of"):
            Gauge(tmp_path / "use", 1, quota, period, workers)
