# SPDX-License-Identifier: Apache-2.0
"""A profile that cannot be had costs nothing but the profile.

Strategy: what goes wrong is put into every process of the server by a `sitecustomize` on its path.
"""

from __future__ import annotations

import http.client
import signal
import time
from pathlib import Path

import pytest

from tests.unit.test_pprof import decode

from .serving import Server, ask, free_port, wait_for

COREFILE = """.:{{port}} {{
    bind 127.0.0.1
    multisocket 2
    pprof 127.0.0.1:{profiles}
    whoami
}}
"""
NO_THREADS = """
import threading
start = threading.Thread.start
def refuse(self):
    if self.name == "pprof":
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = refuse
"""
REPLACED = """
import sys
class Replaced:
    def find_spec(self, name, *_):
        if name == "fastdns.server.look" and "fastdns:templ" not in open("/proc/self/comm").read():
            raise ImportError("the program on disk is another one")
sys.meta_path.insert(0, Replaced())
"""


def goroutine(port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/debug/pprof/goroutine")
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def serving(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, profiles: int) -> Server:
    (folder / "path").mkdir()
    (folder / "path" / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder / "path"))
    return Server(folder, COREFILE.format(profiles=profiles))


def test_without_a_thread_every_process_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = free_port()
    with serving(tmp_path, monkeypatch, NO_THREADS, profiles) as server:
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        before = {role: server.children(role) for role in ("worker", "keeper", "formatter", "web")}
        for _ in range(3):
            status, body = goroutine(profiles)
            assert status == 200 and decode(body)[1] == []
        assert {role: server.children(role) for role in before} == before
        server.process.send_signal(signal.SIGUSR1)
        began = time.monotonic()
        server.wait_line("Reloading complete")
        # The orders' threads hear that they are to stop, and so does the keeper: nobody's deadline has to pass.
        wait_for(lambda: not set(before["worker"] + before["keeper"]) & set(server.children()), "the old ones to go")
        assert "killed" not in server.out, time.monotonic() - began
        assert server.children("formatter") == before["formatter"] and ask(server.port)


def test_a_program_that_is_replaced_on_disk_can_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = free_port()
    with serving(tmp_path, monkeypatch, REPLACED, profiles):
        status, body = goroutine(profiles)
        assert status == 200
        assert {labels["process"] for _, _, labels in decode(body)[1]} >= {"worker 0", "keeper", "formatter", "web"}
