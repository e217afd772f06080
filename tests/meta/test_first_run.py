# SPDX-License-Identifier: Apache-2.0
"""The Corefile at the root of the project does what the README's first run says, without any network."""

import contextlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from fastdns.testing import free_port

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
README = (ROOT / "README.md").read_text()
START_SECONDS = 20


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return {name: free_port() for name in ("dns", "metrics", "health", "ready")}


@pytest.fixture(scope="module")
def server(ports, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """fastdns with the root Corefile, its fixed ports replaced by free ones."""
    text = (ROOT / "Corefile").read_text()
    assert text.count(":1053 {") == 2
    text = text.replace(":1053 {", f":{ports['dns']} {{").replace(":9153", f":{ports['metrics']}")
    text = re.sub(r"^    health$", f"    health {HOST}:{ports['health']}", text, flags=re.M)
    text = re.sub(r"^    ready$", f"    ready {HOST}:{ports['ready']}", text, flags=re.M)
    folder = tmp_path_factory.mktemp("first")
    corefile = folder / "Corefile"
    corefile.write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "fastdns", "-conf", corefile], stdout=log, stderr=log)
    try:
        wait_until_it_answers(process, ports["dns"], folder / "log")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(process: subprocess.Popen, port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError, dns.exception.Timeout):
            dns.query.tcp(dns.message.make_query("demo.test.", "A"), HOST, port=port, timeout=1)
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def get(port: int, path: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=5) as answer:
        return answer.status, answer.read().decode()


def test_the_readme_asks_what_this_test_asks():
    assert "dig @127.0.0.1 -p 1053 demo.test " in README
    assert "http://127.0.0.1:9153/metrics" in README


@pytest.mark.parametrize("ask", [dns.query.udp, dns.query.tcp], ids=["udp", "tcp"])
def test_the_first_question_is_answered(server, ports, ask):
    answer = ask(dns.message.make_query("demo.test.", "A"), HOST, port=ports["dns"], timeout=5)
    assert answer.rcode() == dns.rcode.NOERROR
    assert [record.address for rrset in answer.answer for record in rrset] == ["1.1.1.1"]


def test_metrics_health_and_readiness(server, ports):
    status, text = get(ports["metrics"], "/metrics")
    assert status == 200 and "coredns_build_info" in text
    assert get(ports["health"], "/health") == (200, "OK")
    assert get(ports["ready"], "/ready") == (200, "OK")
