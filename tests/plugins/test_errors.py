# SPDX-License-Identifier: Apache-2.0
"""errors: one line per failure, consolidation over all workers, CoreDNS's refusals."""

from __future__ import annotations

import json

import dns.message
import pytest

from fastdns import metrics
from fastdns._drive import Bench
from fastdns._log import Formatter, Rings
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugins.errors import Errors
from fastdns.plugins.errors._errors import stage
from fastdns.plugins.errors.config import Pattern
from fastdns.server.consolidate import Consolidator

QUERY = dns.message.make_query("Example.ORG.", "AAAA").to_wire()


def parse(text: str) -> list:
    return Errors.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "errors"))


def run(site: int, error: bytes, rcode: int = 2) -> Formatter:
    rings = Rings.create(2)
    formatter = Formatter(rings, lambda number: None, "")
    Bench(stage(site), None, 1, rings.handle(1, -1)).run(QUERY, rcode=rcode, error=error)
    return formatter


def test_one_line_per_failure() -> None:
    line = b"[ERROR] plugin/errors: 2 example.org. AAAA: read udp 127.0.0.1:1->127.0.0.1:2: i/o timeout\n"
    assert run(0, b"read udp 127.0.0.1:1->127.0.0.1:2: i/o timeout").collect() == line


def test_no_text_no_line_and_no_ring_no_harm() -> None:
    assert run(0, b"").collect() == b""
    assert Bench(stage(0)).run(QUERY, rcode=2, error=b"lost")[1:3] == (False, 2)


def test_text_from_the_network_stays_on_its_line() -> None:
    assert run(0, b"a\nb\x00c\x7f").collect() == b"[ERROR] plugin/errors: 2 example.org. AAAA: a?b?c?\n"


def test_the_reply_is_not_touched() -> None:
    reply = dns.message.make_response(dns.message.from_wire(QUERY)).to_wire()
    assert Bench(stage(0)).run(QUERY, reply=reply, error=b"late") == ("next", True, 0, reply)


class Site:
    """A consolidator with one site's patterns and what it wrote."""

    def __init__(self, *patterns: tuple[float, str, str, bool]) -> None:
        self.lines: list[tuple[int, str]] = []
        text = json.dumps({"patterns": patterns})
        self.of = Consolidator(lambda level, line: self.lines.append((level, line)), lambda n: text if n == 7 else None)

    def error(self, text: str, now: float = 0.0, site: int = 7) -> None:
        self.of.error(site, 2, "a.", "A", text, now)

    def taken(self) -> list[tuple[int, str]]:
        lines, self.lines = self.lines, []
        return lines


def test_a_period_ends_with_one_line() -> None:
    site = Site((30.0, "timeout$", "warning", False))
    for i in range(5):
        site.error("i/o timeout", i)
    site.error("refused", 5)
    assert site.taken() == [(3, "plugin/errors: 2 a. A: refused")]
    site.of.tick(29.9)
    assert site.taken() == []
    assert site.of.next() == 30.0
    site.of.tick(30.0)
    assert site.taken() == [(2, "plugin/errors: 5 errors like 'timeout$' occurred in last 30s")]
    assert site.of.next() is None
    site.error("i/o timeout", 31)
    site.of.tick(61)
    assert site.taken() == [(2, "plugin/errors: 1 errors like 'timeout$' occurred in last 30s")]


def test_the_first_pattern_that_matches_counts() -> None:
    site = Site((1.0, "a", "error", False), (1.0, "ab", "error", False))
    site.error("ab")
    site.of.flush()
    assert [line for _, line in site.taken()] == ["plugin/errors: 1 errors like 'a' occurred in last 1s"]


def test_show_first_tells_the_first_at_its_level_and_the_rest_at_the_end() -> None:
    site = Site((60.0, "x", "info", True))
    site.error("x1")
    assert site.taken() == [(1, "plugin/errors: 2 a. A: x1")]
    site.of.tick(60)
    assert site.taken() == []
    site.error("x2", 61)
    site.error("x3", 62)
    assert site.taken() == [(1, "plugin/errors: 2 a. A: x2")]
    site.of.flush()
    assert site.taken() == [(1, "plugin/errors: 2 errors like 'x' occurred in last 1m0s")]


def test_debug_lines_need_the_debug_plugin() -> None:
    site = Site((60.0, "x", "debug", True))
    site.error("x")
    site.error("x")
    site.of.flush()
    assert site.taken() == []


def test_an_unknown_site_consolidates_nothing() -> None:
    site = Site((60.0, "x", "error", False))
    site.error("x", site=8)
    assert site.taken() == [(3, "plugin/errors: 2 a. A: x")]


def test_a_site_is_found_by_its_number() -> None:
    (config,) = parse("errors {\n consolidate 5m boom\n}")
    stats = Stats.create(4)

    class Block:
        index = 3

    instance = Errors.__new__(Errors)
    instance.config = config
    instance.block = Block()
    Block.stats = stats
    number = instance.site()
    labels = next(s.labels for s in stats.snapshot(words=True) if s.slot == number)
    assert json.loads(labels[0][1]) == {"block": 3, "patterns": [[300.0, "boom", "error", False]]}
    assert number == metrics.errors_site(stats, labels[0][1])
    (plain,) = parse("errors")
    instance.config = plain
    assert instance.site() == 0


def test_grammar() -> None:
    (config,) = parse('errors stdout {\n stacktrace\n consolidate 5m "a b" info show_first\n consolidate 1s c\n}')
    assert config["stacktrace"] is True
    assert config["patterns"] == (Pattern(300.0, "a b", "info", True), Pattern(1.0, "c", "error", False))
    (config,) = parse("errors")
    assert (config["stacktrace"], config["patterns"]) == (False, ())


PARSING = "Corefile:2 - Error during parsing: "
COUNT = "Wrong argument count or unexpected line ending after"
REGEXP = PARSING + "error parsing regexp: "


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("errors foo", "Corefile:1 - Error during parsing: invalid log file: foo"),
        ("errors stdout x", f"Corefile:1 - Error during parsing: {COUNT} 'x'"),
        ("errors {\n foo\n}", "Corefile:2 - Syntax error: Unexpected token 'foo', expecting 'Unknown field foo'"),
        (
            "errors {\n stacktrace foo\n}",
            "Corefile:2 - Syntax error: Unexpected token 'foo', expecting 'Unknown field foo'",
        ),
        ("errors {\n consolidate\n}", f"{PARSING}{COUNT} 'consolidate'"),
        ("errors {\n consolidate 5m\n}", f"{PARSING}{COUNT} '5m'"),
        ("errors {\n consolidate 5x a\n}", f'{PARSING}time: unknown unit "x" in duration "5x"'),
        ("errors {\n consolidate 5m (a\n}", f"{REGEXP}missing closing ): `(a`"),
        ("errors {\n consolidate 5m a)\n}", f"{REGEXP}unexpected ): `a)`"),
        ("errors {\n consolidate 5m [a\n}", f"{REGEXP}missing closing ]: `[a`"),
        ("errors {\n consolidate 5m *a\n}", f"{REGEXP}missing argument to repetition operator: `*`"),
        ("errors {\n consolidate 5m a**\n}", f"{REGEXP}invalid nested repetition operator: `**`"),
        ("errors {\n consolidate 5m a{2000}\n}", f"{REGEXP}invalid repeat count: `{{2000}}`"),
        ("errors {\n consolidate 5m (?<=a)\n}", f"{REGEXP}invalid named capture: `(?<=a)`"),
        ("errors {\n consolidate 5m [z-a]\n}", f"{REGEXP}invalid character class range: `z-a`"),
        ("errors {\n consolidate 5m (?z)\n}", f"{REGEXP}invalid or unsupported Perl syntax: `(?z`"),
        (
            "errors {\n consolidate 5m " + "a" * 10001 + "\n}",
            f"{PARSING}regex pattern too long: 10001 > 10000",
        ),
        ("errors {\n consolidate 5m a info warning\n}", f"{PARSING}multiple log levels specified in consolidate"),
        (
            "errors {\n consolidate 5m a show_first info\n}",
            f"{PARSING}log level must come before show_first in consolidate",
        ),
        ("errors {\n consolidate 5m a foo\n}", f"{PARSING}unknown option in consolidate: foo"),
        ("errors {\n consolidate 5m a info show_first x\n}", f"{PARSING}{COUNT} 'x'"),
        ("errors\nerrors", "this plugin can only be used once per Server Block"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/errors: {error}"
