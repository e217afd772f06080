# SPDX-License-Identifier: Apache-2.0
"""Kept answers: whoever asks, whatever was asked before, a server that keeps answers gives the octets, counts and log
lines of one that keeps none.

Strategy: two workers with the same Corefile, one that keeps. Both are asked the same sequence of queries, from the same
addresses and ports, and everything that can be seen of them is compared.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdns import chain, facts, metrics, registry
from fastdns._log import Formatter, RingHandle, Rings
from fastdns._wire import name_from_text
from fastdns.errors import SetupError
from fastdns.labels import Labels
from fastdns.numbers import AAAA, CNAME, TXT, A
from fastdns.ports import free_port
from fastdns.testing import Answer, Worker, exchange, receive
from tests.probes import installed

ALL = "NAME CASE CLIENT FAMILY PORT PROTO SERVER AD DO EDNS_SIZE RD CD OPTION(65001) METADATA(marker/mark)"
COMMON = """
    errors
    prometheus
    log . "{remote} {type} {name} {rcode} {rsize} {>do} {>bufsize} {/marker/mark}"
    acl {
        block type AAAA net 127.0.0.3/32
    }
    rewrite name exact alias.x.test rd-count-owner.x.test
    metadata
    marker
"""
BLOCKS = {
    "x.test": f"mirror {ALL} named",
    "name.x.test": "mirror NAME named",
    "none.x.test:53 none.more.test": "mirror nothing rd cd type zone count",
    "client.x.test": "mirror CLIENT(32,64) client",
    "some.x.test": "mirror NAME DO EDNS_SIZE PROTO CLIENT named",
    "upper.x.test": "mirror NAME CASE named",
    "label.x.test": "mirror METADATA(marker/mark) label",
    "two.x.test": """mirror PROTO proto name
    template ANY ANY {
        answer "{{ .Name }} 7 IN TXT {{ .Remote }}"
    }""",
}
# One fact each, declared and shown.
ALONE = {
    "bits": ("DO", "do"), "size": ("EDNS_SIZE", "bufsize"), "edns": ("EDNS_SIZE", "edns"), "proto": ("PROTO", "proto"),
    "client": ("CLIENT", "client"), "port": ("PORT", "port"), "letters": ("CASE", "case"), "flags": ("AD", "ad"),
    "options": ("OPTION(65001)", "option"),
}  # fmt: skip
BLOCKS.update({f"{word}.alone.test": f"mirror {fact} {word}" for fact, word in ALONE.values()})
BLOCKS["name.test"] = "mirror nothing upper"
BLOCKS["pointer.test"] = "mirror nothing pointer"
BLOCKS["owner.test"] = 'template IN A {\n        answer "UPPER.owner.test. 60 IN A 192.0.2.4"\n    }'
COREFILE = "".join(f"{zone}:53 {{{COMMON}    {line}\n}}\n" for zone, line in BLOCKS.items())
COREFILE += """
template.test:53 {
    errors
    prometheus
    log . "{remote} {type} {name} {rcode} {rsize}"
    template IN A template.test {
        match "^plain"
        fallthrough
        answer "{{ .Name }} 60 IN A 192.0.2.1"
        additional "Else.Template.Test. 60 IN A 192.0.2.2"
    }
    template IN A template.test {
        match "^remote"
        fallthrough
        answer "{{ .Name }} 60 IN TXT {{ .Remote }}"
    }
    template IN A template.test {
        match "^cased"
        fallthrough
        answer "{{ .Question.Name }} 60 IN A 192.0.2.3"
    }
    template IN A template.test {
        match "^upper"
        fallthrough
        answer "UPPER.template.test. 60 IN A 192.0.2.4"
    }
    template IN A template.test {
        match "^do"
        fallthrough
        answer "{{ .Name }} 60 IN TXT {{ .Message.RecursionDesired }}{{ range .Message.Extra }}{{ .Do }}{{ end }}"
    }
    template IN A template.test {
        match "^id"
        fallthrough
        answer "{{ .Name }} 60 IN TXT {{ .Message.Id }}"
    }
    template IN A template.test {
        match "^cname"
        fallthrough
        answer "{{ .Name }} 60 IN CNAME plain.template.test."
    }
    template IN A template.test {
        match "^broken"
        fallthrough
        answer "{{ .Name }} 60 IN A {{ .Name }}"
    }
    template IN A template.test {
        rcode NXDOMAIN
        authority "template.test. 60 IN SOA ns.template.test. host.template.test. 1 2 3 4 5"
        ederror 21 "Blocked"
    }
    template IN AAAA template.test {
        answer "{{ .Name }} 60 IN AAAA 2001:db8::1"
    }
    whoami
}
view.test:53 {
    view first {
        expr client_ip() == '127.0.0.2'
    }
    mirror NAME named
}
view.test:53 {
    mirror NAME rd
}
cached.test:53 {
    cache 30
    mirror NAME named
}
rewritten.test:53 {
    log . "{remote} {type} {name} {rcode} {rsize}"
    rewrite continue {
        name regex ^(\\w+)\\.deep\\.rewritten\\.test\\.$ {1}.rewritten.test. answer auto
    }
    rewrite continue {
        ttl regex ^short 5
    }
    rewrite continue {
        name prefix short long
    }
    rewrite name regex (.*)-(us|eu)\\.rewritten\\.test\\. {2}.{1}.rewritten.test.
    rewrite name regex ^bad[.] ..bad
    rewrite type CNAME A
    template IN A rewritten.test {
        match "(?i)^nx"
        fallthrough
        rcode NXDOMAIN
    }
    template IN A rewritten.test {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
"""
NOT_COMPARED = ("coredns_dns_request_duration_seconds", "fastdns_", "coredns_cache_")
CLIENTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.1.9", "127.0.0.1")  # the last: another port of the first


class Seen(Worker):
    """A worker whose log can be read."""

    def ring(self) -> RingHandle:
        self.rings = Rings.create(4)
        formats = {s.slot: s.labels[0][1] for s in self.stats.snapshot(words=True) if s.name == "fastdns_log_format"}
        self.formatter = Formatter(self.rings, formats.get, "")
        return self.rings.handle(1, -1, self.stats)

    def log_lines(self) -> list[str]:
        return self.formatter.collect().decode().splitlines()

    def figures(self) -> dict[object, object]:
        """All counters that a plugin or the core has counted."""
        return {(s.name, s.labels): s.values for s in self.stats.snapshot()
                if not s.name.startswith(NOT_COMPARED) and any(s.values)}


class Client:
    """One address and port, from which both workers are asked over both transports."""

    def __init__(self, address: str, workers: list[Seen]) -> None:
        self.at = (address, free_port(address))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(self.at)
        self.udp.settimeout(5)
        self.tcp: dict[int, socket.socket] = {}
        self.workers = workers

    def ask(self, worker: Seen, wire: bytes, proto: str) -> bytes:
        # Two workers in one process: what Python counts belongs to the one that is asked.
        metrics.attach(worker.stats, 2)
        if proto == "udp":
            self.udp.sendto(wire, ("127.0.0.1", worker.port))
            return self.udp.recv(65535)
        for fresh in (False, True):
            try:
                return self.over_tcp(worker, wire, fresh)
            except (OSError, EOFError):
                if fresh:
                    raise
        raise AssertionError

    def over_tcp(self, worker: Seen, wire: bytes, fresh: bool) -> bytes:
        sock = self.tcp.get(worker.port)
        if sock is None or fresh:
            if sock is not None:
                sock.close()
            sock = self.tcp[worker.port] = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(5)
            # A connection that was closed still holds its pair of ports: another source port, for both the same.
            sock.bind(self.at if not fresh else (self.at[0], 0))
            sock.connect(("127.0.0.1", worker.port))
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return receive(sock, int.from_bytes(receive(sock, 2), "big"))

    def close(self) -> None:
        for sock in (self.udp, *self.tcp.values()):
            sock.close()


class Pair:
    """The two workers, and their clients."""

    def __init__(self, corefile: str) -> None:
        self.keeping = Seen(corefile)
        chain.KEEPING = False
        try:
            self.plain = Seen(corefile)
        finally:
            chain.KEEPING = True
        self.clients = [Client(address, [self.keeping, self.plain]) for address in CLIENTS]

    def ask(self, client: int, wire: bytes, proto: str = "udp") -> bytes:
        """Asks both, compares, and gives the answer."""
        found, expected = (self.clients[client].ask(worker, wire, proto) for worker in (self.keeping, self.plain))
        assert found == expected, f"{wire.hex()} from {CLIENTS[client]}:\n{found.hex()}\n{expected.hex()}"
        return found

    def compare(self) -> None:
        assert self.keeping.log_lines() == self.plain.log_lines()
        assert self.keeping.figures() == self.plain.figures()

    def hits(self) -> int:
        return self.keeping.counter("fastdns_kept_hits_total")

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.keeping.stop()
        self.plain.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def pair(site: None) -> Iterator[Pair]:
    pair = Pair(COREFILE)
    yield pair
    pair.stop()


def question(name: str, qtype: int = A, *, flags: int = 0x0100, opt: tuple[int, int, bytes] | None = None,
             qclass: int = 1, ident: int = 0x1234) -> bytes:
    """A query; `opt`: size, flags, options."""
    head = b"".join(n.to_bytes(2, "big") for n in (ident, flags, 1, 0, 0, opt is not None))
    wire = head + name_from_text(name) + qtype.to_bytes(2, "big") + qclass.to_bytes(2, "big")
    if opt is not None:
        size, bits, options = opt
        wire += b"\0\0\x29" + size.to_bytes(2, "big") + bits.to_bytes(4, "big") + len(options).to_bytes(2, "big")
        wire += options
    return wire


def option(code: int, data: bytes) -> bytes:
    return code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


# ---- the matrix

READS = ("name", "case", "client", "family", "port", "proto", "local", "ad", "do", "edns", "bufsize", "rd", "cd",
         "server", "zone", "type", "option", "other", "label", "id", "size", "wire", "context")
DOES = ("count", "gauge", "histogram", "say", "set", "error", "bare", "once", "behind", "lookup", "nx", "fail", "adset",
        "owner", "upper", "many", "huge", "octets", "opt")
LABEL = st.lists(st.sampled_from(READS + DOES), min_size=1, max_size=4).map("-".join)
FEW = st.sampled_from(["rd", "do-bufsize", "client-proto", "case", "owner-count", "upper", "octets", "opt-nx", "label",
                       "option", "many-edns", "ad-cd", "local-family", "name"])
ZONES = st.sampled_from([*(zone.partition(":")[0] for zone in BLOCKS), "view.test", "cached.test"])
NAMES = st.one_of(
    st.builds("{}.{}".format, st.one_of(FEW, LABEL), ZONES),
    st.sampled_from(["alias.x.test", "x.test", "a.none.x.test", "rd.b.none.x.test"]),
    st.builds("{}.template.test".format, st.sampled_from(
        ["plain", "remote", "cased", "upper", "do", "id", "cname", "broken", "other", "plain2"])),
    st.builds("{}rewritten.test".format, st.sampled_from(
        ["a.deep.", "short.deep.", "nx.deep.", "x-us.", "short-eu.", "bad.", "plain.", "nx.", "nx-us.", ""])),
)
OPTIONS = st.sampled_from([
    b"", option(65001, b"one"), option(65001, b"two"), option(65002, b"x"),
    option(65001, b"one") + option(65001, b"two"),
    option(8, b"\0\1\x18\0\xc0\0\2"), option(8, b"\0\1\x10\0\xc0\0"), option(3, b""), option(10, b"12345678"),
    option(65001, b""),
])
OPTS = st.none() | st.tuples(st.sampled_from([512, 1232, 4096]), st.sampled_from([0, 0x8000]), OPTIONS)
FLAGS = st.sampled_from([0x0100, 0x0100, 0x0000, 0x0110, 0x0120, 0x0010, 0x0020, 0x0130])


def cased(name: str, mask: int) -> str:
    return "".join(c.upper() if mask >> (i % 24) & 1 else c for i, c in enumerate(name))


@st.composite
def queries(draw: st.DrawFn) -> tuple[int, bytes, str]:
    name = draw(NAMES)
    mask = draw(st.sampled_from([0, 0, 0, 1, 0xAAAAAA, 0xFFFFFF, 0x123456]))
    wire = question(cased(name, mask), draw(st.sampled_from([A, A, A, TXT, AAAA, CNAME])), flags=draw(FLAGS),
                    opt=draw(OPTS), ident=draw(st.sampled_from([0x1234, 0xFFFF])))
    return draw(st.integers(0, len(CLIENTS) - 1)), wire, draw(st.sampled_from(["udp", "udp", "udp", "tcp"]))


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[int, bytes, str]]:
    """Few different queries, each several times, and some that differ in one thing alone."""
    pool = draw(st.lists(queries(), min_size=1, max_size=4))
    return draw(st.lists(st.sampled_from(pool), min_size=2, max_size=10))


@pytest.mark.usefixtures("site")
@settings(max_examples=int(os.environ.get("FASTDNS_EXAMPLES", "150")), deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sequence=sequences())
def test_no_answer_crosses_a_boundary(pair: Pair, sequence: list[tuple[int, bytes, str]]) -> None:
    for client, wire, proto in sequence:
        pair.ask(client, wire, proto)
    pair.compare()


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "client": st.integers(0, len(CLIENTS) - 1), "proto": st.sampled_from(["udp", "tcp"]),
    "letters": st.sampled_from([0, 1, 2, 0x1F, 0x1E, 0xFFFFFF]), "qtype": st.sampled_from([A, TXT]), "flags": FLAGS,
    "edns": st.booleans(), "size": st.sampled_from([512, 600, 1232, 4096]), "bits": st.sampled_from([0, 0x8000]),
    "options": OPTIONS, "ident": st.sampled_from([1, 2]),
}  # fmt: skip


@st.composite
def neighbours(draw: st.DrawFn) -> list[tuple[int, bytes, str]]:
    """A query, and others that differ from it in one thing each."""
    name = draw(st.one_of(st.builds("{}.{}".format, FEW, ZONES), st.sampled_from(
        ["upper.template.test", "do.template.test", "remote.template.test", "a.none.x.test", "a.none.more.test"])))
    base = draw(st.fixed_dictionaries(FIELDS))
    found = []
    for field in draw(st.lists(st.sampled_from(["", *FIELDS]), min_size=4, max_size=14)):
        at = {**base, field: draw(FIELDS[field])} if field else base
        opt = (at["size"], at["bits"], at["options"]) if at["edns"] else None
        wire = question(cased(name, at["letters"]), at["qtype"], flags=at["flags"], opt=opt, ident=at["ident"])
        found.append((at["client"], wire, at["proto"]))
    return found


@settings(max_examples=int(os.environ.get("FASTDNS_EXAMPLES", "150")), deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked=neighbours())
def test_neighbours(pair: Pair, asked: list[tuple[int, bytes, str]]) -> None:
    for client, wire, proto in asked:
        pair.ask(client, wire, proto)
    pair.compare()


@pytest.mark.parametrize("zone", [
    "x.test", "name.x.test", "none.x.test", "client.x.test", "some.x.test", "upper.x.test", "label.x.test",
    "two.x.test", "view.test", "template.test", "rewritten.test", "cached.test"])
def test_what_is_asked_again_is_kept(pair: Pair, zone: str) -> None:
    word = "plain" if zone in ("template.test", "rewritten.test", "two.x.test") else "rd-count"
    for flags in (0x0100, 0):
        wire = question(f"{word}.{zone}", TXT if zone == "two.x.test" else A, flags=flags)
        pair.ask(0, wire)
        before = pair.hits()
        pair.ask(0, wire)
        # A cached answer never comes so far.
        assert pair.hits() > before or zone == "cached.test"
    pair.compare()


@pytest.mark.parametrize("word", ["id", "size", "wire", "context", "gauge", "histogram", "say", "set", "error", "bare",
                                  "once", "behind", "lookup", "fail", "huge"])
def test_what_is_never_kept(pair: Pair, word: str) -> None:
    before = pair.keeping.counter("fastdns_kept_stored_total", plugin="mirror"), pair.hits()
    for _ in range(3):
        pair.ask(0, question(f"{word}-never.x.test"))
    pair.compare()
    assert (pair.keeping.counter("fastdns_kept_stored_total", plugin="mirror"), pair.hits()) == before


@pytest.mark.parametrize("word", ["case", "client", "family", "port", "proto", "local", "ad", "do", "edns", "bufsize",
                                  "label"])
def test_what_is_read_and_not_declared_is_never_kept(pair: Pair, word: str) -> None:
    before = pair.hits()
    for _ in range(3):
        pair.ask(0, question(f"{word}-undeclared.name.x.test"))
    assert pair.hits() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"flags": 0}), ({}, {"flags": 0x0110}), ({}, {"qtype": TXT}), ({}, {"letters": 1}), ({"letters": 1}, {}),
        ({}, {"opt": (1232, 0x8000, option(65002, b"x"))}),
        ({}, {"opt": (1232, 0, option(8, b"\0\1\x18\0\xc0\0\2"))}),
    ],
)
def test_what_keeps_two_queries_apart(pair: Pair, one: dict[str, Any], other: dict[str, Any]) -> None:
    """The same name with a difference that is in every key: the second is not answered by what the first left."""
    name = f"rd-{os.urandom(4).hex()}.name.x.test"
    wire, second = (question(cased(name, at.pop("letters", 0)), **at) for at in (dict(one), dict(other)))
    pair.ask(0, wire)
    before = pair.hits()
    pair.ask(0, second)
    assert pair.hits() == before
    pair.ask(0, wire)
    assert pair.hits() == before + 1


def test_letters_are_the_clients_own(pair: Pair) -> None:
    """Every mixed case is answered by what one of them left, where the reply cannot show it; with the own letters."""
    pair.ask(0, question("rd-Letters.name.x.test"))
    before = pair.hits()
    found = Answer.of(pair.ask(1, question("rd-LETTERS.name.x.TEST")))
    assert found.answer[0].startswith("rd-LETTERS.name.x.TEST. ") and pair.hits() == before + 1


def test_an_owner_that_is_the_question_in_one_writing_alone(pair: Pair) -> None:
    """`UPPER.owner.test.` is a pointer to the question of whoever writes it so, and stands whole for the others."""
    sizes = [len(pair.ask(0, question(name))) for name in
             ("UPPER.owner.test", "uPPER.owner.test", "UPPER.owner.test", "upper.owner.test") * 2]
    assert len(set(sizes)) == 2 and sizes[0] == sizes[2] < sizes[1] == sizes[3]


@pytest.mark.parametrize("zone", ["name.test", "pointer.test"])
def test_an_answer_for_all_names_shows_none(pair: Pair, zone: str) -> None:
    """An owner that is one client's question, or data that points to it: not for the others."""
    for name in ("a", "upper", "UPPER", "a-longer-name", "UPPER", "a.b"):
        pair.ask(0, question(f"{name}.{zone}", TXT))
    pair.compare()


@pytest.mark.parametrize("changed", ALONE)
@pytest.mark.parametrize("alone", [False, True])
def test_each_fact_of_a_key_counts(pair: Pair, changed: str, alone: bool) -> None:
    """Two queries for a name that differ in one thing, and a plugin that shows it; it declares that alone, or all."""
    word = ALONE[changed][1]
    label = f"x{os.urandom(3).hex()}"
    name = f"{label}.{word}.alone.test" if alone else f"{word}-{label}.x.test"
    base: dict[str, Any] = {"bits": 0, "size": 512 if changed == "edns" else 600, "edns": True, "proto": "udp",
                            "client": 0, "letters": 0, "flags": 0x0100, "options": b""}
    other = {"bits": 0x8000, "size": 1400, "edns": False, "proto": "tcp", "client": 1, "letters": 1, "flags": 0x0120,
             "options": option(65001, b"x"), "port": 4}
    seen = []
    for at in (base, {**base, "client" if changed == "port" else changed: other[changed]}) * 2:
        opt = (at["size"], at["bits"], at["options"]) if at["edns"] else None
        wire = question(cased(name, at["letters"]), TXT, flags=at["flags"], opt=opt)
        seen.append(Answer.of(pair.ask(at["client"], wire, at["proto"])).answer)
    assert seen[0] == seen[2] != seen[1] == seen[3]
    pair.compare()


def test_zones_and_listeners_are_in_every_key(site: None) -> None:
    corefile = "one.test:53 two.test:53 one.test:54 {\n mirror nothing zone listener\n}\n"
    with Worker(corefile) as worker:
        ways = [("one.test", 0), ("two.test", 0), ("one.test", 1)]
        said = [[Answer.of(exchange(question(f"a.{zone}", TXT), worker.ports[port])).answer[0].partition(" TXT ")[2]
                 for zone, port in ways] for _ in range(3)]
        assert said[0] == said[1] == said[2] and len(set(said[0])) == 3
        assert worker.counter("fastdns_kept_hits_total") == 6


def test_without_the_name_one_answer_is_for_all_names(pair: Pair) -> None:
    pair.ask(0, question("first.none.x.test", TXT))
    before = pair.hits()
    for name in ("second.none.x.test", "a.b.c.none.x.test", "A.B.none.X.test", "none.x.test"):
        pair.ask(1, question(name, TXT))
    assert pair.hits() == before + 4
    pair.compare()


@pytest.mark.parametrize(("bits", "same"), [(0, {0, 1, 2, 3, 4}), (8, {0, 1, 2, 3, 4}), (30, {0, 1, 2, 4}),
                                            (31, {1, 2}), (32, {1})])
def test_a_prefix_of_the_client(site: None, bits: int, same: set[int]) -> None:
    """The plugin shows all of the address and declares a part: the key is what counts."""
    with Seen(f"prefix.test {{\n mirror CLIENT({bits},0) client\n}}\n") as worker:
        clients = [Client(address, [worker]) for address in CLIENTS]
        asked = [client.ask(worker, question("a.prefix.test", TXT), "udp") for client in (clients[1], *clients)]
        assert {n for n, found in enumerate(asked[1:]) if found == asked[0]} == same
        for client in clients:
            client.close()


def test_options_are_read(pair: Pair) -> None:
    for data, seen in ((b"one", "one"), (b"two", "two"), (b"", ""), (b"one", "one")):
        wire = question("option-other.x.test", TXT, opt=(1232, 0, option(65001, data)))
        assert Answer.of(pair.ask(0, wire)).answer == [
            f"option-other.x.test. 30 IN TXT \"option=b'{seen}'\" \"other=None\""]
    wire = question("option-other.x.test", TXT, opt=(1232, 0, option(5, b"") + option(65002, b"x")))
    assert Answer.of(pair.ask(0, wire)).answer[0].endswith("\"option=None\" \"other=b'x'\"")


def test_notes_are_the_servers_where_answers_are_kept(site: None) -> None:
    with Worker("note.test {\n mirror NAME named\n}\nplain.test {\n mirror named\n}\n") as worker:
        for zone, said in (("note.test", "nobody reads this note"), ("plain.test", "taken")):
            assert worker.ask(f"note.{zone}", TXT).answer == [f'note.{zone}. 30 IN TXT "note={said}"']
            assert worker.ask(f"long.{zone}", TXT).answer[0].endswith('"long=a note has at most 4096 octets"')
        assert worker.ask("note-note.plain.test", TXT).answer[0].endswith('"note=nobody reads this note"')


def test_acl_sees_every_query(pair: Pair) -> None:
    wire = question("rd.x.test", AAAA)
    for _ in range(2):
        assert Answer.of(pair.ask(0, wire)).rcode == 0
        assert Answer.of(pair.ask(2, wire)).rcode == 5
    pair.compare()


def test_signed_queries_and_other_opcodes_are_passed(pair: Pair) -> None:
    pair.ask(0, question("rd-signed.x.test"))
    hits, passed = pair.hits(), pair.keeping.counter("fastdns_kept_passed_total", plugin="mirror")
    wire = bytearray(question("rd-signed.x.test"))
    wire[11] = 1
    wire += name_from_text("key.") + b"\0\xfa\0\xff" + bytes(4)
    rdata = name_from_text("hmac-sha256.") + bytes(6) + b"\1\x2c" + b"\0\x20" + bytes(32) + bytes(2) + bytes(4)
    pair.ask(0, bytes(wire + len(rdata).to_bytes(2, "big") + rdata))
    assert pair.hits() == hits
    assert pair.keeping.counter("fastdns_kept_passed_total", plugin="mirror") == passed + 1


def test_recipes_not_answers(pair: Pair) -> None:
    """What stands behind rewrite answers each query; only the name's way is kept."""
    stage = {"plugin": "rewrite"}
    for name, asked in (("again-us.rewritten.test", "us.again.rewritten.test."), ("nx.deep.rewritten.test", "nx.rewr")):
        pair.ask(0, question(name))
        before = pair.keeping.counter("fastdns_kept_hits_total", **stage)
        found = Answer.of(pair.ask(1, question(name.upper() if "-" in name else name, opt=(1232, 0, b""))))
        assert found.answer == [] or asked in found.answer[0] or name in found.answer[0].lower()
        assert pair.keeping.counter("fastdns_kept_hits_total", **stage) == before + 1
    pair.compare()


# ---- the shelf


def test_a_full_shelf_forgets_and_goes_on(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SHELF_ENTRIES", 2048)
    with Worker("flood.test {\n mirror NAME named\n}\n") as worker:
        shelf = worker.generation.shelf
        assert shelf is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", worker.port))
            for n in range(4000):
                if n % 500 == 0:
                    assert worker.ask("rd.flood.test", A).answer
                sock.send(question(f"many-{n}.flood.test"))
                sock.recv(512)
        assert 300 < shelf.entries < 1000
        assert worker.counter("fastdns_kept_stored_total") >= 4000
        before = worker.counter("fastdns_kept_hits_total")
        assert worker.ask("rd.flood.test", A).answer
        assert worker.counter("fastdns_kept_hits_total") == before + 1


def test_many_clients_at_once(site: None) -> None:
    """Each thread asks in its own letters and with its own flags, for names that all share."""
    wrong: list[str] = []

    def asks(number: int, port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((f"127.0.7.{number}", 0))
            sock.settimeout(5)
            sock.connect(("127.0.0.1", port))
            for n in range(200):
                name = cased(f"client-rd-{n % 20}.busy.test", number * 37)
                sock.send(question(name, flags=0x0100 if number % 2 else 0, ident=n))
                found = Answer.of(sock.recv(512))
                said = f'"client=127.0.7.{number}" "rd={bool(number % 2)}"'
                if found.message.header.id != n or found.answer != [f"{name}. 30 IN TXT {said}"]:
                    wrong.append(f"{name}: {found.answer}")

    with Worker("busy.test {\n mirror NAME CLIENT named\n}\n") as worker:
        threads = [threading.Thread(target=asks, args=(number, worker.port)) for number in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert worker.counter("fastdns_kept_hits_total") == 6 * 180


def test_a_damaged_entry_is_no_answer(site: None) -> None:
    with Worker("flip.test {\n mirror NAME named\n}\n") as worker:
        worker.ask("rd.flip.test", A)
        shelf = worker.generation.shelf
        assert shelf is not None
        fd = shelf.segment.fd
        size = os.fstat(fd).st_size
        # Whatever stands in the entries is flipped: its sum does not fit any more.
        octets = os.pread(fd, size, 0)
        at = octets.find(b"rd=True")
        assert at > 0
        os.pwrite(fd, b"rd=Fals", at)
        before = worker.counter("fastdns_kept_torn_total")
        assert worker.ask("rd.flip.test", A).answer == ['rd.flip.test. 30 IN TXT "rd=True"']
        assert worker.counter("fastdns_kept_torn_total") == before + 1
        assert worker.ask("rd.flip.test", A).answer == ['rd.flip.test. 30 IN TXT "rd=True"']


def test_published_data_is_in_the_key(site: None) -> None:
    with Worker("data.test {\n mirror NAME DATA named\n}\n") as worker:
        pass
    module = sys.modules["fastdns_mirror"]

    class Told(module.Mirror):  # type: ignore[name-defined, misc]
        text = "nothing"

        def on_update(self, data: bytes, version: int) -> None:
            self.text = data.decode()

        async def serve_dns(self, query, next):  # type: ignore[no-untyped-def]
            return query.reply().txt(self.text, query.name)

    load = chain.registry.load
    mirror = module.Mirror
    module.Mirror = Told
    load.cache_clear()
    try:
        with Worker("data.test {\n mirror NAME DATA named\n}\n") as worker:
            ((_, plugin),) = worker.generation.blocks[0].members
            assert type(plugin) is Told and plugin.board is not None
            for text in ("nothing", "one", "two", "one"):
                if text != "nothing":
                    plugin.board.publish(text.encode())
                for _ in range(3):
                    found = worker.ask("a.data.test", TXT).answer
                    assert found == [f'a.data.test. 0 IN TXT "{text}" "a.data.test."']
            assert worker.counter("fastdns_kept_hits_total") == 8
    finally:
        module.Mirror = mirror
        load.cache_clear()


def test_a_generation_begins_with_nothing(site: None) -> None:
    corefile = "again.test {\n mirror NAME named\n}\n"
    with Worker(corefile) as first, Worker(corefile) as second:
        first.ask("rd.again.test", A)
        second.ask("rd.again.test", A)
        assert [w.counter("fastdns_kept_hits_total") for w in (first, second)] == [0, 0]


def test_only_who_declares_has_a_shelf(site: None) -> None:
    with Worker("plain.test {\n mirror rd\n whoami\n}\n") as worker:
        worker.ask("a.plain.test", A)
        worker.ask("a.plain.test", A)
        assert worker.generation.shelf is None and worker.counter("fastdns_kept_hits_total") == 0


# ---- the declaration


@pytest.mark.parametrize(
    ("declared", "bits", "prefixes", "codes"),
    [
        ([], set(), (0, 0), ()),
        ([facts.NAME], {"NAME"}, (0, 0), ()),
        ([facts.CASE], {"NAME", "CASE"}, (0, 0), ()),
        ([facts.CLIENT()], {"CLIENT", "FAMILY"}, (32, 128), ()),
        ([facts.CLIENT(8, 0), facts.CLIENT(4, 64), facts.FAMILY], {"CLIENT", "FAMILY"}, (8, 64), ()),
        ([facts.RD, facts.CD, facts.DATA], set(), (0, 0), ()),
        ([facts.OPTION(8), facts.OPTION(3), facts.DO, facts.AD], {"DO", "AD"}, (0, 0), (8, 3)),
        ([facts.METADATA("a/b"), facts.EDNS_SIZE], {"LABELS", "EDNS"}, (0, 0), ()),
        ([facts.PORT, facts.PROTO, facts.SERVER], {"PORT", "PROTO", "SERVER"}, (0, 0), ()),
    ],
)
def test_keys(declared: list[facts.Fact], bits: set[str], prefixes: tuple[int, int], codes: tuple[int, ...]) -> None:
    from fastdns._kept import READS

    key = facts.key(declared, Labels(True))
    assert key == (sum(READS[bit] for bit in bits), prefixes, codes, ())


def test_labels_of_a_key() -> None:
    labels = Labels(True)
    labels.read("x/y")
    assert facts.key([facts.METADATA("x/y"), facts.METADATA("nobody/reads")], labels).labels == (0,)


@pytest.mark.parametrize("wrong", ["NAME", facts.Fact("TIME"), None, 3])
def test_what_is_no_fact(wrong: object) -> None:
    with pytest.raises(ValueError, match="no fact that an answer can be kept by"):
        facts.key([wrong], Labels())  # type: ignore[list-item]


@pytest.mark.parametrize(("make", "text"), [(lambda: facts.CLIENT(33), "at most 32 and 128 bits"),
                                            (lambda: facts.CLIENT(0, 129), "at most 32 and 128 bits"),
                                            (lambda: facts.OPTION(65536), "16 bits")])
def test_arguments_are_checked(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]


def test_only_eager_plugins(site: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker("eager.test {\n mirror NAME\n}\n"):
        pass
    monkeypatch.setattr(sys.modules["fastdns_mirror"].Mirror, "eager", False)
    with pytest.raises(SetupError, match="only the answers of an eager plugin can be kept"):
        Worker("eager.test {\n mirror NAME\n}\n")
    monkeypatch.setattr(sys.modules["fastdns_mirror"].Mirror, "eager", True)
    many = " ".join(f"OPTION({code})" for code in range(17))
    with pytest.raises(SetupError, match="at most 16 options and 16 labels"):
        Worker(f"eager.test {{\n mirror {many}\n}}\n")


def test_texts() -> None:
    assert facts.shown([]) == "nothing but type and class"
    assert facts.shown([facts.NAME, facts.CLIENT(8, 0)]) == "CLIENT(8, 0), NAME"


# ---- the manual


def test_the_manuals_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of "Kept answers" in plugins/README.md, as a package of its own."""
    manual = (Path(__file__).resolve().parents[2] / "plugins" / "README.md").read_text()
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", manual, re.S) if "class Where" in text)
    (tmp_path / "where_plugin.py").write_text(code)
    info = tmp_path / "where-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: where\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nwhere = where_plugin:Where\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.installed.cache_clear()
    try:
        with Seen("where.test {\n where\n}\n") as worker:
            clients = [Client(address, [worker]) for address in ("127.0.0.1", "127.0.0.9", "127.0.1.9")]
            said = [Answer.of(client.ask(worker, question("a.where.test", TXT), "udp")).answer for client in clients]
            for client in clients:
                client.close()
            assert said == [[f'a.where.test. 60 IN TXT "a.where.test. in 127.0.{n}.0"'] for n in (0, 0, 1)]
            assert worker.counter("fastdns_kept_hits_total", plugin="where") == 1
    finally:
        registry.installed.cache_clear()
        registry.load.cache_clear()
