# SPDX-License-Identifier: Apache-2.0
"""A whole server: what it tells of itself while its own helpers die, its reader stalls or its Corefile changes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from fastdns.testing import Server, exchange, free_port, question

COREFILE = """
. {
    prometheus 127.0.0.1:%(metrics)d
    health 127.0.0.1:%(health)d
    ready 127.0.0.1:%(ready)d
    log
    errors
    whoami
}
"""


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def series(port: int) -> dict[str, float]:
    """Values by name, summed over the labels."""
    out: dict[str, float] = {}
    for family in families(get(port, "/metrics")[1]):
        for sample in family.samples:
            out[sample.name] = out.get(sample.name, 0) + sample.value
    return out


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def child(server: Server, role: str) -> int:
    """The process of a role."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        name, parent = re.match(r"\d+ \((.*)\) \S (\d+)", stat).groups()
        if name == f"fastdns:{role}"[:15] and int(parent) == server.process.pid:
            return int(entry.name)
    raise AssertionError(f"no process {role}")


@pytest.fixture
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("metrics", "health", "ready")}


@pytest.fixture
def server(ports: dict[str, int]):
    running = Server(COREFILE % ports)
    yield running
    running.stop()


def test_one_page_for_all_workers(server: Server, ports: dict[str, int]) -> None:
    for number in range(40):
        # A socket for each question, so that the kernel spreads them over the workers.
        assert exchange(question(f"n{number}.example.org", 1), server.port)
    found = series(ports["metrics"])
    assert found["coredns_dns_requests_total"] == found["coredns_dns_responses_total"] == 40
    assert found["coredns_dns_request_duration_seconds_count"] == 40
    assert get(ports["health"], "/health") == (200, "OK")
    assert get(ports["ready"], "/ready") == (200, "OK")
    until(lambda: sum("example.org. udp" in line for line in server.lines()) == 40)


def test_a_dead_web_process_comes_back_on_its_sockets(server: Server, ports: dict[str, int]) -> None:
    exchange(question("example.org", 1), server.port)
    before = child(server, "web")
    os.kill(before, signal.SIGKILL)
    # The template holds the sockets: a connection waits there instead of being refused.
    assert series(ports["metrics"])["coredns_dns_requests_total"] == 1
    assert child(server, "web") != before
    assert get(ports["health"], "/health")[0] == 200


def test_a_dead_formatter_comes_back_and_nothing_in_the_rings_is_lost(server: Server, ports: dict[str, int]) -> None:
    exchange(question("before.example.org", 1), server.port)
    server.wait_for("before.example.org.")
    os.kill(child(server, "formatter"), signal.SIGKILL)
    exchange(question("after.example.org", 1), server.port)
    server.wait_for("after.example.org.", 15)


def test_counters_survive_a_reload_and_enabled_follows_it(server: Server, ports: dict[str, int]) -> None:
    exchange(question("example.org", 1), server.port)
    assert 'plugin_enabled{name="errors"' in get(ports["metrics"], "/metrics")[1]
    server.corefile.write_text(server.corefile.read_text().replace("    errors\n", ""))
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for("Reloading complete", 20)
    until(lambda: not re.search(r'plugin_enabled\{name="errors".*\} 1', get(ports["metrics"], "/metrics")[1]))
    assert 'plugin_enabled{name="log"' in get(ports["metrics"], "/metrics")[1]
    exchange(question("example.org", 1), server.port)
    assert series(ports["metrics"])["coredns_dns_requests_total"] == 2


def test_lameduck_answers_on_and_says_so(ports: dict[str, int]) -> None:
    text = (COREFILE % ports).replace(f"health 127.0.0.1:{ports['health']}",
                                      f"health 127.0.0.1:{ports['health']} {{\n lameduck 2s\n}}")
    server = Server(text)
    try:
        server.process.terminate()
        server.wait_for("[INFO] plugin/health: Going into lameduck mode for 2s")
        assert exchange(question("duck.example.org", 1), server.port)
        assert get(ports["health"], "/health") == (200, "OK")
        assert get(ports["ready"], "/ready") == (503, "Shutting down")
    finally:
        assert server.stop() == 0
    assert any("duck.example.org." in line for line in server.lines())


def test_a_reader_that_stalls_loses_lines_and_no_answer(ports: dict[str, int], tmp_path: Path) -> None:
    port = free_port()
    corefile = tmp_path / "Corefile"
    corefile.write_text((COREFILE % ports).replace(". {", ". {\n bind 127.0.0.1", 1))
    reading, writing = os.pipe()
    # The reader never reads: 64 KiB later the pipe is full.
    process = subprocess.Popen(
        [sys.executable, "-m", "fastdns", "-conf", str(corefile), "-dns.port", str(port)],
        stdout=writing, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    os.close(writing)
    try:
        def answers() -> bool:
            try:
                return get(ports["ready"], "/ready")[0] == 200
            except OSError:
                return False

        until(answers)
        name = ".".join(["x" * 60] * 4)
        for _ in range(1500):
            assert exchange(question(name, 1), port, seconds=5)
        assert get(ports["health"], "/health") == (200, "OK")
        process.terminate()
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(reading)
