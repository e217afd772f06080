# SPDX-License-Identifier: Apache-2.0
"""Forged and broken replies: none is accepted, and none keeps the true answer from arriving.

Strategy: a forger on this machine knows what an attacker must guess. Its datagrams bear the upstream's address, because
it sends from the upstream's own socket, or another 127.0.0.0/8 address; all fields are right but those under test.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time

import pytest

from fastdns.testing import Worker, exchange, question
from tests.faults.upstream import Asked, Upstream, reply

A = 1
POISON = b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\6\6\6\6"


def block(up: Upstream, *options: str) -> str:
    return "\n".join([".:0 {", f"forward . 127.0.0.1:{up.port} {{", *options, "}", "}", ""])


def poison(asked: Asked, **change: int | bytes) -> bytes:
    """A forged answer 6.6.6.6."""
    forged = reply(asked, answers=0, tail=POISON, **change)  # type: ignore[arg-type]
    return forged[:6] + b"\0\1" + forged[8:]


def lower_question(asked: Asked, name: bytes = b"\5other\4test\0", rtype: int = A, rclass: int = 1) -> bytes:
    return name + struct.pack("!HH", rtype, rclass)


NAME = b"\1a\4test\0"
BROKEN = {
    "wrong question": lambda q: poison(q, question=lower_question(q)),
    "other type": lambda q: poison(q, question=lower_question(q, NAME, 28)),
    "other class": lambda q: poison(q, question=lower_question(q, NAME, 3)),
    "no question": lambda q: poison(q, question=b""),
    "two questions": lambda q: poison(q)[:4] + b"\0\2" + poison(q)[6:q.end] + q.wire[12:q.end] + POISON,
    "not a response": lambda q: poison(q, flags=0x0100),
    "another opcode": lambda q: poison(q, flags=0x9180 | 0x2000),
    "header alone": lambda q: poison(q)[:12],
    "short": lambda q: poison(q)[:5],
    "one octet": lambda q: poison(q)[:1],
    "nothing": lambda q: b"",
    "garbage": lambda q: q.wire[:2] + bytes(random.Random(7).randbytes(200)),
    "record cut": lambda q: poison(q)[:-2],
    "count lies": lambda q: poison(q)[:6] + b"\xff\xff" + poison(q)[8:],
    "pointer loop": lambda q: poison(q)[:-16] + struct.pack("!H", 0xC000 | q.end) + POISON[2:],
    "name past the end": lambda q: poison(q)[:-16] + b"\x3fabc",
    "two OPT": lambda q: poison(q)[:10] + b"\0\2" + poison(q)[12:] + 2 * (b"\0\0\x29\x04\xd0" + bytes(6)),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_broken_datagrams_first_then_the_answer(what: str) -> None:
    def script(asked: Asked) -> list[bytes | float]:
        return [BROKEN[what](asked)] * 10 + [0.02, reply(asked)]

    with Upstream(script) as up, Worker(block(up)) as server:
        begun = time.monotonic()
        assert server.ask("a.test.", A).answer == ["a.test. 300 IN A 192.0.2.1"]
        assert time.monotonic() - begun < 1
        assert len(up.asked) == 1
        events = ("mismatch", "malformed", "wrong_id")
        assert sum(server.counter("fastdns_forward_events_total", event=event) for event in events) == 10


@pytest.mark.parametrize("what", [what for what in BROKEN if what != "nothing"])
def test_over_tcp_what_is_no_answer_ends_the_attempt(what: str) -> None:
    with Upstream(lambda asked: [BROKEN[what](asked)]) as bad, Upstream() as good:
        to = f"forward . 127.0.0.1:{bad.port}"
        options = "{\nforce_tcp\npolicy sequential\nmax_fails 0\n}\n}\n"
        with Worker(f".:0 {{\n{to} 127.0.0.1:{good.port} {options}") as server:
            assert server.ask("a.test.", A).answer == ["a.test. 300 IN A 192.0.2.1"]
            assert (len(bad.asked), len(good.asked)) == (1, 1)
            assert server.counter("fastdns_forward_events_total", event="timeout") == 0
        with Worker(f".:0 {{\n{to} {options}") as server:
            assert server.ask("a.test.", A).rcode == 2
            assert len(bad.asked) == 3
            assert server.counter("fastdns_forward_events_total", event="timeout") == 0
            assert server.engine.in_flight == 0


def test_over_tcp_another_id_is_waited_past() -> None:
    with Upstream(lambda asked: [poison(asked, id=asked.id ^ 1), 0.02, reply(asked)]) as up:
        with Worker(block(up, "force_tcp")) as server:
            assert server.ask("a.test.", A).answer == ["a.test. 300 IN A 192.0.2.1"]
            assert len(up.asked) == 1


@pytest.mark.parametrize("tcp", [True, False])
def test_wrong_id_moves_the_question_to_tcp(tcp: bool) -> None:
    def script(asked: Asked) -> list[bytes | float]:
        if asked.proto == "udp":
            return [poison(asked, id=asked.id ^ 1), 0.02, reply(asked)]
        return [reply(asked)]

    with Upstream(script, tcp=tcp) as up, Worker(block(up)) as server:
        for number in range(3):
            got = server.ask(f"n{number}.test.", A)
            assert got.answer == [f"n{number}.test. 300 IN A 192.0.2.1"]
        assert [one.proto for one in up.asked] == (["udp", "tcp"] if tcp else ["udp", "udp"]) * 3
        assert server.counter("fastdns_forward_events_total", event="moved_to_tcp") == 3


def test_wrong_id_of_another_question_moves_nothing() -> None:
    def script(asked: Asked) -> list[bytes | float]:
        return [poison(asked, id=asked.id ^ 1, question=lower_question(asked)), 0.02, reply(asked)]

    with Upstream(script) as up, Worker(block(up)) as server:
        assert server.ask("a.test.", A).answer == ["a.test. 300 IN A 192.0.2.1"]
        assert [one.proto for one in up.asked] == ["udp"]


def test_a_flood_of_near_misses_does_not_stop_service() -> None:
    def script(asked: Asked) -> list[bytes | float]:
        if asked.proto == "udp":
            return [poison(asked, id=asked.id ^ n) for n in range(1, 30)] + [reply(asked)]
        return [reply(asked)]

    with Upstream(script) as up, Worker(block(up)) as server:
        for number in range(300):
            assert server.ask(f"n{number}.test.", A).answer == [f"n{number}.test. 300 IN A 192.0.2.1"]
        assert server.counter("fastdns_forward_events_total", event="moved_to_tcp") < 300


def test_replies_from_elsewhere_do_not_arrive() -> None:
    elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elsewhere.bind(("127.0.0.66", 0))

    def script(asked: Asked) -> list[bytes | float]:
        for _ in range(20):
            elsewhere.sendto(poison(asked), ("127.0.0.1", asked.port))
        return [0.02, reply(asked)]

    with elsewhere, Upstream(script) as up, Worker(block(up)) as server:
        for number in range(20):
            assert server.ask(f"n{number}.test.", A).answer == [f"n{number}.test. 300 IN A 192.0.2.1"]
        assert server.counter("fastdns_forward_events_total", event="wrong_id") == 0


@pytest.mark.timeout(120)
def test_a_hundred_thousand_forgeries() -> None:
    """All but the id right, from the upstream's own address, at open questions; ids that hit are spared."""
    asked_now: list[Asked] = []
    sent = 0

    def script(asked: Asked) -> list[bytes | float]:
        if asked.proto == "udp":
            asked_now.append(asked)
        return []

    with Upstream(script, tcp=False) as up, Worker(block(up, "read_timeout 4s", "max_fails 0")) as server:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", server.port))
        sock.settimeout(10)
        wires = [question(f"n{number}.test.", A, id=number) for number in range(8)]
        for wire in wires:
            sock.send(wire)
        while len({one.name for one in asked_now}) < len(wires):
            time.sleep(0.01)
        done = threading.Event()

        def forge() -> None:
            nonlocal sent
            dice = random.Random(5)
            while sent < 100_000:
                for one in asked_now:
                    known = {other.id for other in asked_now}
                    for _ in range(20):
                        guess = dice.randrange(65536)
                        if guess not in known:
                            up.udp.sendto(poison(one, id=guess), ("127.0.0.1", one.port))
                            sent += 1
            done.set()

        forger = threading.Thread(target=forge, daemon=True)
        forger.start()
        assert done.wait(60)
        for one in asked_now:
            up.udp.sendto(reply(one), ("127.0.0.1", one.port))
        found = {sock.recv(4096) for _ in wires}
        sock.close()
        assert {int.from_bytes(got[:2], "big") for got in found} == set(range(8))
        assert all(b"\6\6\6\6" not in got and got.endswith(b"\xc0\0\2\1") for got in found)
        assert server.counter("fastdns_forward_events_total", event="wrong_id") > 50_000


def port_unreachable(asked: Asked, port: int) -> bytes:
    """An ICMP error that quotes a question's datagram."""
    udp = struct.pack("!HHHH", asked.port, port, 8 + len(asked.wire), 0) + asked.wire
    local = bytes((127, 0, 0, 1))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, local, local)
    body = b"\x03\x03\0\0" + bytes(4) + ip + udp[:64]
    body += bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]


@pytest.mark.parametrize("checks", ["max_fails 2", "max_fails 0"])
def test_forged_icmp_does_not_end_a_question(checks: str) -> None:
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("raw sockets are not allowed here")

    def script(asked: Asked) -> list[bytes | float]:
        raw.sendto(port_unreachable(asked, up.port), ("127.0.0.1", 0))
        return [0.15, reply(asked)]

    with raw, Upstream(script) as up, Worker(block(up, checks)) as server:
        assert server.ask("a.test.", A).answer == ["a.test. 300 IN A 192.0.2.1"]
        assert server.counter("fastdns_forward_events_total", event="refused") == 2
        assert len(up.asked) == 2


def test_answer_fills_only_its_own_question() -> None:
    extra = b"\5other\4test\0" + b"\0\1\0\1\0\0\1\x2c\0\4\6\6\6\6"

    def script(asked: Asked) -> list[bytes | float]:
        if asked.name == "other.test.":
            return [reply(asked)]
        whole = reply(asked, tail=extra, additional=1)
        return [whole]

    with Upstream(script) as up, Worker(f".:0 {{\n  cache\n  forward . 127.0.0.1:{up.port}\n}}\n") as server:
        assert server.ask("a.test.", A).answer
        assert server.ask("other.test.", A).answer == ["other.test. 300 IN A 192.0.2.1"]


def test_duplicates_answer_nobody_else() -> None:
    with Upstream(lambda asked: [reply(asked)] * 3) as up, Worker(block(up)) as server:
        for number in range(200):
            wire = question(f"n{number}.test.", A)
            assert exchange(wire, server.port)[12:].startswith(wire[12:])
        assert len(up.asked) == 200
