# SPDX-License-Identifier: Apache-2.0
"""The whole server under what goes wrong around it: dead upstreams, a stuck plugin, garbage, slow clients, reloads.

Strategy: nothing is timed; every question has a number, and what is asked and what is answered are counted.
"""

import contextlib
import os
import random
import re
import resource
import signal
import socket
import struct
import threading
from pathlib import Path

import pytest

from fastdns.numbers import NOERROR, SERVFAIL, A
from fastdns.testing import exchange, question
from tests.machine import needs_ipv6
from tests.probes import installed

from .serving import Server, free_port, load, page, query, readable, wait_for
from .upstream import Asked, Upstream, reply

ROOT = Path(__file__).resolve().parents[2]
HITS = 2000
STOCK = """
.:{port} {
    errors
    health 127.0.0.1:{port2} {
        lameduck 1s
    }
    ready 127.0.0.1:{port3}
    prometheus 127.0.0.1:{port4}
    forward . 127.0.0.1:UPSTREAM {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""


def rcode_of(wire: bytes) -> int:
    return wire[3] & 15


def framed(wire: bytes) -> bytes:
    return struct.pack("!H", len(wire)) + wire


def read_message(sock: socket.socket) -> bytes:
    """One message of a TCP connection; EOFError where it is closed before the first octet or within."""
    have = b""
    while len(have) < 2 or len(have) < 2 + int.from_bytes(have[:2], "big"):
        octets = sock.recv(65535)
        if not octets:
            raise EOFError
        have += octets
    return have[2:]


class TestDeadUpstreams:
    """All upstreams are silent: what is cached is answered, and each miss fails by itself."""

    def test_hits_go_on_and_misses_fail(self, tmp_path: Path) -> None:
        dead = threading.Event()

        def script(asked: Asked) -> list[bytes | float]:
            return [] if dead.is_set() else [reply(asked)]

        with Upstream(script) as one, Upstream(script) as two:
            corefile = (f".:{{port}} {{\n bind 127.0.0.1\n cache\n"
                        f" forward . 127.0.0.1:{one.port} 127.0.0.1:{two.port}\n}}\n")
            with Server(tmp_path, corefile) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as misses:
                assert rcode_of(exchange(question("www.example", A), server.port)) == NOERROR
                dead.set()
                misses.connect(("127.0.0.1", server.port))
                misses.settimeout(15)
                for number in range(100):
                    misses.send(question(f"m{number}.example", A, id=number))
                failed = set()
                with load(server.port, 8) as clients:
                    while len(failed) < 100:
                        clients.run(0.2, HITS)
                        while readable(misses, 0):
                            wire = misses.recv(512)
                            assert rcode_of(wire) == SERVFAIL
                            failed.add(int.from_bytes(wire[:2], "big"))
                        assert clients.sent < 15 * HITS, f"{len(failed)} of 100 misses were answered"
                    assert clients.settle() == 0 and clients.doubled == 0
                    assert clients.answered == clients.sent > 1000


class TestEndlessLoop:
    """A plugin that never returns stands in one block; another block's hits do not notice."""

    COREFILE = """
hang.test:{port} {
    bind 127.0.0.1
    multisocket 1
    probe
}
example:{port} {
    bind 127.0.0.1
    cache
    forward . 127.0.0.1:UPSTREAM
}
"""

    def test_every_hit_is_answered(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with installed(tmp_path) as environ, Upstream() as up:
            monkeypatch.setenv("PYTHONPATH", environ["PYTHONPATH"])
            with Server(tmp_path, self.COREFILE.replace("UPSTREAM", str(up.port))) as server:
                assert rcode_of(exchange(question("www.example", A), server.port)) == NOERROR
                wait_for(lambda: len(server.children("worker")) == 2, "the spare beside the worker")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, load(server.port, 8) as clients:
                    sock.connect(("127.0.0.1", server.port))
                    sock.send(question("spin.hang.test", A))
                    for _ in range(80):
                        clients.run(0.25, 4000)
                        if len(server.children("worker")) > 2:
                            break
                    else:
                        raise AssertionError("the stuck worker was not replaced")
                    clients.run(1, 4000)
                    assert clients.settle() == 0 and clients.doubled == 0
                    assert clients.answered == clients.sent
            assert len(up.asked) == 1


class TestAddresses:
    """The wildcard socket answers from the address that was asked, hits of equal size in one batch."""

    @needs_ipv6
    def test_two_addresses_in_one_batch(self, tmp_path: Path) -> None:
        with Upstream() as up:
            corefile = f".:{{port}} {{\n multisocket 1\n cache\n forward . 127.0.0.1:{up.port}\n}}\n"
            with Server(tmp_path, corefile) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                assert rcode_of(exchange(question("www.example", A), server.port)) == NOERROR
                sock.bind(("0.0.0.0", 0))
                sock.settimeout(5)
                worker = server.children("worker")[0]
                hosts = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
                asked = {}
                # While it is stopped, all of them queue up: they leave as one batch. Too short to count as hung.
                os.kill(worker, signal.SIGSTOP)
                try:
                    for number in range(96):
                        asked[number] = hosts[random.Random(number).randrange(3)]
                        sock.sendto(query(number), (asked[number], server.port))
                finally:
                    os.kill(worker, signal.SIGCONT)
                for _ in range(96):
                    wire, (host, port) = sock.recvfrom(512)
                    assert (host, port) == (asked.pop(int.from_bytes(wire[:2], "big")), server.port)
                assert not asked
                assert rcode_of(exchange(question("www.example", A), server.port, address="::1")) == NOERROR
                assert rcode_of(exchange(question("www.example", A), server.port, "tcp", "::1")) == NOERROR


class TestStock:
    """The Corefile of CoreDNS's usual deployment, without kubernetes."""

    def test_it_starts_answers_and_stops(self, tmp_path: Path) -> None:
        with Upstream() as up, Server(tmp_path, STOCK.replace("UPSTREAM", str(up.port)), ports=4) as server:
            for proto in ("udp", "tcp"):
                for name in ("www.example", "www.example", f"{proto}.example"):
                    assert rcode_of(exchange(question(name, A), server.port, proto)) == NOERROR
            assert [one.name for one in up.of("www.example.")] == ["www.example."]
            health, ready, metrics = server.ports[1:]
            assert page(health, "/health") == "OK" and page(ready, "/ready") == "OK"
            assert re.search(r"^coredns_cache_hits_total\{.*\} 3$", page(metrics), re.M)
            assert server.stop() == 0 and server.err == ""
            assert "[INFO] plugin/health: Going into lameduck mode for 1s" in server.out


def mutations(count: int) -> list[bytes]:
    """Random octets of any length, and queries with octets changed, cut out or added. Never an empty one."""
    source = random.Random(5)
    found = []
    seeds = [query(1), question("a.example", A, do=True, bufsize=4096, options=[(10, b"12345678")]),
             question("x" * 63 + ".example", 255, cd=True)]
    for _ in range(count):
        if source.random() < 0.5:
            found.append(source.randbytes(source.choice((1, 11, 12, 13, 17, source.randrange(1, 4200)))))
            continue
        wire = bytearray(source.choice(seeds))
        for _ in range(source.randrange(1, 6)):
            at = source.randrange(len(wire))
            match source.randrange(3):
                case 0:
                    wire[at] = source.randrange(256)
                case 1:
                    del wire[at : at + source.randrange(1, 4)]
                case 2:
                    wire[at:at] = source.randbytes(source.randrange(1, 9))
            wire = wire or bytearray(b"\0")
        found.append(bytes(wire))
    return found


class TestGarbage:
    """Ten thousand datagrams and as many TCP messages that nobody should send cost no worker."""

    def test_it_serves_on_with_the_same_processes(self, tmp_path: Path) -> None:
        with Upstream() as up:
            corefile = (f".:{{port}} {{\n bind 127.0.0.1\n multisocket 2\n errors\n log\n"
                        f" prometheus 127.0.0.1:{{port2}}\n cache\n forward . 127.0.0.1:{up.port}\n loadbalance\n}}\n"
                        f"example.org:{{port}} {{\n whoami\n bind 127.0.0.1\n multisocket 2\n}}\n")
            with Server(tmp_path, corefile, ports=2) as server:
                assert rcode_of(exchange(question("www.example", A), server.port)) == NOERROR
                wait_for(lambda: len(server.children("worker")) == 3, "the spare beside the workers")
                before = server.children()
                garbage = mutations(10_000)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                    sock.connect(("127.0.0.1", server.port))
                    sock.setblocking(False)
                    for number, wire in enumerate(garbage):
                        with contextlib.suppress(OSError):
                            sock.send(wire)
                        while number % 16 == 15:
                            try:
                                sock.recv(65535)
                            except OSError:
                                break
                for first in range(0, len(garbage), 100):
                    with socket.create_connection(("127.0.0.1", server.port)) as sock:
                        sock.settimeout(0.002)
                        with contextlib.suppress(OSError):
                            for wire in garbage[first : first + 100]:
                                # Every other one without a length of its own: the framing itself is garbage.
                                sock.send(framed(wire) if first // 100 % 2 else wire)
                            while sock.recv(65535):
                                continue
                for number in range(50):
                    proto = ("udp", "tcp")[number & 1]
                    assert rcode_of(exchange(question(f"n{number}.example", A), server.port, proto)) == NOERROR
                assert server.children() == before
                assert "coredns_panics_total 0" in page(server.ports[1])


class TestTcpClients:
    """Connections that take their time, too many of them, and a reload in their midst."""

    def test_three_hundred_slow_clients(self, tmp_path: Path) -> None:
        with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n") as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(300)]
            wires = [framed(query(number)) for number in range(300)]
            for at in range(len(wires[0])):
                for sock, wire in zip(clients, wires, strict=True):
                    sock.send(wire[at : at + 1])
                for proto in ("udp", "tcp"):
                    assert rcode_of(exchange(query(at), server.port, proto)) == NOERROR
            for number, sock in enumerate(clients):
                sock.settimeout(5)
                wire = read_message(sock)
                assert int.from_bytes(wire[:2], "big") == number and rcode_of(wire) == NOERROR

    def test_the_table_of_connections_is_bounded(self, tmp_path: Path) -> None:
        """A full table gives up the connection that has been idle longest, and counts it."""
        most, more = 4096, 200
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < most + more + 200:
            pytest.skip("too few descriptors are allowed here")
        corefile = (".:{port} {\n bind 127.0.0.1\n multisocket 1\n prometheus 127.0.0.1:{port2}\n whoami\n}\n")
        with Server(tmp_path, corefile, ports=2) as server, contextlib.ExitStack() as stack:
            clients = []
            for number in range(most + more):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                sock.settimeout(5)
                sock.send(framed(query(number)))
                assert read_message(sock)
                clients.append(sock)
            closed = sum(sock.recv(1) == b"" for sock in clients[:more])
            assert closed == more
            for sock in clients[more:]:
                sock.send(framed(query(7)))
            assert all(rcode_of(read_message(sock)) == NOERROR for sock in clients[more:])
            assert f'fastdns_ingress_total{{event="tcp_evicted"}} {more}\n' in page(server.ports[1])

    def test_reloads_under_load(self, tmp_path: Path) -> None:
        """Short connections are all answered; a long one is answered or ends between two messages."""
        corefile = ".:{port} {\n bind 127.0.0.1\n whoami\n}\n"
        with Server(tmp_path, corefile) as server:
            end = threading.Event()
            short, long, broken = [0], [0], list[str]()

            def ask_once() -> None:
                while not end.is_set():
                    try:
                        assert rcode_of(exchange(query(short[0]), server.port, "tcp")) == NOERROR
                        short[0] += 1
                    except (OSError, EOFError, AssertionError) as error:
                        broken.append(f"after {short[0]}: {error!r}")

            def ask_often() -> None:
                while not end.is_set():
                    with socket.create_connection(("127.0.0.1", server.port)) as sock:
                        sock.settimeout(5)
                        with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
                            while not end.is_set():
                                sock.send(framed(query(long[0])) * 4)
                                for _ in range(4):
                                    wire = read_first(sock)
                                    assert int.from_bytes(wire[:2], "big") == long[0] & 0xFFFF
                                long[0] += 1

            def read_first(sock: socket.socket) -> bytes:
                size = sock.recv(2, socket.MSG_WAITALL)
                if len(size) < 2:
                    raise EOFError
                return sock.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)

            threads = [threading.Thread(target=work) for work in (ask_once, ask_once, ask_often)]
            for thread in threads:
                thread.start()
            for number in range(1, 6):
                server.write(corefile.replace("whoami", f"whoami\n # {number}\n"))
                server.process.send_signal(signal.SIGUSR1)
                server.wait_line("Reloading complete", number)
                had = short[0], long[0]
                wait_for(lambda had=had: short[0] > had[0] + 20 and long[0] > had[1], "answers over TCP")
            end.set()
            for thread in threads:
                thread.join()
            assert not broken and short[0] > 100


class TestHelpers:
    """Processes that die together come back, each once."""

    def test_the_template_and_the_web_process(self, tmp_path: Path) -> None:
        corefile = (".:{port} {\n bind 127.0.0.1\n health 127.0.0.1:{port2}\n prometheus 127.0.0.1:{port3}\n"
                    " whoami\n}\n")
        with Server(tmp_path, corefile, ports=3) as server, load(server.port, 4) as clients:
            for _ in range(3):
                dead = server.children("templat") + server.children("web")
                for pid in dead:
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda dead=dead: [pid for role in ("templat", "web") for pid in server.children(role)
                                            if pid not in dead][1:], "a new template and a new web process")
                clients.run(0.5, 1000)
                wait_for(lambda: len(server.children("web")) == 1, "one web process")
                # One that stood on addresses which its predecessor had closed would answer none of these.
                for _ in range(5):
                    assert page(server.ports[1], "/health") == "OK"
                    assert "coredns_build_info" in page(server.ports[2])
            assert clients.settle() == 0 and clients.answered == clients.sent
            assert "Exception" not in server.out


class TestManyBlocks:
    """The table of counters carries a Corefile of many zones."""

    def test_each_zone_has_its_own_series(self, tmp_path: Path) -> None:
        block = "z{number}.example:{{port}} {{\n bind 127.0.0.1\n prometheus 127.0.0.1:{{port2}}\n whoami\n}}\n"
        corefile = "".join(block.format(number=number) for number in range(200))
        with Server(tmp_path, corefile, ports=2) as server:
            for number in range(200):
                assert rcode_of(exchange(question(f"a.z{number}.example", A), server.port)) == NOERROR
            text = page(server.ports[1])
            counted = re.findall(r'^coredns_dns_requests_total\{.*zone="z(\d+)\.example\."\} 1$', text, re.M)
            assert sorted(map(int, counted)) == list(range(200))
            assert "\nfastdns_stats_overflow_total 0\n" in text


class TestRootCorefile:
    """What `make run` serves stands on fixed ports; here each gets a free one."""

    def test_it_starts_and_answers_without_a_network(self, tmp_path: Path) -> None:
        text = (ROOT / "Corefile").read_text()
        text = text.replace(":1053", ":{port}").replace(":9153", ":{port2}")
        text = text.replace("    health\n", "    health 127.0.0.1:{port3}\n")
        text = text.replace("    ready\n", f"    ready 127.0.0.1:{free_port()}\n")
        with Server(tmp_path, text, ports=3) as server:
            assert rcode_of(exchange(question("demo.test", A), server.port)) == NOERROR
            assert page(server.ports[2], "/health") == "OK"
            assert 'zone="demo.test."' in page(server.ports[1])
            assert server.stop() == 0
