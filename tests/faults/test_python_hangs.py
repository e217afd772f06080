# SPDX-License-Identifier: Apache-2.0
"""A plugin that never returns: its own queries fail, compiled answers go on, and the server gets over it."""

import time

import pytest

from fastdns.numbers import A
from fastdns.testing import Server, Worker, question
from tests.probes import installed

COREFILE = """
hang.test {
    multisocket 1
    errors
    probe
}
compiled.test {
    errors
}
"""


@pytest.fixture
def environ(tmp_path):
    with installed(tmp_path) as environ:
        yield environ


def test_the_hot_thread_answers_for_python(environ):
    """The process is stuck in Python; the loop keeps the deadlines."""
    import socket

    with Server(COREFILE, environ=environ) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", server.port))
        assert server.ask("ok.hang.test", A).rcode == 0
        sock.send(question("spin.hang.test", A, id=1))
        time.sleep(0.05)
        start = time.monotonic()
        for ident in range(2, 12):
            sock.send(question("ok.hang.test", A, id=ident))
        found = {}
        while len(found) < 11:
            reply = sock.recv(512)
            found[int.from_bytes(reply[:2], "big")] = reply[3] & 15
        # The plugin's deadline is 0.6 s; each of them failed, none was answered twice.
        assert set(found.values()) == {2} and 0.3 < time.monotonic() - start < 4
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(512)


def test_what_is_compiled_goes_on_and_the_worker_is_replaced(environ):
    with Server(COREFILE, environ=environ) as server:
        with pytest.raises(TimeoutError):
            server.ask("spin.hang.test", A, seconds=0.05)
        for n in range(20):
            # The end of a chain of compiled stages alone, and a name of nobody: Python is not asked.
            assert server.ask(f"x{n}.compiled.test", A, seconds=0.5).rcode == 2
            assert server.ask("nobody.test", A, seconds=0.5).rcode == 5
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if server.ask("ok.hang.test", A, seconds=1).rcode == 0:
                    break
            except TimeoutError:
                continue
        else:
            raise AssertionError("no worker answered with Python again:\n" + "\n".join(server.lines()))


# A sanitized interpreter does not start 4,096 queries within their deadline.
@pytest.mark.unsanitized
def test_a_full_queue_sheds(environ, monkeypatch):
    """More queries than may be in Python at once: the rest is refused at once, and counted."""
    import socket

    with Worker(COREFILE.replace("multisocket 1", "")) as worker:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", worker.port))
            sent = 0
            deadline = time.monotonic() + 5
            while not worker.counter("fastdns_python_shed_total") and time.monotonic() < deadline:
                for _ in range(64):
                    sock.send(question("hang.hang.test", A, id=sent & 0xFFFF))
                    sent += 1
                time.sleep(0.001)
            shed = worker.counter("fastdns_python_shed_total")
            assert shed > 0
            replies = [sock.recv(512) for _ in range(sent)]
            assert {reply[3] & 15 for reply in replies} == {2}
        assert worker.ask("ok.hang.test", A).rcode == 0
        assert worker.engine.in_flight == 0
