# SPDX-License-Identifier: Apache-2.0
"""Workers, helpers and the supervisor die, hang and cannot start: what clients notice, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.machine import needs

from .serving import Server, ask, load, query, wait_for

TWO = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n"
BATCH = 64


def ready(server: Server, workers: int = 3) -> None:
    """Two workers and their spare are there."""
    wait_for(lambda: len(server.children("worker")) == workers, f"{workers} workers")


# A hundred kills at a rate that a sanitized worker cannot serve: what its full socket drops would count as lost.
MANY = pytest.param(100, marks=[pytest.mark.slow, pytest.mark.unsanitized])


@pytest.mark.parametrize("kills", [10, MANY])
def test_killed_workers_lose_at_most_a_batch_each(tmp_path: Path, kills: int) -> None:
    # Reliability target: kill -9 costs what the worker had read and not answered, and nothing else.
    rate = 20000.0 if kills == 100 else 4000.0
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        for _ in range(kills):
            ready(server)
            victim = random.choice(server.children("worker")[:2])
            # In the middle of the load, wherever the worker is in its turn.
            timer = threading.Timer(0.05 + random.random() / 20, os.kill, (victim, signal.SIGKILL))
            timer.start()
            clients.run(0.2, rate)
            timer.join()
        ready(server)
        lost = clients.settle()
        print(f"{lost} of {clients.sent} queries lost in {kills} kills")
        assert lost <= BATCH * kills
        assert lost < clients.sent / 20
        assert clients.doubled == 0
        assert server.out.count("killed by signal 9") == kills
        assert server.stop() == 0


def test_every_helper_comes_back_while_queries_are_answered(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        for role in ("keeper", "web", "format", "templat"):
            old = server.children(role)
            assert len(old) == 1
            os.kill(old[0], signal.SIGKILL)
            wait_for(lambda role=role, old=old: (now := server.children(role)) and now != old, f"a new {role}")
            clients.run(0.1, 1000.0)
        # The new template still forks workers.
        ready(server)
        os.kill(server.children("worker")[0], signal.SIGKILL)
        wait_for(lambda: "killed by signal 9" in server.out.split("worker")[-1], "the death")
        ready(server)
        assert clients.settle() <= BATCH


def test_a_stopped_worker_is_replaced_and_its_queue_is_answered(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        ready(server)
        clients.run(0.3, 1000.0)
        stopped = server.children("worker")[:2]
        os.kill(stopped[0], signal.SIGSTOP)
        begin = time.monotonic()
        while stopped[0] in server.children("worker"):
            clients.run(0.05, 1000.0)
            assert time.monotonic() - begin < 20
        assert clients.settle() <= BATCH
        assert "is hung" in server.out


def test_an_idle_worker_is_not_hung(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server:
        ready(server)
        before = server.children()
        time.sleep(1.5)
        assert server.children() == before
        assert "hung" not in server.out


def test_a_late_supervisor_kills_nobody(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        ready(server)
        clients.run(0.3, 1000.0)
        before = server.children()
        os.kill(server.process.pid, signal.SIGSTOP)
        clients.run(3.0, 1000.0)
        os.kill(server.process.pid, signal.SIGCONT)
        clients.run(1.0, 1000.0)
        assert server.children() == before
        assert clients.settle() == 0


def test_a_paused_server_kills_nobody(tmp_path: Path) -> None:
    # A frozen machine: everything stops for a while, and datagrams wait in the sockets.
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        ready(server)
        before = server.children()
        for pid in [server.process.pid, *before]:
            os.kill(pid, signal.SIGSTOP)
        clients.run(1.5, 500.0)
        for pid in [server.process.pid, *before]:
            os.kill(pid, signal.SIGCONT)
        assert clients.settle(5.0) == 0
        clients.run(0.7, 500.0)
        assert server.children() == before


def test_a_killed_supervisor_takes_nobody_along_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path, TWO)
    ready(server)
    workers = server.children("worker")
    server.process.kill()
    server.process.wait()
    try:
        assert ask(server.port) is not None
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_orphans_end_at_their_deadline(tmp_path: Path) -> None:
    server = Server(tmp_path, TWO)
    ready(server)
    everybody = server.children()
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everybody), "the orphans' end", 60.0)


def test_a_worker_that_cannot_boot_stops_the_start_with_its_error(tmp_path: Path) -> None:
    # The engine refuses in the worker's own process, after everything else went well.
    code = ("import sys; from fastdns.server import children; "
            "children._BOOT = children._BOOT.replace('main(fd, beside)', "
            "'import fastdns._udp as u\\nclass E(u.Engine):\\n def start(self, *a): raise RuntimeError(\"no way\")\\n"
            "u.Engine = E; main(fd, beside)'); from fastdns.cli import entry; entry()")
    server = Server(tmp_path, TWO, wait=False, program=("-c", code))
    assert server.process.wait(20) == 1
    assert "no way" in server.err
    assert server.out.count("died") == 0
    assert server.children() == []


def test_a_template_that_dies_stops_the_start(tmp_path: Path) -> None:
    code = ("from fastdns.server import children; children._BOOT = 'import os; os._exit(7)'; "
            "from fastdns.cli import entry; entry()")
    server = Server(tmp_path, TWO, wait=False, program=("-c", code))
    assert server.process.wait(20) == 1
    assert "ended while starting: exit status 7" in server.err


@pytest.mark.parametrize(
    ("corefile", "text"),
    [
        (".:{port} {\n nosuch\n}\n", ":2 - Error during parsing: Unknown directive 'nosuch'\n"),
        (".:{port} {\n bind 192.0.2.99\n whoami\n}\n",
         "Listen: listen tcp 192.0.2.99:{port}: bind: cannot assign requested address\n"),
        (".:{port} {\n multisocket 0\n whoami\n}\n",
         "plugin/multisocket: num sockets can not be zero or negative: 0\n"),
    ],
)
def test_errors_of_the_start_are_one_line_on_stderr(tmp_path: Path, corefile: str, text: str) -> None:
    server = Server(tmp_path, corefile, wait=False)
    assert server.process.wait(20) == 1
    assert server.err.endswith(text.replace("{port}", str(server.port)))
    assert server.err.count("\n") == 1
    assert "fastdns-" not in server.out


def test_an_address_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(tmp_path, f".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n", wait=False)
        assert server.process.wait(20) == 1
        assert server.err == f"Listen: listen tcp 127.0.0.1:{port}: bind: address already in use\n"


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGTERM, 0, "SIGTERM: Shutting down servers then terminating"),
        (signal.SIGINT, 0, "SIGINT: Shutting down"),
        (signal.SIGQUIT, 0, "SIGQUIT: Quitting process immediately"),
    ],
)
def test_signals_end_it_with_their_status_and_leave_nobody(
        tmp_path: Path, number: signal.Signals, status: int, line: str) -> None:
    pidfile = tmp_path / "pid"
    with Server(tmp_path, TWO, "-pidfile", str(pidfile)) as server:
        ready(server)
        assert pidfile.read_text() == f"{server.process.pid}\n"
        everybody = server.children()
        assert server.stop(number) == status
        assert f"[INFO] {line}\n" in server.out
        assert not pidfile.exists()
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def test_what_was_read_is_answered_at_sigterm(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server, load(server.port) as clients:
        clients.run(0.5, 2000.0)
        server.process.send_signal(signal.SIGTERM)
        assert clients.settle() == 0
        assert server.process.wait(20) == 0


LAMEDUCK = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n health 127.0.0.1:{port2} {\n  lameduck 2s\n }\n whoami\n}\n"


def test_lameduck_answers_for_its_time(tmp_path: Path) -> None:
    with Server(tmp_path, LAMEDUCK, ports=2) as server, load(server.port) as clients:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        clients.run(1.0, 500.0)
        # A worker that dies meanwhile is still replaced.
        os.kill(server.children("worker")[0], signal.SIGKILL)
        clients.run(0.5, 500.0)
        assert clients.settle(0.3) <= BATCH
        assert server.process.wait(20) == 0
        assert time.monotonic() - begin >= 2.0


def test_a_second_sigint_ends_it_at_once(tmp_path: Path) -> None:
    with Server(tmp_path, LAMEDUCK.replace("2s", "60s"), ports=2) as server:
        everybody = server.children()
        server.process.send_signal(signal.SIGINT)
        server.wait_line("[INFO] SIGINT: Shutting down\n")
        assert ask(server.port) is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 2
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def test_a_sigint_in_lameduck_runs_no_hook_again(tmp_path: Path) -> None:
    script, ran = tmp_path / "script", tmp_path / "ran"
    script.write_text(f"echo x >> {ran}\n")
    pidfile = tmp_path / "pid"
    corefile = LAMEDUCK.replace("whoami", f"whoami\n on shutdown /bin/sh {script}")
    with Server(tmp_path, corefile, "-pidfile", str(pidfile), ports=2) as server:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.wait_line("Going into lameduck mode")
        time.sleep(1.0)
        server.process.send_signal(signal.SIGINT)
        server.wait_line("[INFO] SIGINT: Shutting down\n")
        wait_for(lambda: not pidfile.exists(), "the end of the file")
        assert server.process.wait(20) == 0
        assert time.monotonic() - begin < 2.9  # a lameduck period that began anew took a second more
        assert server.out.count("Going into lameduck mode") == 1
        assert ran.read_text() == "x\n"


def test_a_sigint_while_answers_are_waited_for_spares_them(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM) as client:
        silent.bind(("127.0.0.1", 0))
        corefile = f".:{{port}} {{\n bind 127.0.0.1\n forward . 127.0.0.1:{silent.getsockname()[1]}\n}}\n"
        with Server(tmp_path, corefile) as server:
            client.sendto(query(1), ("127.0.0.1", server.port))
            silent.settimeout(20)
            assert silent.recv(4096)
            server.process.send_signal(signal.SIGTERM)
            server.wait_line("[INFO] SIGTERM")
            time.sleep(0.3)
            assert server.process.poll() is None  # it waits for the answer
            begin = time.monotonic()
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(20) == 0
            assert time.monotonic() - begin < 1.0


def test_a_pidfile_that_is_no_file_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with Server(tmp_path, TWO, "-pidfile", str(pipe)) as server:
            wait_for(lambda: os.read(reader, 100), "the pid")
            assert server.stop() == 0
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_plugin_that_never_returns_gets_a_fresh_worker_and_is_named(tmp_path: Path) -> None:
    code = ("from fastdns.server import children; "
            "children._BOOT = children._BOOT.replace('main(fd, beside)', 'import fastdns.plugins.demo.handler as h\\n"
            "def forever(self, query, next):\\n while True: pass\\n"
            "async def serve(self, query, next): forever(self, query, next)\\n"
            "h.Demo.serve_dns = serve; main(fd, beside)'); from fastdns.cli import entry; entry()")
    corefile = "stuck.test:{port} {\n bind 127.0.0.1\n multisocket 1\n demo\n}\n"
    with Server(tmp_path, corefile, program=("-c", code)) as server, load(server.port) as clients:
        ready(server, 2)
        first = server.children("worker")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(query(7, b"\5stuck\4test\0"), ("127.0.0.1", server.port))
        # What needs no Python (here: REFUSED) is answered all the time, through the change of workers.
        while "its Python thread is stuck" not in server.out:
            clients.run(0.2, 500.0)
        wait_for(lambda: not set(first) <= set(server.children("worker")), "the stuck worker's end")
        clients.run(0.2, 500.0)
        assert clients.settle() == 0
        assert "forever" in server.out


def test_sighup_and_a_signal_to_the_whole_group_do_nothing_to_children(tmp_path: Path) -> None:
    with Server(tmp_path, TWO) as server:
        ready(server)
        before = server.children()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            for pid in before:
                os.kill(pid, number)
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert server.children() == before
        assert ask(server.port) is not None


def test_quiet_prints_neither_zones_nor_version(tmp_path: Path) -> None:
    server = Server(tmp_path, TWO, "-quiet", wait=False)
    with server:
        wait_for(lambda: ask(server.port, seconds=0.1), "an answer")
        assert f":{server.port}" not in server.out
        assert "fastdns-" not in server.out


NICE = """
import os, sys
os.setpriority(os.PRIO_PROCESS, 0, 19)
command = [sys.executable, "-m", "fastdns", *sys.argv[1:]]
if os.geteuid() == 0:
    command = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", *command]
os.execvp(command[0], command)
"""


@needs("setpriv")
def test_a_server_that_was_started_nice_stays_so(tmp_path: Path) -> None:
    # Nobody but root may take niceness back: formatter, keeper, web and the workers' Python threads want less of it.
    control = f"-control={tmp_path / 'control'}"
    with Server(tmp_path, TWO, control, program=("-c", NICE)) as server:
        ready(server)
        assert ask(server.port) is not None
        told = subprocess.run([sys.executable, "-m", "fastdns", "ctl", "--socket", str(tmp_path / "control"), "stats"],
                              capture_output=True, text=True, timeout=60)
        assert (told.returncode, told.stderr) == (0, "")
        children = server.children()
        assert len(children) >= 7
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in children} == {19}
        assert server.stop() == 0 and server.err == ""


def test_no_pidfile_is_only_logged(tmp_path: Path) -> None:
    with Server(tmp_path, TWO, "-pidfile", "/nonexistent/pid") as server:
        assert "[ERROR] Could not write pidfile: open /nonexistent/pid: no such file or directory\n" in server.out


def test_each_listener_has_its_own_number_of_sockets(tmp_path: Path) -> None:
    corefile = (".:{port} {\n bind 127.0.0.1\n multisocket 3\n whoami\n}\n"
                ".:{port2} {\n bind 127.0.0.1\n multisocket 1\n whoami\n}\n")
    with Server(tmp_path, corefile, ports=2) as server:
        ready(server, 4)
        assert sockets_at(server.ports[0]) == 3
        assert sockets_at(server.ports[1]) == 1
        for _ in range(20):
            assert ask(server.ports[0]) is not None
            assert ask(server.ports[1]) is not None


def sockets_at(port: int) -> int:
    """UDP sockets bound to a port of 127.0.0.1."""
    return sum(line.split()[1] == f"0100007F:{port:04X}" for line in Path("/proc/net/udp").read_text().splitlines())

