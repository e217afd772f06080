# SPDX-License-Identifier: Apache-2.0
"""Latencies in buckets: their precision, and agreement with the hdrhistogram package, which reads what we write."""

import base64
import random

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench._histogram import Histogram
from fastdns.bench.tally import Tally

HOUR = 3600 * 10**9
NANOSECONDS = st.one_of(st.integers(0, 5000), st.integers(0, HOUR))


def both(values: list[int]) -> tuple[Histogram, HdrHistogram]:
    ours, theirs = Histogram(), HdrHistogram(1, HOUR, 3)
    for value in values:
        ours.record(value / 1e9)
        theirs.record_value(value)
    return ours, theirs


@given(st.lists(NANOSECONDS, min_size=1, max_size=200))
def test_the_package_reads_what_we_write(values):
    ours, theirs = both(values)
    read = HdrHistogram.decode(ours.encode())
    assert read.get_total_count() == theirs.get_total_count() == len(values)
    assert (read.get_min_value(), read.get_max_value()) == (theirs.get_min_value(), theirs.get_max_value())
    for p in (0.1, 25, 50, 75, 90, 99, 99.9, 100):
        assert read.get_value_at_percentile(p) == theirs.get_value_at_percentile(p)


@given(st.lists(NANOSECONDS, min_size=1, max_size=200))
def test_we_read_what_the_package_writes(values):
    ours, theirs = both(values)
    read = Histogram.decode(theirs.encode())
    assert read.buckets() == ours.buckets()
    assert read.count == ours.count


@given(st.lists(NANOSECONDS, min_size=1, max_size=300), st.floats(0, 100))
def test_a_percentile_is_right_to_three_digits(values, p):
    ours, _ = both(values)
    exact = sorted(values)[max(1, int(p / 100 * len(values) + 0.5)) - 1]
    assert exact <= round(ours.percentile(p) * 1e9) <= exact * 1.001 + 1


def test_what_is_told_exactly():
    ours, _ = both([10, 2_000_001, 5_000_000_017])
    assert (ours.min, ours.max) == (1e-8, 5.000000017)
    assert ours.mean == pytest.approx((10 + 2_000_001 + 5_000_000_017) / 3e9, abs=1e-12)
    assert ours.stddev == pytest.approx(2.3567, rel=1e-3)


def test_empty():
    empty = Histogram()
    assert (empty.count, empty.mean, empty.min, empty.max, empty.percentile(99), empty.stddev) == (0, 0, 0, 0, 0, 0)
    assert empty.buckets() == []
    assert Histogram.decode(empty.encode()).count == HdrHistogram.decode(empty.encode()).get_total_count() == 0


def test_beyond_an_hour():
    ours = Histogram()
    ours.record(7200)
    assert ours.max == 7200
    assert 3600 <= ours.percentile(50) < 3604
    assert HdrHistogram.decode(ours.encode()).get_total_count() == 1


def test_times_merge_and_copy():
    one, two = Histogram(), Histogram()
    one.record(0.001, 3)
    two.record(0.5)
    two.record(0.7, 0)
    twin = one.copy()
    one.merge(two)
    assert (one.count, twin.count, two.count) == (4, 3, 1)
    assert (one.min, one.max) == (0.001, 0.5)
    assert [count for _, _, count in one.buckets()] == [3, 1]


@pytest.mark.parametrize("wrong", [-0.001, float("nan")])
def test_no_latency_is_negative(wrong):
    with pytest.raises(ValueError, match="negative"):
        Histogram().record(wrong)
    with pytest.raises(ValueError, match="negative"):
        Histogram().record(1, -1)


@pytest.mark.parametrize("p", [-1, 100.1, float("nan")])
def test_a_percentile_is_one_of_a_hundred(p):
    with pytest.raises(ValueError, match="percentile"):
        Histogram().percentile(p)


@given(st.binary(max_size=200))
def test_what_is_no_histogram_is_refused(junk):
    for encoded in (junk, base64.b64encode(junk)):
        with pytest.raises(ValueError, match="HdrHistogram"):
            Histogram.decode(encoded)


@pytest.mark.parametrize("shape", [(1, HOUR, 2), (1, 10**9, 3), (1000, HOUR, 3)])
def test_another_shape_is_refused(shape):
    other = HdrHistogram(*shape)
    other.record_value(5000)
    with pytest.raises(ValueError, match="another version, range or precision"):
        Histogram.decode(other.encode())


def test_tallies_add_up():
    draw = random.Random(4)
    tallies = []
    for _ in range(2):
        tally = Tally(seconds=2.0, sent=10, completed=8, in_window=8, lost=2, rcodes={0: 5, draw.randrange(1, 9): 3})
        tally.latency.record(0.25, 8)
        tallies.append(tally)
    total = tallies[0] + tallies[1]
    assert (total.seconds, total.sent, total.completed, total.lost, total.qps) == (4.0, 20, 16, 4, 4.0)
    assert sum(total.rcodes.values()) == 16 and total.latency.count == 16
    assert (tallies[0].sent, tallies[0].latency.count) == (10, 8)
    exported = total.as_dict()
    assert exported["qps"] == 4.0 and exported["rcodes"]["0"] == 10
    assert Histogram.decode(exported["latency"]["hdr"].encode()).count == 16
