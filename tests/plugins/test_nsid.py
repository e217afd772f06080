# SPDX-License-Identifier: Apache-2.0
"""nsid: who gets the option, and what else the reply's OPT then says. The tables are CoreDNS's answers."""

from __future__ import annotations

import socket

import pytest

from fastdns._drive import Bench
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AXFR, TXT, A
from fastdns.plugins.nsid import Nsid
from fastdns.plugins.nsid._nsid import stage
from fastdns.testing import Worker, question
from tests.faults.upstream import Asked, Upstream, reply

NSID, COOKIE = 3, 10
CLIENT = b"12345678"


def edns(got) -> tuple[int, int, list[tuple[int, bytes]]] | None:
    opt = got.message.edns
    return None if opt is None else (opt.edns_len, opt.edns_do, [(o.code, bytes(o.data)) for o in opt.rdata])


@pytest.fixture(scope="module")
def worker():
    with Worker(". {\nnsid  this   \"host two\"\nwhoami\n}\n") as worker:
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("asked", "opt"),
    [
        ({}, None),
        ({"bufsize": 1400}, (1400, 0, [])),
        ({"bufsize": 1400, "options": [(COOKIE, CLIENT)]}, (1400, 0, [(COOKIE, CLIENT)])),
        ({"bufsize": 1400, "options": [(NSID, b"")]}, (1400, 1, [(NSID, b"this host two")])),
        ({"bufsize": 1400, "options": [(NSID, b"me?")]}, (1400, 1, [(NSID, b"this host two")])),
        ({"bufsize": 1400, "do": True, "options": [(NSID, b"")]}, (1400, 1, [(NSID, b"this host two")])),
        ({"bufsize": 1400, "options": [(COOKIE, CLIENT), (NSID, b"")]}, (1400, 1, [(NSID, b"this host two")])),
    ],
)
def test_who_gets_it(worker, proto, asked, opt):
    got = worker.ask("a.example.", A, proto, **asked)
    assert edns(got) == opt and len(got.additional) == 2


def test_the_default_is_the_hosts_name():
    with Worker(". {\nnsid\nwhoami\n}\n") as worker:
        assert edns(worker.ask("a.", A, options=[(NSID, b"")]))[2] == [(NSID, socket.gethostname().encode())]


def test_no_identity_in_the_servers_own_reply():
    with Worker("example.org {\nnsid me\nwhoami\n}\n") as worker:
        got = worker.ask("a.example.net.", A, bufsize=1400, options=[(NSID, b"")])
        assert (got.rcode, edns(got)) == (5, (1400, 0, [(NSID, b"")]))


def opt(*options: tuple[int, bytes]) -> bytes:
    return b"".join(code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for code, data in options)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("upstreams", "ours"),
    [
        ([], [(NSID, b"me")]),
        ([(NSID, b"upstream 1")], [(NSID, b"me")]),
        ([(COOKIE, CLIENT * 2), (NSID, b"u"), (12, bytes(9))], [(COOKIE, CLIENT * 2), (NSID, b"me"), (12, bytes(9))]),
        ([(COOKIE, CLIENT * 2)], [(COOKIE, CLIENT * 2), (NSID, b"me")]),
        ([(NSID, b"u"), (NSID, b"v")], [(NSID, b"me"), (NSID, b"me")]),
    ],
)
def test_the_opt_of_an_upstream(proto, upstreams, ours):
    def script(asked: Asked) -> list[bytes]:
        plain = bytearray(reply(asked, answers=2))
        rdata = opt(*upstreams)
        plain[10:12] = b"\0\1"
        return [bytes(plain) + b"\0\0\x29\x10\0" + bytes(4) + len(rdata).to_bytes(2, "big") + rdata]

    with Upstream(script) as upstream, Worker(f". {{\nnsid me\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
        got = worker.ask("a.example.", A, proto, bufsize=1400, options=[(NSID, b"")])
        assert edns(got) == (1400, 0, ours) and len(got.answer) == 2


def test_a_cached_answer_has_it_for_those_who_ask():
    with Upstream(lambda asked: [reply(asked, answers=1)]) as upstream:
        with Worker(f". {{\nnsid me\ncache\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
            for options, seen in [([], None), ([(NSID, b"")], [(NSID, b"me")])] * 3:
                got = worker.ask("a.example.", A, options=options)
                assert len(got.answer) == 1 and (edns(got) or (0, 0, None))[2] == seen


def test_damaged_options_are_left_alone():
    asked = question("a.", TXT, options=[(NSID, b"")])
    bare = asked[:2] + b"\x84\0" + asked[4:10] + b"\0\0" + asked[12:19]
    for options in (b"\0", b"\0\3\0\5abc", opt((COOKIE, CLIENT)) + b"\0\3"):
        assert Bench(stage(b"me")).run(asked, reply=bare, has_opt=True, options=options) == ("next", True, 0, bare)


def test_an_identity_that_fits_no_option_is_refused():
    with pytest.raises(ValueError):
        stage(bytes(65532))
    stage(bytes(65531))


def test_each_message_of_a_transfer(worker):
    # One message here; that of the others is `message`, which is the same function.
    assert edns(worker.ask("a.", AXFR, "tcp", bufsize=1400, options=[(NSID, b"")]))[2] == [(NSID, b"this host two")]


@pytest.mark.parametrize(
    ("text", "words"), [("nsid", ()), ("nsid a  b", ("a", "b")), ('nsid ""', ("",)), ('nsid "a  b"', ("a  b",))]
)
def test_data(text, words):
    assert Nsid.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "nsid")) == [words]


@pytest.mark.parametrize("text", ["nsid a\nnsid b", "nsid {\n}", "nsid a {\n b\n}"])
def test_once(text):
    with pytest.raises(ConfigError) as error:
        Nsid.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "nsid"))
    assert str(error.value) == "plugin/nsid: this plugin can only be used once per Server Block"
