# SPDX-License-Identifier: Apache-2.0
"""Snapshots of the cache: what comes back, when, and what any damage costs.

Strategy: a segment is saved and loaded into another one. Clocks are arguments, so a boot or a day passes by arithmetic.
"""

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdns import snapshot
from fastdns._cache import Segment, Survey
from fastdns._wire import name_from_text
from fastdns.snapshot import Part, SnapshotError

NANO = 10**9
SMALL = (1, 1024, 1024)
PART = Part(1, (".",), "settings")


def answer(name: bytes) -> bytes:
    """A reply with one A record behind a question."""
    head = struct.pack("!HHHHHH", 0, 0x8180, 1, 1, 0, 0)
    return head + name + struct.pack("!HH", 1, 1) + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + b"\xc0\0\2\1"


def filled(count: int, boot: int, ttl: int = 300) -> Segment:
    made = Segment.create([SMALL])
    survey = Survey(made, 1)
    for number in range(count):
        name = name_from_text(f"host{number}.example.")
        offset = 12 + len(name) + 4 + 2 + 4
        assert survey.put(name, answer(name), stored_at=boot, ttl=ttl, offsets=(offset,), mark=1)
    return made


def records_of(segment: Segment, boot: int, wall: int) -> bytes:
    survey, found = Survey(segment, 1), b""
    for first, end in survey.spans():
        at = first
        while at < end:
            at, records, _ = survey.page(at, end, boot, wall, 1000)
            found += records
    return found


def choose(_zones, _settings):
    return 1, 0


def load(path: Path, into: Segment, chosen=choose) -> snapshot.Loaded:
    fd = os.open(path, os.O_RDONLY)
    try:
        return snapshot.load(fd, into, chosen)
    finally:
        os.close(fd)


def saved(path: Path, count: int = 50) -> None:
    snapshot.save(str(path), filled(count, time.clock_gettime_ns(time.CLOCK_BOOTTIME)), [PART])


def test_everything_comes_back_once(tmp_path):
    path = tmp_path / "snap"
    saved(path, 700)
    assert path.stat().st_mode & 0o777 == 0o600
    into = Segment.create([SMALL])
    assert load(path, into) == (700, 0, 0, 0)
    name = name_from_text("host7.example.")
    found = Survey(into, 1).get(name)
    assert found is not None and found[1] == 300 and found[5] == answer(name) and found[3] == 1 | 0x80
    assert [p.name for p in tmp_path.iterdir()] == ["snap"]


def test_a_newer_entry_stays(tmp_path):
    path = tmp_path / "snap"
    saved(path, 3)
    time.sleep(0.01)
    into = filled(1, time.clock_gettime_ns(time.CLOCK_BOOTTIME), ttl=77)
    assert load(path, into) == (2, 0, 1, 0)
    found = Survey(into, 1).get(name_from_text("host0.example."))
    assert found is not None and found[1] == 77


@pytest.mark.parametrize(
    ("passed", "boot", "stale", "counts", "left"),
    [
        (100, 10_000, 0, (1, 0, 0), 200),  # the same boot
        (100, 10, 0, (1, 0, 0), 200),  # a new boot, younger than the entry
        (299, 10, 0, (1, 0, 0), 1),
        (300, 10_000, 0, (0, 1, 0), 0),
        (300, 10, 0, (0, 1, 0), 0),
        (400, 10_000, 200, (1, 0, 0), -100),
        (500, 10_000, 200, (0, 1, 0), 0),
        (-1, 10_000, 0, (0, 0, 1), 0),  # from the future
    ],
)
def test_life_goes_by_the_wall_clock(passed, boot, stale, counts, left):
    records = records_of(filled(1, 5000 * NANO), 5000 * NANO, 10**18)
    into = Segment.create([SMALL])
    assert Survey(into, 1).take(records, boot * NANO, 10**18 + passed * NANO, stale) == counts
    found = Survey(into, 1).get(name_from_text("host0.example."))
    assert (found is not None) == (counts[0] == 1)
    if found is not None:
        # As the stage of cache counts it; a second may be lost over a boot, none is won.
        assert left - 1 <= found[1] - (boot * NANO - found[0]) // NANO <= left


def test_a_block_that_nobody_takes_is_passed_over(tmp_path):
    path = tmp_path / "snap"
    saved(path)
    into = Segment.create([SMALL])
    assert load(path, into, lambda zones, digest: None) == (0, 0, 0, 1)
    asked = []
    load(path, into, lambda zones, digest: asked.append((zones, digest)))
    assert asked == [((".",), "settings")] and into.entries(1) == (0, 0)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_file_with_any_damage_is_refused_whole(tmp_path, data):
    path = tmp_path / "snap"
    if not path.exists():
        saved(path, 20)
    octets = path.read_bytes()
    at = data.draw(st.integers(0, len(octets) - 1))
    bad = data.draw(st.sampled_from(["flip", "cut", "more", "twice"]))
    if bad == "flip":
        octets = octets[:at] + bytes([octets[at] ^ data.draw(st.integers(1, 255))]) + octets[at + 1:]
    elif bad == "cut":
        octets = octets[:at]
    elif bad == "more":
        octets += data.draw(st.binary(min_size=1, max_size=20))
    else:
        octets = octets[:at + 1] + octets
    damaged = tmp_path / "damaged"
    damaged.write_bytes(octets)
    into = Segment.create([SMALL])
    try:
        with pytest.raises(SnapshotError):
            load(damaged, into, choose)
        assert into.entries(1) == (0, 0)
    finally:
        os.close(into.fd)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_record_that_was_made_up_is_no_answer_to_another_question(data):
    # Behind the file's digests: whoever can write those still stores only well-formed answers to their questions.
    records = bytearray(records_of(filled(1, 5000 * NANO), 5000 * NANO, 10**18))
    for _ in range(data.draw(st.integers(1, 3))):
        records[data.draw(st.integers(0, len(records) - 1))] = data.draw(st.integers(0, 255))
    into = Segment.create([SMALL])
    survey = Survey(into, 1)
    try:
        try:
            survey.take(bytes(records), 5000 * NANO, 10**18 + NANO)
        except ValueError:
            assert into.entries(1) == (0, 0)
        for first, end in survey.spans():
            for name, qtype, qclass, *_ in survey.matching(first, end):
                for kind in (0, 1):
                    for bits in range(8):
                        found = survey.get(name, qtype, kind, qclass=qclass, do=bits & 1, cd=bits & 2, aside=bits & 4)
                        if found is not None:
                            wire = found[5]
                            assert wire[12:12 + len(name)].lower() == name
                            assert wire[12 + len(name):16 + len(name)] == struct.pack("!HH", qtype, qclass)
                            assert all(offset + 4 <= len(wire) for offset in found[4])
    finally:
        os.close(into.fd)


def test_two_savers_do_not_mix(tmp_path):
    path = tmp_path / "snap"
    saved(path, 5)
    before = path.read_bytes()
    fd = snapshot._locked(f"{path}.new")
    try:
        with pytest.raises(BlockingIOError):
            saved(path, 6)
        assert path.read_bytes() == before
    finally:
        os.close(fd)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "snap"
    saved(path, 5)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        saved(path, 6)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["snap"]


def test_what_others_wrote_gets_a_name_of_its_own_each_time(tmp_path, monkeypatch):
    path, there = tmp_path / "snap", []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: (there.append(path.exists()), rename(self, to)))
    for number in range(1, snapshot.KEPT_MAX + 1):
        path.write_bytes(b"another %d" % number)
        snapshot._keep(str(path))  # a save that ended here is done again
        saved(path, 5)
        path.unlink()
    kept = [tmp_path / f"snap.kept{number if number > 1 else ''}" for number in range(1, snapshot.KEPT_MAX + 1)]
    assert [one.read_bytes() for one in kept] == [b"another %d" % number for number in range(1, len(kept) + 1)]
    assert set(there) == {True}
    path.write_bytes(b"one too many")
    with pytest.raises(FileExistsError, match="too many files are kept already"):
        saved(path, 5)
    assert path.read_bytes() == b"one too many"


def test_a_file_that_may_not_be_read_is_not_replaced(tmp_path, monkeypatch):
    path, opened = tmp_path / "snap", os.open
    path.write_bytes(b"a secret")

    def refused(name, flags, *rest):
        if name == str(path) and not flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied", name)
        return opened(name, flags, *rest)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        saved(path, 5)
    monkeypatch.undo()
    assert path.read_bytes() == b"a secret" and [p.name for p in tmp_path.iterdir()] == ["snap"]


def test_removing_by_name_subtree_and_type():
    into = filled(10, 5000 * NANO)
    survey = Survey(into, 1)

    def remove(*words):
        return sum(survey.remove(first, end, *words) for first, end in survey.spans())

    epoch = survey.epoch
    survey.forbid()
    assert survey.epoch == epoch + 1
    assert remove(name_from_text("host1.example."), False, 28) == 0
    assert remove(name_from_text("host1.example."), False, 1) == 1
    assert remove(name_from_text("ost2.example."), True) == 0
    assert remove(name_from_text("host2.example."), True) == 1
    assert into.entries(1) == (8, 0)
    assert remove(name_from_text("example."), True) == 8
    name = name_from_text("late.example.")
    assert survey.put(name, answer(name), epoch=epoch) == 0
