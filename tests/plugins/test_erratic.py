# SPDX-License-Identifier: Apache-2.0
"""erratic: which query gets which bad answer. The tables are CoreDNS's answers."""

from __future__ import annotations

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, AXFR, SERVFAIL, TXT, A
from fastdns.plugins.erratic import Erratic
from fastdns.plugins.erratic.config import Settings
from fastdns.testing import Worker

SOA = "0 IN SOA sns.dns.icann.org. noc.dns.icann.org. 2018050825 7200 3600 1209600 3600"


def outcome(worker: Worker, qtype: int = A) -> str:
    """What becomes of one query: t TC, - dropped, . answered."""
    try:
        got = worker.ask("a.test.", qtype, seconds=0.15)
    except TimeoutError:
        return "-"
    return "t" if "tc" in got.flags else "."


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ("", "-.-."),
        ("drop 0", "...."),
        ("drop 3", "-..-.."),
        ("truncate", "tt..tt..t"),
        ("truncate 3", "t...t...t"),
        ("truncate 1", "t.t."),
        ("truncate\ndrop 4", "-t..-t.."),
        ("delay 2 1ms", "...."),
        ("delay 1 -1s", ".."),
    ],
)
def test_which_queries(lines, seen):
    with Worker(f". {{\nerratic {{\n{lines}\n}}\n}}\n") as worker:
        assert "".join(outcome(worker) for _ in seen) == seen
        assert worker.counter("fastdns_erratic_queries_total", block="0") == len(seen)


def test_a_delay_keeps_nobody_else_waiting():
    with Worker(". {\nerratic {\ndelay 2 1h\n}\n}\n") as worker:
        assert outcome(worker) == "-" and outcome(worker) == "."


@pytest.fixture(scope="module")
def worker():
    with Worker(". {\nerratic {\ndrop 0\n}\n}\nlarge {\nerratic {\ndrop 0\nlarge\n}\n}\n") as worker:
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_answers(worker, proto):
    assert worker.ask("A.test.", A, proto).answer == ["A.test. 0 IN A 192.0.2.53"]
    got = worker.ask("a.test.", AAAA, proto, bufsize=1400, do=True)
    assert got.answer == ["a.test. 0 IN AAAA 2001:db8::53"] and got.message.edns.edns_do == 1
    assert got.flags == {"qr", "aa", "rd"}
    assert worker.ask("a.test.", TXT, proto).rcode == SERVFAIL


def test_large(worker):
    assert len(worker.ask("a.large.", A, "tcp").answer) == 30
    assert len(worker.ask("a.large.", AAAA).answer) == 1


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(("name", "below"), [("Zone.test.", "Zone.test."), (".", "")])
def test_a_zone(worker, proto, name, below):
    got = worker.ask(name, AXFR, proto)
    assert got.answer == [
        f"{name} {SOA}", f"{name} 0 IN NS b.{below}", f"{name} 0 IN NS a.{below}",
        f"a.{below} 0 IN AAAA 2001:bd8::53", f"b.{below} 0 IN AAAA 2001:500::54", f"{name} {SOA}",
    ]  # fmt: skip
    assert "aa" in got.flags


def test_a_zone_that_ends_early_and_a_name_without_room():
    with Worker(". {\nerratic {\ntruncate\n}\n}\n") as worker:
        assert len(worker.ask("a.test.", AXFR, "tcp").answer) == 5
        assert worker.ask(".".join(["x" * 61] * 4) + ".xxxxx.", AXFR, "tcp").rcode == SERVFAIL


def test_ready_and_the_search_path():
    with Worker(". {\nerratic {\ndrop 0\n}\n}\n") as worker:
        ((_, plugin),) = worker.generation.members()
        seen = []
        for _ in range(6):
            seen.append(plugin.ready())
            worker.ask("a.test.", A)
        assert seen == [False, False, False, True, True, False]
        assert plugin.autopath(None) == ["a.example.org.", "b.example.org.", ""]


def parse(text: str) -> list:
    return Erratic.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "erratic"))


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("erratic", Settings()),
        ("erratic x", Settings()),
        ("erratic {\ndrop\n}", Settings()),
        ("erratic {\ndrop 7\n}", Settings(drop=7)),
        ("erratic {\ndelay\n}", Settings(drop=0, delay=2)),
        ("erratic {\ndelay 3 1s\ndrop\n}", Settings(drop=0, delay=3, seconds=1.0)),
        ("erratic {\ndelay 3 1s\ndrop 2\n}", Settings(drop=2, delay=3, seconds=1.0)),
        ("erratic {\ndelay 3 1s\ndelay\n}", Settings(drop=0, delay=2)),
        ("erratic {\ntruncate 5\nlarge\n}", Settings(drop=0, truncate=5, large=True)),
        ("erratic {\ntruncate 0\n}\nerratic {\nlarge\n}", Settings(large=True)),
    ],
)
def test_settings(text, settings):
    assert parse(text) == [settings]


ARGUMENTS = "Corefile:2 - Error during parsing: Wrong argument count or unexpected line ending after "


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("drop 1 2", f"{ARGUMENTS}'2'"),
        ("delay 1 1s x", f"{ARGUMENTS}'x'"),
        ("truncate 1 2", f"{ARGUMENTS}'2'"),
        ("drop x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("delay x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("truncate 2147483648", 'strconv.ParseInt: parsing "2147483648": value out of range'),
        ("drop -1", 'illegal amount value given "-1"'),
        ("delay 1 x", 'time: invalid duration "x"'),
        ("foo", "Corefile:2 - Error during parsing: unknown property 'foo'"),
    ],
)
def test_errors(line, message):
    with pytest.raises(ConfigError) as error:
        parse(f"erratic {{\n {line}\n}}")
    assert str(error.value) == f"plugin/erratic: {message}"
