# SPDX-License-Identifier: Apache-2.0
"""The loop by itself: UDP batches, TCP connections, stopping. No plugin: every query is REFUSED by the router.

A block without chain plugins answers REFUSED, so these tests see sockets and framing and nothing else.
"""

import contextlib
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastdns._chain import Program
from fastdns._stats import Stats
from fastdns._udp import Engine
from tests.machine import may

REFUSED = 5


def query(number: int, name: bytes = b"\3www\4test\0") -> bytes:
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


@dataclass
class Loop:
    engine: Engine
    stats: Stats
    udp: socket.socket
    tcp: socket.socket
    thread: threading.Thread

    def connect(self) -> socket.socket:
        c = socket.create_connection(self.tcp.getsockname()[:2], timeout=5)
        return c

    def count(self, event: str) -> int:
        return sum(s.values[0] for s in self.stats.snapshot() if ("event", event) in s.labels)


@contextlib.contextmanager
def loop(address: str = "127.0.0.1", begin: bool = True, **options: int) -> Iterator[Loop]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp, tcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
    if family == socket.AF_INET6:
        for s in (udp, tcp):
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    udp.bind((address, 0))
    tcp.bind((address, 0))
    tcp.listen(64)
    stats = Stats.create(8, 16384)
    program = Program(1, 1)
    program.add_listener("dns://:53", 53, address == "::", False, 0)
    program.add_block(1, [b"\0"], [])
    program.route(0, b"\0", 0)
    program.finish()
    engine = Engine(program, stats, None, options)
    engine.listener(0, udp.fileno(), tcp.fileno())
    engine.start(0, 1)
    thread = threading.Thread(target=engine.run, daemon=True)
    if begin:
        thread.start()
    try:
        yield Loop(engine, stats, udp, tcp, thread)
    finally:
        engine.stop(2.0)
        thread.join(10)
        assert not thread.is_alive()
        udp.close()
        tcp.close()


def messages(c: socket.socket, n: int) -> list[bytes]:
    """Up to n framed messages, fewer when the server closes."""
    buffer, out = b"", []
    while len(out) < n:
        data = c.recv(65536)
        if not data:
            break
        buffer += data
        while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            end = 2 + int.from_bytes(buffer[:2], "big")
            out.append(buffer[2:end])
            buffer = buffer[end:]
    return out


def test_udp_answers_each_query_once() -> None:
    with loop() as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.settimeout(5)
        c.connect(running.udp.getsockname())
        for number in range(200):
            c.send(query(number))
        replies = [c.recv(512) for _ in range(200)]
    assert sorted(int.from_bytes(r[:2], "big") for r in replies) == list(range(200))
    assert {r[3] & 15 for r in replies} == {REFUSED}


def test_a_segmented_train_of_queries_is_taken_apart() -> None:
    # A client that sends by UDP_SEGMENT: one datagram train, the last one shorter, is as many queries (UDP_GRO).
    solution, segment = 17, 103
    train = [query(number) for number in range(9)] + [query(9, b"\1a\0")]
    with loop() as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.settimeout(5)
        c.connect(running.udp.getsockname())
        size = len(train[0]).to_bytes(2, "little")
        c.sendmsg([b"".join(train)], [(solution, segment, size)])
        replies = {c.recv(512) for _ in range(10)}
        assert running.count("query") == 10
    assert {r[:2] for r in replies} == {q[:2] for q in train}


def test_replies_leave_from_the_address_asked() -> None:
    with loop("::") as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.settimeout(5)
        port = running.udp.getsockname()[1]
        asked = [f"127.0.0.{1 + number % 2}" for number in range(32)]
        for number, address in enumerate(asked):
            c.sendto(query(number), (address, port))
        for _ in asked:
            reply, source = c.recvfrom(512)
            assert source[0] == asked[int.from_bytes(reply[:2], "big")]


@pytest.mark.root
@may("net_raw")
@pytest.mark.parametrize("bad", [1, 2, 5])
def test_a_destination_that_cannot_be_sent_to_costs_only_its_own_reply(bad: int) -> None:
    # Port 0 can send, but nobody can send to it: a single reply fails in the middle of a batch, and several of them
    # as one segmented send, which is repeated datagram by datagram.
    with (
        loop() as running,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c,
    ):
        port = running.udp.getsockname()[1]
        c.settimeout(5)
        c.connect(("127.0.0.1", port))
        got = set()
        for turn in range(50):
            c.send(query(2 * turn))
            for _ in range(bad):
                payload = query(turn)
                raw.sendto(struct.pack("!4H", 0, port, 8 + len(payload), 0) + payload, ("127.0.0.1", 0))
            c.send(query(2 * turn + 1))
            got |= {c.recv(512)[:2], c.recv(512)[:2]}
        assert got == {number.to_bytes(2, "big") for number in range(100)}
    # Counted once the loop has ended: a reply that failed may leave the batch after the others have arrived.
    assert running.count("send_error") == 50 * bad
    assert running.count("query") == 100 + 50 * bad


def test_silence_and_errors_are_counted() -> None:
    with loop() as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.settimeout(5)
        c.connect(running.udp.getsockname())
        c.send(b"short")
        c.send(b"\0\1\x80\0" + query(1)[4:])
        c.send(b"\0\2\x28\0" + query(1)[4:])
        assert c.recv(512)[3] & 15 == 4
        c.send(query(3)[:-3])
        assert c.recv(512)[3] & 15 == 1
        counted = {event: running.count(event) for event in ("short", "response", "notimp", "formerr", "query")}
    assert counted == {"short": 1, "response": 1, "notimp": 1, "formerr": 1, "query": 0}


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_tcp_takes_pipelined_messages_in_any_pieces(step: int) -> None:
    stream = b"".join(framed(query(number)) for number in range(20))
    with loop() as running, running.connect() as c:
        for at in range(0, len(stream), step):
            c.sendall(stream[at : at + step])
        assert {int.from_bytes(m[:2], "big") for m in messages(c, 20)} == set(range(20))


def test_tcp_skips_what_is_no_query_and_goes_on() -> None:
    with loop() as running, running.connect() as c:
        c.sendall(framed(b"") + framed(b"hello") + framed(b"\0\1\x80\0" + query(1)[4:]) + framed(query(9)))
        assert [m[:2] for m in messages(c, 1)] == [b"\0\x09"]


def test_tcp_half_closed_client_gets_its_answers() -> None:
    with loop() as running, running.connect() as c:
        c.sendall(b"".join(framed(query(number)) for number in range(100)))
        c.shutdown(socket.SHUT_WR)
        assert len(messages(c, 101)) == 100


def test_tcp_large_message_is_taken() -> None:
    with loop() as running, running.connect() as c:
        c.sendall(framed(query(7) + b"z" * 60000))
        assert messages(c, 1)[0][:2] == b"\0\x07"


def test_tcp_closes_silent_connections() -> None:
    with loop(tcp_first_query_ms=200, tcp_idle_ms=200) as running:
        with running.connect() as never_asked:
            assert never_asked.recv(1) == b""
        with running.connect() as idle:
            idle.sendall(framed(query(1)))
            assert len(messages(idle, 2)) == 1
        assert running.count("tcp_timeout") == 2


def test_tcp_client_that_does_not_read_is_not_read_from() -> None:
    with loop() as running, running.connect() as greedy, running.connect() as other:
        greedy.settimeout(0.5)
        sent, burst = 0, framed(query(1)) * 2000
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                greedy.sendall(burst)
                sent += 2000
        # Kernel buffers of both sides and our own bound, then the client is held back.
        assert sent < 4_000_000
        other.sendall(framed(query(2)))
        assert messages(other, 1)[0][:2] == b"\0\x02"


def test_no_descriptor_left_pauses_accepting_and_nothing_else() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with loop() as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.connect(running.udp.getsockname())
        late = socket.socket(socket.AF_INET)
        late.settimeout(5)
        with late:
            highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
            hoard = []
            try:
                with contextlib.suppress(OSError):
                    while True:
                        hoard.append(os.dup(udp.fileno()))
                late.connect(running.tcp.getsockname())
                late.sendall(framed(query(1)))
                until = time.monotonic() + 0.5
                while time.monotonic() < until:
                    udp.send(query(2))
                    assert udp.recv(512)[:2] == b"\0\x02"
                # Ten looks a second, not one for each turn of the loop.
                assert 1 <= running.count("tcp_paused") <= 10
            finally:
                for fd in hoard:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert messages(late, 1)[0][:2] == b"\0\x01"


def test_stop_answers_what_was_read() -> None:
    with loop() as running, running.connect() as c:
        c.sendall(framed(query(1)))
        assert len(messages(c, 1)) == 1
        running.engine.stop(2.0)
        running.thread.join(5)
        assert not running.thread.is_alive()
        assert c.recv(1) == b""


def leave(running: Loop) -> None:
    """What the supervisor does with sockets that nobody reads any more; then the loop begins, and ends."""
    running.udp.connect(("127.0.0.1", 9))
    running.engine.stop(20.0, [0])
    running.thread.start()


def quiet(running: Loop, milliseconds: int) -> bool:
    """Whether it says, within a time, that it reads nothing more. By poll: a long suite has many descriptors."""
    poller = select.poll()
    poller.register(running.engine.quiet_fd, select.POLLIN)
    return bool(poller.poll(milliseconds))


def test_what_waits_at_a_socket_that_leaves_is_answered() -> None:
    with loop(begin=False) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c, running.connect() as t:
        c.settimeout(5)
        c.connect(running.udp.getsockname())
        for number in range(150):  # more than two batches, less than a receive buffer
            c.send(query(number))
        t.sendall(framed(query(999)))
        leave(running)
        assert sorted(int.from_bytes(c.recv(512)[:2], "big") for _ in range(150)) == list(range(150))
        assert messages(t, 1)[0][:2] == b"\3\xe7"
        running.thread.join(10)
        assert not running.thread.is_alive()
        assert quiet(running, 0)


def test_what_waits_at_a_socket_that_others_read_is_left_to_them() -> None:
    with loop(begin=False) as running, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.connect(running.udp.getsockname())
        c.send(query(1))
        running.engine.stop(20.0)
        running.thread.start()
        running.thread.join(10)
        assert running.udp.recv(512) == query(1)


def test_a_handshake_that_was_under_way_is_accepted() -> None:
    with loop(begin=False) as running:
        leave(running)
        assert not quiet(running, 50)
        with running.connect() as c:
            c.sendall(framed(query(1)))
            assert messages(c, 1)[0][:2] == b"\0\x01"
        running.thread.join(10)
        assert not running.thread.is_alive()


def test_a_client_that_never_stops_asking_is_read_no_more() -> None:
    with loop() as running, running.connect() as c:
        c.sendall(framed(query(1)))
        assert len(messages(c, 1)) == 1
        running.engine.stop(600.0)
        number = 0
        with contextlib.suppress(OSError):
            while running.thread.is_alive():
                number += 1
                c.sendall(framed(query(number & 0xffff)) * 20)
                c.recv(1 << 20)
        running.thread.join(20)
        assert not running.thread.is_alive()
