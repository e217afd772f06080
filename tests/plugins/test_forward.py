# SPDX-License-Identifier: Apache-2.0
"""forward: what is sent, what comes back, in which order upstreams are asked, and what happens when they fail."""

from __future__ import annotations

import re
import socket
import time

import pytest

from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import Dispenser
from fastdns.plugins.forward import Forward
from fastdns.plugins.forward.metrics import upstream_slots
from fastdns.plugins.forward.upstreams import Host, classify, resolve
from fastdns.plugins.forward.upstreams import Upstream as Address
from fastdns.testing import Answer, Server, Worker, exchange, free_port, question
from tests.faults.upstream import CLOSE, Asked, Upstream, reply

A, TXT = 1, 16


def stanza(to: str, *options: str, origin: str = ".") -> str:
    return f"  forward {origin} {to} {{\n    " + "\n    ".join(options) + "\n  }\n"


def block(*stanzas: str) -> str:
    return ".:0 {\n  errors\n" + "".join(stanzas) + "}\n"


def local(*upstreams: Upstream | int) -> str:
    return " ".join(f"127.0.0.1:{up if isinstance(up, int) else up.port}" for up in upstreams)


# ---- the way there and back


def test_answer_with_the_clients_id_and_case() -> None:
    with Upstream() as up, Worker(block(stanza(local(up)))) as server:
        wire = question("WwW.ExAmPlE.", A, id=0x1234)
        got = exchange(wire, server.port)
        assert got == wire[:2] + b"\x81\x80" + b"\0\1\0\1\0\0\0\0" + wire[12:] + reply(up.asked[0])[up.asked[0].end :]
        assert up.asked[0].wire[2:] == wire[2:] and up.asked[0].proto == "udp"


def test_client_over_tcp_is_asked_for_over_tcp() -> None:
    with Upstream() as up, Worker(block(stanza(local(up)))) as server:
        for number in range(5):
            assert server.ask(f"n{number}.example.", A, "tcp").answer
        assert [one.proto for one in up.asked] == ["tcp"] * 5
        assert up.accepted == 1
        assert server.counter("coredns_proxy_conn_cache_hits_total", proto="tcp") == 4
        assert server.counter("coredns_proxy_conn_cache_misses_total", proto="tcp") == 1


def test_options_of_the_query_and_of_the_reply_pass() -> None:
    cookie = (10, b"12345678")
    opt = b"\0\0\x29\x10\0\0\0\x80\0\0\x0e\0\x0a\0\x0a87654321xx"

    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, tail=opt, additional=1)]

    with Upstream(script) as up, Worker(block(stanza(local(up)))) as server:
        wire = question("example.", A, bufsize=1400, do=True, options=[cookie])
        got = exchange(wire, server.port)
        assert up.asked[0].wire[2:] == wire[2:]
        assert got.endswith(b"\0\0\x29\x05\x78\0\0\x80\0\0\x0e\0\x0a\0\x0a87654321xx")


def test_opt_for_a_client_without_edns_keeps_its_size() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, tail=b"\0\0\x29\x05\x82\0\0\0\0\0\0", additional=1)]

    with Upstream(script) as up, Worker(block(stanza(local(up)))) as server:
        for proto in ("udp", "tcp"):
            got = exchange(question("example.", A), server.port, proto)
            assert got[10:12] == b"\0\1" and got.endswith(b"\0\0\x29\x05\x82\0\0\0\0\0\0")


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_notify_is_refused_and_never_sent(proto: str) -> None:
    with Upstream() as up, Worker(block(stanza(local(up)))) as server:
        wire = bytearray(question("example.", 6))
        wire[2:4] = b"\x24\0"           # opcode NOTIFY, AA (RFC 1996 4.7)
        got = exchange(bytes(wire), server.port, proto)
        assert got == bytes(wire[:2]) + b"\xa0\x05" + bytes(wire[4:])
        assert server.ask("after.example.", A).answer
        assert [one.wire[12:19] for one in up.asked] == [b"\5after\7"]


def test_notify_passes_on_to_the_next_stanza_only_where_the_first_does_not_match() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "except local.example"), "  whoami\n")) as server:
        wire = bytearray(question("local.example.", 6))
        wire[2:4] = b"\x24\0"
        assert exchange(bytes(wire), server.port)[2:4] == b"\xa4\0"     # whoami's
        assert up.asked == []


def test_octets_behind_the_message_are_not_sent() -> None:
    with Upstream() as up, Worker(block(stanza(local(up)))) as server:
        wire = question("example.", A)
        exchange(wire + b"tail", server.port)
        assert up.asked[0].wire[2:] == wire[2:]


def test_tsig_is_the_clients_with_us() -> None:
    tsig = b"\1k\0" + b"\0\xfa\0\xff\0\0\0\0" + b"\0\x10" + b"\0" + bytes(6) + b"\0\x05\0\0\x12\x34\0\0\0\0"
    tsig = tsig[:11] + (len(tsig) - 13).to_bytes(2, "big") + tsig[13:]
    plain = question("example.", A)
    with Upstream() as up, Worker(block(stanza(local(up)))) as server:
        exchange(plain[:10] + b"\0\1" + plain[12:] + tsig, server.port)
        assert up.asked[0].wire[2:] == plain[2:]


def test_large_query_and_large_reply_over_tcp() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, answers=250) if asked.name.startswith("many") else reply(asked)]

    with Upstream(script) as up, Worker(block(stanza(local(up)))) as server:
        big = question("big.example.", A, options=[(65001, bytes(3000))])
        assert Answer.of(exchange(big, server.port)).answer
        assert Answer.of(exchange(big, server.port, "tcp")).answer
        assert [one.wire[2:] for one in up.asked] == [big[2:]] * 2
        assert len(server.ask("many.example.", A, "tcp").answer) == 250
        assert len(server.ask("many.example.", A, bufsize=4096).answer) == 250


# ---- TC, sizes


def test_truncated_answer_is_passed_on() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, flags=0x8380, answers=0) if asked.proto == "udp" else reply(asked)]

    with Upstream(script) as up, Worker(block(stanza(local(up)))) as server:
        assert "tc" in server.ask("example.", A).flags
        assert server.ask("example.", A, "tcp").answer
        assert [one.proto for one in up.asked] == ["udp", "tcp"]


def test_prefer_udp_asks_again_over_tcp_when_truncated() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, flags=0x8380, answers=0) if asked.proto == "udp" else reply(asked)]

    with Upstream(script) as up, Worker(block(stanza(local(up), "prefer_udp"))) as server:
        for proto in ("udp", "tcp"):
            got = server.ask("example.", A, proto)
            assert got.answer and "tc" not in got.flags
        assert [one.proto for one in up.asked] == ["udp", "tcp"] * 2


def test_force_tcp_wins() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "prefer_udp", "force_tcp"))) as server:
        assert server.ask("example.", A).answer
        assert [one.proto for one in up.asked] == ["tcp"]


@pytest.mark.parametrize("cut", [False, True])
def test_datagram_that_the_client_cannot_take_becomes_tc(cut: bool) -> None:
    def script(asked: Asked) -> list[bytes]:
        whole = reply(asked, answers=60)
        return [reply(asked, flags=0x8380, answers=20)[:-3] if cut else whole]

    with Upstream(script) as up, Worker(block(stanza(local(up)))) as server:
        got = server.ask("example.", A)
        assert "tc" in got.flags and not got.answer
        assert server.counter("fastdns_forward_events_total", event="oversized") == 1
        assert len(up.asked) == 1


# ---- which stanza, which upstream


def test_stanzas_in_order_and_except() -> None:
    with Upstream() as one, Upstream() as two:
        config = block(
            stanza(local(one), "except no.a.test b.a.test a.test", origin="a.test"), stanza(local(two), origin="test")
        )
        with Worker(config) as server:
            for name in ("x.a.test.", "a.test.", "no.a.test.", "x.b.a.test.", "c.test."):
                server.ask(name, A)
            assert server.ask("elsewhere.", A).rcode == 2
        assert [a.name for a in one.asked] == ["a.test."]
        assert [a.name for a in two.asked] == ["x.a.test.", "no.a.test.", "x.b.a.test.", "c.test."]


def test_round_robin_begins_with_the_second() -> None:
    with Upstream() as one, Upstream() as two, Upstream() as three:
        with Worker(block(stanza(local(one, two, three), "policy round_robin"))) as server:
            for number in range(6):
                server.ask(f"n{number}.test.", A)
        assert [[a.name for a in up.asked] for up in (one, two, three)] == [
            ["n2.test.", "n5.test."],
            ["n0.test.", "n3.test."],
            ["n1.test.", "n4.test."],
        ]


def test_round_robin_goes_on_in_configured_order() -> None:
    down = (free_port(), free_port())
    with Upstream() as up, Worker(block(stanza(local(down[0], down[1], up), "policy round_robin"))) as server:
        for number in range(3):
            assert server.ask(f"n{number}.test.", A).answer
        assert server.counter("fastdns_forward_events_total", event="refused") == 4  # 2, 0, 2; rotated: 1, 0, 2


def test_sequential_and_random() -> None:
    with Upstream() as one, Upstream() as two:
        with Worker(block(stanza(local(one, two), "policy sequential"))) as server:
            for number in range(4):
                server.ask(f"n{number}.test.", A)
        assert (len(one.asked), len(two.asked)) == (4, 0)
        with Worker(block(stanza(local(one, two)))) as server:
            for number in range(60):
                server.ask(f"r{number}.test.", A)
        assert len(one.asked) > 4 + 10 and len(two.asked) > 10


def test_failover_asks_the_next_and_returns_the_last() -> None:
    def refuse(asked: Asked) -> list[bytes]:
        return [reply(asked, rcode=5, answers=0)]

    def servfail(asked: Asked) -> list[bytes]:
        return [reply(asked, rcode=2, answers=0)]

    with Upstream(refuse) as one, Upstream(servfail) as two, Upstream() as three:
        options = ("policy sequential", "failover REFUSED servfail")
        with Worker(block(stanza(local(one, two, three), *options))) as server:
            assert server.ask("a.test.", A).answer
        with Worker(block(stanza(local(one, two), *options))) as server:
            assert server.ask("b.test.", A).rcode == 2
            assert len(one.of("b.test.")) == len(two.of("b.test.")) == 1


@pytest.mark.parametrize(
    ("options", "rcode", "asked"),
    [("next NXDOMAIN", 3, True), ("next REFUSED", 3, False), ("next_on_nodata", 0, True), ("", 0, False)],
)
def test_next(options: str, rcode: int, asked: bool) -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, rcode=rcode, answers=0)]

    with Upstream(script) as one, Upstream() as two:
        with Worker(block(stanza(local(one), options), stanza(local(two)))) as server:
            assert bool(server.ask("a.test.", A).answer) is asked
        assert bool(two.asked) is asked
        with Worker(block(stanza(local(one), options))) as server:  # the last stanza has no next
            assert server.ask("a.test.", A).rcode == rcode


# ---- failures


def test_dead_upstream_with_health_checks() -> None:
    port = free_port()
    config = ".:0 {\n  errors\n  prometheus 127.0.0.1:0\n" + stanza(f"127.0.0.1:{port}", "health_check 50ms") + "}\n"
    with Server(config.replace("  prometheus 127.0.0.1:0\n", "").replace(".:0", ".")) as server:
        begun = time.monotonic()
        assert server.ask("a.test.", A).rcode == 2
        first = time.monotonic() - begun
        line = server.wait_for("[ERROR]")
        text = rf"read udp 127\.0\.0\.1:\d+->127\.0\.0\.1:{port}: read: connection refused$"
        assert re.search(rf"plugin/errors: 2 a\.test\. A: {text}", line)
        assert first < 1.9  # not the read timeout: the check had failed by then
        with Upstream(port=port):
            for _ in range(100):
                if server.ask("b.test.", A).answer:
                    break
                time.sleep(0.05)
            else:
                pytest.fail("the upstream is back, and nobody asks it")


def test_silent_upstream_gives_way_to_the_next() -> None:
    with Upstream(lambda asked: []) as silent, Upstream() as up:
        with Worker(block(stanza(local(silent, up), "policy sequential", "read_timeout 200ms"))) as server:
            begun = time.monotonic()
            assert server.ask("a.test.", A).answer
            assert time.monotonic() - begun > 0.19
            assert server.ask("b.test.", A, "tcp").answer
            assert (len(silent.of("a.test.")), len(silent.of("b.test."))) == (1, 1)


def test_attempts_are_counted() -> None:
    with Upstream(lambda asked: []) as silent:
        for options, sent in (((), 2), (("max_connect_attempts 3",), 3)):
            silent.asked.clear()
            with Worker(block(stanza(local(silent), "read_timeout 50ms", *options))) as server:
                assert server.ask("a.test.", A).rcode == 2
                assert len({one.id for one in silent.asked}) == len(silent.asked) == sent


def test_five_seconds_in_all() -> None:
    with Upstream(lambda asked: []) as silent:
        config = block(stanza(local(silent), "read_timeout 1400ms", "max_connect_attempts 0"))
        with Worker(config) as server:
            begun = time.monotonic()
            assert server.ask("a.test.", A, seconds=9).rcode == 2
            assert time.monotonic() - begun >= 5
            assert len(silent.asked) == 4


def test_failed_tcp_dials_and_texts() -> None:
    port = free_port()
    with Server(block(stanza(f"127.0.0.1:{port}", "force_tcp")).replace(".:0", ".")) as server:
        assert server.ask("a.test.", A).rcode == 2
        assert server.wait_for("[ERROR]").endswith(f"dial tcp 127.0.0.1:{port}: connect: connection refused")


def test_timeout_text_and_eof_text() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [CLOSE] if asked.proto == "tcp" else []

    with Upstream(script) as up:
        config = block(stanza(local(up), "read_timeout 50ms")).replace(".:0", ".")
        with Server(config) as server:
            assert server.ask("a.test.", A).rcode == 2
            assert re.search(r"read udp 127\.0\.0\.1:\d+->127\.0\.0\.1:\d+: i/o timeout$", server.wait_for("a.test. A"))
            assert server.ask("b.test.", A, "tcp").rcode == 2
            assert server.wait_for("b.test. A").endswith("b.test. A: EOF")


def test_kept_connection_that_was_closed_costs_nothing() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "max_connect_attempts 1", "force_tcp"))) as server:
        for number in range(20):
            assert server.ask(f"n{number}.test.", A).answer, number
            up.hang_up()
        assert up.accepted > 1


def test_connection_closed_on_the_question_is_retried_once_per_kept_one() -> None:
    seen: set[str] = set()

    def script(asked: Asked) -> list[bytes]:
        if asked.name.startswith("late") and asked.name not in seen:
            seen.add(asked.name)
            return [CLOSE]
        return [reply(asked)]

    with Upstream(script) as up, Worker(block(stanza(local(up), "max_connect_attempts 1", "force_tcp"))) as server:
        assert server.ask("first.test.", A).answer
        assert server.ask("late.test.", A).answer  # EOF on the kept connection: asked again, uncounted
        assert len(up.of("late.test.")) == 2


def test_expire_and_max_idle() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "expire 10ms", "force_tcp"))) as server:
        for number in range(3):
            assert server.ask(f"n{number}.test.", A).answer
            time.sleep(0.03)
        assert up.accepted == 3
    with Upstream(lambda asked: [0.2, reply(asked)]) as up:
        with Worker(block(stanza(local(up), "max_idle_conns 1", "force_tcp"))) as server:
            for turn in range(2):
                socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
                for number, sock in enumerate(socks):
                    sock.settimeout(5)
                    sock.connect(("127.0.0.1", server.port))
                    sock.send(question(f"n{turn}{number}.test.", A))
                for sock in socks:
                    assert len(sock.recv(4096)) > 12
                    sock.close()
            assert up.accepted == 3 + 2


def test_max_concurrent() -> None:
    with Upstream(lambda asked: [0.3, reply(asked)]) as up:
        with Worker(block(stanza(local(up), "max_concurrent 2"))) as server:
            socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(5)]
            for number, sock in enumerate(socks):
                sock.settimeout(5)
                sock.connect(("127.0.0.1", server.port))
                sock.send(question(f"n{number}.test.", A))
            assert sorted(sock.recv(4096)[3] & 15 for sock in socks) == [0, 0, 5, 5, 5]
            for sock in socks:
                sock.close()
            assert server.counter("coredns_forward_max_concurrent_rejects_total") == 3
            assert server.counter("fastdns_forward_concurrent") == 0
            assert server.ask("again.test.", A).answer


def test_source_address() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "source_address 127.0.0.9"))) as server:
        up.script = lambda asked: [reply(asked)]
        assert server.ask("a.test.", A).answer and server.ask("a.test.", A, "tcp").answer


def set_fails(server: Worker, up: Upstream | int, fails: int) -> None:
    """What the keeper would write after so many failed checks."""
    port = up if isinstance(up, int) else up.port
    slot = upstream_slots(server.stats, 1, 0, f"127.0.0.1:{port}")["fails"]
    assert isinstance(slot, int)
    server.stats.set_shared(slot, fails)


def test_upstream_that_is_down_is_passed_over() -> None:
    with Upstream() as one, Upstream() as two:
        with Worker(block(stanza(local(one, two), "policy sequential", "max_fails 3"))) as server:
            for fails, asked in ((3, (1, 0)), (4, (1, 1)), (0, (2, 1))):
                set_fails(server, one, fails)
                assert server.ask(f"n{fails}.test.", A).answer
                assert (len(one.asked), len(two.asked)) == asked


def test_all_down_one_is_asked_all_the_same() -> None:
    with Upstream() as one, Upstream() as two:
        with Worker(block(stanza(local(one, two)))) as server:
            set_fails(server, one, 9)
            set_fails(server, two, 9)
            assert server.ask("a.test.", A).answer
            assert server.counter("coredns_forward_healthcheck_broken_total") == 1


def test_all_down_and_failfast() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "failfast_all_unhealthy_upstreams"))) as server:
        set_fails(server, up, 9)
        assert server.ask("a.test.", A).rcode == 2
        set_fails(server, up, 2)
        assert server.ask("b.test.", A).answer
        assert len(up.asked) == 1


def test_refused_by_one_that_checks_say_is_down_ends_at_once() -> None:
    port = free_port()
    with Worker(block(stanza(local(port), "max_fails 5"))) as server:
        set_fails(server, port, 1)
        begun = time.monotonic()
        assert server.ask("a.test.", A).rcode == 2
        assert time.monotonic() - begun < 0.5


def test_max_age() -> None:
    with Upstream() as up, Worker(block(stanza(local(up), "expire 100ms", "max_age 100ms", "force_tcp"))) as server:
        for number in range(8):
            assert server.ask(f"n{number}.test.", A).answer
            time.sleep(0.05)
        assert 2 <= up.accepted <= 8


def test_ipv6_upstream() -> None:
    try:
        up = Upstream(address="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with up, Worker(block(stanza(f"[::1]:{up.port}"))) as server:
        assert server.ask("a.test.", A).answer and server.ask("a.test.", A, "tcp").answer
        assert server.counter("coredns_proxy_conn_cache_misses_total", to=f"[::1]:{up.port}") == 2


# ---- coalescing


def ask_at_once(port: int, wires: list[bytes]) -> list[bytes]:
    socks = []
    for wire in wires:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        sock.send(wire)
        socks.append(sock)
    found = [sock.recv(65535) for sock in socks]
    for sock in socks:
        sock.close()
    return found


def test_equal_questions_are_asked_once() -> None:
    wires = [question(name, A) for name in ("a.test.", "A.test.", "a.TEST.", "A.TEST.")] * 50
    with Upstream(lambda asked: [0.2, reply(asked)]) as up, Worker(block(stanza(local(up)))) as server:
        for wire, got in zip(wires, ask_at_once(server.port, wires), strict=True):
            assert got[:2] == wire[:2] and got[12 : len(wire)] == wire[12:]
        assert len(up.asked) == 1
        assert server.counter("fastdns_forward_events_total", event="coalesced") == len(wires) - 1


def test_other_questions_are_not_mixed() -> None:
    wires = [
        question("a.test.", A),
        question("a.test.", TXT),
        question("a.test.", A, rd=False),
        question("a.test.", A, cd=True),
        question("a.test.", A, bufsize=1232),
        question("a.test.", A, bufsize=1400),
        question("a.test.", A, do=True),
        question("a.test.", A, options=[(8, b"\0\1\x18\0\x0a\0\0")]),
        question("a.test.", A, options=[(8, b"\0\1\x18\0\x0a\0\1")]),
        question("a.test.", A, qclass=3),
        question("b.test.", A),
    ]
    with Upstream(lambda asked: [0.2, reply(asked)]) as up, Worker(block(stanza(local(up)))) as server:
        for wire, got in zip(wires, ask_at_once(server.port, wires), strict=True):
            assert got[:2] == wire[:2]
        assert sorted(one.wire[2:] for one in up.asked) == sorted(wire[2:] for wire in wires)


def test_waiters_are_bounded() -> None:
    with Upstream(lambda asked: [0.5, reply(asked)]) as up, Worker(block(stanza(local(up)))) as server:
        found = ask_at_once(server.port, [question("a.test.", A) for _ in range(1100)])
        assert sorted({got[3] & 15 for got in found}) == [0, 2]
        assert sum(got[3] & 15 == 2 for got in found) == 1100 - 1024
        assert server.counter("fastdns_forward_events_total", event="waiters_full") == 1100 - 1024


# ---- configuration


def parse(text: str) -> list:
    return Forward.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "forward"))


REFUSED = [
    ("forward .", "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after '.'"),
    ("forward a..b 127.0.0.1", "plugin/forward: unable to normalize 'a..b'"),
    (
        "forward . grpc://127.0.0.1",
        "'grpc' is not supported as a destination protocol in forward: grpc://127.0.0.1:443",
    ),
    ("forward . unix:///x", "'unix' is not supported as a destination protocol in forward: unix:///x"),
    ("forward . dns://", 'invalid address: "dns://"'),
    ("forward . ../x", 'not an IP address, file, or valid domain: "../x"'),
    (
        "forward . https://127.0.0.1/p",
        "paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default): https://127.0.0.1/p",
    ),
    ("forward . " + " ".join(f"127.0.0.{n}" for n in range(1, 17)), "more than 15 TOs configured: 16"),
    ("forward . /tmp", "no valid upstream addresses found"),
    ("forward . tls://9.9.9.9", "'tls' upstreams are not built yet: tls://9.9.9.9:853"),
    ("forward . https://9.9.9.9", "'https' upstreams are not built yet: https://9.9.9.9:443"),
    ("forward . tls://dns.example", "'tls' upstreams are not built yet: tls://dns.example"),
    ("forward . 127.0.0.1 {\n tls\n}", "property 'tls' is not built yet"),
    ("forward . 127.0.0.1 {\n tls_servername x\n}", "property 'tls_servername' is not built yet"),
    ("forward . 127.0.0.1 {\n doh_method GET\n}", "property 'doh_method' is not built yet"),
    ("forward . 127.0.0.1:x", 'invalid port in upstream address: "127.0.0.1:x"'),
    ("forward . 127.0.0.1:70000", 'invalid port in upstream address: "127.0.0.1:70000"'),
    ("forward . 127.0.0.1 {\n source_address ::1\n}", "source_address ::1 cannot reach 127.0.0.1:53"),
    ("forward . 127.0.0.1 {\n max_age 1s\n}", "max_age (1s) must not be less than expire (10s)"),
    ("forward . 127.0.0.1 {\n failover NOERROR\n}", "NoError cannot be used in failover"),
    ("forward . 127.0.0.1 {\n max_concurrent -1\n}", "max_concurrent can't be negative: -1"),
]


@pytest.mark.parametrize(("text", "error"), REFUSED)
def test_refused(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).endswith(error)


def test_upstreams_of_words(tmp_path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver x\nnameserver 192.0.2.7\nnameserver 192.0.2.8:53\nnameserver fe80::2%lo\nsearch x\n")
    (tmp_path / "empty").write_text("search x\n")
    empty = tmp_path / "empty"
    found = classify(["192.0.2.1", "dns://[::1]:5353", str(conf), str(empty), "fe80::1%lo", "host.test:54"])
    assert found == (
        Address("192.0.2.1", 53, "192.0.2.1:53"),
        Address("::1", 5353, "[::1]:5353"),
        Address("192.0.2.7", 53, "192.0.2.7:53"),
        Address("fe80::2", 53, "[fe80::2]:53"),
        Address("fe80::1%lo", 53, "[fe80::1]:53"),
        Host("host.test", 54),
    )
    assert resolve([*found[:1], *found[:2]], ()) == found[:2]
    empty.write_text("nameserver 300.1.1.1\nnameserver localhost\n")
    with pytest.raises(ValueError, match="no valid upstream addresses found"):
        classify([str(empty)])


def test_host_names_are_resolved_by_the_resolvers_in_turn() -> None:
    def script(asked: Asked) -> list[bytes]:
        return [reply(asked, answers=2 if asked.wire[-3] == A else 0)]

    with Upstream(script) as up:
        found = resolve([Host("up.test", 5300)], [f"127.0.0.1:{free_port()}", f"127.0.0.1:{up.port}"])
    assert found == (Address("192.0.2.1", 5300, "192.0.2.1:5300"), Address("192.0.2.2", 5300, "192.0.2.2:5300"))
    with pytest.raises(ValueError, match=r'failed to resolve "up\.test": no addresses found for "up\.test"'):
        resolve([Host("up.test", 5300)], [f"127.0.0.1:{free_port()}"])
    assert resolve([Host("localhost", 53)], ())


def test_network_with_several_zones_forwards_the_first(caplog) -> None:
    with Upstream() as up, Worker(".:0 {\n" + stanza(local(up), origin="10.0.0.0/25") + "}\n") as server:
        server.ask("1.0.0.10.in-addr.arpa.", A)
        server.ask("0.0.0.10.in-addr.arpa.", A)
        assert [one.name for one in up.asked] == ["0.0.0.10.in-addr.arpa."]
    assert "'10.0.0.0/25' expands to multiple zones. Using only '0.0.0.10.in-addr.arpa.'." in caplog.text
