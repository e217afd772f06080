# SPDX-License-Identifier: Apache-2.0
"""chaos: five names of class CH, what stands in their records, and which queries pass."""

from __future__ import annotations

import socket

import pytest

from fastdns import __version__
from fastdns._drive import Bench
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import CH, REFUSED, TXT, A
from fastdns.plugins.chaos import Chaos
from fastdns.plugins.chaos._chaos import AUTHORS_OCTETS, stage
from fastdns.plugins.chaos.handler import AUTHORS, VERSION, Texts, octets
from fastdns.testing import Answer, Worker, question


@pytest.fixture(scope="module")
def worker():
    other = "other.test {\nwhoami\n}\n"
    with Worker(f'. {{\nchaos Thing-1.0 "Team B" "Team A" "Team B"\nwhoami\n}}\n{other}') as worker:
        yield worker


def text(name: str, value: str) -> str:
    return f'{name} 0 CH TXT "{value}"'


HOST = socket.gethostname()
CASES = [
    ("version.bind.", ["Thing-1.0"]),
    ("Version.Server.", ["Thing-1.0"]),
    ("authors.bind.", ["Team A", "Team B"]),
    ("hostname.bind.", [HOST]),
    ("ID.server.", [HOST]),
]


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(("name", "values"), CASES)
def test_answers(worker, proto, name, values):
    got = worker.ask(name, TXT, proto, qclass=CH)
    assert (got.rcode, got.flags) == (0, {"qr", "rd"})
    assert sorted(got.answer) == [text(name, value) for value in values]
    assert got.authority == got.additional == []


@pytest.mark.parametrize(
    ("name", "qtype", "qclass"),
    [
        ("version.bind.", A, CH),
        ("version.bind.", TXT, 1),
        ("version.bind.", TXT, 4),
        ("x.version.bind.", TXT, CH),
        ("bind.", TXT, CH),
        ("authors.server.", TXT, CH),
        ("a.other.test.", TXT, CH),
    ],
)
def test_what_passes(worker, name, qtype, qclass):
    assert "aa" in worker.ask(name, qtype, qclass=qclass).flags


def test_without_it_other_classes_are_refused():
    with Worker(". {\nwhoami\n}\n") as worker:
        assert worker.ask("version.bind.", TXT, qclass=CH).rcode == REFUSED


def test_every_author_comes_up_first_and_none_is_missing():
    authors = [b"author %d" % i for i in range(6)]
    wire = question("authors.bind.", TXT, qclass=CH)
    firsts = set()
    for seed in range(100):
        got = Answer.of(Bench(stage(b"", b"", authors), seed=seed).run(wire)[3]).answer
        assert sorted(got) == [text("authors.bind.", author.decode()) for author in authors]
        firsts.add(got[0])
    assert len(firsts) == 6


@pytest.mark.parametrize("count", [0, 1])
def test_few_authors(count):
    got = Bench(stage(b"", b"", [b"me"] * count)).run(question("authors.bind.", TXT, qclass=CH))
    assert (got[0], len(Answer.of(got[3]).answer)) == ("reply", count)


def parse(words: str) -> list:
    return Chaos.parse(Dispenser("Corefile", tokenize(words), ("dns://.:53",), "chaos"))


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("chaos", Texts(f"fastdns-{__version__}", AUTHORS)),
        ("chaos v1", Texts("v1", AUTHORS)),
        ("chaos v1 b a b", Texts("v1", ("a", "b"))),
        ("chaos {\n}", Texts(VERSION, AUTHORS)),
        ("chaos v1\nchaos {\nfoo\n}", Texts("v1", AUTHORS)),
    ],
)
def test_arguments(words, texts):
    assert parse(words) == [texts]


def test_a_block_is_refused():
    with pytest.raises(ConfigError) as error:
        parse("chaos v1 a {\n foo\n}")
    assert str(error.value) == "plugin/chaos: Corefile:2 - Error during parsing: unknown property 'foo'"


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ("plain", b"plain"),
        ("x" * 300, b"x" * 255),
        (r"esc\065\"q\\z", b'escA"q\\z'),
        ("end\\", b"end"),
        ("\xe9", b"\xc3\xa9"),
        (r"\999", bytes([999 & 255])),
    ],
)
def test_octets(words, sent):
    assert octets(words) == sent


def test_bounds():
    most = AUTHORS_OCTETS // 268
    stage(bytes(255), bytes(255), [bytes(255)] * most)
    for arguments in ((bytes(256), b"", []), (b"", bytes(256), []), (b"", b"", [bytes(255)] * (most + 1))):
        with pytest.raises(ValueError):
            stage(*arguments)
    got = Bench(stage(b"", b"", [b"%0255d" % i for i in range(most)])).run(question("authors.bind.", TXT, qclass=CH))
    assert got[0] == "reply" and len(Answer.of(got[3]).answer) == most


def test_more_authors_than_fit_are_refused_at_the_start():
    with pytest.raises(ConfigError, match="more authors than one message holds"):
        Worker(". {\nchaos v " + " ".join(f"{i:0200}" for i in range(400)) + "\n}\n")
