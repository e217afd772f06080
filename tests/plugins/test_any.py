# SPDX-License-Identifier: Apache-2.0
"""any: the one record, for every name, and who does not get it."""

from __future__ import annotations

import pytest

from fastdns._drive import Bench
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import ANY, CH, HINFO, TXT, A
from fastdns.plugins.any import Any
from fastdns.plugins.any._any import stage
from fastdns.testing import Answer, Worker, exchange, question

FLAGS = {"qr", "rd"}


@pytest.fixture(scope="module")
def worker():
    with Worker(". {\nany\nany ignored\nchaos\nwhoami\n}\n") as worker:
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    "name", ["example.org.", "WWW.Example.org.", ".", "a\\.b.example.org.", f"{'x' * 63}.{'y' * 63}."]
)
def test_answer(worker, proto, name):
    got = worker.ask(name, ANY, proto)
    assert (got.rcode, got.flags) == (0, FLAGS)
    assert got.answer == [f'{name} 8482 IN HINFO "ANY obsoleted" "See RFC 8482"']
    assert got.authority == got.additional == []


def test_the_answer_is_of_class_in_whatever_the_question_is(worker):
    got = worker.ask("a.test.", ANY, qclass=CH)
    assert got.answer == ['a.test. 8482 IN HINFO "ANY obsoleted" "See RFC 8482"']


def test_edns_comes_back(worker):
    edns = worker.ask("a.test.", ANY, bufsize=1400, do=True).message.edns
    assert (edns.edns_len, edns.edns_do) == (1400, 1)


def test_flags_follow_the_query(worker):
    assert worker.ask("a.test.", ANY, rd=False, cd=True).flags == {"qr", "cd"}
    notify = bytearray(question("a.test.", ANY))
    notify[2] |= 4 << 3
    assert Answer.of(exchange(bytes(notify), worker.port)).flags == {"qr"}


@pytest.mark.parametrize("qtype", [A, TXT, HINFO, 254, 256])
def test_other_types_pass(worker, qtype):
    assert "aa" in worker.ask("a.test.", qtype).flags


def test_the_longest_name_fits():
    name = ".".join(["x" * 61] * 4)
    verdict, _, rcode, reply = Bench(stage()).run(question(f"{name}.xxxxx.", ANY))
    assert (verdict, rcode) == ("reply", 0) and len(Answer.of(reply).answer) == 1


def parse(text: str) -> list:
    return Any.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "any"))


def test_one_instance():
    assert parse("any") == parse("any\nany\nany x") == [None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("any x", "Wrong argument count or unexpected line ending after 'x'"),
        ("any {\n}", "Unexpected token '{', expecting argument"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/any: Corefile:1 - Error during parsing: {message}"
