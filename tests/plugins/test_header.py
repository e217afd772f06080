# SPDX-License-Identifier: Apache-2.0
"""header: what an upstream is asked with, and what a client's reply says. The tables are CoreDNS's answers."""

from __future__ import annotations

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AXFR, SERVFAIL, A
from fastdns.plugins.header import Header
from fastdns.plugins.header._header import stage
from fastdns.plugins.header.config import Rule, Rules, masks
from fastdns.testing import Worker, free_port
from tests.faults.upstream import Upstream, reply

AA, RD, RA = 0x0400, 0x0100, 0x0080
RULES = """header {
}
header {
    response set aa
    response clear RA ra
    query clear rd
    RESPONSE set rd
    query set ra aa
}
header {
    response clear aa
}
"""


@pytest.fixture(scope="module")
def upstream():
    with Upstream(lambda asked: [reply(asked)]) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def worker(upstream):
    to = f"forward . 127.0.0.1:{upstream.port}"
    rules = "response clear aa ra rd\nquery clear rd\nquery set rd\nquery clear rd"
    cached = f"cached.test {{\ncache\nheader {{\n{rules}\n}}\n{to}\n}}\n"
    local = "who.test {\nheader {\nquery set rd\nresponse clear aa\n}\nwhoami\n}\n"
    failed = f"failed.test {{\nheader {{\nquery clear rd\nresponse set aa\n}}\nforward . 127.0.0.1:{free_port()}\n}}\n"
    with Worker(f". {{\n{RULES}{to}\n}}\n{cached}{local}{failed}") as worker:
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("rd", [True, False])
def test_query_and_reply(worker, upstream, proto, rd):
    name = f"a{proto}{rd:d}.test."
    assert worker.ask(name, A, proto, rd=rd).flags == {"qr", "aa", "rd"}
    (asked,) = upstream.of(name)
    assert int.from_bytes(asked.wire[2:4], "big") & (AA | RD | RA) == AA | RA


def test_the_cache_keeps_what_was_changed_and_sets_aa(worker):
    assert worker.ask("b.cached.test.", A).flags == {"qr"}
    # RD is the client's again: cache stands before header and makes its own reply.
    assert worker.ask("b.cached.test.", A).flags == {"qr", "aa", "rd"}
    assert worker.ask("b.cached.test.", A, rd=False).flags == {"qr", "aa"}


def test_replies_made_here_copy_the_changed_rd(worker):
    assert worker.ask("x.who.test.", A, rd=False).flags == {"qr", "rd"}


def test_each_message_of_a_transfer(worker):
    # One message here; that of the others is `message`, which is the same function.
    assert worker.ask("x.who.test.", AXFR, "tcp").flags == {"qr", "rd"}


def test_the_servers_own_error_replies_are_not_changed(worker):
    got = worker.ask("c.failed.test.", A)
    assert (got.rcode, got.flags) == (SERVFAIL, {"qr"})


def parse(text: str) -> list:
    return Header.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "header"))


@pytest.mark.parametrize(
    ("text", "query", "response"),
    [
        ("header {\nquery Set AA\n}", (Rule("aa", True),), ()),
        ("header {\nResponse clear ra RD\nquery set rd\n}", (Rule("rd", True),),
         (Rule("ra", False), Rule("rd", False))),
        ("header x {\nresponse set aa\n}", (), (Rule("aa", True),)),
        ("header {\n}\nheader {\nresponse set aa\n}\nheader {\nfoo\n}", (), (Rule("aa", True),)),
    ],
)
def test_rules(text, query, response):
    assert parse(text) == [Rules(query, response)]


def test_the_last_rule_for_a_flag_counts():
    assert masks([Rule("aa", True), Rule("rd", False), Rule("aa", False), Rule("rd", True)]) == (RD, AA)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("foo set aa", "invalid selector=foo should be query or response"),
        ("query", "no flag action provided"),
        ("query set", "invalid length for flags, at least one should be provided"),
        ("response Toggle aa", "unknown flag action=toggle, should be set or clear"),
        ("response set AA Xx", "unknown/unsupported flag=xx"),
    ],
)
def test_errors(line, message):
    with pytest.raises(ConfigError) as error:
        parse(f"header {{\n {line}\n}}")
    assert str(error.value) == f"plugin/header: setting up rule: {message}"


@pytest.mark.parametrize(
    ("text", "last"), [("header", "header"), ("header {\n}", "}"), ("header {\n}\nheader", "header")]
)
def test_no_rules(text, last):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value).endswith(f"Wrong argument count or unexpected line ending after '{last}'")


@pytest.mark.parametrize("pair", [(0x8000, 0), (0, 0x0200), (AA, AA)])
def test_the_stage_refuses_other_flags(pair):
    with pytest.raises(ValueError):
        stage(pair, (0, 0))
    with pytest.raises(ValueError):
        stage((0, 0), pair)
