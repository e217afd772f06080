# SPDX-License-Identifier: Apache-2.0
"""loop { action quarantine }: which upstreams are found to send queries back, what they are asked then, until when."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import HINFO, A
from fastdns.plugin import Event, Settings
from fastdns.plugins.loop import Loop
from fastdns.plugins.loop._loop import PROBES, WAY_WORDS, WAYS, quarantine
from fastdns.plugins.loop.quarantine import Quarantine
from fastdns.testing import exchange, question
from tests.faults.serving import Server, free_port, wait_for
from tests.faults.upstream import Asked, Upstream, reply

COREFILE = """.:{port} {
    bind 127.0.0.1
    multisocket 2
    errors
    prometheus 127.0.0.1:{port2}
    loop {
        action quarantine
        interval 1s
    }
    forward . UPSTREAMS
}
"""
HELD = "plugin/loop: upstream {} sends queries back to this server"
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5


def server(folder: Path, *upstreams: object) -> Server:
    folder.mkdir(exist_ok=True)
    return Server(folder, COREFILE.replace("UPSTREAMS", " ".join(str(one) for one in upstreams)), ports=2)


def at(port: int) -> str:
    return f"127.0.0.1:{port}"


def rcode(port: int, name: str) -> int:
    return exchange(question(name, A), port, seconds=10)[3] & 15


def metric(one: Server, name: str) -> str:
    found: list[str] = []

    def there() -> bool:
        # Just after a reload a connection may have been given to the web process that ends.
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"http://{at(one.ports[1])}/metrics", timeout=10) as page:
                found.append(page.read().decode())
        return bool(found)

    wait_for(there, "the metrics")
    return "\n".join(line for line in found[0].splitlines() if line.startswith(name))


class TestLoops:
    def test_a_server_that_is_its_own_upstream_asks_the_other_one(self, tmp_path):
        with Upstream() as good, server(tmp_path, "127.0.0.1:{port}", at(good.port)) as own:
            own.wait_line("[WARNING] " + HELD.format(at(own.port)))
            asked = len(good.asked)
            assert [rcode(own.port, f"n{number}.example.") for number in range(100)] == [0] * 100
            # Once each: none of them came by way of ourselves.
            assert len([one for one in good.asked[asked:] if one.name.startswith("n")]) == 100
            assert HELD.format(at(good.port)) not in own.out
            assert metric(own, "fastdns_loop_") == f'fastdns_loop_quarantines_total{{to="{at(own.port)}",zone="."}} 1'

    def test_two_servers_that_ask_each_other(self, tmp_path):
        with Upstream() as good:
            first_port = free_port()
            with server(tmp_path / "b", at(first_port), at(good.port)) as second:
                text = COREFILE.replace("{port}", str(first_port)).replace(
                    "UPSTREAMS", f"{at(second.port)} {at(good.port)}").replace("{port2}", "{port}")
                (tmp_path / "a").mkdir()
                with Server(tmp_path / "a", text) as first:
                    wait_for(lambda: HELD.format(at(second.port)) in first.out
                             or HELD.format(at(first_port)) in second.out, "the loop")
                    for port in (first_port, second.port):
                        assert [rcode(port, f"n{number}.p{port}.example.") for number in range(50)] == [0] * 50
                    names = [one.name for one in good.asked if ".example." in one.name]
                    assert len(set(names)) == 100 == len(names)
                    assert first.process.poll() is None and second.process.poll() is None

    def test_where_all_loop_there_is_servfail_and_no_packet(self, tmp_path):
        with server(tmp_path, "127.0.0.1:{port}") as own:
            own.wait_line("[WARNING] " + HELD.format(at(own.port)))
            before = metric(own, "coredns_proxy_conn_cache")
            assert [rcode(own.port, f"n{number}.example.") for number in range(20)] == [SERVFAIL] * 20
            own.wait_line("[ERROR] plugin/errors: 2 n19.example. A: all upstreams send queries back")
            assert metric(own, "coredns_proxy_conn_cache") == before
            assert own.process.poll() is None

    def test_a_loop_that_is_gone_is_forgotten_and_one_that_comes_back_is_found(self, tmp_path):
        loops = [True]
        port = free_port()

        def relay(asked: Asked) -> Sequence[bytes | float]:
            if not loops[0]:
                return [reply(asked)]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(5)
                sock.connect(("127.0.0.1", port))
                sock.send(asked.wire)
                return [sock.recv(4096)]

        with Upstream(relay) as peer, Upstream() as good:
            text = COREFILE.replace("{port}", str(port)).replace("UPSTREAMS", f"{at(peer.port)} {at(good.port)}")
            with Server(tmp_path, text.replace("{port2}", "{port}")) as own:
                own.wait_line(HELD.format(at(peer.port)))
                loops[0] = False
                own.wait_line(f"[INFO] plugin/loop: upstream {at(peer.port)} sends no queries back any more")
                had = len(peer.asked)
                assert [rcode(port, f"n{number}.example.") for number in range(40)] == [0] * 40
                assert len(peer.asked) > had
                # No name was used twice.
                probes = [one.name for one in peer.asked if re.fullmatch(r"\d+\.\d+\.", one.name)]
                assert len(set(probes)) == len(probes) >= 3 * PROBES

    def test_each_forward_is_probed_below_its_own_zone(self, tmp_path):
        text = COREFILE.replace("forward . UPSTREAMS", "forward a.test 127.0.0.1:{port}\n    forward . UPSTREAMS")
        with Upstream() as good:
            with Server(tmp_path, text.replace("UPSTREAMS", at(good.port)), ports=2) as own:
                own.wait_line(HELD.format(at(own.port)))
                assert (rcode(own.port, "n.a.test."), rcode(own.port, "n.example.")) == (SERVFAIL, 0)
                assert HELD.format(at(good.port)) not in own.out
                assert [one.name for one in good.asked if one.name.endswith("a.test.")] == []

    def test_over_tcp_where_forward_asks_so(self, tmp_path):
        text = COREFILE.replace("UPSTREAMS", "UPSTREAMS {\n        force_tcp\n    }")
        with Upstream() as good:
            with Server(tmp_path, text.replace("UPSTREAMS", "127.0.0.1:{port} " + at(good.port)), ports=2) as own:
                own.wait_line(HELD.format(at(own.port)))
                assert [rcode(own.port, f"n{number}.example.") for number in range(20)] == [0] * 20
                assert {one.proto for one in good.asked} == {"tcp"}

    def test_it_outlives_a_reload_and_ends_with_the_directive(self, tmp_path):
        with Upstream() as good, server(tmp_path, "127.0.0.1:{port}", at(good.port)) as own:
            own.wait_line(HELD.format(at(own.port)))
            text = own.corefile.read_text()
            own.write(text.replace("errors", "errors\n    log"))
            own.process.send_signal(10)
            own.wait_line("Reloading complete")
            assert [rcode(own.port, f"n{number}.example.") for number in range(20)] == [0] * 20
            assert own.out.count(HELD.format(at(own.port))) == 1
            own.write(re.sub(r"loop \{[^}]*\}", "", text))
            own.process.send_signal(10)
            own.wait_line("Reloading complete", 2)
            had = metric(own, "coredns_dns_requests_total")
            for number in range(20):
                rcode(own.port, f"m{number}.example.")
            # Some go round now: the server counts more requests than it was asked.
            assert sum(requests(metric(own, "coredns_dns_requests_total"))) - sum(requests(had)) > 20


def requests(text: str) -> list[int]:
    return [int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines()]


class TestStage:
    FIRST, SECOND = 2**62 - 1, 12345

    @pytest.fixture
    def table(self):
        stats = Stats.create(4)
        words = tuple(stats.intern(f"test_{word}", (), "word") for word in WAY_WORDS)
        stats.set_shared(words[0], self.FIRST)
        stats.set_shared(words[1], self.SECOND)
        return stats, words

    @pytest.mark.parametrize(("name", "qtype", "ours"), [
        (f"{FIRST}.{SECOND}.", HINFO, True),
        (f"{FIRST}.{SECOND}.example.org.", HINFO, True),
        (f"{FIRST + PROBES - 1}.{SECOND}.", HINFO, True),
        (f"{FIRST + PROBES}.{SECOND}.", HINFO, False),
        (f"{FIRST - 1}.{SECOND}.", HINFO, False),
        (f"{FIRST}.{SECOND + 1}.", HINFO, False),
        (f"{FIRST}.{SECOND}.", A, False),
        (f"{FIRST}.", HINFO, False),
        (".", HINFO, False),
        (f"{FIRST}x.{SECOND}.", HINFO, False),
        (f"{FIRST}.0.", HINFO, False),
        ("9" * 40 + f".{SECOND}.", HINFO, False),
        (f"{FIRST}." + "9" * 40 + ".", HINFO, False),
    ])
    def test_what_is_a_probe(self, table, name, qtype, ours):
        stats, words = table
        bench = Bench(quarantine([words]), stats)
        how, written, code, _ = bench.run(question(name, qtype), rcode=NXDOMAIN)
        assert (how, written, code) == (("rcode", False, REFUSED) if ours else ("next", False, NXDOMAIN))
        assert stats.get(words[2]) == ours

    def test_between_looks_nothing_is_one(self, table):
        stats, words = table
        stats.set_shared(words[1], 0)
        bench = Bench(quarantine([words]), stats)
        for name in (f"{self.FIRST}.{self.SECOND}.", f"{self.FIRST}.0.", "0.0."):
            assert bench.run(question(name, HINFO), rcode=NXDOMAIN)[0] == "next"
        assert stats.get(words[2]) == 0

    def test_the_number_of_upstreams_is_bounded(self):
        quarantine([(1, 2, 3)] * WAYS)
        with pytest.raises(ValueError):
            quarantine([(1, 2, 3)] * (WAYS + 1))


def parse(text: str) -> list:
    return Loop.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "loop"))


@pytest.mark.parametrize(("text", "action", "interval"), [
    ("loop", "stop", 30),
    ("loop {\naction stop\n}", "stop", 30),
    ("loop {\naction quarantine\n}", "quarantine", 30),
    ("loop {\ninterval 5m\naction quarantine\n}", "quarantine", 300),
])
def test_values(text, action, interval):
    (config,) = parse(text)
    assert (config["action"], config["interval"]) == (action, interval)


ERROR = "plugin/loop: Corefile:{} - Error during parsing: "
BRACE = ERROR.format(1) + "Unexpected token '{{', expecting argument"


@pytest.mark.parametrize(("text", "message"), [
    ("loop x", ERROR.format(1) + "Wrong argument count or unexpected line ending after 'x'"),
    ("loop {\n}", BRACE.replace("{{", "{")),
    ("loop {\nfoo\n}", BRACE.replace("{{", "{")),
    ("loop\nloop", "plugin/loop: this plugin can only be used once per Server Block"),
    ("loop {\naction servfail\n}", ERROR.format(2) + "unknown action 'servfail'"),
    ("loop {\naction\n}", ERROR.format(2) + "Wrong argument count or unexpected line ending after 'action'"),
    ("loop {\naction stop\nfoo\n}", ERROR.format(3) + "unknown property 'foo'"),
    ("loop {\ninterval 500ms\n}", ERROR.format(2) + "interval 500ms is out of range: 1s to 24h"),
])
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize("action", ["stop", "quarantine"])
@pytest.mark.parametrize("events", [(Event.FIRST_STARTUP, Event.STARTUP), (Event.STARTUP,)])
def test_probing_begins_when_the_workers_serve(action: str, events: tuple[Event, ...]) -> None:
    # Of a first start and of a reload alike; what is not told is waited for ten seconds.
    loop = object.__new__(Loop)
    loop.config = Settings({"action": action}, ())
    loop.served = asyncio.Event()
    loop.quarantine = object.__new__(Quarantine)
    loop.quarantine.served = asyncio.Event()
    loop.on_event(Event.RESTART)
    assert not loop.served.is_set() and not loop.quarantine.served.is_set()
    for event in events:
        loop.on_event(event)
    assert (loop.quarantine if action == "quarantine" else loop).served.is_set()
