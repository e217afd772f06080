# SPDX-License-Identifier: Apache-2.0
"""loadbalance: which address comes first where weights or preferred networks say so, and the weight file."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns._wire import name_from_text
from fastdns.errors import StartError
from fastdns.plugin import A, Channel
from fastdns.plugins.loadbalance._loadbalance import image, stage, weight
from fastdns.plugins.loadbalance.config import Settings
from fastdns.plugins.loadbalance.weights import WEIGHTS_MOST, Watch, mapped
from fastdns.published import Board, make
from fastdns.testing import Server, Worker, question
from tests.plugins.test_loadbalance import addresses, records, reply, sections

SEEDS = range(400)
WWW = "www.example.org."
T = '"t"'


def weights(*lines: tuple[str, str, int]) -> Board:
    board = Board(make())
    board.publish(image([(name_from_text(name), mapped(address), weight) for name, address, weight in lines]))
    return board


def preferring(*networks: str) -> list[tuple[bytes, bytes]]:
    return Settings(prefer=networks).ranges()


def orders(made, wire: bytes, qtype: int = A, section: str = "answer") -> Counter[tuple[str, ...]]:
    query = question(WWW, qtype)
    return Counter(tuple(records(Bench(made, seed=seed).run(query, reply=wire)[3], section)) for seed in SEEDS)


# ---- weighted


def firsts(made, wire: bytes) -> dict[int, int]:
    found = Counter(int(order[0].rsplit(".", 1)[1]) for order in orders(made, wire).elements())
    return dict(sorted(found.items()))


def test_the_first_address_is_drawn_by_weight():
    made = stage(weights=weights((WWW, "192.0.2.0", 7), (WWW, "192.0.2.1", 2)))
    found = firsts(made, reply(*addresses(3)))
    assert 240 < found[0] < 320 and 45 < found[1] < 115 and 15 < found[2] < 70  # of 280, 80, 40; the seeds are fixed


def test_the_chosen_one_changes_places_with_the_first():
    made = stage(weights=weights((WWW, "192.0.2.2", 255)))
    kept = addresses(4)
    seen = orders(made, reply(*kept))
    swapped = {(kept[i], *(kept[0] if j == i else kept[j] for j in range(1, 4))) for i in range(1, 4)}
    assert set(seen) <= {tuple(kept), *swapped}
    assert seen.most_common(1)[0][0] == (kept[2], kept[1], kept[0], kept[3])


@pytest.mark.parametrize("owner", [WWW, "WWW.Example.org."])
def test_letter_case_does_not_matter(owner):
    made = stage(weights=weights((WWW, "192.0.2.1", 255)))
    assert firsts(made, reply(*addresses(2, owner)))[1] > 380


def test_other_names_addresses_and_no_weights_are_worth_one():
    for table in (Board(make()), weights(), weights(("a.test.", "192.0.2.1", 255), (WWW, "192.0.2.9", 255))):
        assert 150 < firsts(stage(weights=table), reply(*addresses(2)))[1] < 250


def test_ipv6_and_the_first_of_two_lines():
    made = stage(weights=weights((WWW, "2001:db8::1", 255), (WWW, "2001:db8::1", 1)))
    wire = reply(f"{WWW} A 192.0.2.0", f"{WWW} AAAA 2001:db8::1")
    assert orders(made, wire).most_common(1)[0][1] > 380


def test_the_additional_section_of_srv_and_an_authority_that_stays():
    made = stage(weights=weights(("a.test.", "192.0.2.1", 255)))
    hosts = ("b.test. A 192.0.2.0", "a.test. A 192.0.2.1")
    authority = ("test. MX 1 a.", "test. CNAME b.")
    wire = reply(f"{WWW} SRV 1 2 3 a.test.", authority=authority, additional=hosts, qtype="SRV")
    seen = orders(made, wire, 33, "additional")
    assert seen[tuple(reversed(hosts))] > 380
    assert len(orders(made, wire, 33, "authority")) == 1


@pytest.mark.parametrize("qtype", [15, 255, 2, 252])
def test_other_questions_are_untouched(qtype):
    wire = reply(*addresses(3), f"{WWW} CNAME a.test.")
    assert len(orders(stage(weights=weights((WWW, "192.0.2.1", 255))), wire, qtype)) == 1


def test_the_order_of_kinds():
    kinds = ["MX 2 a.", "A 192.0.2.0", "MX 1 a.", f"TXT {T}", "CNAME c.test.", "A 192.0.2.1"]
    lines = [f"{WWW} {kind}" for kind in kinds]
    seen = orders(stage(weights=Board(make())), reply(*lines))
    assert {tuple(line.split(" ")[1] for line in order) for order in seen} == {("CNAME", "TXT", "A", "A", "MX", "MX")}
    assert {order[-2:] for order in seen} == {(lines[0], lines[2])} and len(seen) == 2


def test_without_addresses_nothing_moves():
    wire = reply(f"{WWW} TXT {T}", f"{WWW} CNAME a.test.")
    assert orders(stage(weights=Board(make())), wire) == {tuple(records(wire)): len(SEEDS)}


def test_a_hundred_addresses():
    made = stage(weights=weights((WWW, "192.0.2.77", 255), (WWW, "192.0.2.78", 255)))
    found = firsts(made, reply(*addresses(100)))
    assert found[77] + found[78] > 280


# ---- prefer

MANY = [f"{WWW} A 198.51.100.1", f"{WWW} A 192.0.2.11", f"{WWW} A 203.0.113.1", f"{WWW} A 192.0.2.12"]


def test_addresses_of_the_first_network_come_first():
    seen = orders(stage(preferring("192.0.2.12/32", "192.0.2.0/24", "198.51.100.0/24")), reply(*MANY))
    assert set(seen) == {(MANY[3], MANY[1], MANY[0], MANY[2])}


def test_chance_decides_within_a_network_and_outside():
    seen = orders(stage(preferring("192.0.2.0/24")), reply(*MANY))
    inside, outside = (MANY[1], MANY[3]), (MANY[0], MANY[2])
    assert set(seen) == {a + b for a in permutations(inside) for b in permutations(outside)}


def test_ipv6_networks_hold_no_ipv4_address():
    wire = reply(MANY[0], f"{WWW} AAAA 2001:db8::1")
    assert set(orders(stage(preferring("::/0")), wire)) == {tuple(reversed(records(wire)))}
    assert set(orders(stage(preferring("::ffff:198.51.100.0/120")), wire)) == {tuple(records(wire))}
    assert set(orders(stage(preferring("0.0.0.0/0")), wire)) == {tuple(records(wire))}


def test_the_order_of_kinds_where_networks_are_preferred():
    lines = [f"{WWW} MX 2 a.", f"{WWW} TXT {T}", MANY[0], f"{WWW} CNAME c.test.", MANY[1]]
    seen = orders(stage(preferring("192.0.2.0/24")), reply(*lines))
    assert set(seen) == {(lines[3], lines[4], lines[2], lines[0], lines[1])}


def test_the_authority_section_is_ordered_as_ever():
    lines = (f"{WWW} TXT {T}", MANY[0], MANY[1])
    seen = orders(stage(preferring("192.0.2.0/24")), reply(authority=lines), section="authority")
    assert set(seen) == {lines, (lines[0], lines[2], lines[1])}


def test_a_hundred_addresses_by_network():
    wire = reply(*addresses(100))
    (order, *_) = orders(stage(preferring("192.0.2.96/28", "192.0.2.64/27")), wire)
    numbers = [int(line.rsplit(".", 1)[1]) for line in order]
    assert sorted(numbers[:4]) == [96, 97, 98, 99] and sorted(numbers[4:36]) == list(range(64, 96))


made = st.sampled_from([
    lambda: stage(preferring("192.0.2.0/25", "2001:db8::80/121")),
    lambda: stage(weights=weights((WWW, "192.0.2.1", 9), ("other.test.", "192.0.2.2", 200))),
])  # fmt: skip


@given(make=made, answer=sections, authority=sections, additional=sections, seed=st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None)
def test_any_reply_keeps_its_records(make, answer, authority, additional, seed):
    wire = reply(*answer, authority=authority, additional=additional)
    out = Bench(make(), seed=seed).run(question(WWW, A), reply=wire)[3]
    for section in ("answer", "authority", "additional"):
        assert sorted(records(wire, section)) == sorted(records(out, section))


@given(make=made, data=st.data(), seed=st.integers(0, 2**64 - 1))
@settings(max_examples=300, deadline=None)
def test_a_damaged_reply_is_survived(make, data, seed):
    wire = bytearray(reply(*addresses(3), f"{WWW} MX 10 mx.example.org.", f"{WWW} AAAA 2001:db8::1"))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(4, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(wire[: data.draw(st.integers(0, len(wire)))])
    assert len(Bench(make(), seed=seed).run(question(WWW, A), reply=cut, options=b"\0\0\0\0")[3]) <= len(cut)


@pytest.mark.parametrize(
    ("networks", "table"),
    [([(bytes(16), bytes(4))], None), ([(b"\1" * 16, bytes(16))], None), ([(bytes(16), bytes(16))] * 257, None),
     ([(bytes(16), bytes(16))], Board(make()))],
)  # fmt: skip
def test_bounds_of_the_stage(networks, table):
    with pytest.raises(ValueError):
        stage(networks, table)


# ---- the table, and the file


def test_a_full_table():
    name = b"\7example\3org\0"
    made = image([(name, i.to_bytes(16, "big"), 1 + i % 255) for i in range(WEIGHTS_MOST)])
    assert all(weight(made, name, i.to_bytes(16, "big")) == 1 + i % 255 for i in range(0, WEIGHTS_MOST, 97))
    assert weight(made, b"\7example\3net\0", bytes(16)) == 1
    with pytest.raises(ValueError):
        image([(b"\0", bytes(16), 1)] * (WEIGHTS_MOST + 1))


@pytest.mark.parametrize(
    "entry", [(b"", bytes(16), 1), (b"\0", bytes(4), 1), (b"\0", bytes(16), 0), (b"\0", bytes(16), 256)]
)
def test_what_is_no_weight_is_refused(entry):
    with pytest.raises(ValueError):
        image([entry])


def test_the_last_that_was_published_counts():
    board = weights((WWW, "192.0.2.0", 255))
    bench = Bench(stage(weights=board), seed=1)
    query, wire = question(WWW, A), reply(*addresses(2))

    def first() -> str:
        found = Counter(records(bench.run(query, reply=wire)[3], "answer")[0] for _ in range(40))
        return found.most_common(1)[0][0].rsplit(".", 1)[1]

    assert first() == "0"
    for i in (1, 0, 1):
        board.publish(image([(name_from_text(WWW), mapped(f"192.0.2.{i}"), 255)]))
        assert first() == str(i)
    board.retire(board.version)
    assert first() == "1"


@pytest.mark.parametrize("damage", [b"", bytes(23), bytes(16) + b"\xff" * 8, bytes(24), bytes(16) + b"\2" + bytes(15)])
def test_what_is_no_image_has_no_weights(damage):
    board = weights((WWW, "192.0.2.1", 255))
    board.publish(damage)
    assert 150 < firsts(stage(weights=board), reply(*addresses(2)))[1] < 250
    with pytest.raises(ValueError, match="no image"):
        weight(damage, name_from_text(WWW), mapped("192.0.2.1"))


def test_weights_that_go_away_under_a_reader_count_no_more():
    board = weights((WWW, "192.0.2.1", 255))
    bench = Bench(stage(weights=board), seed=1)
    query, wire = question(WWW, A), reply(*addresses(2))
    last = [records(bench.run(query, reply=wire)[3], "answer")[0] for _ in range(100)]
    assert sum(line.endswith(".1") for line in last) > 90
    board._clear(board.version & 1)
    last = [records(bench.run(query, reply=wire)[3], "answer")[0] for _ in range(100)]
    assert 20 < sum(line.endswith(".1") for line in last) < 80


class Kept:
    """A weight file, what is logged about it, and what was published."""

    def __init__(self, path, interval: float = 0.0) -> None:
        self.path = path
        self.lines: list[tuple[str, str]] = []
        self.board = Board(make())
        self.watch = Watch(str(path), interval)
        self.channel = Channel(
            lambda level, text: self.lines.append((level, text)), lambda text: None, self.board.publish)

    def load(self, text: str | None) -> None:
        if text is not None:
            self.path.write_text(text)

        async def start() -> None:
            await self.watch.start(self.channel)
            await self.watch.stop()

        asyncio.run(start())

    def look(self) -> None:
        asyncio.run(self.watch.look())

    def weight(self, name: str, address: str) -> int:
        return weight(self.board.read()[1], name_from_text(name), mapped(address))


GOOD = """
# comments and blank lines
www.example.org
  192.0.2.1 3
\t2001:DB8::1\t255\r
  192.0.2.1 4
Other.test.
::ffff:192.0.2.2 7
never..a..name
192.0.2.3 9
www.example.org
192.0.2.4 5
"""


def test_a_file_is_read(tmp_path):
    kept = Kept(tmp_path / "weights")
    kept.load(GOOD)
    assert kept.lines == [("INFO", f"plugin/loadbalance: Successfully reloaded weight file {kept.path}")]
    for address, wanted in [("192.0.2.1", 3), ("2001:db8::1", 255), ("192.0.2.4", 5), ("192.0.2.9", 1)]:
        assert kept.weight(WWW, address) == wanted
    assert kept.weight("other.test.", "192.0.2.2") == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1.2.3.4", 'wrong domain name:"1.2.3.4" in weight file FILE. (Maybe a missing weight value?)'),
        ("a.test\n1.2.3 4", 'wrong IP address:"1.2.3" in weight file FILE'),
        ("a.test\n1.2.3.4 256", 'wrong weight value:"256" in weight file FILE'),
        ("a.test\n1.2.3.4 0", 'wrong weight value:"0" in weight file FILE'),
        ("a.test\n1.2.3.4 -1", 'wrong weight value:"-1" in weight file FILE'),
        ("1.2.3.4 5", "missing domain name in weight file FILE"),
        ("a b c", 'could not parse weight line:"a b c" in weight file FILE'),
        ("a" * 65536, "weight file FILE parsing error:bufio.Scanner: token too long"),
        ("a.\n" + "1.2.3.4 1\n" * (WEIGHTS_MOST + 1), f"weight file FILE has more than {WEIGHTS_MOST} weights"),
    ],
    ids=["name", "address", "256", "0", "-1", "no-name", "three", "line", "many"],
)
@pytest.mark.parametrize("interval", [0.0, 30.0])
def test_a_bad_file_fails_the_start(tmp_path, text, message, interval):
    kept = Kept(tmp_path / "weights", interval)
    with pytest.raises(StartError) as error:
        kept.load(text)
    assert str(error.value) == f"plugin/loadbalance: {message.replace('FILE', str(kept.path))}"


def test_a_missing_file(tmp_path):
    with pytest.raises(StartError, match="plugin/loadbalance: weight file open error"):
        Kept(tmp_path / "none").load(None)
    kept = Kept(tmp_path / "none", 90.0)
    kept.load(None)
    text = "plugin/loadbalance: Failed to open weight file:weight file open error. Will try again in 1m30s"
    assert kept.lines == [("WARNING", text)]
    kept.path.write_text(GOOD)
    kept.look()
    assert kept.weight(WWW, "192.0.2.1") == 3


def test_what_cannot_be_parsed_leaves_the_weights(tmp_path):
    kept = Kept(tmp_path / "weights")
    kept.load(GOOD)
    kept.path.write_text("nonsense of three words")
    with pytest.raises(ValueError, match="could not parse"):
        kept.look()
    kept.look()  # the same octets are not complained of again
    assert kept.weight(WWW, "192.0.2.1") == 3
    kept.path.write_text("www.example.org\n192.0.2.1 9")
    kept.look()
    assert kept.weight(WWW, "192.0.2.1") == 9 and kept.weight("other.test.", "192.0.2.2") == 1


def test_a_file_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fastdns.plugins.loadbalance.weights.FILE_MOST", 100)
    with pytest.raises(StartError, match="has more than 100 octets"):
        Kept(tmp_path / "weights").load("#" * 101)


def test_the_keeper_reads_and_every_worker_follows(tmp_path):
    path = tmp_path / "weights"
    path.write_text(f"authors.bind\n{WWW}\n127.0.0.1 200\n")
    corefile = f". {{\nroot {tmp_path}\nloadbalance weighted weights {{\nreload 100ms\n}}\nwhoami\n}}\n"
    with Server(corefile) as server:
        assert len(server.ask(WWW, A).additional) == 2
        path.write_text("now this is nonsense")
        server.wait_for("[ERROR] plugin/loadbalance: could not parse weight line:")
        path.write_text("# empty")
        server.wait_for("[INFO] plugin/loadbalance: Successfully reloaded weight file")
        assert len(server.ask(WWW, A).additional) == 2


def test_it_runs_compiled(tmp_path):
    for lines in (f"weighted {tmp_path}/none", "{\nprefer 10.0.0.0/8\n}"):
        with Worker(f". {{\nloadbalance {lines}\nwhoami\n}}\n") as worker:
            with pytest.raises(KeyError):
                worker.program.python_stage(0, 0)
            assert worker.ask(WWW, A).additional
