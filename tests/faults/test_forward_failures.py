# SPDX-License-Identifier: Apache-2.0
"""Upstreams that fail in other ways, and a kernel that refuses to send: queries are answered, tables empty again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time

import pytest

from fastdns.testing import Answer, Server, Worker, exchange, free_port, question
from tests.faults.serving import counted
from tests.faults.upstream import CLOSE, RESET, Asked, Upstream, reply
from tests.machine import needs

A = 1


def block(to: str, *options: str) -> str:
    return "\n".join([".:0 {", f"forward . {to} {{", *options, "}", "}", ""])


def flood(port: int, number: int, prefix: str = "n") -> list[bytes | None]:
    """Questions for new names from one socket, all at once; answers by number, None where none came."""
    found: list[bytes | None] = [None] * number
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect(("127.0.0.1", port))
        sock.settimeout(7)
        for n in range(number):
            sock.send(question(f"{prefix}{n}.test.", A, id=n))
        try:
            for _ in range(number):
                got = sock.recv(65535)
                found[int.from_bytes(got[:2], "big")] = got
        except TimeoutError:
            pass
    return found


def rcodes(found: list[bytes | None]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for got in found:
        rcode = -1 if got is None else got[3] & 15
        counts[rcode] = counts.get(rcode, 0) + 1
    return counts


def test_one_of_two_is_silent() -> None:
    with Upstream(lambda asked: []) as silent, Upstream() as up:
        to = f"127.0.0.1:{silent.port} 127.0.0.1:{up.port}"
        with Worker(block(to, "read_timeout 200ms", "max_fails 0")) as server:
            assert rcodes(flood(server.port, 400)) == {0: 400}
            assert server.engine.in_flight == 0


def test_all_are_silent() -> None:
    with Upstream(lambda asked: []) as silent:
        with Worker(block(f"127.0.0.1:{silent.port}", "read_timeout 100ms", "max_fails 0")) as server:
            assert rcodes(flood(server.port, 300)) == {2: 300}
            assert server.engine.in_flight == 0
        deadline = time.monotonic() + 20
        while len(silent.asked) < 600 and time.monotonic() < deadline:
            time.sleep(0.01)        # its thread may be behind
        assert len(silent.asked) == 600


def test_all_are_dead() -> None:
    with Worker(block(f"127.0.0.1:{free_port()}", "max_fails 0")) as server:
        begun = time.monotonic()
        assert rcodes(flood(server.port, 300)) == {2: 300}
        assert time.monotonic() - begun < 1.9
        assert server.engine.in_flight == 0


def test_late_answers_answer_nobody() -> None:
    with Upstream(lambda asked: [0.3, reply(asked)]) as up:
        options = ("read_timeout 100ms", "max_connect_attempts 1", "max_fails 0")
        with Worker(block(f"127.0.0.1:{up.port}", *options)) as server:
            assert server.ask("a.test.", A).rcode == 2
            time.sleep(0.4)
            assert server.ask("b.test.", A).rcode == 2
            assert server.counter("fastdns_forward_events_total", event="wrong_id") >= 1


def test_connection_that_is_cut_in_a_message() -> None:
    def script(asked: Asked) -> list[bytes | float]:
        return [CLOSE] if asked.name.startswith("cut") else [reply(asked)]

    with Upstream(script) as up, Worker(block(f"127.0.0.1:{up.port}", "force_tcp", "max_fails 0")) as server:
        assert server.ask("cut.test.", A).rcode == 2
        assert len(up.of("cut.test.")) == 2
        for n in range(20):
            assert server.ask(f"n{n}.test.", A).answer
            assert server.ask(f"cut{n}.test.", A).rcode == 2
        assert server.engine.in_flight == 0


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_kept_connections_that_end_cost_no_attempt(end: bytes) -> None:
    """Each takes a second question and hangs up without an answer."""
    used: set[int] = set()

    def script(asked: Asked) -> list[bytes | float]:
        if asked.port in used:
            return [end]
        used.add(asked.port)
        return [reply(asked)]

    with Upstream(script) as up:
        options = ("force_tcp", "max_connect_attempts 1", "max_fails 0")
        with Worker(block(f"127.0.0.1:{up.port}", *options)) as server:
            for turn in range(5):
                assert rcodes(flood(server.port, 40, f"t{turn}-")) == {0: 40}
            assert server.engine.in_flight == 0
        assert len(up.asked) > 200


def test_kept_connections_that_end_late_are_not_all_tried() -> None:
    used: set[int] = set()

    def script(asked: Asked) -> list[bytes | float]:
        if asked.port in used:
            return [0.15, CLOSE]
        used.add(asked.port)
        return [0.05, reply(asked)]

    with Upstream(script) as up:
        options = ("force_tcp", "max_connect_attempts 1", "max_fails 0", "read_timeout 200ms")
        with Worker(block(f"127.0.0.1:{up.port}", *options)) as server:
            assert rcodes(flood(server.port, 20)) == {0: 20}
            assert server.ask("late.test.", A).answer == ["late.test. 300 IN A 192.0.2.1"]
            assert len(up.of("late.test.")) <= 3


def test_a_listener_that_never_accepts() -> None:
    with socket.socket() as stuck, Upstream() as up:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen(0)
        fill = [socket.socket() for _ in range(3)]
        for sock in fill:
            sock.setblocking(False)
            sock.connect_ex(stuck.getsockname())
        to = f"127.0.0.1:{stuck.getsockname()[1]} 127.0.0.1:{up.port}"
        with Worker(block(to, "policy sequential", "force_tcp", "read_timeout 200ms", "max_fails 0")) as server:
            assert server.ask("a.test.", A).answer
            assert server.engine.in_flight == 0
        for sock in fill:
            sock.close()


def test_many_tcp_questions_at_once() -> None:
    with Upstream(lambda asked: [0.1, reply(asked)]) as up:
        with Worker(block(f"127.0.0.1:{up.port}", "force_tcp", "max_fails 0")) as server:
            found = rcodes(flood(server.port, 300))
            assert found == {0: 300}
            assert up.accepted <= 300
            assert server.engine.in_flight == 0


@pytest.mark.parametrize("sockets", [1, 2])
def test_forwarding_to_itself_ends(sockets: int) -> None:
    """A question that comes back is equal to the one in flight, so it joins that one: nothing multiplies. Health
    checks, which would go on for ever, are off."""
    port, web = free_port(), free_port()
    corefile = (
        f".:{port} {{\n multisocket {sockets}\n prometheus 127.0.0.1:{web}\n forward . 127.0.0.1:{port} {{\n"
        "  read_timeout 300ms\n  max_fails 0\n  max_connect_attempts 2\n }\n}\n"
    )

    with Server(corefile):
        assert exchange(question("a.test.", A), port)[3] & 15 == 2
        if sockets == 1:
            assert counted(web, "fastdns_ingress_total", event="query") == 1 + 2  # the client's, one for each attempt
            return
        # A worker that is asked by the other after its own question has ended begins anew, which happens now and then;
        # each time it is as likely as not to ask itself, so it ends. At rest: nothing comes for longer than a question
        # lives.
        before = -1.0
        for _ in range(20):
            if before == (before := counted(web, "fastdns_ingress_total", event="query")):
                break
            time.sleep(1.0)
        else:
            raise AssertionError(f"{before} queries, and no end")


@pytest.mark.real_servers
@needs("strace", "ps")
@pytest.mark.parametrize("error", ["EIO", "ENOBUFS", "EPERM"])
def test_sends_that_fail_are_repeated_one_by_one(error: str) -> None:
    """The kernel refuses every second sendmmsg of every process of the server."""
    web = free_port()
    corefile = f". {{\n  prometheus 127.0.0.1:{web}\n  forward . 127.0.0.1:{{port}}\n}}\n"
    with Upstream() as up, Server(corefile.replace("{port}", str(up.port))) as server:
        workers = subprocess.run(
            ["ps", "-o", "pid=", "-s", str(server.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        pids = [part for pid in workers for part in ("-p", pid)]
        command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=sendmmsg"]
        tracer = subprocess.Popen(
            [*command, "-e", f"inject=sendmmsg:error={error}:when=1+2", *pids], stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            if tracer.poll() is not None and os.geteuid() != 0:
                pytest.skip("processes may not be traced here by this user")
            assert tracer.poll() is None
            found = rcodes(flood(server.port, 200))
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
        # A reply alone in its call is given up with that call, and counted: how many those are is for chance, as every
        # second call is a client's or the upstream's. A question must reach the upstream, and only once.
        assert set(found) <= {0, -1}
        assert found.get(-1, 0) == counted(web, "fastdns_ingress_total", event="send_error")
        assert sorted(one.name for one in up.asked) == sorted(f"n{n}.test." for n in range(200))
        for n in range(20):
            assert Answer.of(exchange(question(f"after{n}.test.", A), server.port)).answer
