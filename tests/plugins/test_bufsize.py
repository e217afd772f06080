# SPDX-License-Identifier: Apache-2.0
"""bufsize: what the upstream is asked with, where a reply is cut, and what the client reads in its OPT."""

from __future__ import annotations

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import CH, TXT, A
from fastdns.plugins.bufsize import Bufsize
from fastdns.plugins.bufsize._bufsize import stage
from fastdns.testing import Worker
from tests.faults.upstream import Asked, Upstream, reply

OPT = b"\0\0\x29"


@pytest.fixture(scope="module")
def upstream():
    with Upstream(lambda asked: [reply(asked)]) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def worker(upstream):
    large = "chaos v " + " ".join(f"author{i:02}" for i in range(60))
    with Worker(f". {{\nbufsize 800\nbufsize 1\n{large}\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
        yield worker


def sizes(wires: list[Asked]) -> list[int]:
    """The size in each query's OPT; 0 where there is none."""
    found = []
    for asked in wires:
        at = asked.wire.find(OPT, asked.end)
        found.append(0 if at < 0 else int.from_bytes(asked.wire[at + 3 : at + 5], "big"))
    return found


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("asked", "sent", "echoed"),
    [(0, 0, None), (100, 100, 100), (512, 512, 512), (799, 799, 799), (800, 800, 800), (801, 800, 800),
     (65535, 800, 800)],
)
def test_what_is_lowered(worker, upstream, proto, asked, sent, echoed):
    name = f"{proto}{asked}.test."
    opt = worker.ask(name, A, proto, bufsize=asked).message.edns
    assert sizes(upstream.of(name)) == [sent]
    assert (opt and opt.edns_len) == echoed


RECORD = 21  # octets of one author


@pytest.mark.parametrize(
    ("asked", "proto", "cut"), [(0, "udp", 512), (600, "udp", 600), (4096, "udp", 800), (4096, "tcp", 65535)]
)
def test_where_a_reply_is_cut(worker, asked, proto, cut):
    got = worker.ask("authors.bind.", TXT, proto, qclass=CH, bufsize=asked)
    if proto == "tcp":
        assert len(got.answer) == 60 and "tc" not in got.flags
    else:
        assert cut - RECORD < len(got.wire) <= cut and "tc" in got.flags


def test_a_python_plugin_sees_the_lowered_size():
    with Worker(". {\nbufsize 512\nwhoami\n}\n") as worker:
        assert worker.ask("a.test.", TXT, bufsize=4096).message.edns.edns_len == 512


def parse(text: str) -> list:
    return Bufsize.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "bufsize"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("bufsize", 1232), ("bufsize 512", 512), ("bufsize +4096", 4096), ("bufsize 600\nbufsize x", 600),
     ("bufsize {\nfoo\n}", 1232)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse(text) == [size]


@pytest.mark.parametrize("words", ["511", "4097", "x", "-1", "+", "1_000", "600 700"])
def test_errors(words):
    with pytest.raises(ConfigError) as error:
        parse(f"bufsize {words}")
    assert str(error.value) == (
        "plugin/bufsize: plugin/bufsize: Corefile:1 - Error during parsing: Wrong argument count or unexpected line "
        f"ending after '{words.split()[-1]}'")


@pytest.mark.parametrize("size", [511, 4097])
def test_the_stage_refuses_other_sizes(size):
    with pytest.raises(ValueError):
        stage(size)
