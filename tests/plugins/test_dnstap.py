# SPDX-License-Identifier: Apache-2.0
"""dnstap: grammar, what is noted of each message, the rings, the frames, and what a running server tells real readers.

Strategy: what is noted is read off the rings of a worker in this process, so a case says exactly which messages there
are, and that their octets are those on the wire. The cases, and what they have to hold, were compared with what CoreDNS
1.14.7 sends for the same Corefiles. Collectors that misbehave are in test_dnstap_collectors.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns import chain
from fastdns._drive import Bench
from fastdns._log import Texts, query_record
from fastdns._stats import Stats
from fastdns.corefile import load_source
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError, SetupError
from fastdns.numbers import AAAA, ANY, AXFR, MX, TXT, A
from fastdns.plugins.dnstap import Dnstap
from fastdns.plugins.dnstap._dnstap import Table, octets, packed
from fastdns.plugins.dnstap.config import Tap
from fastdns.plugins.dnstap.feed import Block, Line, described
from fastdns.server.kept import make
from fastdns.testing import Answer, Server, Worker, exchange, free_port, question, receive
from tests.faults.upstream import Upstream, reply
from tests.framestream import Sink, decode
from tests.machine import needs
from tests.probes import installed

TYPES = {5: "CQ", 6: "CR", 7: "FQ", 8: "FR"}
LOOPBACK = bytes([127, 0, 0, 1])


def parse(text: str) -> tuple[Tap, ...]:
    (config,) = Dnstap.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "dnstap"))
    taps: tuple[Tap, ...] = config
    return taps


# ---------------------------------------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    ("line", "tap"),
    [
        ("x.sock", Tap("unix", "x.sock")),
        ("unix:///run/x.sock full", Tap("unix", "/run/x.sock", full=True)),
        ("x.sock partly", Tap("unix", "x.sock")),
        ("x full 1024 4096 more", Tap("unix", "x", full=True, writebuf=1024, queue=4096)),
        ("x no +2", Tap("unix", "x", writebuf=2)),
        ("tcp://127.0.0.1:6000", Tap("tcp", "127.0.0.1:6000")),
        ("tcp://[::1]:6000", Tap("tcp", "[::1]:6000")),
        ("tcp://[fe80::1%25eth0]:1", Tap("tcp", "[fe80::1%eth0]:1")),
        ("tcp://u:p@a:1/path?x", Tap("tcp", "a:1")),
        ("tcp://a%C3%A9:1", Tap("tcp", "a\u00e9:1")),
        ("tcp://a:1:2", Tap("tcp", "a:1:2")),
        ("tcp://a%25b:1", Tap("tcp", "a%b:1")),
        ("tcp://", Tap("tcp", "")),
        ("tls://example.com:6000 full", Tap("tls", "example.com:6000", full=True)),
        ("TCP://a:1", Tap("unix", "TCP://a:1")),
        ("listen tcp://127.0.0.1:6000 full", Tap("tcp", "127.0.0.1:6000", listen=True, full=True)),
        ("listen /tmp/x", Tap("unix", "/tmp/x", listen=True)),
        ("x {\n identity NAME\n version VER\n extra EXTRA\n}",
         Tap("unix", "x", identity="NAME", version="VER", extra="EXTRA")),
        ('x {\n identity ""\n}', Tap("unix", "x", identity="")),
        ("x {\n identity a version b\n}", Tap("unix", "x", identity="a", version="b")),
        ("tls://a:1 {\n skipverify identity i\n}", Tap("tls", "a:1", identity="i", skipverify=True)),
        ("listen tls://a:1 {\n tls c k\n}", Tap("tls", "a:1", listen=True, tls=("c", "k"))),
        ("listen tls://a:1 {\n tls c k ca more\n skipverify\n}",
         Tap("tls", "a:1", listen=True, tls=("c", "k", "ca"), skipverify=True)),
        ("listen x {\n tls c k\n}", Tap("unix", "x", listen=True, tls=("c", "k"))),
    ],
)  # fmt: skip
def test_lines(line: str, tap: Tap) -> None:
    assert parse(f"dnstap {line}") == (tap,)


def test_several_lines_are_several_taps_in_order() -> None:
    taps = parse("dnstap a full {\n identity one\n}\ndnstap listen tcp://127.0.0.1:1\ndnstap c")
    assert [(tap.endpoint, tap.listen, tap.identity) for tap in taps] == [
        ("a", False, "one"), ("127.0.0.1:1", True, None), ("c", False, None)]


AT = "Corefile:{} - Error during parsing: "
COUNT = AT + "Wrong argument count or unexpected line ending after '{}'"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("dnstap", COUNT.format(1, "dnstap")),
        ("dnstap {\n identity a\n}", COUNT.format(1, "dnstap")),
        ("dnstap listen", AT.format(1) + "dnstap listen requires an endpoint argument"),
        ("dnstap listen {\n}", AT.format(1) + "dnstap listen requires an endpoint argument"),
        ("dnstap x full a",
         AT.format(1) + 'dnstap: invalid MultipleTcpWriteBuf "a": strconv.Atoi: parsing "a": invalid syntax'),
        ("dnstap x full 1_0",
         AT.format(1) + 'dnstap: invalid MultipleTcpWriteBuf "1_0": strconv.Atoi: parsing "1_0": invalid syntax'),
        ("dnstap x full 99999999999999999999",
         AT.format(1) + 'dnstap: invalid MultipleTcpWriteBuf "99999999999999999999": strconv.Atoi: parsing '
         '"99999999999999999999": value out of range'),
        ("dnstap x full 0", AT.format(1) + "dnstap: MultipleTcpWriteBuf must be between 1 and 1024 (MiB units): 0"),
        ("dnstap x full -1", AT.format(1) + "dnstap: MultipleTcpWriteBuf must be between 1 and 1024 (MiB units): -1"),
        ("dnstap x no 1025", AT.format(1) + "dnstap: MultipleTcpWriteBuf must be between 1 and 1024 (MiB units): 1025"),
        ("dnstap x full 1 y",
         AT.format(1) + 'dnstap: invalid MultipleQueue "y": strconv.Atoi: parsing "y": invalid syntax'),
        ("dnstap x full 1 0", AT.format(1) + "dnstap: MultipleQueue must be between 1 and 4096 (x10k messages): 0"),
        ("dnstap x full 1 4097",
         AT.format(1) + "dnstap: MultipleQueue must be between 1 and 4096 (x10k messages): 4097"),
        ("dnstap listen x full 0",
         AT.format(1) + "dnstap: MultipleTcpWriteBuf must be between 1 and 1024 (MiB units): 0"),
        ("dnstap x {\n identity\n}", COUNT.format(2, "identity")),
        ("dnstap x {\n version\n}", COUNT.format(2, "version")),
        ("dnstap x {\n extra\n}", COUNT.format(2, "extra")),
        ("dnstap x {\n identity a b\n}", AT.format(2) + "unknown property 'b'"),
        ("dnstap x {\n skipverify x\n}", AT.format(2) + "unknown property 'x'"),
        ("dnstap x {\n foo\n}", AT.format(2) + "unknown property 'foo'"),
        ("dnstap x {\n tls a b\n}", AT.format(2) + "tls directive only valid for listeners"),
        ("dnstap x {\n tls\n}", AT.format(2) + "tls directive only valid for listeners"),
        ("dnstap listen x {\n tls a\n}", AT.format(2) + "tls requires cert and key file paths"),
        ("dnstap listen x {\n tls\n}", AT.format(2) + "tls requires cert and key file paths"),
        ("dnstap a\ndnstap", COUNT.format(2, "dnstap")),
        *((f"dnstap {url}", COUNT.format(1, url)) for url in (
            "tcp://a:b", "tcp://[::1", "tcp://[::1]x", "tcp://[::1]:x", "tcp://[fe80::1%eth0]:1", "tcp://a%20b:1",
            "tcp://a%zz", "tcp://a|b:1", "tcp://u|p@a:1", "tcp://a:1/%zz", "tcp://a[b:1", "tcp://[1.2.3.4]:1",
            "tcp://[]:1", "tcp://a%2fb:1", "tls://a:b")),
        ('dnstap "tcp://a b:1"', COUNT.format(1, "tcp://a b:1")),
        ('dnstap "tcp://a:1/\x7f"', COUNT.format(1, "tcp://a:1/\x7f")),
        ("dnstap listen tls://a:b", COUNT.format(1, "tls://a:b")),
    ],
)  # fmt: skip
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/dnstap: {error}"


def test_without_protobuf_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"it needs protobuf: pip install 'fastdns\[dnstap\]'"):
        worker(". {\n dnstap x\n whoami\n}")


def worker(corefile: str) -> Worker:
    return Worker(corefile)


# ---------------------------------------------------------------------------------------------- what is noted


class Noted:
    """A record, by the names of its parts."""

    def __init__(self, found: Sequence[Any]) -> None:
        (self.block, kind, self.tcp, self.asker, self.asker_port, self.asked, self.asked_port, self.query_ns,
         self.response_ns, self.octets, self.line, self.at) = found
        self.type = TYPES[kind]
        self.fields = described(tuple(found))  # type: ignore[arg-type]


def instances(running: Worker) -> list[Dnstap]:
    return [plugin for _, plugin in running.generation.members() if isinstance(plugin, Dnstap)]


def noted(running: Worker, count: int) -> list[Noted]:
    """What a worker has noted, once there is so much."""
    table: Table = instances(running)[0].block.common["table"]
    found: list[Any] = []
    until = time.monotonic() + 10
    while len(found) < count:
        assert time.monotonic() < until, f"{[TYPES[one[1]] for one in found]}, of {count}"
        found += table.drain(100)
    assert not table.waiting() and table.damaged == 0 and table.lost() == [0] * table.instances
    return [Noted(one) for one in found]


def answered(asked: Any) -> Sequence[bytes | float]:
    if asked.name.startswith("silent"):
        return []
    if asked.name.startswith("wide") and asked.proto == "udp":
        return [reply(asked, flags=0x8380)]
    return [reply(asked, rcode=2 if asked.name.startswith("fail") else 0)]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answered) as one:
        yield one


CASES = [
    # What stands in the block, questions (name, type, protocol, options), what is noted.
    ("whoami", [("a.test", A, "udp", {}), ("A.tEst", AAAA, "tcp", {"bufsize": 1232, "do": True})], "CQ CR CQ CR"),
    ("template ANY ANY {\n rcode NXDOMAIN\n }", [("a.test", A, "udp", {})], "CQ CR"),
    ("erratic {\n drop 2\n }", [("a.test", A, "udp", {}), ("b.test", A, "udp", {}), ("c.test", A, "udp", {})],
     "CQ CQ CR CQ"),
    ("template ANY ANY other {\n rcode NXDOMAIN\n }", [("a.test", A, "udp", {}), ("a.other", A, "udp", {})],
     "CQ CQ CR"),
    ("acl {\n block type TXT\n drop type MX\n filter type AAAA\n }\n whoami",
     [("a.test", TXT, "udp", {}), ("a.test", MX, "udp", {}), ("a.test", AAAA, "udp", {}), ("a.test", A, "udp", {})],
     "CQ CR CQ CQ CR CQ CR"),
    ("erratic {\n drop 0\n }", [("a.test", AXFR, "tcp", {})], "CQ CR"),
    ("any\n whoami", [("a.test", ANY, "udp", {})], "CQ CR"),
    ("forward . {to}", [("a.test", A, "udp", {}), ("a.test", A, "tcp", {})], "CQ FQ FR CR CQ FQ FR CR"),
    ("cache\n forward . {to}", [("a.test", A, "udp", {}), ("a.test", A, "tcp", {})], "CQ FQ FR CR CQ CR"),
    ("forward . {to} {{\n force_tcp\n }}", [("a.test", A, "udp", {"bufsize": 512})], "CQ FQ FR CR"),
    ("forward . {to} {{\n prefer_udp\n }}", [("wide.test", A, "udp", {})], "CQ FQ FR CR"),
    ("forward . {to} {two} {{\n policy sequential\n failover SERVFAIL\n }}", [("fail.test", A, "udp", {})],
     "CQ FQ FR FQ FR CR"),
    ("forward . {dead} {to} {{\n policy sequential\n max_fails 0\n }}", [("a.test", A, "udp", {})], "CQ FQ FQ FR CR"),
    ("forward . {to} {{\n max_fails 0\n max_connect_attempts 1\n read_timeout 100ms\n }}",
     [("silent.test", A, "udp", {})], "CQ FQ"),
    ("rewrite name suffix .alias .test\n forward . {to}", [("a.alias", A, "udp", {})], "CQ FQ FR CR"),
    ("bufsize 700\n nsid abc\n whoami", [("a.test", A, "udp", {"bufsize": 4096, "options": [(3, b"")]})], "CQ CR"),
    ("trace 127.0.0.1:9\n forward . {to}", [("a.test", A, "udp", {}), ("a.test", A, "tcp", {})],
     "CQ FQ FR CR CQ FQ FR CR"),
]  # fmt: skip


NAMES = [f"{n}-{case[0].split()[0]}" for n, case in enumerate(CASES)]


@pytest.mark.parametrize(("inside", "asked", "types"), CASES, ids=NAMES)
def test_messages(inside: str, asked: list[Any], types: str, upstream: Upstream) -> None:
    dead = f"127.0.0.1:{free_port()}"
    to = f"127.0.0.1:{upstream.port}"
    begun = time.time_ns()
    with Upstream(answered) as other, contextlib.ExitStack() as stack:
        two = f"127.0.0.1:{other.port}"
        text = inside.format(to=to, dead=dead, two=two) if "forward" in inside else inside
        running = stack.enter_context(worker(f". {{\n dnstap /nowhere full\n {text}\n}}"))
        sent, got = [], []
        for number, (name, qtype, proto, options) in enumerate(asked):
            sent.append(question(name, qtype, id=1000 + number, **options))
            try:
                got.append(exchange(sent[-1], running.port, proto, seconds=2 if "CR" in types else 0.5))
            except (TimeoutError, EOFError):
                got.append(b"")
        found = noted(running, len(types.split()))
    assert [one.type for one in found] == types.split()
    assert [one.at for one in found] == sorted(one.at for one in found)
    ended = time.time_ns()
    assert all(begun - 10**9 < one.query_ns <= (one.response_ns or one.at) <= one.at < ended + 10**9 for one in found)
    questions = [one for one in found if one.type == "CQ"]
    assert len(questions) == len(asked)
    for one, wire, (_, _, proto, _) in zip(questions, sent, asked, strict=True):
        assert (one.asker, one.asked, one.tcp) == (LOOPBACK, b"", proto == "tcp") and one.asker_port
        assert one.response_ns == 0
        if "bufsize" not in text:
            assert one.octets == wire
    for one in found:
        if one.type == "CR":
            # The reply as it left, octet by octet.
            assert (one.asker, one.asked) == (LOOPBACK, b"")
            assert one.octets in got
        elif one.type in ("FQ", "FR"):
            assert one.asked == LOOPBACK and f"127.0.0.1:{one.asked_port}" in (to, dead, two)
            assert one.octets[:2] in [wire[:2] for wire in sent]


def test_what_a_stage_before_changed_is_in_the_query() -> None:
    with worker(". {\n bufsize 700\n dnstap x full\n whoami\n}") as running:
        wire = question("a.test", A, bufsize=4096)
        got = exchange(wire, running.port)
        asked, response = noted(running, 2)
    at = wire.index((4096).to_bytes(2, "big"))
    assert asked.octets == wire[:at] + (700).to_bytes(2, "big") + wire[at + 2:]
    assert response.octets == got


def test_a_reply_is_cut_before_it_is_told_of(upstream: Upstream) -> None:
    texts = "\n".join(f' answer "{{{{ .Name }}}} 60 IN TXT {"x" * 200} {n}"' for n in range(9))
    with worker(f". {{\n dnstap x full\n template ANY ANY {{\n{texts}\n }}\n}}") as running:
        got = exchange(question("big.test", TXT), running.port)
        _, response = noted(running, 2)
    assert response.octets == got and len(got) <= 512 and "tc" in Answer.of(got).flags


def test_forwarded_messages(upstream: Upstream) -> None:
    with worker(f". {{\n dnstap x full\n forward . 127.0.0.1:{upstream.port}\n}}") as running:
        for proto in ("udp", "tcp"):
            wire = question("CaSe.test", A, id=4242)
            got = exchange(wire, running.port, proto)
            asked, ask, came, answer = noted(running, 4)
            (theirs,) = [one for one in upstream.asked if one.proto == proto]
            assert ask.octets == wire and came.octets[:2] == wire[:2] and answer.octets == got
            assert (ask.asked_port, ask.asker_port, ask.tcp) == (upstream.port, theirs.port, proto == "tcp")
            assert (came.asked_port, came.asker_port, came.tcp) == (upstream.port, theirs.port, proto == "tcp")
            assert asked.query_ns <= ask.query_ns == came.query_ns <= came.response_ns <= answer.response_ns
            assert ask.response_ns == 0 and asked.query_ns == answer.query_ns


def test_equal_questions_are_one_exchange() -> None:
    with Upstream(lambda asked: [0.3, reply(asked)]) as upstream, \
            worker(f". {{\n dnstap x\n forward . 127.0.0.1:{upstream.port}\n}}") as running, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", running.port))
        for number in range(3):
            sock.send(question("a.test", A, id=number))
        for _ in range(3):
            sock.recv(512)
        found = noted(running, 8)
    assert [one.type for one in found] == ["CQ"] * 3 + ["FQ", "FR"] + ["CR"] * 3


def test_each_message_of_a_stream_is_told_of(tmp_path: Path) -> None:
    with installed(tmp_path), worker("test {\n dnstap x full\n probe\n}") as running, \
            socket.create_connection(("127.0.0.1", running.port)) as sock:
        wire = question("stream.n3.test", AXFR)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        got = [receive(sock, int.from_bytes(receive(sock, 2), "big")) for _ in range(5)]
        found = noted(running, 6)
    assert [one.type for one in found] == ["CQ"] + ["CR"] * 5
    assert [one.octets for one in found[1:]] == got and len({one.query_ns for one in found}) == 1


def test_addresses_of_version_6() -> None:
    stats = Stats.create(4)
    table = Table(stats)
    bench = Bench(table.stage([], True, False), stats)
    client = bytes.fromhex("20010db8000000000000000000000001")
    bench.run(question("a.test", A), client=client, family=2, port=5353, proto=1)
    (found,) = table.drain(10)
    assert described(found).items() >= {
        "type": 5, "socket_family": 2, "socket_protocol": 2, "query_address": client, "query_port": 5353}.items()


def test_a_lookup_of_the_servers_own_is_told_of(upstream: Upstream) -> None:
    """As in CoreDNS, where it goes through the whole server as the same client."""
    text = f". {{\n dnstap x full\n dns64 {{\n allow_ipv4\n }}\n forward . 127.0.0.1:{upstream.port}\n}}"
    with worker(text) as running:
        exchange(question("a.test", AAAA), running.port)
        types = [one.type for one in noted(running, 8)]
    assert sorted(types) == sorted(["CQ", "FQ", "FR", "CR"] * 2) and types[0] == "CQ" and types[-1] == "CR"


def test_only_a_block_that_has_it_tells() -> None:
    text = "one.test {\n dnstap x full\n whoami\n}\ntwo.test {\n whoami\n}\nthree.test {\n dnstap y\n whoami\n}"
    with worker(text) as running:
        for name in ("a.one.test", "a.two.test", "a.three.test", "b.one.test"):
            exchange(question(name, A), running.port)
        found = noted(running, 6)
        blocks = [plugin.block.index for plugin in instances(running)]
    assert [(blocks[one.block], bool(one.octets)) for one in found] == [
        (0, True), (0, True), (2, False), (2, False), (0, True), (0, True)]


# ---------------------------------------------------------------------------------------------- texts and frames


class Kept:
    """A sink that keeps frames."""

    refuses = ""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.dropped: list[tuple[str, int]] = []

    def start(self) -> None:
        raise AssertionError

    def put(self, frame: bytes) -> None:
        self.frames.append(decode(frame))

    def drop(self, why: str, count: int) -> None:
        self.dropped.append((why, count))

    async def stop(self, seconds: float) -> None:
        raise AssertionError


def frames_of(running: Worker, count: int) -> list[list[dict[str, Any]]]:
    """What each line of the first block would send."""
    (plugin, *_) = instances(running)
    table: Table = plugin.block.common["table"]
    block = plugin._block()
    sinks = []
    for line in block.lines:
        line.sink = Kept()
        sinks.append(line.sink)
    found = 0
    until = time.monotonic() + 10
    while found < count:
        assert time.monotonic() < until
        for one in table.drain(100):
            block.take(one)
            found += 1
    assert found == count
    return [sink.frames for sink in sinks]


def test_frames_and_extras(upstream: Upstream) -> None:
    to = f"127.0.0.1:{upstream.port}"
    with worker(f""". {{
        metadata
        dnstap a {{
            identity one
            version two
            extra "{{type}} {{class}} {{name}} {{proto}} {{size}} {{remote}} {{>id}} {{>opcode}} {{>do}} {{>bufsize}}"
        }}
        dnstap b full {{
            extra "{{rcode}} {{rsize}} {{duration}} {{>rflags}} {{/forward/upstream}} {{/no/thing}} {{x}} }} {{"
        }}
        dnstap c {{
            extra constant
        }}
        dnstap d full
        rewrite name suffix .alias .test
        forward . {to}
    }}""") as running:
        wire = question("A.alias", A, id=7, bufsize=1000, do=True)
        got = exchange(wire, running.port)
        one, two, three, four = frames_of(running, 4)
    types = ["CQ", "FQ", "FR", "CR"]
    assert [[frame["type"] for frame in each] for each in (one, two, three, four)] == [types] * 4
    assert [frame["extra"] for frame in one] == [
        b"A IN a.alias. udp 36 127.0.0.1 7 0 true 1000",
        *[b"A IN a.test. udp 35 127.0.0.1 7 0 true 1000"] * 3,
    ]
    told = to.encode()
    assert [frame["extra"] for frame in two] == [b"- - - - - - {x} } {", *[b"- - - - %b - {x} } {" % told] * 3]
    assert {frame["extra"] for frame in three} == {b"constant"} and all("extra" not in frame for frame in four)
    assert {(frame["identity"], frame["version"]) for frame in one} == {(b"one", b"two")}
    assert {frame["identity"] for frame in four} == {socket.gethostname().encode()}
    assert {frame["version"][:8] for frame in four} == {b"fastdns-"}
    assert not any({"query", "response"} & set(frame) for frame in (*one, *three))
    assert four[0]["query"] == wire and four[3]["response"] == got and "query" not in four[3]
    assert four[1]["query"][12:].startswith(b"\1A\4test\0".lower()) or four[1]["query"][12:].startswith(b"\1A\4test\0")
    for each in (one, two, three, four):
        for frame in each:
            assert (frame["family"], frame["protocol"]) == (1, 1) and frame["query_address"] == LOOPBACK
            assert ("response_address" in frame) == (frame["type"][0] == "F") == ("response_port" in frame)
            assert ("response_sec" in frame) == (frame["type"][1] == "R") == ("response_nsec" in frame)
            assert frame["query_nsec"] < 10**9


def test_a_line_whose_collector_is_gone_counts_and_makes_nothing() -> None:
    sink = Kept()
    sink.refuses = "down"
    block = Block([Line(sink, True, b"", b"", None, None)], [])
    block.take((0, 5, False, LOOPBACK, 1, b"", 0, 1, 0, b"x", b"", 1))
    block.missed(3)
    block.missed(5)
    assert (sink.frames, sink.dropped) == ([], [("down", 1), ("ring", 3), ("ring", 2)])


def test_texts_of_several_formats() -> None:
    fields = {"qtype": 1, "qclass": 1, "rcode": 3, "written": 1, "rsize": 9}
    record = query_record(fields, b"\1a\0", (b"x\1", b"", b"z"))
    texts = Texts(["{name}", "{/a} {rcode}{rsize}", "", "{/b}{/c} {type}", "{/d"])
    assert texts.render(record) == [b"a.", b"x? --", b"", b"z A", b"{/d"]
    assert Texts(["{/a}"]).render(query_record({}, b"\1a\0")) == [b"-"]
    for wrong in (b"", bytes(20), query_record({}, b"")[:-1]):
        with pytest.raises(ValueError, match="not a record of a query"):
            texts.render(wrong)


# ---------------------------------------------------------------------------------------------- the rings


def small() -> tuple[Stats, Table]:
    stats = Stats.create(4)
    return stats, Table(stats)


def test_a_ring_that_is_full_takes_no_more_and_counts() -> None:
    stats, table = small()
    one, two = table.stage([], True, False), table.stage([], False, False)
    wire = question("a.test", A)
    Bench(one, stats).run(wire, repeat=50_000)
    # A record, and the message behind it, padded, behind a head of eight.
    fit = (4 << 20) // (8 + (len(packed()) + len(wire) + 7) // 8 * 8)
    assert table.lost() == [50_000 - fit, 0]
    Bench(two, stats).run(wire)
    lost = table.lost()
    assert lost[0] == 50_000 - fit and lost[1] in (0, 1)
    found: list[Any] = []
    while got := table.drain(1000):
        assert len(got) <= 1000
        found += got
    assert len(found) == fit + 1 - lost[1] and {bytes(one[9]) for one in found[:fit]} == {wire}
    Bench(one, stats).run(wire)
    assert table.lost() == lost and len(table.drain(10)) == 1 and table.damaged == 0


def test_records_of_every_size_go_round_the_ring() -> None:
    _, table = small()
    table.stage([], True, False)
    sizes = [0, 1, 7, 8, 9, 511, 4096, 65535] * 40
    for turn in range(3):
        for size in sizes:
            head = packed(type=6, message_len=size, query_family=2, query_port=turn)
            assert table.record(head + bytes([size % 251]) * size)
            if size == 65535:
                found = table.drain(100)
                assert [len(one[9]) for one in found] == sizes[:8]
                assert all(set(one[9]) <= {len(one[9]) % 251} and one[4] == turn for one in found)
    assert table.damaged == 0 and not table.waiting()


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 3)), max_size=20), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_no_record_is_believed_beyond_its_octets(records: list[tuple[bytes, int]], most: int) -> None:
    _, table = small()
    table.stage([], True, False)
    for payload, kind in records:
        assert table.record(payload, kind)
    taken = 0
    while table.waiting():
        found = table.drain(most)
        assert len(found) <= most
        for one in found:
            assert one[0] == 0 and one[1] in TYPES and len(one[3]) in (0, 4, 16) and len(one[5]) in (0, 4, 16)
        taken += len(found)
    assert taken + table.damaged + sum(kind == 0 for _, kind in records) == len(records)


FIELDS = {
    "message_len": st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1)),
    "line_len": st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1)),
    "instance": st.integers(0, 3), "type": st.integers(0, 255), "query_family": st.integers(0, 4),
    "response_family": st.integers(0, 4), "tcp": st.integers(0, 255), "query_ns": st.integers(0, 2**64 - 1),
}  # fmt: skip


@given(st.fixed_dictionaries(FIELDS), st.binary(max_size=140))
@settings(max_examples=300, deadline=None)
def test_lengths_of_a_record_are_checked(fields: dict[str, int], behind: bytes) -> None:
    _, table = small()
    table.stage([], True, False)
    table.stage([], True, False)
    assert table.record(packed(**fields) + behind)
    sound = (fields["message_len"] + fields["line_len"] == len(behind) and fields["instance"] < 2
             and 5 <= fields["type"] <= 8 and fields["query_family"] <= 2 and fields["response_family"] <= 2)
    found = table.drain(10)
    assert (len(found), table.damaged) == ((1, 0) if sound else (0, 1))
    if sound:
        assert bytes(found[0][9]) + bytes(found[0][10]) == behind and len(found[0][9]) == fields["message_len"]


POSITIONS = st.integers(0, 2**61 - 1).map(lambda n: 8 * n)
BETWEEN = st.one_of(st.integers(0, 1000).map(lambda n: 8 * n), st.integers(0, 5 << 20), st.integers(0, 2**64 - 1))


@given(st.binary(min_size=16, max_size=400), st.one_of(POSITIONS, st.integers(0, 2**64 - 1)), BETWEEN)
@settings(max_examples=200, deadline=None)
def test_memory_that_somebody_has_damaged_is_read_to_its_end(garbage: bytes, tail: int, between: int) -> None:
    fd = make(octets())
    try:
        table = Table(Stats.create(4), -1, fd)
        table.stage([], True, False)
        head = (tail + between) % 2**64
        os.pwrite(fd, head.to_bytes(8, "little"), 4096)
        os.pwrite(fd, tail.to_bytes(8, "little"), 4096 + 64)
        at = tail % (4 << 20) & ~7
        os.pwrite(fd, garbage[:(4 << 20) - at], 8192 + at)
        for _ in range(20):
            assert len(table.drain(50)) <= 50
        assert not table.waiting()
        # Whoever writes next is understood, the first time perhaps not yet.
        for number in (77, 78):
            assert table.record(packed(type=5, query_port=number))
            found = [one[4] for one in table.drain(50)]
        assert found == [78]
    finally:
        os.close(fd)


def test_the_rings_of_a_generation_are_shared_and_of_one_size() -> None:
    fd, wrong = make(octets()), make(4096)
    try:
        stats = Stats.create(24)
        one, two = Table(stats, -1, fd), Table(stats, -1, fd)
        assert one.rings == 10
        stage = one.stage([], True, False)
        two.stage([], True, False)
        bench = Bench(stage, stats, 5)
        bench.run(question("a.test", A))
        assert two.waiting() and not two.sleep() and two.open()
        assert len(two.drain(10)) == 1 and not one.waiting() and one.sleep()
        del bench
        assert not one.open()
        with pytest.raises(ValueError, match="another size"):
            Table(stats, -1, wrong)
    finally:
        os.close(fd)
        os.close(wrong)


def test_more_blocks_than_there_are_counters_for() -> None:
    _, table = small()
    for _ in range(448):
        table.stage([], False, False)
    with pytest.raises(ValueError, match="at most 448 server blocks"):
        table.stage([], False, False)
    with pytest.raises(ValueError, match="at most 255 labels"):
        small()[1].stage([0] * 256, False, True)


def test_every_template_asks_for_memory_of_its_own() -> None:
    text = b". {\n dnstap a\n whoami\n}\na.test {\n dnstap b\n whoami\n}"
    plan = chain.load(load_source(Source("Corefile", text), chain.known(), chain.not_built())).plan()
    keys = {ask["key"] for ask in plan["asks"]["kept"]}
    assert len(keys) == 1 and all(ask["octets"] == octets() for ask in plan["asks"]["kept"])
    assert re.fullmatch(r"dnstap 1 [0-9a-f]{16}", keys.pop())


# ---------------------------------------------------------------------------------------------- a running server

CAPTURE = ("fstrm_capture", "-t", "protobuf:dnstap.Dnstap")


def captured(corefile: str, arguments: Sequence[str], path: Path, ready: Callable[[], bool]) -> list[str]:
    """The lines of dnstap-read for what fstrm_capture got of three questions to a server."""
    tap = path / "out.tap"
    command = [*CAPTURE, *arguments, "-w", str(tap)]
    capture = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 20
        while not ready():
            assert capture.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        with Server(corefile) as server:
            for name, proto in (("one.test", "udp"), ("two.test", "tcp"), ("three.test", "udp")):
                exchange(question(name, A, bufsize=1232), server.port, proto)
        capture.terminate()
        assert capture.wait(20) == 0
    finally:
        capture.kill()
        capture.wait()
        assert capture.stderr is not None
        capture.stderr.close()
    done = subprocess.run(["dnstap-read", str(tap)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@needs("fstrm_capture", "dnstap-read")
@pytest.mark.unsanitized
@pytest.mark.parametrize("proto", ["unix", "tcp"])
def test_fstrm_capture_and_dnstap_read_understand_it(proto: str, tmp_path: Path, upstream: Upstream) -> None:
    if proto == "unix":
        sock = tmp_path / "tap.sock"
        to, arguments = f"unix://{sock}", ["-u", str(sock)]
        ready = sock.exists
    else:
        port = free_port()
        to, arguments = f"tcp://127.0.0.1:{port}", ["-a", "127.0.0.1", "-p", str(port)]

        def ready() -> bool:
            return listening(port)

    corefile = f". {{\n dnstap {to} full\n forward . 127.0.0.1:{upstream.port}\n}}"
    lines = captured(corefile, arguments, tmp_path, ready)
    shown = [re.sub(r"^\S+ \S+ ", "", line) for line in lines]
    kinds = sorted(line.split()[0] for line in shown)
    assert kinds == sorted(["CQ", "FQ", "FR", "CR"] * 3)
    assert sum(" TCP " in line for line in shown) == 4
    for name in ("one", "two", "three"):
        own = [line for line in shown if f"{name}.test/IN/A" in line]
        assert [line.split()[0] for line in own] == ["CQ", "FQ", "FR", "CR"]
        assert all("127.0.0.1" in line for line in own)


def test_a_server_sends_what_is_left_when_it_ends() -> None:
    with Sink() as sink:
        with Server(f". {{\n dnstap tcp://127.0.0.1:{sink.port} full {{\n identity me\n }}\n whoami\n}}") as server:
            replies = [exchange(question(f"n{n}.test", A, id=n), server.port) for n in range(50)]
            assert server.stop() == 0
        found = sink.wait(100)
        assert sorted(frame["response"] for frame in found if frame["type"] == "CR") == sorted(replies)
        assert {frame["identity"] for frame in found} == {b"me"}
        (talk,) = sink.talks
        assert talk.finished


def test_metrics_of_a_server() -> None:
    web, dead = free_port(), free_port()
    with Sink() as sink:
        text = (f". {{\n prometheus 127.0.0.1:{web}\n dnstap tcp://127.0.0.1:{sink.port}\n"
                f" dnstap tcp://127.0.0.1:{dead}\n whoami\n}}")
        with Server(text) as server:
            server.wait_for("No connection to dnstap endpoint")
            exchange(question("a.test", A), server.port)
            sink.wait(2)
            wanted = {
                f'fastdns_dnstap_messages_total{{to="tcp://127.0.0.1:{sink.port}"}} 2',
                f'fastdns_dnstap_connections{{to="tcp://127.0.0.1:{sink.port}"}} 1',
                f'fastdns_dnstap_connections{{to="tcp://127.0.0.1:{dead}"}} 0',
                f'fastdns_dnstap_dropped_total{{reason="down",to="tcp://127.0.0.1:{dead}"}} 2',
                "fastdns_dnstap_damaged_total 0",
            }
            until = time.monotonic() + 20
            missing = wanted
            while missing:
                assert time.monotonic() < until, missing
                with urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics", timeout=20) as page:
                    missing = wanted - set(page.read().decode().splitlines())


def test_explain_says_that_it_runs_compiled(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_text(". {\n dnstap tcp://127.0.0.1:1\n whoami\n}")
    command = [sys.executable, "-m", "fastdns", "explain", "-conf", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"dnstap +line 2 +compiled", done.stdout), done.stdout
