# SPDX-License-Identifier: Apache-2.0
"""top: the sketches against exact counts, what makes them old, lists out of them, real traffic, and what its lines may
say."""

from __future__ import annotations

import ipaddress
import itertools
import multiprocessing
import os
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns import chain, metrics
from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns._wire import name_from_text, name_to_text
from fastdns.corefile import load_source
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError, SetupError
from fastdns.numbers import NOERROR, NXDOMAIN, SERVFAIL, A
from fastdns.plugin import BlockPlan
from fastdns.plugins.top._top import Table, octets, stage
from fastdns.plugins.top.config import TOP
from fastdns.plugins.top.figures import busiest, figures, suffixes
from fastdns.plugins.top.handler import Top
from fastdns.server.kept import make
from fastdns.testing import Worker, exchange, question

SECOND = 1_000_000_000
WINDOW = 10 * SECOND
PERIOD = 1 << 30
LOOKED, EVICTED = 100, 101
CLIENTS, NAMES, SUFFIXES = range(3)
ALWAYS = 1 << 62


class Sketch:
    """A table with a worker, or several, and the exact counts of what they were asked."""

    def __init__(self, entries: int = 64, *, budget: int = ALWAYS, workers: int = 1, seed: int = 0, depth: int = 4,
                 prefixes: tuple[int, int] = (32, 64)) -> None:
        self.stats = Stats.create(2 * workers + 4)
        self.table = Table(self.stats, entries=entries, window=WINDOW, budget=budget, prefixes=prefixes, depth=depth,
                           slots=(LOOKED, EVICTED))
        self.workers = [self.worker(i, seed) for i in range(workers)]
        self.exact: Counter[bytes] = Counter()

    def worker(self, index: int, seed: int = 0) -> Bench:
        return Bench(stage(self.table), self.stats, 1 + 2 * index, seed=seed + index)

    def ask(self, name: str, times: int = 1, *, worker: int = 0, client: str = "192.0.2.1", at: int = 0,
            rcode: int = NOERROR, written: bool = True, **fields: Any) -> None:
        wire = question(name, A, id=7)
        address = ipaddress.ip_address(client)
        reply = wire[:2] + b"\x81\x80" + wire[4:] if written else None
        self.workers[worker].run(wire, client=address.packed.ljust(16, b"\0"), family=1 if address.version == 4 else 2,
                                 now_ns=at, rcode=rcode, reply=reply, repeat=times, **fields)
        self.exact[name_from_text(name)] += times

    def lists(self, kind: int, at: int = 0) -> list[tuple[dict[bytes, tuple[int, int, int]], list[int]]]:
        return [share[3][kind] for share in self.table.read(at)]

    def shown(self, kind: int, at: int = 0, count: int = 10) -> dict[str, int]:
        """The list as `fastdns top` has it."""
        found = figures(self.table.read(at), self.table.lists, count).lists[self.table.lists[kind]]
        if kind == CLIENTS:
            return {str(ipaddress.ip_address(row.key)): row.least for row in found}
        return {name_to_text(row.key): row.least for row in found}


# ---- the sketch


ASKED = st.lists(st.tuples(st.integers(0, 250), st.integers(1, 9)), max_size=400)


@given(ASKED)
@settings(max_examples=60, deadline=None)
def test_no_count_is_wrong_by_more_than_it_says(asked):
    sketch = Sketch(64)
    for number, times in asked:
        sketch.ask(f"n{number}.test.", times)
    total = sum(times for _, times in asked)
    if not total:
        assert sketch.table.read(0) == []
        return
    ((counters, least),) = sketch.lists(NAMES)
    assert len(counters) <= 64 and len(least) == 4
    for name, (count, error, where) in counters.items():
        assert count - error <= sketch.exact[name] <= count
        assert 0 <= where < 4 and least[where] <= count and error <= total // 16
    for name, truth in sketch.exact.items():
        assert name in counters or truth <= max(least)
        # So whoever has more than the sixteenth of a set's queries has a counter.
        assert name in counters or truth <= total // 16
    # What a counter takes over it keeps: nothing is counted twice and nothing is lost.
    assert sum(count for count, _, _ in counters.values()) == total
    ((_, seen, denied, _),) = sketch.table.read(0)
    assert (seen, denied) == (total, 0)


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=300))
@settings(max_examples=40, deadline=None)
def test_sums_over_workers_keep_their_bounds(asked):
    sketch = Sketch(64, workers=3)
    for number, times, worker in asked:
        sketch.ask(f"n{number}.test.", times, worker=worker)
    rows = busiest(sketch.lists(NAMES), 100)
    for row in rows:
        assert row.least <= sketch.exact[row.key] <= row.most
    assert [row.least for row in rows] == sorted((row.least for row in rows), reverse=True)
    assert sum(share[1] for share in sketch.table.read(0)) == sum(sketch.exact.values())


def test_the_heavy_hitters_of_zipf_names_are_found_in_order():
    chance = random.Random(1)
    sketch = Sketch(256, workers=2)
    names = [f"z{i:05d}.test." for i in range(20000)]
    weights = [1 / (i + 1) for i in range(len(names))]
    for number, name in enumerate(chance.choices(names, weights, k=60000)):
        sketch.ask(name, worker=number % 2)
    truth = [name for name, _ in sketch.exact.most_common(12)]
    shown = [row.key for row in busiest(sketch.lists(NAMES), 12)]
    assert shown[:6] == truth[:6] and len(set(shown) & set(truth)) >= 11
    assert sketch.stats.get(LOOKED) == 60000 and sketch.stats.get(EVICTED) > 10000


def test_a_flood_of_names_that_are_asked_for_once_hides_nobody():
    sketch = Sketch(256)
    for number in range(40000):
        sketch.ask(f"{random.Random(number).getrandbits(60):x}.flood.test.")
        if number % 50 == 0:
            sketch.ask("victim.test.")
    (first, second, *_) = busiest(sketch.lists(NAMES), 10)
    assert first.key == name_from_text("victim.test.") and first.least <= 800 <= first.most
    assert first.least > 300 and second.least < 20


def test_which_names_share_a_set_is_a_secret_of_the_table():
    """Whoever knew the set of a name could fill it with names of his own."""
    placed = []
    for _ in range(2):
        sketch = Sketch(4096)
        for number in range(200):
            sketch.ask(f"n{number}.test.")
        ((counters, _),) = sketch.lists(NAMES)
        placed.append({name: where for name, (_, _, where) in counters.items()})
    same = sum(placed[0][name] == placed[1][name] for name in placed[0])
    assert len(placed[0]) == 200 and same < 20
    assert len(set(placed[0].values())) > 100


def test_names_of_every_length_come_back_whole():
    sketch = Sketch(4096)
    names = ["."] + [".".join(["a" * 63] * 3 + ["b" * size]) + "." for size in range(1, 62)]
    names += [".".join("x" * count) + "." for count in range(1, 128)]
    names += [r"\000\001\255.test.", r"a\.b.test.", "UPPER.Test."]
    for name in names:
        sketch.ask(name)
    ((counters, _),) = sketch.lists(NAMES)
    wanted = {name_from_text(name.lower()) for name in names}
    assert max(map(len, wanted)) == 255 and set(counters) == wanted


def test_memory_is_what_it_was_at_the_start():
    sketch = Sketch(100, workers=2)
    before = sketch.table.octets
    assert sketch.table.entries == 128 and before == 2 * sketch.table.worker_octets
    assert sketch.table.worker_octets == -(-(16 + 2 * 128 * (36 + 36 + 6)) // 512) * 4096
    for number in range(3000):
        sketch.ask(f"n{number}.test.", client=f"192.0.{number % 200}.{number % 250}", rcode=NXDOMAIN)
    assert sketch.table.octets == before
    for kind in (CLIENTS, NAMES, SUFFIXES):
        ((counters, least),) = sketch.lists(kind)
        assert 0 < len(counters) <= 128 and len(least) == 8


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"entries": 63}, "a list has 64 to 4096 entries"),
        ({"entries": 4097}, "a list has 64 to 4096 entries"),
        ({"prefixes": (33, 64)}, "a prefix of 33 bits"),
        ({"prefixes": (32, 0)}, "a prefix of 0 bits"),
        ({"depth": 9}, "out of bounds"),
        ({"depth": 0}, "out of bounds"),
        ({"window": 0}, "out of bounds"),
        ({"budget": 0}, "out of bounds"),
    ],
)
def test_what_is_out_of_bounds_makes_no_table(wrong, text):
    sound = {"entries": 64, "window": WINDOW, "budget": 1, "prefixes": (32, 64), "depth": 4, "slots": (1, 2)}
    with pytest.raises(ValueError, match=text):
        Table(Stats.create(4), **{**sound, **wrong})


def test_tables_of_one_memory_are_one():
    sound = {"entries": 100, "window": WINDOW, "budget": ALWAYS, "prefixes": (32, 64), "depth": 4,
             "slots": (LOOKED, EVICTED)}
    fd = make(octets(100))
    try:
        first = Sketch(64)
        first.table = Table(first.stats, **sound, fd=fd)
        first.workers = [first.worker(0)]
        first.ask("a.test.", 3)
        second = Sketch(64, workers=3)
        second.table = Table(second.stats, **sound, fd=fd)
        second.workers = [second.worker(i) for i in range(3)]
        second.ask("a.test.", 4)
        second.ask("a.test.", 5, worker=2)
        assert second.shown(NAMES) == {"a.test.": 12} and second.table.begun == first.table.begun > 0
        # Nothing but what workers touched takes memory.
        assert os.fstat(fd).st_blocks * 512 < 8 * second.table.worker_octets < os.fstat(fd).st_size // 100
        with pytest.raises(ValueError, match="another size"):
            Table(first.stats, **{**sound, "entries": 64}, fd=fd)
    finally:
        os.close(fd)
    for entries in (63, 4097):
        with pytest.raises(ValueError, match="64 to 4096 entries"):
            octets(entries)


def test_what_a_table_is_kept_by():
    def key(text: str) -> Any:
        plan = BlockPlan(0, (), ())
        Top.plan(parsed(text)[0], plan)
        ((kind, facts),) = plan.asks
        assert kind == "kept" and facts["octets"] > 0
        return facts["key"]

    assert key("top") == key("top {\nmetrics 5\n}") == key("top {\nwindow 10s\n}")
    lines = ("window 11s", "entries 512", "samples 5000", "ipv4_prefix 24", "ipv6_prefix 56", "depth 3")
    assert len({key("top"), *(key(f"top {{\n{line}\n}}") for line in lines)}) == 7


def test_a_row_of_counters_without_a_region_starts_no_worker():
    sketch = Sketch()
    for row in (0, 3):
        with pytest.raises(RuntimeError, match="refuses"):
            Bench(stage(sketch.table), sketch.stats, row)


# ---- who is counted


@pytest.mark.parametrize(
    ("prefixes", "client", "shown"),
    [
        ((32, 64), "192.0.2.77", "192.0.2.77"),
        ((24, 64), "192.0.2.77", "192.0.2.0"),
        ((20, 64), "192.0.31.77", "192.0.16.0"),
        ((8, 64), "192.0.2.77", "192.0.0.0"),
        ((32, 64), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ((32, 56), "2001:db8:1:2ff:3:4:5:6", "2001:db8:1:200::"),
        ((32, 70), "2001:db8::ffff:4:5:6", "2001:db8:0:0:fc00::"),
        ((32, 128), "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
        ((32, 64), "::", "::"),
        ((32, 64), "0.0.0.0", "0.0.0.0"),
    ],
)
def test_a_client_is_what_the_prefix_says(prefixes, client, shown):
    sketch = Sketch(prefixes=prefixes)
    sketch.ask("a.test.", 3, client=client)
    assert sketch.shown(CLIENTS) == {shown: 3}


def test_what_the_server_asks_itself_counts_for_nobody():
    sketch = Sketch()
    sketch.ask("a.test.", background=True)
    sketch.ask("b.test.", 2)
    assert sketch.shown(NAMES) == {"b.test.": 2} and sketch.stats.get(LOOKED) == 2


def test_only_names_that_were_denied_have_suffixes():
    sketch = Sketch()
    sketch.ask("a.b.c.d.e.f.test.", 5, rcode=NXDOMAIN)
    sketch.ask("x.test.", 5, rcode=SERVFAIL)
    sketch.ask("y.test.", 5, rcode=NXDOMAIN, written=False)
    sketch.ask("wpad.", 2, rcode=NXDOMAIN)
    sketch.ask(".", 2, rcode=NXDOMAIN)
    ((counters, _),) = sketch.lists(SUFFIXES)
    assert {name_to_text(key): count for key, (count, _, _) in counters.items()} == {
        "test.": 5, "f.test.": 5, "e.f.test.": 5, "d.e.f.test.": 5, "wpad.": 2}
    ((_, seen, denied, _),) = sketch.table.read(0)
    assert (seen, denied) == (19, 9)


@pytest.mark.parametrize(("depth", "longest"), [(1, "test."), (2, "e.test."), (8, "b.c.d.e.test.")])
def test_the_name_itself_is_no_suffix(depth, longest):
    sketch = Sketch(depth=depth)
    sketch.ask("a.b.c.d.e.test.", rcode=NXDOMAIN)
    ((counters, _),) = sketch.lists(SUFFIXES)
    assert name_to_text(max(counters, key=len)) == longest and len(counters) == min(depth, 5)


# ---- time


def test_figures_are_of_two_windows():
    sketch = Sketch()
    start = 1000 * WINDOW
    sketch.ask("old.test.", 3, at=start)
    sketch.ask("new.test.", 5, at=start + WINDOW)
    assert sketch.shown(NAMES, start + WINDOW) == {"new.test.": 5, "old.test.": 3}
    assert sorted(share[0] for share in sketch.table.read(start + WINDOW)) == [0, 1]
    assert sketch.shown(NAMES, start + 2 * WINDOW) == {"new.test.": 5}  # nobody asked: nothing had to be done
    assert sketch.shown(NAMES, start + 3 * WINDOW) == {}
    sketch.ask("old.test.", 1, at=start + 2 * WINDOW)
    assert sketch.shown(NAMES, start + 2 * WINDOW) == {"new.test.": 5, "old.test.": 1}
    sketch.ask("late.test.", 2, at=start + 7 * WINDOW)
    assert sketch.shown(NAMES, start + 7 * WINDOW) == {"late.test.": 2}


def test_a_worker_that_read_the_clock_later_than_the_reader_is_seen():
    sketch = Sketch()
    sketch.ask("a.test.", 2, at=5 * WINDOW)
    assert sketch.shown(NAMES, 5 * WINDOW - 1) == {"a.test.": 2}


def test_the_next_owner_of_a_row_goes_on():
    sketch = Sketch(workers=2)
    sketch.ask("a.test.", 2, worker=1)
    sketch.workers[1] = sketch.worker(1)
    sketch.ask("a.test.", 3, worker=1)
    sketch.ask("a.test.", 1, worker=0)
    assert sketch.shown(NAMES) == {"a.test.": 6} and len(sketch.table.read(0)) == 2


def write_for_ever(sketch: Sketch, go: Any) -> None:
    """Names whose two labels are equal, of all lengths, through window after window."""
    go.set()
    for number in itertools.count():
        label = f"{number:x}" * (1 + number % 9)
        sketch.ask(f"{label}.{label}.t.", client=f"192.0.2.{number % 250}", at=number // 5000 * WINDOW, rcode=NXDOMAIN)


def test_a_reader_never_sees_half_a_name():
    sketch = Sketch(64)
    fork = multiprocessing.get_context("fork")
    go = fork.Event()
    writer = fork.Process(target=write_for_ever, args=(sketch, go))
    writer.start()
    try:
        assert go.wait(60)
        seen: set[bytes] = set()
        while len(seen) < 10000:
            assert writer.is_alive()
            # Everything counts as new to a reader whose clock is behind.
            for _, _, _, lists in sketch.table.read(0):
                names = set(lists[NAMES][0])
                seen |= names
                for name in names:
                    first, second, last, _ = name_to_text(name).split(".")
                    assert first == second and last == "t"
                for key, (count, error, _) in lists[CLIENTS][0].items():
                    assert key[:3] == b"\xc0\0\2" and len(key) == 4 and error <= count
    finally:
        writer.terminate()
        writer.join()


# ---- a part for all


def test_a_busy_worker_counts_a_part_and_is_right_about_all():
    sketch = Sketch(256, budget=2000, seed=3)
    for turn in range(400):
        sketch.ask("half.test.", 500, client="192.0.2.1", at=turn * SECOND // 400)
        sketch.ask("fifth.test.", 200, client="192.0.2.2", at=turn * SECOND // 400)
        sketch.ask("rest.test.", 300, client="192.0.2.3", at=turn * SECOND // 400)
    looked = sketch.stats.get(LOOKED)
    assert 2000 <= looked < 12000, "the budget, and half of it for each time that the part was halved"
    ((_, seen, _, _),) = sketch.table.read(0)
    assert abs(seen - 400_000) < 20_000
    shown = sketch.shown(NAMES)
    # One of 128 at most: three times the standard error.
    for name, truth in (("half.test.", 200_000), ("fifth.test.", 80_000), ("rest.test.", 120_000)):
        assert abs(shown[name] - truth) < 3 * (128 * truth) ** 0.5
    assert list(shown) == ["half.test.", "rest.test.", "fifth.test."]


def test_a_pattern_in_the_queries_is_no_pattern_in_what_is_counted():
    sketch = Sketch(256, budget=500, seed=5)
    for turn in range(30000):
        sketch.ask(f"n{turn % 16}.test.", at=turn)
    shown = sketch.shown(NAMES, count=16)
    assert len(shown) == 16 and max(shown.values()) < 3 * min(shown.values())


def test_a_worker_that_calmed_down_counts_each_again():
    sketch = Sketch(budget=100)
    sketch.ask("a.test.", 100_000, at=0)
    busy = sketch.stats.get(LOOKED)
    assert busy < 1500
    sketch.ask("b.test.", 50, at=5 * SECOND)
    assert sketch.stats.get(LOOKED) == busy + 50
    assert sketch.shown(NAMES)["b.test."] == 50


def test_a_steady_load_keeps_to_the_budget():
    sketch = Sketch(budget=100)
    for turn in range(80):
        sketch.ask("a.test.", 1000, at=turn * PERIOD)
    before = sketch.stats.get(LOOKED)
    for turn in range(80, 160):
        sketch.ask("a.test.", 1000, at=turn * PERIOD)
    assert 80 * 40 < sketch.stats.get(LOOKED) - before <= 80 * 110


# ---- lists


def counters(**found: int) -> tuple[dict[bytes, tuple[int, int, int]], list[int]]:
    """A worker's list: certain counts by name."""
    return {name_from_text(name.replace("_", ".") + "."): (count, 0, 0) for name, count in found.items()}, [0]


@pytest.mark.parametrize(
    ("found", "denied", "shown"),
    [
        # All lie below one name: that is the suffix, and no shorter one.
        ({"uk": 900, "co_uk": 900, "victim_co_uk": 900}, 900, {"victim_co_uk": 900}),
        # Each random name has a suffix of its own, which is nothing.
        ({"test": 500, "v_test": 500, **{f"r{i}_v_test": 1 for i in range(300)}}, 500, {"v_test": 500}),
        # The rest is the shorter one's.
        ({"test": 1000, "a_test": 600, "b_test": 300}, 1000, {"a_test": 600, "b_test": 300, "test": 100}),
        # A longer one is explained, and with it all above it.
        ({"test": 1000, "a_test": 1000, "x_a_test": 900}, 1000, {"x_a_test": 900, "a_test": 100}),
        # The sketch has lost one in between.
        ({"test": 1000, "x_a_test": 1000}, 1000, {"x_a_test": 1000}),
        ({}, 0, {}),
    ],
)  # fmt: skip
def test_suffixes_are_the_longest_that_explain(found, denied, shown):
    rows = suffixes([counters(**found)], denied, 10)
    assert {name_to_text(row.key).removesuffix(".").replace(".", "_"): row.least for row in rows} == shown
    assert all(row.most >= row.least for row in rows)


def test_a_flood_of_random_names_is_one_suffix():
    sketch = Sketch(256)
    for number in range(5000):
        sketch.ask(f"{random.Random(number).getrandbits(40):x}.victim.co.uk.", rcode=NXDOMAIN)
        if number % 10 == 0:
            sketch.ask(f"{number % 7}.lan.", rcode=NXDOMAIN)
    shown = sketch.shown(SUFFIXES)
    assert list(shown)[:2] == ["victim.co.uk.", "lan."] and "co.uk." not in shown and "uk." not in shown
    assert 4500 < shown["victim.co.uk."] <= 5000


def test_what_is_not_certain_is_not_listed():
    lists = [({b"\1a\0": (10, 10, 0), b"\1b\0": (3, 0, 0)}, [3])]
    assert [row.key for row in busiest(lists, 10)] == [b"\1b\0"]


def test_the_most_that_can_be_has_what_other_workers_may_have_forgotten():
    first, second = ({b"\1a\0": (10, 2, 1)}, [0, 4]), ({b"\1b\0": (9, 0, 1)}, [0, 7])
    (row, _) = busiest([first, second], 10)
    assert (row.key, row.least, row.most) == (b"\1b\0", 9, 13)
    assert [(row.least, row.most) for row in busiest([first, second], 10)[1:]] == [(8, 17)]


# ---- the directive


def parsed(text: str) -> Any:
    return TOP.parse(Dispenser("Corefile", tokenize(text, "Corefile")))


def test_defaults():
    (found,) = parsed("top")
    assert {option.name: found[option.name] for option in TOP.options} == {
        "window": 10.0, "entries": 256, "samples": 4000, "ipv4_prefix": 32, "ipv6_prefix": 64, "depth": 4,
        "metrics": None}


def test_everything_written():
    (found,) = parsed("top {\nwindow 1m\nentries 512\nsamples 100\nipv4_prefix 24\nipv6_prefix 48\ndepth 2\n"
                      "metrics 20\n}")
    assert [found[option.name] for option in TOP.options] == [60.0, 512, 100, 24, 48, 2, 20]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("window 10", "Corefile:2 - Error during parsing: window must be 1s to 10m, not 10"),
        ("window 100ms", "Corefile:2 - Error during parsing: window must be 1s to 10m, not 100ms"),
        ("window 11m", "Corefile:2 - Error during parsing: window must be 1s to 10m, not 11m0s"),
        ("entries 63", "Corefile:2 - Error during parsing: entries must be 64 to 4096, not 63"),
        ("entries many", "Corefile:2 - Error during parsing: entries must be 64 to 4096, not many"),
        ("samples 99", "Corefile:2 - Error during parsing: samples must be 100 to 1000000, not 99"),
        ("ipv4_prefix 33", "Corefile:2 - Error during parsing: ipv4_prefix must be 8 to 32, not 33"),
        ("ipv6_prefix 8", "Corefile:2 - Error during parsing: ipv6_prefix must be 16 to 128, not 8"),
        ("depth 0", "Corefile:2 - Error during parsing: depth must be 1 to 8, not 0"),
        ("metrics 101", "Corefile:2 - Error during parsing: metrics must be 1 to 100, not 101"),
        ("metrics", "Corefile:2 - Error during parsing: "
                    "Wrong argument count or unexpected line ending after 'metrics'"),
        ("colour on", "Corefile:2 - Error during parsing: unknown property 'colour'"),
    ],
)
def test_what_a_line_must_not_say(line, text):
    with pytest.raises(ConfigError) as error:
        parsed(f"top {{\n{line}\n}}")
    assert str(error.value).endswith(text), str(error.value)


def test_no_second_one_in_a_block_and_no_words():
    with pytest.raises(ConfigError, match="this plugin can only be used once per Server Block"):
        parsed("top\ntop")
    with pytest.raises(ConfigError, match="Wrong argument count"):
        parsed("top word")


def built(text: str) -> chain.Generation:
    source = Source("Corefile", text.encode())
    generation = chain.load(load_source(source, chain.known(), chain.not_built()))
    generation.build(Stats.create(8), None, list(range(1, len(generation.blocks) + 1)), 1)
    return generation


def test_blocks_share_one_table():
    block = "%s.test:1053 {\ntop {\nentries 128\n}\nwhoami\n}\n"
    generation = built(block % "a" + block % "b")
    tables = [plugin.table for _, plugin in generation.members() if isinstance(plugin, Top)]
    assert len(tables) == 2 and tables[0] is tables[1] and tables[0].entries == 128
    assert generation.observer() is next(plugin for _, plugin in generation.members() if isinstance(plugin, Top))


def test_blocks_must_agree():
    with pytest.raises(SetupError, match="options differ from those of another block"):
        built("a.test:1053 {\ntop\nwhoami\n}\nb.test:1053 {\ntop {\ndepth 2\n}\nwhoami\n}")


def test_without_top_nobody_observes():
    assert built(".:1053 {\nwhoami\n}").observer() is None


# ---- real traffic


COREFILE = """
. {
    top {
        metrics 2
    }
    prometheus localhost:0
    whoami
}
"""


def test_real_traffic_over_udp_and_tcp_is_listed_in_order():
    chance = random.Random(7)
    names = [f"z{i:03d}.test." for i in range(300)]
    asked = chance.choices(names, [1 / (i + 1) for i in range(len(names))], k=3000)
    with Worker(COREFILE) as worker:
        for number, name in enumerate(asked):
            exchange(question(name, A, id=number), worker.port, "tcp" if number % 100 == 0 else "udp")
        observer = worker.generation.observer()
        told, series = observer.observed(5), observer.series()
    truth = Counter(asked).most_common(5)
    assert told["queries"] == 3000 and told["nxdomain"] == 0 and told["suffixes"] == []
    assert [(row["name"], row["least"]) for row in told["names"]][:3] == truth[:3]
    assert {row["name"] for row in told["names"]} == {name for name, _ in truth}
    assert [(row["client"], row["least"], row["most"]) for row in told["clients"]] == [("127.0.0.1", 3000, 3000)]
    assert [(one.name, one.labels) for one in series] == [
        ("fastdns_top_client_queries_per_second", (("client", "127.0.0.1"),)),
        ("fastdns_top_name_queries_per_second", (("name", truth[0][0]),)),
        ("fastdns_top_name_queries_per_second", (("name", truth[1][0]),)),
    ]
    assert 0 < series[0].values[0] <= 3000


def test_without_metrics_no_client_is_exported():
    with Worker(COREFILE.replace("metrics 2", "depth 1")) as worker:
        exchange(question("a.test.", A), worker.port, "udp")
        observer = worker.generation.observer()
        assert observer.series() == [] and len(observer.observed(5)["clients"]) == 1
        assert "127.0.0.1" not in str([one for one in metrics.read(worker.stats) if "top" in one.name])


def test_a_network_is_written_as_one():
    with Worker(COREFILE.replace("metrics 2", "ipv4_prefix 16")) as worker:
        exchange(question("a.test.", A), worker.port, "udp")
        assert worker.generation.observer().observed(5)["clients"][0]["client"] == "127.0.0.0/16"
