# SPDX-License-Identifier: Apache-2.0
"""Numbers of upstreams: one for each, for good, and none when all are given."""

import pytest

from fastdns._stats import Stats
from fastdns.upstream_numbers import LAST, MOST, names, number, restore


def test_an_upstream_keeps_its_number() -> None:
    stats = Stats.create(4)
    given = [number(stats, to) for to in ("192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.1:53", "192.0.2.1:5353")]
    assert given == [1, 2, 1, 3]
    assert names(stats) == {1: "192.0.2.1:53", 2: "[2001:db8::1]:53", 3: "192.0.2.1:5353"}
    assert number(Stats.attach(stats.fd), "[2001:db8::1]:53") == 2  # another process


def test_when_all_are_given_the_next_has_none() -> None:
    stats = Stats.create(4)
    stats.set_shared(stats.intern(LAST, (), "word"), MOST - 1)
    assert [number(stats, to) for to in ("a:53", "b:53", "a:53", "b:53")] == [MOST, 0, MOST, 0]
    assert names(stats) == {MOST: "a:53"}


def test_another_table_goes_on_with_the_numbers() -> None:
    stats = Stats.create(4)
    restore(stats, {3: "a:53", 7: "b:53"})
    assert names(stats) == {3: "a:53", 7: "b:53"}
    assert [number(stats, to) for to in ("b:53", "c:53", "a:53")] == [7, 8, 3]
    for wrong in (0, MOST + 1):
        with pytest.raises(ValueError, match="1 to 4095"):
            restore(stats, {wrong: "a:53"})
