# SPDX-License-Identifier: Apache-2.0
"""Upgrades in place: the process id, the sockets, the cache and the counters stay, and what cannot take over does no
harm.

Strategy: `prog.py` in the test's folder is "the installed program", which a test replaces while the server runs.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fastdns.ctl_talk import talk
from fastdns.server.memory import LAYOUTS

from .serving import Server, ask, counted, load, query, wait_for
from .upstream import Upstream

SAME = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n"
COUNTED = """.:{port} {
    bind 127.0.0.1
    multisocket 2
    prometheus 127.0.0.1:{port2}
    cache
    forward . 127.0.0.1:UP
}
"""
PROGRAM = "from fastdns.cli import entry\nentry()\n"
# A program of before whose shared memory was laid out differently.
FOREIGN = """from fastdns.server.memory import Memory
save = Memory.save
Memory.save = lambda self, note: {**save(self, note), "layouts": OLD}
""" + PROGRAM
# An upstream that gets its number first.
BEFORE = "before.test:{port} {\n bind 127.0.0.1\n multisocket 2\n forward . 127.0.0.9\n}\n"
COMPLETE = "[INFO] SIGUSR2: Upgrading complete: fastdns-"


def upgrade(server: Server, count: int = 1) -> None:
    server.process.send_signal(signal.SIGUSR2)
    server.wait_line(COMPLETE, count)


def sources(control: Path) -> set[str]:
    """The upstreams that cache entries came from."""
    return {one["upstream"] for one in talk(control, {"do": "inspect", "name": ".", "below": True})["entries"]}


def settled(server: Server, workers: int = 3) -> None:
    """One generation and nothing of those before it is left."""
    wait_for(lambda: len(server.children("worker")) == workers, "the old workers' end")
    for role in ("template", "keeper", "web", "formatter"):
        wait_for(lambda role=role: len(server.children(role[:7])) == 1, f"one {role}")  # type: ignore[misc]


def test_the_process_stays_and_so_do_cache_and_counters(tmp_path: Path) -> None:
    with Upstream() as upstream, Server(tmp_path, COUNTED.replace("UP", str(upstream.port)), "-pidfile", "pid",
                                        ports=2) as server:
        assert ask(server.port) is not None
        asked = len(upstream.asked)
        before = server.children()
        for number in (1, 2):
            upgrade(server, number)
            assert ask(server.port) is not None
        assert len(upstream.asked) == asked
        settled(server)
        assert not set(before) & set(server.children())
        assert counted(server.ports[1], "coredns_cache_hits_total") == 2
        assert counted(server.ports[1], "coredns_dns_requests_total") == 3
        assert (tmp_path / "pid").read_text() == f"{server.process.pid}\n"
        assert "died" not in server.out
        assert server.out.count("fastdns-") == 3
        everybody = server.children()
        assert server.stop() == 0
        assert not (tmp_path / "pid").exists()
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def hot(server: Server) -> list[int]:
    """The niceness of each worker's hot thread."""
    found = []
    for pid in server.children("worker"):
        for task in Path(f"/proc/{pid}/task").iterdir():
            nice = int((task / "stat").read_text().rsplit(") ", 1)[1].split()[16])
            if task.name != str(pid):
                found.append(nice)
    return sorted(found)


def test_who_answers_keeps_its_weight_over_reloads_and_upgrades(tmp_path: Path) -> None:
    """What starts beside a server gives way; that must not be inherited by the threads that answer."""
    with Server(tmp_path, SAME) as server:
        settled(server)
        before = hot(server)
        assert before[:2] == [os.getpriority(os.PRIO_PROCESS, 0)] * 2
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        settled(server)
        assert hot(server) == before
        upgrade(server)
        settled(server)
        assert hot(server) == before
        assert os.getpriority(os.PRIO_PROCESS, server.process.pid) == os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.parametrize(
    ("program", "corefile", "text"),
    [
        ("raise SystemExit(3)\n", SAME, "the installed program ended: exit status 3"),
        ("this is no program\n", SAME, "the installed program ended: exit status 1"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", SAME, "killed by signal 9"),
        ("from fastdns.server import handover\nhandover.FORMAT += 1\n" + PROGRAM, SAME, "in another format than 4"),
        ("from fastdns.server.memory import Memory\nMemory.adopt = None\n" + PROGRAM, SAME, "TypeError"),
        (PROGRAM, "bad {", "Corefile:1 - Syntax error"),
        (PROGRAM, ".:{port} {\n forward\n}\n", "plugin/forward"),
    ],
)
def test_a_program_that_cannot_take_over_leaves_the_running_one(
    tmp_path: Path, program: str, corefile: str, text: str,
) -> None:
    (tmp_path / "prog.py").write_text(PROGRAM)
    with Server(tmp_path, SAME, program=("-m", "prog")) as server, load(server.port) as clients:
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        before = server.children()
        (tmp_path / "prog.py").write_text(program)
        server.write(corefile)
        server.process.send_signal(signal.SIGUSR2)
        while ": the running program serves on" not in server.out:
            clients.run(0.1, 1000.0)
        assert clients.settle() == 0
        assert text in server.out
        assert server.children() == before
        (tmp_path / "prog.py").write_text(PROGRAM)
        server.write(SAME)
        upgrade(server)
        settled(server)


def test_what_fails_after_the_exec_leaves_the_old_workers_looked_after(tmp_path: Path) -> None:
    with Server(tmp_path, COUNTED.replace("UP", "9"), ports=2) as server:
        server.write(COUNTED.replace("UP", "9").replace("bind 127.0.0.1", "bind 192.0.2.99"))
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        before = server.children()
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("[ERROR] SIGUSR2: starting with listener file descriptors: Listen: listen tcp 192.0.2.99:")
        wait_for(lambda: server.children() == before, "the failed generation's end")
        assert counted(server.ports[1], "fastdns_reload_failures_total") == 1
        for role in ("worker", "template"):
            # What the program before started is replaced by this one.
            os.kill(server.children(role[:7])[0], signal.SIGKILL)
            server.wait_line(" died: killed by signal 9", 1 if role == "worker" else 2)
            wait_for(lambda: len(server.children()) == len(before), "as many processes as before")
        os.kill(server.children("worker")[0], signal.SIGKILL)
        server.wait_line(" died: killed by signal 9", 3)
        wait_for(lambda: len(server.children("worker")) == 3, "a worker of the new template")
        server.write(COUNTED.replace("UP", "9"))
        upgrade(server)
        settled(server)


@pytest.mark.parametrize("other", ["counters", "cache"])
def test_memory_of_another_layout_is_made_anew(tmp_path: Path, other: str) -> None:
    layouts = {**LAYOUTS, other: 0}
    (tmp_path / "prog.py").write_text(FOREIGN.replace("OLD", repr(layouts)))
    control = tmp_path / "control"
    with Upstream() as upstream, Server(tmp_path, BEFORE + COUNTED.replace("UP", str(upstream.port)), "-control",
                                        str(control), ports=2, program=("-m", "prog")) as server, \
            load(server.port) as clients:
        assert ask(server.port) is not None
        asked = len(upstream.asked)
        held = sources(control)
        assert held == {f"127.0.0.1:{upstream.port}"}
        server.write(COUNTED.replace("UP", str(upstream.port)))
        (tmp_path / "prog.py").write_text(PROGRAM)
        server.process.send_signal(signal.SIGUSR2)
        while COMPLETE not in server.out:
            assert server.process.poll() is None, server.err
            assert "serves on" not in server.out
            clients.run(0.1, 1000.0)
        assert clients.settle() == 0
        settled(server)
        said = "the counters start anew" if other == "counters" else "the cache starts empty"
        assert f"[WARNING] SIGUSR2: {said}" in server.out
        assert sources(control) == held
        assert ask(server.port) is not None
        assert (len(upstream.asked) > asked) == (other == "cache")
        assert (counted(server.ports[1], "coredns_dns_requests_total") >= clients.answered) == (other == "cache")
        (tmp_path / "prog.py").write_text(PROGRAM)
        upgrade(server, 2)  # from a foreign generation's successor on, all is as ever
        settled(server)


def test_a_connection_of_before_is_answered_on(tmp_path: Path) -> None:
    with Server(tmp_path, SAME) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.settimeout(10)
        wire = query(1)
        sock.sendall(len(wire).to_bytes(2, "big") + wire[:10])
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("[INFO] SIGUSR2: Upgrading\n")
        sock.sendall(wire[10:])
        assert sock.recv(4)[2:4] == wire[:2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_end_during_an_upgrade(tmp_path: Path, number: int) -> None:
    (tmp_path / "prog.py").write_text(PROGRAM)
    with Server(tmp_path, SAME, program=("-m", "prog")) as server:
        (tmp_path / "prog.py").write_text("import os, time\nopen('trial', 'w').write(str(os.getpid()))\n"
                                          "time.sleep(600)\n")
        server.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: (tmp_path / "trial").exists() and (tmp_path / "trial").read_text(), "the trial")
        everybody = [*server.children(), int((tmp_path / "trial").read_text())]
        assert server.stop(number) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def test_a_program_that_was_not_handed_anything_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDNS_ADOPT", "77")
    with Server(tmp_path, SAME, wait=False) as server:
        assert server.process.wait(20) == 1
        assert "what the running server hands over cannot be read" in server.err
