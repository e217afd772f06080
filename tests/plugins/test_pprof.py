# SPDX-License-Identifier: Apache-2.0
"""pprof: grammar, what it asks the server for, and profiles of a running server, as Go's own tool reads them."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import psutil
import pytest

from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError, StartError
from fastdns.plugin import BlockPlan
from fastdns.plugins.pprof import Pprof
from fastdns.server import web
from fastdns.testing import Server, free_port
from tests.unit.test_pprof import decode


def parse(text: str) -> list:
    return Pprof.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "pprof"))


@pytest.mark.parametrize(
    ("text", "address", "block"),
    [
        ("pprof", "localhost:6053", 0),
        ("pprof 10.9.8.7:6060", "10.9.8.7:6060", 0),
        ("pprof :6060 {\n block\n}", ":6060", 1),
        ("pprof [::1]:6060 {\n block 20000000\n}", "[::1]:6060", 20_000_000),
        ("pprof {\n block 5\n block -5\n}", "localhost:6053", -5),
        ("pprof {\n}", "localhost:6053", 0),
    ],
)
def test_grammar(text: str, address: str, block: int) -> None:
    (config,) = parse(text)
    plan = BlockPlan(0, (), ())
    Pprof.plan(config, plan)
    assert plan.asks == [("http", {"block": 0, "service": "pprof", "address": address, "rate": block})]


COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("pprof a b", f"Corefile:1 - {COUNT} 'b'"),
        ("pprof nope", "Corefile:1 - Error during parsing: address nope: missing port in address"),
        ("pprof :1:2", "Corefile:1 - Error during parsing: address :1:2: too many colons in address"),
        ("pprof {\n block x\n}", "Corefile:2 - Error during parsing: property 'block' invalid integer value 'x'"),
        ("pprof {\n block 99999999999999999999\n}",
         "Corefile:2 - Error during parsing: property 'block' invalid integer value '99999999999999999999'"),
        ("pprof {\n block 1 2\n}", f"Corefile:2 - {COUNT} '2'"),
        ("pprof {\n bloc\n}", "Corefile:2 - Error during parsing: unknown property 'bloc'"),
        ("pprof\npprof", "this plugin can only be used once per Server Block"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/pprof: {error}"


def test_an_address_that_cannot_be_opened_stops_the_start(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartError) as caught:
        web.listen([{"service": "pprof", "address": "192.0.2.1:99", "block": 0, "rate": 0}])
    assert str(caught.value) == "listen tcp 192.0.2.1:99: bind: cannot assign requested address"
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("plugin/pprof", "ERROR", f"Failed to start pprof handler: {caught.value}")]


def get(port: int, path: str, seconds: float = 30.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", f"/debug/pprof{path}")
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def used(pid: int) -> float:
    """CPU seconds of a server's processes."""
    root = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in [root, *root.children(recursive=True)])


def test_a_running_server(tmp_path: Path) -> None:
    """Every process takes part; the sum is what the scheduler says; Go's tool opens it; a reload keeps the address."""
    port = free_port()
    options = f"multisocket 2\n    log\n    pprof 127.0.0.1:{port} {{\n        block\n    }}\n    whoami"
    corefile = f". {{\n    {options}\n}}\n"
    with Server(corefile) as server:
        end = threading.Event()

        def load() -> None:
            while not end.is_set():
                server.ask("whoami.example.", 1)

        asking = threading.Thread(target=load)
        asking.start()
        try:
            # On a busy machine much may be spent before and after the look: one look of three has to fit.
            for _ in range(3):
                before = used(server.process.pid)
                status, body = get(port, "/profile?seconds=2")
                spent = used(server.process.pid) - before
                if sum(values[1] for _, values, _ in decode(body)[1]) / 1e9 >= 0.5 * spent - 0.1:
                    break
        finally:
            end.set()
            asking.join()
        assert status == 200
        kinds, samples = decode(body)
        assert kinds == ["samples", "cpu"]
        processes = {str(labels["process"]) for _, _, labels in samples}
        assert {"worker 0", "worker 1", "keeper", "web", "formatter", "supervisor"} <= processes
        total = sum(values[1] for _, values, _ in samples) / 1e9
        # The counters of the processes go by ticks of 10 ms, user and system time each, and answering takes time too.
        slack = 0.02 * (1 + len(psutil.Process(server.process.pid).children(recursive=True)))
        assert 0.5 * spent - 0.1 <= total <= spent + slack, (total, spent)
        hot = [stack for stack, _, labels in samples if labels.get("thread") == "hot"]
        assert any(stack[0].startswith("[compiled loop") and stack[-2] == "thread hot" for stack in hot)
        assert any("Whoami.serve_dns" in name for stack, _, _ in samples for name in stack)

        status, body = get(port, "/goroutine")
        where = {(str(labels["process"]), str(labels["thread"])) for _, _, labels in decode(body)[1]}
        assert {("worker 0", "hot"), ("worker 1", "MainThread"), ("worker 1", "orders"), ("keeper", "MainThread"),
                ("keeper", "tasks"), ("formatter", "MainThread")} <= where
        assert {labels["process"] for _, _, labels in decode(get(port, "/block?seconds=1")[1])[1]} >= processes - {
            "supervisor", "template", "worker"}

        if shutil.which("go"):
            file = tmp_path / "profile"
            file.write_bytes(get(port, "/profile?seconds=1")[1])
            done = subprocess.run(["go", "tool", "pprof", "-top", "-cum", str(file)], capture_output=True, text=True,
                                  timeout=60, check=True, env={**os.environ, "PPROF_TMPDIR": str(tmp_path)})
            assert "Type: cpu" in done.stdout and "fastdns.server" in done.stdout

        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete")
        for _ in range(100):
            # What waited at the old process's socket is reset; the next one is the new one's.
            with contextlib.suppress(OSError):
                assert get(port, "/")[0] == 200
                break
            threading.Event().wait(0.1)
        else:
            raise AssertionError("nobody answers after the reload")
        server.corefile.write_text(server.corefile.read_text().replace(f"pprof 127.0.0.1:{port} {{\n", "timeouts {\n")
                                   .replace("block\n", "idle 10s\n"))
        server.output.clear()
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("Reloading complete")
        with pytest.raises(ConnectionRefusedError):
            for _ in range(100):
                with contextlib.suppress(ConnectionResetError):
                    get(port, "/")
                threading.Event().wait(0.1)


def test_a_client_that_leaves_costs_nothing_for_long() -> None:
    port = free_port()
    with Server(f". {{\n    pprof 127.0.0.1:{port}\n    demo\n}}\n") as server:
        with pytest.raises(TimeoutError):
            get(port, "/profile?seconds=300", 0.5)
        for _ in range(100):
            if get(port, "/goroutine")[0] == 200:
                break
            threading.Event().wait(0.1)
        else:
            raise AssertionError("the look never ended")
        server.ask("demo.example.", 1)
