# SPDX-License-Identifier: Apache-2.0
"""hosts: what a file and the Corefile say, images against a plain model, reloads, a million names."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import time
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdns._wire import name_from_text
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, ANY, HTTPS, MX, NS, PTR, SERVFAIL, SOA, TXT, A
from fastdns.plugin import Channel
from fastdns.plugins.hosts import Hosts, handler
from fastdns.plugins.hosts._hosts import Image, stage
from fastdns.published import PAGE, Board, make
from fastdns.testing import Server, Worker

TYPES = {"A": A, "AAAA": AAAA, "PTR": PTR, "MX": MX, "TXT": TXT, "ANY": ANY, "NS": NS, "SOA": SOA, "HTTPS": HTTPS}
ROOT_ZONE = [b"\0"]

FILE = b"\n".join([
    b'# a comment',
    b'127.0.0.1 localhost localhost.localdomain',
    b'::1 localhost ip6-localhost',
    b'10.0.0.1\ta.example.org b.example.org   # two names',
    b'10.0.0.2 A.Example.ORG',
    b'10.0.0.1 a.example.org',
    b'10.0.0.3 dup.example.org dup.example.org',
    b'2001:db8::1 a.example.org six.example.org',
    b'2001:DB8:0:0:0:0:0:2 six.example.org.',
    b'fe80::1%eth0 zoned.example.org',
    b'1.2.3.4%lo zoned4.example.org',
    b'::ffff:10.0.0.7 mapped.example.org',
    b'010.0.0.9 octal.example.org',
    b'10.0.0 short.example.org',
    b'10.0.0.256 big.example.org',
    b'10.0.0.10',
    b'only-a-name',
    b'10.0.0.11 *.w.example.org exact.w.example.org',
    b'2001:db8::11 six.w.example.org',
    b'10.0.0.12 other.test out.example.com',
    b'10.0.0.13 *.',
    b'10.0.0.13 *.example.org.',
    b'10.0.0.14 x.*.example.org',
    b'10.0.0.15 crlf.example.org\r',
    b'  10.0.0.16   indented.example.org',
    b'10.0.0.17 end#comment',
    b'10.0.0.18 a..b',
    b'10.0.0.19 label-of-more-than-63-octets-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.org'
    b' after-the-bad-one.example.org',
    b'::1.2.3.4 embed.example.org',
    b'1::2::3 twice.example.org',
    b'1:2:3:4:5:6:7:8 full.example.org',
    b'1:2:3:4:5:6:7:8:9 nine.example.org',
    b'::2:3:4:5:6:7:8 gap.example.org',
    b'1:2:3:4:5:6:7::8 nogap.example.org',
    b'12345::1 fivedigits.example.org',
    b'255.255.255.255 all.example.org',
    b'0.0.0.0 zero.example.org',
    b'10.0.0.20\x0bvertical.example.org\x0cfeed.example.org',
    b'10.0.0.21 nul\x00.example.org',
    b'10.0.0.22 caf\xc3\xa9.example.org bad\xff.example.org',
    b'10.0.0.23 noeol.example.org',
])
COREFILE = """
example.org test localhost localdomain in-addr.arpa ip6.arpa {
    hosts %s {
        10.1.1.1 a.example.org inline.example.org
        10.1.1.2 inline.example.org exact.w.example.org
        10.1.1.4 *.inlined.example.org
        2001:db8::99 inline.example.org a.example.org
        10.0.0.1 again.example.org
        ttl 77
    }
}
fall.test {
    hosts %s example.org fall.test {
        10.2.2.2 one.fall.test
        fallthrough through.fall.test
        fallthrough_unsupported
        no_reverse
    }
    whoami
}
com {
    hosts %s example.com {
        fallthrough
    }
    whoami
}
"""
# name, type, what came: records in order, - for none, next for the plugin behind. Compared with CoreDNS 1.14.7.
CASES = """
a.example.org. A 10.0.0.1 10.0.0.2 10.0.0.1 10.1.1.1
a.example.org. AAAA 2001:db8::1 2001:db8::99
b.example.org. A 10.0.0.1
b.example.org. AAAA -
dup.example.org. A 10.0.0.3 10.0.0.3
dup.example.org. AAAA -
six.example.org. A 10.0.0.13
six.example.org. AAAA 2001:db8::1 2001:db8::2
zoned.example.org. A 10.0.0.13
zoned.example.org. AAAA fe80::1
zoned4.example.org. A 1.2.3.4
zoned4.example.org. AAAA -
mapped.example.org. A 10.0.0.7
mapped.example.org. AAAA -
octal.example.org. A 10.0.0.13
octal.example.org. AAAA -
short.example.org. A 10.0.0.13
short.example.org. AAAA -
big.example.org. A 10.0.0.13
big.example.org. AAAA -
exact.w.example.org. A 10.0.0.11 10.1.1.2
exact.w.example.org. AAAA -
six.w.example.org. A 10.0.0.11
six.w.example.org. AAAA 2001:db8::11
any.w.example.org. A 10.0.0.11
any.w.example.org. AAAA -
x.any.w.example.org. A SERVFAIL
x.any.w.example.org. AAAA SERVFAIL
w.example.org. A 10.0.0.13
w.example.org. AAAA -
*.w.example.org. A 10.0.0.11
*.w.example.org. AAAA -
x.*.example.example.org. A SERVFAIL
x.*.example.example.org. AAAA SERVFAIL
x.y.example.org. A SERVFAIL
x.y.example.org. AAAA SERVFAIL
crlf.example.org. A 10.0.0.15
crlf.example.org. AAAA -
indented.example.org. A 10.0.0.16
indented.example.org. AAAA -
after-the-bad-one.example.org. A 10.0.0.19
after-the-bad-one.example.org. AAAA -
embed.example.org. A 10.0.0.13
embed.example.org. AAAA ::102:304
twice.example.org. A 10.0.0.13
twice.example.org. AAAA -
full.example.org. A 10.0.0.13
full.example.org. AAAA 1:2:3:4:5:6:7:8
nine.example.org. A 10.0.0.13
nine.example.org. AAAA -
gap.example.org. A 10.0.0.13
gap.example.org. AAAA 0:2:3:4:5:6:7:8
nogap.example.org. A 10.0.0.13
nogap.example.org. AAAA -
fivedigits.example.org. A 10.0.0.13
fivedigits.example.org. AAAA -
all.example.org. A 255.255.255.255
all.example.org. AAAA -
zero.example.org. A 0.0.0.0
zero.example.org. AAAA -
vertical.example.org. A 10.0.0.20
vertical.example.org. AAAA -
feed.example.org. A 10.0.0.20
feed.example.org. AAAA -
noeol.example.org. A 10.0.0.23
noeol.example.org. AAAA -
inline.example.org. A 10.0.0.13 10.1.1.1 10.1.1.2
inline.example.org. AAAA 2001:db8::99
again.example.org. A 10.0.0.13 10.0.0.1
again.example.org. AAAA -
n.inlined.example.org. A 10.1.1.4
n.inlined.example.org. AAAA -
n.n.inlined.example.org. A SERVFAIL
n.n.inlined.example.org. AAAA SERVFAIL
inlined.example.org. A 10.0.0.13
inlined.example.org. AAAA -
deep.er.example.org. A SERVFAIL
deep.er.example.org. AAAA SERVFAIL
nothing.nothing.example.org. A SERVFAIL
nothing.nothing.example.org. AAAA SERVFAIL
a.example.org. MX -
any.w.example.org. MX -
q.q.q.example.org. MX SERVFAIL
a.example.org. TXT -
any.w.example.org. TXT -
q.q.q.example.org. TXT SERVFAIL
a.example.org. ANY -
any.w.example.org. ANY -
q.q.q.example.org. ANY SERVFAIL
a.example.org. NS -
any.w.example.org. NS -
q.q.q.example.org. NS SERVFAIL
a.example.org. SOA -
any.w.example.org. SOA -
q.q.q.example.org. SOA SERVFAIL
a.example.org. HTTPS -
any.w.example.org. HTTPS -
q.q.q.example.org. HTTPS SERVFAIL
a.example.org. PTR SERVFAIL
any.w.example.org. PTR SERVFAIL
q.q.q.example.org. PTR SERVFAIL
A.eXample.Org. A 10.0.0.1 10.0.0.2 10.0.0.1 10.1.1.1
A.eXample.Org. AAAA 2001:db8::1 2001:db8::99
example.org. A SERVFAIL
localhost. A 127.0.0.1
localhost. AAAA ::1
localhost.localdomain. A 127.0.0.1
localdomain. A SERVFAIL
other.test. A 10.0.0.12
test. A SERVFAIL
out.example.com. A 10.0.0.12
x.example.com. A next
notin.com. A next
notin.com. MX next
1.0.0.127.in-addr.arpa. PTR localhost. localhost.localdomain.
1.0.0.10.in-addr.arpa. PTR a.example.org. b.example.org. a.example.org. again.example.org.
2.0.0.10.in-addr.arpa. PTR a.example.org.
3.0.0.10.in-addr.arpa. PTR dup.example.org. dup.example.org.
7.0.0.10.in-addr.arpa. PTR mapped.example.org.
9.0.0.10.in-addr.arpa. PTR SERVFAIL
11.0.0.10.in-addr.arpa. PTR exact.w.example.org.
12.0.0.10.in-addr.arpa. PTR other.test.
13.0.0.10.in-addr.arpa. PTR SERVFAIL
15.0.0.10.in-addr.arpa. PTR crlf.example.org.
18.0.0.10.in-addr.arpa. PTR SERVFAIL
1.1.1.10.in-addr.arpa. PTR a.example.org. inline.example.org.
2.1.1.10.in-addr.arpa. PTR inline.example.org. exact.w.example.org.
4.1.1.10.in-addr.arpa. PTR SERVFAIL
255.255.255.255.in-addr.arpa. PTR all.example.org.
0.0.0.0.in-addr.arpa. PTR zero.example.org.
4.3.2.1.in-addr.arpa. PTR zoned4.example.org.
9.9.9.10.in-addr.arpa. PTR SERVFAIL
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR localhost.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR a.example.org. six.example.org.
2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.org.
1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.w.example.org.
9.9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR inline.example.org. a.example.org.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa. PTR zoned.example.org.
7.0.0.0.0.0.a.0.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR mapped.example.org.
4.0.3.0.2.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR embed.example.org.
8.0.0.0.7.0.0.0.6.0.0.0.5.0.0.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.ip6.arpa. PTR full.example.org.
5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR SERVFAIL
01.0.0.10.in-addr.arpa. PTR SERVFAIL
0.0.10.in-addr.arpa. PTR SERVFAIL
1.1.0.0.10.in-addr.arpa. PTR SERVFAIL
256.0.0.10.in-addr.arpa. PTR SERVFAIL
in-addr.arpa. PTR SERVFAIL
ip6.arpa. PTR SERVFAIL
1.ip6.arpa. PTR SERVFAIL
1.0.0.10.IN-ADDR.ARPA. PTR a.example.org. b.example.org. a.example.org. again.example.org.
1.0.0.10.in-addr.arpa. A SERVFAIL
g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR SERVFAIL
00.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa. PTR SERVFAIL
one.fall.test. A 10.2.2.2
one.fall.test. AAAA -
one.fall.test. MX -
one.fall.test. PTR next
two.fall.test. A SERVFAIL
two.fall.test. AAAA SERVFAIL
two.fall.test. MX SERVFAIL
two.fall.test. PTR next
x.through.fall.test. A next
x.through.fall.test. AAAA next
x.through.fall.test. MX next
x.through.fall.test. PTR next
through.fall.test. A next
through.fall.test. AAAA next
through.fall.test. MX next
through.fall.test. PTR next
"""


class Served(Worker):
    """A worker of a Corefile with `%s` for a file, whose images are made when `refresh` is called."""

    def __init__(self, corefile: str, path: Path) -> None:
        super().__init__(corefile.replace("%s", str(path)))
        self.hosts = [plugin for _, plugin in self.generation.members() if isinstance(plugin, Hosts)]
        self.channels = [Channel(print, print, plugin.board.publish) for plugin in self.hosts]
        self.refresh()

    def refresh(self) -> list[bool]:
        return [plugin.refresh(channel) for plugin, channel in zip(self.hosts, self.channels, strict=True)]

    def text(self, name: str, qtype: int) -> list[str]:
        return [line.split()[4] for line in self.ask(name, qtype).answer]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "hosts"
    path.write_bytes(FILE)
    with Served(COREFILE, path) as worker:
        yield worker


@pytest.mark.parametrize("case", CASES.strip().splitlines())
def test_answers(table, case):
    name, kind, *what = case.split()
    for proto in ("udp", "tcp"):
        got = table.ask(name, TYPES[kind], proto)
        if what == ["next"]:
            assert got.additional and got.rcode == 0  # whoami's
            continue
        assert (got.authority, got.additional) == ([], [])
        if what == ["SERVFAIL"]:
            assert (got.rcode, got.flags, got.answer) == (SERVFAIL, {"qr", "rd"}, [])
            continue
        ttl = 3600 if name.endswith(("fall.test.", ".com.")) else 77
        wanted = [] if what == ["-"] else [f"{name.lower()} {ttl} IN {kind} {value}" for value in what]
        assert (got.rcode, got.flags, got.answer) == (0, {"qr", "aa", "rd"}, wanted)


def test_edns_comes_back(table):
    got = table.ask("a.example.org.", A, bufsize=1400, do=True)
    assert (got.message.edns.edns_len, got.message.edns.edns_do) == (1400, 1)


def test_names_are_compared_as_names(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"10.0.0.1 nul\\000.x\n10.0.0.2 raw\x00.x\n10.0.0.3 a\\.b.x\n10.0.0.4 under@score.x\n")
    with Served(". {\nhosts %s\n}\n", path) as worker:
        assert worker.text("nul\\000.x.", A) == ["10.0.0.1"]
        assert worker.text("raw\\000.x.", A) == ["10.0.0.2"]
        assert worker.text("a\\.b.x.", A) == ["10.0.0.3"]
        assert worker.text("under\\@score.x.", A) == ["10.0.0.4"]


# ---- many records

BIG = [f"10.5.{i >> 8}.{i & 255} many.example.org" for i in range(5000)]
BIG += [f"10.3.0.{i} forty.example.org" for i in range(40)]
BIG += [f"10.6.0.1 p{i}.example.org" for i in range(6000)]


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "hosts"
    path.write_text("\n".join(BIG))
    with Served(". {\nhosts %s\n}\n", path) as worker:
        yield worker


@pytest.mark.parametrize(
    ("name", "qtype", "proto", "options", "least"),
    [
        ("forty.example.org.", A, "udp", {}, 20),
        ("FORTY.example.org.", A, "udp", {"bufsize": 512}, 20),
        ("many.example.org.", A, "udp", {"bufsize": 1232}, 60),
        ("many.example.org.", A, "tcp", {}, 4000),
        ("MANY.example.org.", A, "tcp", {"bufsize": 4096}, 4000),
        ("1.0.6.10.in-addr.arpa.", PTR, "udp", {}, 5),
        ("1.0.6.10.in-addr.arpa.", PTR, "tcp", {}, 1500),
    ],
)
def test_what_does_not_fit_is_cut_and_says_so(big, name, qtype, proto, options, least):
    got = big.ask(name, qtype, proto, **options)
    values = [line.split()[4] for line in got.answer]
    all_of_it = [f"p{i}.example.org." for i in range(6000)]
    if qtype == A:
        all_of_it = [line.split()[0] for line in BIG if line.endswith(" " + name.lower().rstrip("."))]
    assert "tc" in got.flags and len(values) >= least and values == all_of_it[: len(values)]


def test_what_fits_is_whole(big):
    got = big.ask("Forty.example.org.", A, bufsize=1232)
    assert "tc" not in got.flags and len(got.answer) == 40
    assert {line.split()[0] for line in got.answer} == {"forty.example.org."}


# ---- an image against a plain model

LABEL = st.sampled_from(["a", "b", "C", "*", "x", "long-label-" + "y" * 52, "\\046"])
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ADDRESS = st.sampled_from([
    "10.0.0.1", "10.0.0.2", "2001:db8::1", "::ffff:10.0.0.1", "::1", "fe80::1%eth0", "1.2.3", "0.0.0.01", "::", ":", "",
    "1:2:3:4:5:6:7:8", "1::2::3", "::1.2.3.4", "text", "#", "255.255.255.255", "2001:DB8::1",
])
SPACE = st.sampled_from([" ", "\t", "  ", " \r", "\x0b"])
END = st.sampled_from(["", "", "", " # a b", "\r", "#", "\0", " \t"])
GOOD = st.builds(lambda a, s, names, e: a + s + s.join(names) + e, ADDRESS, SPACE,
                 st.lists(NAME, min_size=0, max_size=4), END)
ANYTHING = st.text(max_size=40).map(lambda text: text.replace("\n", " "))
TEXT = st.lists(st.one_of(GOOD, GOOD, GOOD, ANYTHING), max_size=25).map("\n".join)


def address_of(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(word.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


class Model:
    """The same in dictionaries, forwards."""

    def __init__(self, text: bytes, zones: list[str]) -> None:
        self.names: dict[tuple[int, bytes], list[str]] = defaultdict(list)
        self.reverse: dict[str, list[bytes]] = defaultdict(list)
        self.entries = 0
        for line in text.split(b"\n"):
            words = line.partition(b"#")[0].split()
            found = address_of(words[0].decode("latin-1")) if len(words) > 1 else None
            for word in words[1:] if found is not None else ():
                try:
                    name = name_from_text(word.decode("latin-1")).lower()
                except (ValueError, UnicodeError):
                    continue
                if not any(name == zone or name.endswith(zone) for zone in map(name_from_text, zones)):
                    continue
                self.entries += 1
                if name == b"\1*\0":
                    continue
                self.names[found.version, name].append(str(found))
                if not name.startswith(b"\1*"):
                    self.entries += 1
                    self.reverse[str(found)].append(name)

    def addresses(self, name: bytes, version: int) -> list[str]:
        rest = name[1 + name[0]:]
        own = self.names.get((version, name))
        return own or (self.names.get((version, b"\1*" + rest), []) if len(rest) > 1 else [])


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts") / "hosts"
    path.write_text("")
    with Served(". {\nhosts %s\n}\n", path) as worker:
        yield worker


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT, asked=st.lists(NAME, min_size=1, max_size=6))
def test_an_image_is_what_the_file_says(empty, text, asked):
    octets = text.encode("utf-8", "surrogatepass")
    image, model = Image(octets, ROOT_ZONE, True), Model(octets, ["."])
    assert image.entries == model.entries
    assert image.names == len({name for _, name in model.names})
    empty.hosts[0].board.publish(image)
    for word in asked:
        name = name_from_text(word).lower()
        if len(name) > 255:
            continue
        four, six = model.addresses(name, 4), model.addresses(name, 6)
        for qtype, wanted in ((A, four), (AAAA, six)):
            got = empty.ask(word + ".", qtype, "tcp")
            assert [line.split()[-1] for line in got.answer] == wanted
            assert got.rcode == (0 if four or six else SERVFAIL)
    for found, names in model.reverse.items():
        got = empty.ask(ipaddress.ip_address(found).reverse_pointer + ".", PTR, "tcp")
        assert len(got.answer) == len(names)


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=400), zones=st.sampled_from([["."], ["a."], ["b.", "x.a."]]))
def test_any_octets_make_an_image(text, zones):
    wire = [name_from_text(zone) for zone in zones]
    image = Image(text, wire, True)
    room = bytearray(image.octets)
    image.pack(room)
    assert stage(wire, [], False, 60, bytes(room), Board(make())).name == "hosts"
    assert image.entries == Model(text, zones).entries


@pytest.mark.parametrize("at", range(0, 168, 8))
def test_an_image_with_a_wrong_head_is_refused(at):
    image = Image(b"10.0.0.1 a\n::1 a\n", ROOT_ZONE, True)
    room = bytearray(image.octets)
    image.pack(room)
    room[at:at + 8] = b"\xff" * 8
    try:
        stage(ROOT_ZONE, [], False, 60, bytes(room), Board(make()))
    except ValueError as error:
        assert str(error) == "no image"
    else:
        assert 16 <= at < 56  # the key and the counts, which bound nothing
    with pytest.raises(ValueError, match="small"):
        image.pack(bytearray(image.octets - 1))


def test_a_line_without_end():
    text = b"10.0.0.1 " + b" ".join(b"n%d.example.org" % i for i in range(50_000)) + b"\n10.0.0.2 " + b"x" * 1_000_000
    image = Image(text, ROOT_ZONE, True)
    assert (image.names, image.entries) == (50_000, 100_000)


# ---- reading the file again


def test_a_file_that_changed_is_read_again(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.x\n")
    with Served(". {\nhosts %s {\n10.9.9.9 a.x inline.x\n}\n}\n", path) as worker:
        assert worker.text("a.x.", A) == ["10.0.0.1", "10.9.9.9"]
        assert worker.refresh() == [False]
        for i in range(5):
            path.write_text(f"10.0.0.{i} a.x b{i}.x\n")
            os.utime(path, ns=(0, (i + 1) * 10**9))
            assert worker.refresh() == [True]
            assert worker.text("a.x.", A) == [f"10.0.0.{i}", "10.9.9.9"]
            assert worker.text(f"b{i}.x.", A) == [f"10.0.0.{i}"]
            worker.hosts[0].board.retire(worker.hosts[0].board.version)
            assert worker.text("a.x.", A) == [f"10.0.0.{i}", "10.9.9.9"]
            labels = {"hostsfile": str(path)}
            assert worker.counter("coredns_hosts_entries", **labels) == 8
            assert worker.counter("coredns_hosts_reload_timestamp_seconds") == (i + 1) * 10**9
        path.write_bytes(b"10.0.0.7 a.x\n10.0.0.8 half.x\n10.0.0.\xff\x00\n10.0.")
        assert worker.refresh() == [True]
        assert worker.text("a.x.", A) == ["10.0.0.7", "10.9.9.9"] and worker.text("half.x.", A) == ["10.0.0.8"]
        path.unlink()
        assert worker.refresh() == [False]
        assert worker.text("half.x.", A) == ["10.0.0.8"]
        path.mkdir()
        assert worker.refresh() == [False]
        assert worker.text("half.x.", A) == ["10.0.0.8"]


def test_with_debug_each_reading_is_a_line(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "plugin/hosts")
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.x b.x\n")
    with Served(". {\nhosts %s {\n10.9.9.9 inline.x\n}\n}\n", path) as worker:
        assert worker.refresh() == [False]
        path.write_text("10.0.0.1 a.x\n10.0.0.2 *.c.x\n")
        assert worker.refresh() == [True]
    assert [record.message for record in caplog.records if record.levelno == logging.DEBUG] == [
        f"Parsed hosts file into {number} entries" for number in (4, 3)]


def test_a_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "hosts"
    os.mkfifo(path)
    with Served(". {\nhosts %s {\n10.9.9.9 inline.x\n}\n}\n", path) as worker:
        assert worker.text("inline.x.", A) == ["10.9.9.9"]


def test_too_large_a_file_is_said_and_left(tmp_path, monkeypatch, caplog):
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.x\n")
    with Served(". {\nhosts %s\n}\n", path) as worker:
        monkeypatch.setattr(handler, "FILE_MOST", 100)
        path.write_text("10.0.0.2 a.x\n" * 10)
        assert worker.refresh() == [False]
        assert f"{path} has more than 100 octets: not read" in caplog.text
        assert worker.text("a.x.", A) == ["10.0.0.1"]


def test_memory_is_given_back():
    board = Board(make())
    image = Image(b"".join(b"10.0.0.1 n%d.x\n" % i for i in range(20_000)), ROOT_ZONE, True)
    for _ in range(6):
        board.retire(board.publish(image))
    assert image.octets <= board.octets() < image.octets + PAGE


def test_an_image_that_goes_away_under_a_reader_is_asked_again(empty):
    # The generation in front is gone, the word still says that it counts: no answer is made of it.
    board = empty.hosts[0].board
    board.publish(Image(b"10.0.0.1 a.x", ROOT_ZONE, True))
    assert empty.text("a.x.", A) == ["10.0.0.1"]
    board._clear(board.version & 1)
    assert empty.ask("a.x.", A).rcode == SERVFAIL
    board.publish(Image(b"10.0.0.2 a.x", ROOT_ZONE, True))
    assert empty.text("a.x.", A) == ["10.0.0.2"]


@pytest.mark.parametrize("damage", [b"", b"x", bytes(200), b"\xff" * 200])
def test_what_is_no_image_is_not_read(empty, damage):
    board = empty.hosts[0].board
    board.publish(damage)
    assert empty.ask("a.x.", A).rcode == SERVFAIL
    board.publish(Image(b"10.0.0.1 a.x", ROOT_ZONE, True))
    assert empty.text("a.x.", A) == ["10.0.0.1"]


def test_a_length_that_lies_is_not_believed(empty):
    board = empty.hosts[0].board
    board.publish(Image(b"10.0.0.1 a.x", ROOT_ZONE, True))
    assert empty.text("a.x.", A) == ["10.0.0.1"]
    front = board._at(board.version + 1)
    os.pwrite(board.fd, (board.generation + 1).to_bytes(8, "little") + b"\xff" * 8, front)
    board._store(0, board.generation + 1)
    assert empty.text("a.x.", A) == ["10.0.0.1"]  # the one before stays, and is whole
    board.publish(Image(b"10.0.0.2 a.x", ROOT_ZONE, True))
    assert empty.text("a.x.", A) == ["10.0.0.2"]


def test_the_keeper_reads_before_it_says_so_and_follows(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.x\n")
    with Worker(f". {{\nhosts {path} {{\nreload 10ms\n}}\n}}\n") as worker:
        (plugin,) = [plugin for _, plugin in worker.generation.members()]

        async def keep() -> None:
            await plugin.start_server(Channel(print, print, plugin.board.publish))
            version = plugin.board.version
            assert version == 1
            path.write_text("10.0.0.22 a.x\n")
            while plugin.board.version == version:
                await asyncio.sleep(0.01)
            await plugin.stop_server()

        asyncio.run(asyncio.wait_for(keep(), 10))
        assert worker.ask("a.x.", A).answer == ["a.x. 3600 IN A 10.0.0.22"]


def eventually(server: Server, name: str, wanted: list[str]) -> None:
    deadline = time.monotonic() + 10
    while (got := server.ask(name, A).answer) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert got == wanted


def test_a_server_answers_at_once_and_follows_the_file(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a.x\n")
    with Server(f". {{\nhosts {path} {{\nreload 100ms\n}}\n}}\n") as server:
        assert server.ask("a.x.", A).answer == ["a.x. 3600 IN A 10.0.0.1"]
        for i in range(3):
            path.write_text(f"10.0.0.1{i} a.x\n# {'x' * i}")
            eventually(server, "a.x.", [f"a.x. 3600 IN A 10.0.0.1{i}"])


def pss(pid: int) -> int:
    """Octets of the images that a process answers for."""
    total, ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = "memfd:fastdns-published" in line
        elif ours and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


def below(pid: int) -> list[int]:
    found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [other for child in found for other in below(child)]


@pytest.mark.slow
@pytest.mark.unsanitized
def test_a_million_names(tmp_path):
    path = tmp_path / "hosts"
    with path.open("w") as file:
        for i in range(1_000_000):
            file.write(f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255} host{i}.pool.example.org\n")
    text = path.read_bytes()
    image = Image(text, ROOT_ZONE, True)
    assert (image.names, image.entries) == (1_000_000, 2_000_000)
    assert image.octets < 100 << 20
    with Server(f". {{\nhosts {path}\n}}\n", seconds=60) as server:
        for i in range(0, 1_000_000, 999):
            address = f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"
            assert server.ask(f"host{i}.pool.example.org.", A).answer[0].split()[4] == address
            back = ipaddress.ip_address(address).reverse_pointer + "."
            assert server.ask(back, PTR).answer[0].split()[4] == f"host{i}.pool.example.org."
        assert server.ask("host1000000.pool.example.org.", A).rcode == SERVFAIL
        # All processes together have the names once.
        assert 0 < sum(pss(pid) for pid in below(server.process.pid)) < 110 << 20


# ---- the configuration


def parse(text: str):
    (found,) = Hosts.parse(Dispenser("Corefile", tokenize(text), ("dns://example.org.:53",), "hosts"))
    return found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hosts", {"path": None, "zones": ("example.org.",), "ttl": 3600, "reload": 5.0, "no_reverse": False,
                   "fallthrough": (), "fallthrough_unsupported": False, "inline": ()}),
        ("hosts f", {"path": "f", "zones": ("example.org.",)}),
        ("hosts f a.b 10.0.0.0/24", {"zones": ("a.b.", "0.0.10.in-addr.arpa.")}),
        ("hosts f bad..zone", {"zones": ()}),
        ("hosts {\nttl 1\n}", {"ttl": 1}),
        ("hosts {\nttl +65535 more words\n}", {"ttl": 65535}),
        ("hosts {\nttl 5\nttl 6\n}", {"ttl": 6}),
        ("hosts {\nreload 0\n}", {"reload": 0}),
        ("hosts {\nreload 1m\n}", {"reload": 60.0}),
        ("hosts {\nno_reverse\n}", {"no_reverse": True, "inline": ()}),
        ("hosts {\nno_reverse x\n}", {"no_reverse": True, "inline": ("x",)}),
        ("hosts {\n10.0.0.1 a b\nfoo\nfallthrough\n}", {"inline": ("10.0.0.1 a b", "foo"), "fallthrough": (".",)}),
        ("hosts {\nfallthrough a B.c\nfallthrough d\n}", {"fallthrough": ("d.",)}),
        ("hosts {\nfallthrough bad..name\n10.0.0.1 a\n}", {"fallthrough": (), "inline": ("10.0.0.1 a",)}),
        ("hosts {\nfallthrough_unsupported\nfallthrough\n}", {"fallthrough_unsupported": True}),
        ("hosts {\n}", {"inline": ()}),
    ],
)
def test_options(text, wanted):
    found = parse(text)
    assert {key: found[key] for key in wanted} == wanted


ARGUMENTS = "Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("hosts {\nttl\n}", 2, "ttl needs a time in second"),
        ("hosts {\nttl x\n}", 2, "ttl needs a number of second"),
        ("hosts {\nttl 1.5\n}", 2, "ttl needs a number of second"),
        ("hosts {\nttl 0\n}", 2, "ttl provided is invalid"),
        ("hosts {\nttl -1\n}", 2, "ttl provided is invalid"),
        ("hosts {\nttl 65536\n}", 2, "ttl provided is invalid"),
        ("hosts {\nreload\n}", 2, "reload needs a duration (zero seconds to disable)"),
        ("hosts {\nreload 1s 2s\n}", 2, "reload needs a duration (zero seconds to disable)"),
        ("hosts {\nreload x\n}", 2, "invalid duration for reload 'x'"),
        ("hosts {\nreload -1s\n}", 2, "invalid negative duration for reload '-1s'"),
        ("hosts {\nfallthrough\n1.2.3.4 x\n}", 3, "unknown property '1.2.3.4'"),
        ("hosts {\nfallthrough_unsupported\n}", 3, "fallthrough_unsupported requires fallthrough"),
        ("hosts {\nfallthrough_unsupported x\n}", 2, f"{ARGUMENTS} 'x'"),
    ],
)
def test_errors(text, line, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/hosts: Corefile:{line} - Error during parsing: {message}"


def test_once():
    with pytest.raises(ConfigError) as error:
        parse("hosts\nhosts")
    assert str(error.value) == "plugin/hosts: this plugin can only be used once per Server Block"


def test_a_file_that_is_not_there_is_a_warning(tmp_path, caplog):
    with Worker(f". {{\nroot {tmp_path}\nhosts none {{\n10.0.0.1 a\n}}\n}}\n") as worker:
        assert worker.ask("a.", A).answer == ["a. 3600 IN A 10.0.0.1"]
    assert f"File does not exist: {tmp_path}/none" in caplog.text
    with Worker(f". {{\nhosts {tmp_path}\n}}\n"):
        assert f'Hosts file "{tmp_path}" is a directory' in caplog.text


def test_a_file_that_cannot_be_looked_at_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    path = f"{tmp_path}/file/below"
    with pytest.raises(ConfigError) as error:
        Worker(f". {{\nhosts {path}\n}}\n")
    assert str(error.value) == ("plugin/hosts: Corefile:2 - Error during parsing: "
                                f"unable to access hosts file '{path}': stat {path}: not a directory")


def test_explain_knows_its_names():
    found = parse("hosts f a.b")
    assert Hosts.concerns(found, "x.a.b.") and Hosts.concerns(found, "1.in-addr.arpa.")
    assert not Hosts.concerns(found, "a.c.")
