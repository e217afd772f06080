# SPDX-License-Identifier: Apache-2.0
"""_cache: a look-up that hits, one that misses, an insert, each among names that are near and among many."""

import pytest

from fastdns import _drive_micro
from fastdns._cache import Look, Segment

LOOKS = 200_000
PUTS = 50_000


def name_of(number: int) -> bytes:
    label = b"host%d" % number
    return bytes([len(label)]) + label + b"\7example\3net\0"


def message(name: bytes) -> bytes:
    return bytes(12) + name + bytes(4 + 3 * 16)


@pytest.mark.parametrize("names", [100, 10_000])
def bench_lookup_hit(repeated, names):
    segment = Segment.create([(1, 16384, 16384)])
    look = Look(segment, 1)
    wires = [name_of(number) for number in range(names)]
    for wire in wires:
        look.put(wire, message(wire), offsets=(40, 56, 72), ttl=3600)
    rounds = LOOKS // names
    assert repeated(look.time_gets, wires, rounds, items=LOOKS, unit="look-up") >= 0.99 * LOOKS


@pytest.mark.parametrize("names", [100, 10_000])
def bench_lookup_miss(repeated, names):
    segment = Segment.create([(1, 16384, 16384)])
    look = Look(segment, 1)
    for number in range(10_000):
        wire = name_of(number)
        look.put(wire, message(wire), offsets=(40, 56, 72), ttl=3600)
    absent = [name_of(1_000_000 + number) for number in range(names)]
    assert repeated(look.time_gets, absent, LOOKS // names, items=LOOKS, unit="look-up") == 0


@pytest.mark.parametrize("names", [100, 10_000])
def bench_insert(repeated, names):
    segment = Segment.create([(1, 16384, 16384)])
    wires = [name_of(number) for number in range(names)]
    rounds = PUTS // names
    octets = bytes(12 + 100)
    stored = repeated(_drive_micro.put, segment, 1, wires, octets, [40, 56, 72], rounds, items=PUTS, unit="entry")
    assert stored >= PUTS // rounds
