# SPDX-License-Identifier: Apache-2.0
"""The shared cache itself: keys, order of stores, capacity, sharing between processes, and damage of every kind.

Strategy: everything goes through `Look`, which does on Python values what a worker's stage does. An answer is a
function of its key and a version, so that a read can be judged by its own octets: whatever happens to the memory, a
look-up returns an answer that was stored under that very key, or nothing.
"""

import errno
import itertools
import mmap
import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._cache import Look, Segment, Survey

SMALL = (1, 1024, 1024)
HOUR = 3600 * 10**9


def wire_name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def name_of(number: int) -> bytes:
    return wire_name(f"host{number}.example.net")


def message(number: int, version: int = 0, octets: int = 150) -> bytes:
    """A would-be message that tells what it belongs to, all the way."""
    stamp = number.to_bytes(4, "big") + version.to_bytes(8, "big")
    return (stamp * (octets // 12 + 1))[:octets]


def belongs(wire: bytes, number: int) -> bool:
    return wire == message(number, int.from_bytes(wire[4:12], "big"), len(wire))


@pytest.fixture
def segment(request):
    """A whole segment, or by the parameter "part" one whose rings cannot grow."""
    part = getattr(request, "param", "whole") == "part"
    made = Segment.create([SMALL], Segment.least_for([SMALL]) if part else None)
    yield made
    os.close(made.fd)


@pytest.fixture
def look(segment):
    return Look(segment, 1)


# ---- keys and entries


def test_what_is_put_is_got(look):
    assert look.put(name_of(1), message(1), 28, 1, stored_at=77, ttl=60, rcode=3, mark=1, offsets=(20, 40)) == 1
    assert look.get(name_of(1), 28, 1) == (77, 60, 3, 1, (20, 40), message(1))


@pytest.mark.parametrize("upstream", [0, 1, 0xFFE, 0xFFF])
def test_an_entry_keeps_whose_answer_it_is(segment, look, upstream):
    assert look.put(name_of(1), message(1), 28, 1, ttl=60, rcode=0xFFF, mark=0xFF, upstream=upstream) == 1
    assert look.get(name_of(1), 28, 1)[1:4] == (60, 0xFFF, 0xFF)  # a hit, which moves it to the other ring
    survey = Survey(segment, 1)
    found = [one for first, end in survey.spans() for one in survey.matching(first, end, name_of(1))]
    assert [one[10:12] for one in found] == [(0xFF, upstream)]


@pytest.mark.parametrize("octets", [12, 13, 63, 64, 65, 511, 4096, 65535])
@pytest.mark.parametrize("offsets", [(), (9,), tuple(range(5957))])
def test_every_size(look, octets, offsets):
    name = wire_name(".".join(["a" * 63] * 3 + ["b" * 61]))
    assert len(name) == 255
    assert look.put(name, message(5, 1, octets), offsets=offsets)
    found = look.get(name)
    assert found[4:] == (offsets, message(5, 1, octets))


def test_nothing_shorter_than_a_header_is_stored(look):
    assert look.put(name_of(1), b"x" * 11) == 0


@pytest.fixture
def roomy():
    """A look at a block so large that no set of its index is full of what a test stores."""
    made = Segment.create([(1, 65536, 65536)])
    yield Look(made, 1)
    os.close(made.fd)


def test_each_part_of_the_key_counts(roomy):
    look = roomy
    keys = list(itertools.product((name_of(1), name_of(2), b"\0"), (1, 28), (1, 3), (False, True), (False, True),
                                  (False, True), (0, 1)))  # fmt: skip
    for number, (name, qtype, qclass, do, cd, aside, kind) in enumerate(keys):
        assert look.put(name, message(number), qtype, kind, qclass=qclass, do=do, cd=cd, aside=aside)
        assert look.get(name, qtype, kind, qclass=qclass, do=do, cd=cd, aside=aside)[5] == message(number)
    for number, (name, qtype, qclass, do, cd, aside, kind) in enumerate(keys):
        assert look.get(name, qtype, kind, qclass=qclass, do=do, cd=cd, aside=aside)[5] == message(number)
    hashes = {look.hash(name, qtype, qclass, do, cd, aside) for name, qtype, qclass, do, cd, aside, _ in keys}
    assert len(hashes) == len(keys) // 2


def test_blocks_do_not_see_each_other():
    segment = Segment.create([(1, 1024, 1024), (2, 1024, 1024)])
    one, two = Look(segment, 1), Look(segment, 2)
    one.put(name_of(1), message(1))
    assert two.get(name_of(1)) is None
    two.put(name_of(1), message(2))
    assert one.get(name_of(1))[5] == message(1)
    assert (segment.entries(1), segment.entries(2)) == ((1, 0), (1, 0))
    with pytest.raises(KeyError):
        Look(segment, 3)


def test_a_key_is_hashed_with_a_secret_of_the_segment(look):
    assert Look(Segment.create([SMALL]), 1).hash(name_of(1)) != look.hash(name_of(1))


def test_crafted_names_spread(look):
    """A million names with equal unkeyed hashes would be as good as any: only the keyed hash chooses the set."""
    sets = -(-3 * 2048 // 8)
    counts = [0] * sets
    for number in range(8 * sets):
        counts[(look.hash(name_of(number)) >> 32) * sets >> 32] += 1
    assert max(counts) < 32


# ---- which of two answers stays


def test_an_older_answer_never_replaces_a_newer(look):
    look.put(name_of(1), message(1, 2), stored_at=200)
    assert look.put(name_of(1), message(1, 1), stored_at=300, begun=100) == 0
    assert look.get(name_of(1))[5] == message(1, 2)
    assert look.events["lost"] == 1
    assert look.put(name_of(1), message(1, 3), stored_at=400, begun=200) == 1
    assert look.get(name_of(1))[5] == message(1, 3)


def test_both_kinds_live_under_one_key(look, segment):
    look.put(name_of(1), message(1), kind=0, stored_at=1)
    look.put(name_of(1), message(2), kind=1, stored_at=2)
    assert look.get(name_of(1), kind=0)[5] == message(1)
    assert look.get(name_of(1), kind=1)[5] == message(2)
    assert segment.entries(1) == (1, 1)
    look.drop(name_of(1), kind=0)
    assert look.get(name_of(1), kind=0) is None
    assert look.get(name_of(1), kind=1)[5] == message(2)


def test_a_flush_empties_and_keeps_what_was_under_way_out(look, segment):
    look.put(name_of(1), message(1))
    before = look.epoch
    segment.flush(1)
    assert look.get(name_of(1)) is None
    assert look.put(name_of(1), message(1), epoch=before) == 0
    assert look.get(name_of(1)) is None
    assert look.put(name_of(1), message(1)) == 1


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "late put", "get", "drop", "flush", "promote"]),
        st.integers(0, 11),
        st.integers(0, 1),
        st.integers(12, 400),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(OPERATIONS)
def test_it_behaves_like_a_dictionary(operations):
    """As long as nothing has to give way, it is a dictionary in which an answer begun earlier than the one there
    loses."""
    segment = MODEL_SEGMENT
    segment.flush(1)
    look = Look(segment, 1)
    model: dict[tuple[int, int], tuple[int, bytes]] = {}
    for now, (what, number, kind, octets) in enumerate(operations, 10):
        key, name = (number, kind), name_of(number)
        if what in ("put", "late put"):
            begun = now if what == "put" else now - 3
            stored = look.put(name, message(number, now, octets), kind=kind, stored_at=now, begun=begun)
            assert bool(stored) == (key not in model or model[key][0] <= begun)
            if stored:
                model[key] = (now, message(number, now, octets))
        elif what == "drop":
            look.drop(name, kind=kind)
            model.pop(key, None)
        elif what == "flush":
            segment.flush(1)
            model.clear()
        else:
            found = look.get(name, kind=kind, promote=what == "promote")
            assert (found and (found[0], found[5])) == model.get(key)
    for (number, kind), (stored_at, wire) in model.items():
        assert look.get(name_of(number), kind=kind)[::5] == (stored_at, wire)


MODEL_SEGMENT = Segment.create([SMALL])


# ---- capacity and eviction


@pytest.mark.parametrize("capacity", [1024, 9984])
def test_a_working_set_of_the_capacity_is_held(capacity):
    segment = Segment.create([(1, capacity, capacity)])
    look = Look(segment, 1)
    for number in range(capacity):
        look.put(name_of(number), message(number, 0, 200), kind=0)
        look.put(name_of(number), message(number, 0, 200), 28, kind=1)
    for kind, qtype in ((0, 1), (1, 28)):
        held = sum(look.get(name_of(number), qtype, kind) is not None for number in range(capacity))
        assert held >= 0.99 * capacity  # CoreDNS's 256 shards hold some 0.94 of it
    os.close(segment.fd)


def test_a_working_set_of_the_capacity_comes_back_after_a_flood():
    segment = Segment.create([(1, 4096, 1024)])
    look = Look(segment, 1)
    for number in range(40000):
        look.put(name_of(10**6 + number), message(1))
    for _ in range(3):
        for number in range(4096):
            if look.get(name_of(number)) is None:
                look.put(name_of(number), message(number, 0, 230))
    assert sum(look.get(name_of(number)) is not None for number in range(4096)) >= 0.98 * 4096
    os.close(segment.fd)


def test_entries_that_give_way_are_counted_by_kind(segment, look):
    outcomes = [look.put(name_of(number), message(number), kind=number & 1) for number in range(20000)]
    success, denial = segment.entries(1)
    assert outcomes.count(2) > 0
    assert outcomes.count(3) > 0
    assert outcomes.count(0) == 0
    assert 20000 - outcomes.count(2) - outcomes.count(3) >= success + denial > 1024


def test_a_flood_of_new_names_leaves_the_hot_ones():
    """Half of all queries ask for a new name each: hits on the hot names (Zipf) stay above 0.9."""
    segment = Segment.create([(1, 2048, 1024)])
    look = Look(segment, 1)
    dice = random.Random(1)
    hot = 1500
    weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(hot)))
    hits = asked = 0
    new = 10**6
    for turn in range(150_000):
        number = dice.choices(range(hot), cum_weights=weights)[0]
        found = look.get(name_of(number))
        if turn > 50_000:
            asked += 1
            hits += found is not None
        if found is None:
            look.put(name_of(number), message(number))
        new += 1
        if look.get(name_of(new)) is None:
            look.put(name_of(new), message(1))
    assert hits / asked > 0.9, hits / asked
    os.close(segment.fd)


def test_the_first_hit_promotes(segment, look):
    number = 0
    while look.heads[0][0][0] < 2:  # main takes everything in its first lap
        number += 1
        look.put(name_of(number), message(number, 0, 1000))
    main, probation = look.heads
    look.put(name_of(10**6), message(1))
    assert look.heads[0] == main
    assert look.heads[1] != probation
    assert look.get(name_of(10**6))[5] == message(1)
    assert look.events["promoted"] == 1
    assert look.get(name_of(10**6))[5] == message(1)
    assert look.events["promoted"] == 1


def test_main_copies_what_is_asked_for_before_it_is_lapped(segment, look):
    look.put(name_of(0), message(0))
    asked = 0
    for number in range(1, 30000):
        look.put(name_of(number), message(number, 0, 1000))
        look.put(name_of(number), message(number, 1, 1000))  # known by now: to main
        if number % 25 == 0:
            asked += look.get(name_of(0)) is not None
    assert asked == 1199
    assert look.heads[0][0][0] > 20


# ---- refreshes


def test_one_claim_at_a_time(look, segment):
    other = Look(segment, 1)
    assert look.claim(5, 0, HOUR)
    assert not other.claim(5, 1, HOUR)
    assert other.claim(6 << 32, 1, HOUR)
    other.claim_until(5, 0)
    assert other.claim(5, 1, HOUR)


def test_a_claim_expires_and_may_be_held(look):
    assert look.claim(5, 0, HOUR)
    assert not look.claim(5, HOUR - 10**6, 2 * HOUR)
    assert look.claim(5, HOUR, 2 * HOUR)
    look.claim_until(5, 3 * HOUR)
    assert not look.claim(5, 2 * HOUR, 4 * HOUR)
    assert look.claim(5, 3 * HOUR, 4 * HOUR)


def test_the_table_of_claims_is_bounded(look):
    taken = sum(look.claim(number * 0x9E3779B97F4A7C15 & (1 << 64) - 1, 0, HOUR) for number in range(20000))
    assert 3000 < taken <= 4096


def test_hits_are_summed_over_workers():
    segment = Segment.create([(1, 1024, 1024, 3)])
    rows = [Look(segment, 1, row) for row in range(3)]
    rows[0].put(name_of(1), message(1))
    assert rows[0].note_hit(name_of(1), now_ns=10, window_ns=100) == (1, 1)
    assert rows[1].note_hit(name_of(1), now_ns=20, window_ns=100) == (1, 2)
    assert rows[1].note_hit(name_of(1), now_ns=30, window_ns=100) == (2, 3)
    assert rows[2].note_hit(name_of(1), now_ns=115, window_ns=100) == (1, 3)  # row 0's pause was too long
    assert rows[0].note_hit(name_of(1), now_ns=400, window_ns=100) == (1, 1)
    rows[0].put(name_of(1), message(1, 2), stored_at=500)
    assert rows[0].note_hit(name_of(1), now_ns=450, window_ns=100) == (2, 2)  # a refresh keeps the count
    assert rows[0].note_hit(name_of(2), now_ns=450, window_ns=100) == (0, 0)


# ---- the segment


def test_sizes():
    assert Segment.size_for([SMALL]) == Segment.create([SMALL]).octets
    assert Segment.size_for([(1, 9984, 9984)]) > 2 * 9984 * 512
    assert Segment.create([(7, 1024, 2048, 2)]).blocks == [(7, 1024, 2048, 2)]


def test_memory_is_taken_as_it_is_used():
    blocks = [(n, 9984, 9984) for n in range(40)]
    segment = Segment.create(blocks)
    assert segment.octets == Segment.size_for(blocks) > 400 << 20
    assert segment.taken < 1 << 20
    looks = [Look(segment, n) for n in range(40)]
    for each in looks:
        assert each.get(name_of(1)) is None and each.put(name_of(1), message(1))
    assert segment.entries(3) == (1, 0)
    segment.flush(3)
    assert segment.entries(3) == (0, 0)
    assert segment.taken < 2 << 20
    for number in range(40000):
        looks[0].put(name_of(number), message(number, 0, 230))
    assert 10 << 20 < segment.taken < 14 << 20
    os.close(segment.fd)


def test_no_more_memory_is_taken_than_was_allowed():
    """One block has what all may share; the others have their own part, and that works as a small cache does."""
    blocks = [(n, 9984, 9984) for n in range(10)]
    least = Segment.least_for(blocks)
    segment = Segment.create(blocks, least + (4 << 20))
    looks = [Look(segment, n) for n in range(10)]
    for look in looks:
        for turn in range(3):
            for number in range(30000):
                look.put(name_of(number), message(number, turn, 230))
        laps = [lap for (lap, _unit), _units in look.heads]
        assert laps[0] > 2
    assert least - (1 << 20) < segment.taken <= least + (4 << 20)
    held = [sum(segment.entries(n)) for n in range(10)]
    # All names are stored three times, so all are main's: 384 KiB of it hold some 1,200 of them.
    assert held[0] > 9 * held[1] and min(held[1:]) > 900
    for look in looks:
        for number in range(29000, 30000):
            found = look.get(name_of(number))
            assert found is None or found[5] == message(number, 2, 230)
    os.close(segment.fd)


def test_a_small_part_keeps_what_is_asked_for():
    """Promotions go by the ring's present size: not each hit is one, and a hot name outlives a flood."""
    blocks = [(1, 9984, 9984)]
    segment = Segment.create(blocks, Segment.least_for(blocks))
    look = Look(segment, 1)
    hits = 0
    for number in range(60000):
        look.put(name_of(10**6 + number), message(number, 0, 230))
        if number % 20 == 0:
            found = look.get(name_of(number // 20 % 100))
            hits += found is not None
            if found is None:
                look.put(name_of(number // 20 % 100), message(number // 20 % 100))
    assert hits > 2800
    assert look.events["promoted"] < hits / 2
    os.close(segment.fd)


@pytest.mark.parametrize(
    "blocks", [[], [(1, 0, 5)], [(1, 5, 0)], [(1, 1 << 27, 5)], [(1, 5, 5), (1, 5, 5)], [(-1, 5, 5)], [(1, 5, 5, 5000)]]
)
def test_sizes_out_of_range_are_refused(blocks):
    with pytest.raises(ValueError, match=r"."):
        Segment.create(blocks)


def test_what_cannot_fit_is_refused_with_both_figures():
    with pytest.raises(OSError, match=r"the cache needs \d+ MiB of memory and \d+ MiB are free") as caught:
        Segment.create([(n, 1 << 26, 1 << 26) for n in range(100)])
    assert caught.value.errno == errno.ENOMEM


def test_the_size_is_sealed(segment):
    for size in (segment.octets - 4096, segment.octets + 4096):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.fd, size)


def test_another_process_sees_it(segment, look):
    look.put(name_of(1), message(1))
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        mine = Look(Segment.attach(segment.fd), 1)
        good = mine.get(name_of(1))[5] == message(1) and mine.put(name_of(2), message(2)) == 1
        os.write(done, b"y" if good else b"n")
        os._exit(0)
    assert os.read(ready, 1) == b"y"
    os.waitpid(child, 0)
    os.close(ready)
    os.close(done)
    assert look.get(name_of(2))[5] == message(2)


def copy_of(segment: Segment) -> int:
    fd = os.memfd_create("copy")
    os.ftruncate(fd, segment.octets)
    os.pwrite(fd, os.pread(segment.fd, segment.octets, 0), 0)
    return fd


def test_attach_refuses_what_it_does_not_know(segment):
    damages: list[Callable[[int], object]] = [
        lambda fd: os.pwrite(fd, b"x", 0),  # magic
        lambda fd: os.pwrite(fd, b"\1", 8),  # layout
        lambda fd: os.pwrite(fd, b"\1", 16),  # size
        lambda fd: os.pwrite(fd, b"\0", 24),  # count
        lambda fd: os.pwrite(fd, b"\xff\xff", 25),
        lambda fd: os.pwrite(fd, bytes(8), 32),  # seed
        lambda fd: os.pwrite(fd, b"\7", 56),  # offset of the rings
        lambda fd: os.pwrite(fd, b"\7", 4096 + 8),  # a capacity
        lambda fd: os.pwrite(fd, b"\7", 4096 + 40),  # offset of the index
        lambda fd: os.ftruncate(fd, 100),
        lambda fd: os.ftruncate(fd, 0),
        lambda fd: os.ftruncate(fd, segment.octets + 4096),
    ]
    for damage in damages:
        fd = copy_of(segment)
        damage(fd)
        with pytest.raises(ValueError, match=r"cache segment|out of range|is 1 to"):
            Segment.attach(fd)
        os.close(fd)
    fd = copy_of(segment)
    Segment.attach(fd)
    os.close(fd)


def test_living_entries_move_into_a_new_segment():
    old = Segment.create([(1, 4096, 1024), (2, 1024, 1024), (3, 1024, 1024)])
    for block in (1, 2, 3):
        look = Look(old, block)
        for number in range(500):
            look.put(name_of(number), message(number, block), number % 5, number & 1, do=number & 2, stored_at=number)
    new = Segment.create([(4, 1024, 1024), (2, 9984, 9984, 2), (1, 1024, 1024)])
    assert new.move_from(old) == 1000
    for block in (1, 2):
        look = Look(new, block)
        for number in range(500):
            found = look.get(name_of(number), number % 5, number & 1, do=bool(number & 2))
            assert found[::5] == (number, message(number, block))
    assert new.entries(4) == (0, 0)


# ---- damage


def test_damaged_memory_is_a_miss():
    """Octets flipped anywhere, headers, index, heads and entries alike: never a crash, never an answer that was not
    put."""
    segment = Segment.create([SMALL])
    dice = random.Random(7)
    memory = mmap.mmap(segment.fd, segment.octets)
    look = Look(segment, 1)
    found = stored = 0
    for turn in range(300):
        for number in range(40):
            stored += look.put(name_of(number), message(number, turn, dice.choice((40, 200, 3000))), stored_at=turn)
        for _ in range(dice.choice((1, 8, 64))):
            part = dice.choice(((4096 + 128, 8192), (8192, 60_000), (60_000, segment.octets)))
            memory[dice.randrange(*part)] = dice.randrange(256)
        head = 4096 + 256 + 128 * dice.randrange(2)
        if turn % 10 == 0:
            memory[head : head + 8] = dice.choice((dice.randbytes(8), b"\xff" * 8, bytes(8)))
        for number in range(60):
            entry = look.get(name_of(number))
            assert entry is None or (number < 40 and belongs(entry[5], number))
            found += entry is not None
        segment.entries(1)
    assert found > 5000
    assert stored > 5000


def test_damage_to_every_octet_of_an_entry_is_seen(segment, look):
    look.put(name_of(1), message(1), offsets=(20, 30))
    before = os.pread(segment.fd, segment.octets, 0)
    at = before.index(message(1)[:24])
    start, end = at - 128, at + 150  # from the header to the end of the message
    for offset in range(start, end):
        for bit in (1, 0x80):
            os.pwrite(segment.fd, bytes([before[offset] ^ bit]), offset)
            found = look.get(name_of(1), promote=False)
            assert found is None or found[4:] == ((20, 30), message(1)), offset
        os.pwrite(segment.fd, before[offset : offset + 1], offset)
    assert look.get(name_of(1))[5] == message(1)
    assert look.events["torn"] > 200


# ---- several processes


def writer(segment: Segment, seed: int, until: float) -> None:
    dice = random.Random(seed)
    look = Look(Segment.attach(segment.fd), 1)
    version = seed
    while time.monotonic() < until:
        number = dice.randrange(200)
        version += 2
        look.put(name_of(number), message(number, version, dice.choice((40, 300, 2000, 9000))), kind=number & 1,
                 stored_at=version, begun=1 << 62)  # fmt: skip


def spawn(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.mark.parametrize("segment", ["whole", "part"], indirect=True)
def test_no_reader_ever_sees_a_torn_answer(segment):
    """Two writers lap a small ring, one of them stopped and continued again and again; the reader judges every
    octet."""
    until = time.monotonic() + 4
    children = [spawn(lambda seed=seed: writer(segment, seed, until)) for seed in (1, 2)]  # type: ignore[misc]
    look = Look(segment, 1)
    dice = random.Random(3)
    reads = hits = 0
    stopped = False
    try:
        while time.monotonic() < until:
            if reads % 500 == 0:
                os.kill(children[0], signal.SIGCONT if stopped else signal.SIGSTOP)
                stopped = not stopped
            number = dice.randrange(200)
            found = look.get(name_of(number), kind=number & 1)
            reads += 1
            if found is not None:
                hits += 1
                assert belongs(found[5], number)
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)
        statuses = [os.waitpid(child, 0)[1] for child in children]
    assert statuses == [0, 0]
    assert hits > 1000
    assert look.heads[0][0][0] > 3


@pytest.mark.parametrize("segment", ["whole", "part"], indirect=True)
def test_writers_that_die_leave_nothing_behind(segment):
    """SIGKILL at any moment of a store: readers go on, and the next writer stores under the same keys."""
    look = Look(segment, 1)
    for turn in range(40):
        child = spawn(lambda turn=turn: writer(segment, turn, time.monotonic() + 30))  # type: ignore[misc]
        time.sleep(0.02 + 0.001 * turn)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for number in range(200):
            found = look.get(name_of(number), kind=number & 1)
            assert found is None or belongs(found[5], number)
    for number in range(200):
        assert look.put(name_of(number), message(number), kind=number & 1, stored_at=2, begun=1 << 62)
        assert look.get(name_of(number), kind=number & 1)[5] == message(number)
