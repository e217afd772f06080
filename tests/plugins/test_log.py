# SPDX-License-Identifier: Apache-2.0
"""log: which rule takes a query, which replies it wants, and what the record says of them."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._drive import Bench
from fastdns._log import Formatter, Rings
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugins.log import Log
from fastdns.plugins.log._log import CLASSES, stage
from fastdns.plugins.log.config import COMBINED, COMMON, Rule
from fastdns.plugins.log.handler import scope_wire
from fastdns.server.formatter import COMMON as FALLBACK

SOA = "example.org. 60 IN SOA ns. host. 1 2 3 4 5"


def parse(text: str) -> tuple[Rule, ...]:
    (config,) = Log.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "log"))
    return config


class Logger:
    """A log stage with its ring and a formatter."""

    def __init__(self, rules: list[tuple[str, str, tuple[str, ...]]], wildcard: bool = False) -> None:
        rings = Rings.create(2)
        self.stats = Stats.create(4)
        formats = [text for _, text, _ in rules]
        compiled = [
            (scope_wire(scope), sum(CLASSES[c] for c in classes), number, [])
            for number, (scope, _, classes) in enumerate(rules)
        ]
        self.bench = Bench(stage(compiled), self.stats, 1, rings.handle(1, -1, self.stats), wildcard=wildcard)
        self.formatter = Formatter(rings, lambda number: formats[number], FALLBACK)

    def ask(self, query: dns.message.Message, reply: dns.message.Message | None = None, **fields: object) -> str:
        """The line of one query, without level and newline; empty for none."""
        octets = reply.to_wire() if reply is not None else None
        if reply is not None:
            fields.setdefault("rcode", int(reply.rcode()))
        self.bench.run(query.to_wire(), reply=octets, **fields)
        return self.formatter.collect().decode().removeprefix("[INFO] ").removesuffix("\n")


def query(name: str = "www.example.org.", kind: str = "A", **options: object) -> dns.message.Message:
    return dns.message.make_query(name, kind, id=4660, **options)


def answer(
    question: dns.message.Message,
    rcode: str = "NOERROR",
    records: tuple[str, ...] = (),
    authority: tuple[str, ...] = (),
) -> dns.message.Message:
    reply = dns.message.make_response(question)
    reply.use_edns(False)
    reply.set_rcode(dns.rcode.from_text(rcode))
    for section, texts in ((reply.answer, records), (reply.authority, authority)):
        for text in texts:
            name, ttl, _, kind, rest = text.split(" ", 4)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, rest))
    return reply


def test_the_common_line() -> None:
    logger = Logger([(".", COMMON, ("all",))])
    line = logger.ask(
        query(),
        answer(query(), records=("www.example.org. 30 IN A 192.0.2.1",)),
        client=bytes([127, 0, 0, 1]) + bytes(12),
        port=5353,
        start_ns=0,
    )
    head, duration = line.rsplit(" ", 1)
    assert head == '127.0.0.1:5353 - 4660 "A IN www.example.org. udp 33 false 512" NOERROR qr,rd 64'
    assert duration.endswith("s") and float(duration[:-1]) > 0


def test_edns_tcp_and_ipv6() -> None:
    logger = Logger([(".", "{proto} {size} {>do} {>bufsize} {remote} {local} {>opcode}", ("all",))])
    asked = query(use_edns=0, payload=1232, want_dnssec=True)
    where = bytes.fromhex("20010db8000000000000000000000001")
    line = logger.ask(asked, answer(asked), family=2, client=where, local=where, local_len=16)
    assert line == "udp 44 true 1232 [2001:db8::1] [2001:db8::1] 0"
    assert logger.ask(asked, answer(asked), proto=1).split()[:4] == ["tcp", "44", "true", "65535"]
    small = query(use_edns=0, payload=100)
    assert logger.ask(small, answer(small)).split()[3] == "512"


@pytest.mark.parametrize(
    ("records", "payload", "proto", "flags"),
    [
        (40, None, 0, "qr,tc,rd"),
        (40, 4096, 0, "qr,rd"),
        (40, None, 1, "qr,rd"),
        (29, None, 0, "qr,rd"),     # 33 + 29 * 16 = 497 octets
        (30, None, 0, "qr,tc,rd"),
        (29, 512, 0, "qr,rd"),      # and 11 of the OPT: 508
        (30, 524, 0, "qr,rd"),
        (30, 523, 0, "qr,tc,rd"),
    ],
)
def test_a_reply_too_long_for_the_client_shows_tc(records: int, payload: int | None, proto: int, flags: str) -> None:
    logger = Logger([(".", "{>rflags} {rsize}", ("all",))])
    asked = query() if payload is None else query(use_edns=0, payload=payload)
    reply = answer(asked, records=tuple(f"www.example.org. 30 IN A 192.0.2.{n}" for n in range(records)))
    assert logger.ask(asked, reply, proto=proto, ulen=2000) == f"{flags} 2000"


def test_local_is_unspecified_on_a_wildcard_socket_over_udp() -> None:
    logger = Logger([(".", "{local}", ("all",))], wildcard=True)
    here = bytes([192, 0, 2, 1]) + bytes(12)
    assert logger.ask(query(), answer(query()), local=here) == "[::]"
    assert logger.ask(query(), answer(query()), local=here, proto=1) == "192.0.2.1"


def test_an_unwritten_error_shows_the_reply_to_come() -> None:
    logger = Logger([(".", "{rcode} {>rflags} {rsize}", ("all",))])
    assert logger.ask(query(), rcode=2) == "SERVFAIL qr,rd 33"
    assert logger.ask(query(), rcode=3) == "- - 0"
    assert logger.ask(query(), dropped=True) == "- - 0"
    assert logger.ask(query(use_edns=0), rcode=5) == "REFUSED qr,rd 33"


def test_the_first_rule_that_matches_is_the_only_one() -> None:
    logger = Logger([("example.org.", "one", ("error",)), (".", "two", ("all",))])
    assert logger.ask(query("a.EXAMPLE.org."), answer(query("a.EXAMPLE.org."))) == ""
    assert logger.ask(query("a.EXAMPLE.org."), rcode=2) == "one"
    assert logger.ask(query("example.com."), answer(query("example.com."))) == "two"
    assert logger.ask(query("notexample.org."), rcode=2) == "two"


def test_a_scope_that_is_no_name_matches_nothing() -> None:
    assert scope_wire("a..b.") == b""
    assert Logger([("a..b.", "x", ("all",))]).ask(query("a."), rcode=2) == ""


def test_background_queries_are_not_logged() -> None:
    assert Logger([(".", "x", ("all",))]).ask(query(), answer(query()), background=True) == ""


A = ("www.example.org. 30 IN A 192.0.2.1",)
OLD = "www.example.org. 30 IN RRSIG A 8 3 30 20200101000000 20190101000000 1 example.org. AAAA"


@pytest.mark.parametrize(
    ("wanted", "reply", "fields"),
    [
        ("success", answer(query(), records=A), {}),
        ("success", answer(query()), {}),
        ("success", answer(query(), authority=("org. 60 IN NS ns.",)), {}),
        ("denial", answer(query(), authority=(SOA,)), {}),
        ("denial", answer(query(), "NXDOMAIN", authority=(SOA,)), {}),
        ("denial", answer(query(), "NXDOMAIN"), {}),
        ("error", answer(query(), "NXDOMAIN", records=A), {}),
        ("error", answer(query(), "SERVFAIL"), {}),
        ("error", answer(query(), "REFUSED"), {}),
        ("error", None, {"rcode": 2}),
        ("error", None, {"dropped": True}),
        ("error", answer(query(), records=(*A, OLD)), {"has_opt": True, "set_do": True}),
        ("success", answer(query(), records=(*A, OLD)), {"has_opt": True}),
    ],
)
def test_classes(wanted: str, reply: dns.message.Message | None, fields: dict) -> None:
    logger = Logger([(".", wanted, (wanted,))])
    assert logger.ask(query(), reply, **fields) == wanted
    others = tuple(c for c in ("success", "denial", "error") if c != wanted)
    assert Logger([(".", "other", others)]).ask(query(), reply, **fields) == ""


def test_transfers_are_of_the_class_error() -> None:
    asked = query("example.org.", "AXFR")
    assert Logger([(".", "x", ("error",))]).ask(asked, answer(asked, records=(SOA,)), proto=1) == "x"


def test_a_reply_that_cannot_be_read_is_classed_by_its_header() -> None:
    logger = Logger([(".", "ok", ("success",))])
    broken = answer(query(), records=A).to_wire()[:-3]
    logger.bench.run(query().to_wire(), reply=broken, ulen=40)
    assert logger.formatter.collect() == b"[INFO] ok\n"


def test_a_stalled_reader_loses_lines_and_counts_them() -> None:
    logger = Logger([(".", COMMON, ("all",))])
    logger.bench.run(query().to_wire(), rcode=2, repeat=100_000)
    kept = 0
    while block := logger.formatter.collect():
        kept += block.count(b"\n")
    lost = logger.stats.get(logger.stats.intern("fastdns_log_dropped_total"))
    assert kept > 1000
    assert lost > 0
    assert kept + lost == 100_000


labels = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(labels)
def test_hostile_names_stay_on_their_line(parts: list[bytes]) -> None:
    wire = bytearray(query("x.").to_wire())
    name = b"".join(bytes([len(p)]) + p for p in parts) + b"\x00"
    octets = bytes(wire[:12]) + name + bytes(wire[-4:])
    logger = Logger([(".", COMMON, ("all",))])
    logger.bench.run(octets, rcode=2)
    line = logger.formatter.collect().decode()
    assert line.endswith("s\n")
    assert line[:-1].isprintable()


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("log", [Rule(".", COMMON, ("all",))]),
        ("log example.org", [Rule("example.org.", COMMON, ("all",))]),
        ("log {combined}x", [Rule("{combined}x.", COMMON, ("all",))]),
        ("log . {combined}", [Rule(".", COMBINED, ("all",))]),
        ('log a. b "{common} {/x}"', [Rule("a.", COMMON + " {/x}", ("all",)), Rule("b.", COMMON + " {/x}", ("all",))]),
        ("log . combined", [Rule(".", COMMON, ("all",)), Rule("combined.", COMMON, ("all",))]),
        ("log {\n class denial error\n class success\n}", [Rule(".", COMMON, ("denial", "error", "success"))]),
        ("log a\nlog b {\n class all\n}", [Rule("a.", COMMON, ("all",)), Rule("b.", COMMON, ("all",))]),
    ],
)
def test_grammar(text: str, want: list[Rule]) -> None:
    assert parse(text) == tuple(want)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "log . {\n class\n}",
            "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after 'class'",
        ),
        ("log . {\n class foo\n}", "invalid Class: foo"),
        ("log . {\n klass all\n}", "Corefile:2 - Error during parsing: unknown property 'klass'"),
        ("log . {\n class all {\n}", "Corefile:2 - Error during parsing: unknown property '{'"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/log: {error}"
