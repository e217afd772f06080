# SPDX-License-Identifier: Apache-2.0
"""timeouts: which connections are closed, and which words are refused."""

from __future__ import annotations

import socket
import time

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import A
from fastdns.plugins.timeouts import Timeouts
from fastdns.testing import Worker, question, receive

ALL = "timeouts {\nread 1s\nwrite 1s\nidle 1s\n}"


def closed(worker: Worker) -> int:
    return worker.counter("fastdns_ingress_total", event="tcp_timeout")


def connect(worker: Worker) -> socket.socket:
    return socket.create_connection(("127.0.0.1", worker.port), 10)


def ask(sock: socket.socket) -> None:
    wire = question("a.example.", A)
    sock.sendall(len(wire).to_bytes(2, "big") + wire)


def answer(sock: socket.socket) -> bytes:
    return receive(sock, int.from_bytes(receive(sock, 2), "big"))


def closed_after(sock: socket.socket, seconds: float) -> bool:
    """Whether the server has closed once so much time is over."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False


@pytest.mark.parametrize(("line", "first", "later"), [
    ("timeouts {\nread 1s\nidle 30s\n}", True, False),
    ("timeouts {\nread 30s\nidle 1\n}", False, True),
])  # fmt: skip
def test_to_the_first_query_and_to_later_ones(line, first, later):
    with Worker(f". {{\n{line}\nwhoami\n}}\n") as worker, connect(worker) as silent, connect(worker) as spoke:
        ask(spoke)
        answer(spoke)
        assert closed_after(silent, 2.5) == first
        assert closed_after(spoke, 0.1) == later
        assert closed(worker) == 1


def test_a_query_that_does_not_end():
    with Worker(f". {{\n{ALL}\nwhoami\n}}\n") as worker, connect(worker) as sock:
        sock.sendall(b"\0\x40ab")
        assert closed_after(sock, 4)


def test_answers_that_are_not_read():
    # The client's buffers are small and it asks for more than they hold; what it left unread ends the connection.
    with Worker(". {\ntimeouts {\nwrite 1s\nidle 60s\n}\nwhoami\n}\n") as worker, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect(("127.0.0.1", worker.port))
        sock.settimeout(0.2)
        wire = question("a" * 60 + ".example.", A)
        with pytest.raises((TimeoutError, ConnectionError)):
            for _ in range(2000):
                sock.sendall((len(wire).to_bytes(2, "big") + wire) * 500)
        deadline = time.monotonic() + 10
        while closed(worker) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert closed(worker) == 1


@pytest.mark.parametrize("together", [False, True])
def test_queries_of_one_connection(together):
    with Worker(". {\ntimeouts {\nmaxtcpqueries 3\n}\nwhoami\n}\n") as worker:
        with connect(worker) as sock:
            wire = question("a.example.", A)
            message = len(wire).to_bytes(2, "big") + wire
            if together:
                sock.sendall(3 * message)
            for _ in range(3):
                if not together:
                    sock.sendall(message)
                assert answer(sock)[:2] == wire[:2]
            assert sock.recv(1) == b""
        assert worker.ask("a.example.", A, "tcp").rcode == 0


def test_more_at_once_than_are_taken():
    with Worker(". {\ntimeouts {\nmaxtcpqueries 2\n}\nwhoami\n}\n") as worker, connect(worker) as sock:
        wire = question("a.example.", A)
        sock.sendall(5 * (len(wire).to_bytes(2, "big") + wire))
        assert answer(sock) and answer(sock)
        assert closed_after(sock, 5)


def test_a_client_that_sends_on_reads_its_answers_and_an_end():
    """What nobody will read must not turn the end into a reset, which would throw answers away."""
    with Worker(". {\ntimeouts {\nmaxtcpqueries 2\n}\nwhoami\n}\n") as worker, connect(worker) as sock:
        wire = question("a.example.", A)
        message = len(wire).to_bytes(2, "big") + wire
        sock.sendall(2 * message + bytes(20000))
        sock.settimeout(10)
        assert answer(sock)[:2] == answer(sock)[:2] == wire[:2]
        assert sock.recv(1) == b""
        # Nor is it waited for without end.
        deadline = time.monotonic() + 20
        with pytest.raises(ConnectionError):
            while time.monotonic() < deadline:
                sock.sendall(message)
                time.sleep(0.05)
        assert closed(worker) == 0


def test_a_client_that_sends_much_on_is_cut_off():
    with Worker(". {\ntimeouts {\nmaxtcpqueries 1\n}\nwhoami\n}\n") as worker, connect(worker) as sock:
        wire = question("a.example.", A)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        assert answer(sock) and sock.recv(1) == b""
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                sock.sendall(bytes(65536))


def test_any_number():
    with Worker(". {\ntimeouts {\nmaxtcpqueries -1\n}\nwhoami\n}\n") as worker, connect(worker) as sock:
        for _ in range(50):
            ask(sock)
            assert answer(sock)


def test_the_last_block_of_a_listener_counts_and_others_are_not_touched():
    def block(zone: str, *lines: str) -> str:
        return f"{zone} {{\ntimeouts {{\n" + "\n".join(lines) + "\n}\nwhoami\n}\n"

    silent = ". {\nwhoami\n}\n"
    text = block("a:53", "read 2s", "idle 7s") + block("b:53", "read 4s") + silent + block("c:54", "write 9s")
    with Worker(text) as worker:
        found = {at.port: worker.generation._timeouts(at) for at in worker.generation.listeners}
    assert found == {53: {"read": 4.0, "idle": 7.0}, 54: {"write": 9.0}}


def parse(text: str) -> list:
    return Timeouts.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "timeouts"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("read 1", 1.0),
        ("write 1m30s", 90.0),
        ("idle 24h", 86400.0),
        ("idle 1000ms", 1.0),
        ("maxtcpqueries -1", -1),
        ("maxtcpqueries 1", 1),
    ],
)
def test_values(option, value):
    (config,) = parse(f"timeouts {{\n{option}\n}}")
    assert dict(config) == {option.split()[0]: value}


ARGUMENTS = "Wrong argument count or unexpected line ending after"
BETWEEN = "needs to be between 1 second and 24 hours"
WHOLE = "needs to be -1 (unlimited) or a positive integer"


@pytest.mark.parametrize(
    ("text", "times", "line", "message"),
    [
        ("timeouts", 2, 1, "timeouts block with no timeouts specified"),
        ("timeouts {\n}", 2, 2, "timeouts block with no timeouts specified"),
        ("timeouts 5s", 2, 1, f"{ARGUMENTS} '5s'"),
        ("timeouts {\n read\n}", 1, 2, f"{ARGUMENTS} 'read'"),
        ("timeouts {\n read 1s 2s\n}", 1, 2, f"{ARGUMENTS} '2s'"),
        ("timeouts {\n foo 2s\n}", 1, 2, "unknown option: 'foo'"),
        ("timeouts {\n foo x\n}", 1, 2, "failed to parse duration 'x'"),
        ("timeouts {\n read 0.5s\n}", 1, 2, f"timeout provided '500ms' {BETWEEN}"),
        ("timeouts {\n read 0\n}", 1, 2, f"timeout provided '0s' {BETWEEN}"),
        ("timeouts {\n read 25h\n}", 1, 2, f"timeout provided '25h0m0s' {BETWEEN}"),
        ("timeouts {\n maxtcpqueries 0\n}", 1, 2, f"maxtcpqueries provided '0' {WHOLE}"),
        ("timeouts {\n maxtcpqueries -2\n}", 1, 2, f"maxtcpqueries provided '-2' {WHOLE}"),
        (
            "timeouts {\n maxtcpqueries x\n}",
            1,
            2,
            "invalid value for maxtcpqueries 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
    ],
)
def test_errors(text, times, line, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == "plugin/timeouts: " * times + f"Corefile:{line} - Error during parsing: {message}"
