# SPDX-License-Identifier: Apache-2.0
"""Kept answers in a whole server: one shelf for all workers, which outlives a worker and not a configuration."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

from fastdns.numbers import A
from fastdns.testing import Answer, question
from tests.faults.serving import Server, page, wait_for

COREFILE = """
kept.test:{port} {
    bind 127.0.0.1
    multisocket 2
    prometheus 127.0.0.1:{port2}
    template IN A kept.test {
        answer "{{ .Name }} 60 IN A 192.0.2.1"
    }
}
"""


def ask(port: int, name: str, times: int = 1) -> set[str]:
    """The answers to as many clients: their ports, and so the workers that they reach, differ."""
    found = set()
    for _ in range(times):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", port))
            sock.send(question(name, A))
            found.update(Answer.of(sock.recv(512)).answer)
    return found


def figures(port: int) -> dict[str, float]:
    """The exposition's series, by the text in front of the number."""
    return {name: float(value) for name, value in re.findall(r"^(\w+(?:{[^}]*})?) (\S+)$", page(port), re.M)}


def test_all_workers_share_one_shelf(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE, ports=2) as server:
        assert ask(server.port, "a.kept.test", 40) == {"a.kept.test. 60 IN A 192.0.2.1"}
        seen = figures(server.ports[1])
        assert seen["fastdns_kept_entries"] == 1
        assert seen['fastdns_kept_hits_total{plugin="template"}'] == 40 - seen["fastdns_python_queries_total"] >= 38
        assert [seen[name] for name in seen if name.startswith("coredns_template_matches_total{")] == [40]
        workers = server.children("worker")
        os.kill(workers[0], signal.SIGKILL)
        wait_for(lambda: workers[0] not in server.children("worker") and len(server.children("worker")) >= 2,
                 "another worker")
        assert ask(server.port, "a.kept.test", 20) == {"a.kept.test. 60 IN A 192.0.2.1"}
        assert figures(server.ports[1])["fastdns_python_queries_total"] == seen["fastdns_python_queries_total"]


def test_a_new_configuration_keeps_nothing_of_the_old(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE, ports=2) as server:
        ask(server.port, "a.kept.test", 4)
        for n in range(2, 5):
            server.write(COREFILE.replace("192.0.2.1", f"192.0.2.{n}"))
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("[INFO] Reloading complete", n - 1)
            assert ask(server.port, "a.kept.test", 10) == {f"a.kept.test. 60 IN A 192.0.2.{n}"}
        # The same configuration read again keeps nothing either: what a plugin read beside it may be new.
        before = figures(server.ports[1])["fastdns_python_queries_total"]
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("[INFO] Reloading complete", 4)
        assert ask(server.port, "a.kept.test", 10) == {"a.kept.test. 60 IN A 192.0.2.4"}
        assert figures(server.ports[1])["fastdns_python_queries_total"] > before
