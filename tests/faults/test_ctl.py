# SPDX-License-Identifier: Apache-2.0
"""`fastdns ctl` against a real server: every command, what it changes, who may ask, and what garbage costs."""

from __future__ import annotations

import array
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastdns import ctl
from fastdns.ctl_talk import TalkError, talk
from tests.machine import may

from .serving import Server, ask, query, wait_for
from .upstream import Asked, Upstream, reply

COREFILE = """
.:{port} {
    bind 127.0.0.1
    multisocket 2
    prometheus 127.0.0.1:0
    cache {
        success 2000
    }
    forward . 127.0.0.1:UP 127.0.0.2:UP {
        policy sequential
    }
}
other.test:{port} {
    bind 127.0.0.1
    cache
    forward . 127.0.0.1:UP
}
"""


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.rstrip(".").split(".")) + b"\0"


def script(asked: Asked) -> Sequence[bytes | float]:
    """An answer of the type that was asked for."""
    if asked.wire[asked.end - 4:asked.end - 2] != b"\0\x1c":
        return [reply(asked)]
    head = asked.wire[:2] + b"\x81\x80" + struct.pack("!HHHH", 1, 1, 0, 0)
    return [head + asked.wire[12:asked.end] + b"\xc0\x0c" + struct.pack("!HHIH", 28, 1, 300, 16) + bytes(15) + b"\1"]


class Running:
    """A server, its upstream, and `fastdns ctl` at its socket."""

    def __init__(self, server: Server, upstream: Upstream, path: Path) -> None:
        self.server, self.upstream, self.path = server, upstream, path

    def ask(self, text: str, qtype: int = 1) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", self.server.port))
            sock.send(query(7, name(text), qtype))
            return sock.recv(4096)

    def asked(self, text: str, qtype: int = 1) -> int:
        """Questions that the upstream got for a name and type."""
        return sum(one.wire[12:12 + len(name(text)) + 2] == name(text) + qtype.to_bytes(2, "big")
                   for one in self.upstream.asked)

    def ctl(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        status = ctl.main(["--socket", str(self.path), *words], out, err)
        return status, out.getvalue(), err.getvalue()

    def json(self, *words: str) -> dict[str, Any]:
        status, out, err = self.ctl("--json", *words)
        assert (status, err) == (0, "")
        found = json.loads(out)
        assert found.pop("ok") is True
        return dict(found)


@contextlib.contextmanager
def running(folder: Path, corefile: str = COREFILE) -> Iterator[Running]:
    path = folder / "control.sock"
    with Upstream(script) as upstream, \
            Server(folder, corefile.replace("UP", str(upstream.port)), "-control", str(path)) as server:
        yield Running(server, upstream, path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("ctl")) as found:
        yield found


# ---- the cache


def test_what_is_flushed_is_asked_again_and_nothing_else(shared: Running) -> None:
    shared.ctl("flush", "--all")
    questions = [("a.flush.test", 1), ("b.a.flush.test", 1), ("flush.test", 1), ("a.flush.test", 28),
                 ("xa.flush.test", 1)]

    def asked(*words: str) -> set[tuple[str, int]]:
        """Which questions are asked upstream again after a flush."""
        for question in questions:
            shared.ask(*question)
        before = {question: shared.asked(*question) for question in questions}
        assert shared.json("flush", *words)["removed"] > 0
        for question in questions:
            shared.ask(*question)
        return {question for question in questions if shared.asked(*question) > before[question]}

    assert asked("a.flush.test") == {("a.flush.test", 1), ("a.flush.test", 28)}
    assert asked("A.Flush.Test.", "--type", "AAAA") == {("a.flush.test", 28)}
    assert asked("--subtree", "a.flush.test") == {("a.flush.test", 1), ("a.flush.test", 28), ("b.a.flush.test", 1)}
    assert asked("--type", "TYPE28") == {("a.flush.test", 28)}
    assert asked("--all") == set(questions)


def test_a_flush_of_one_block_leaves_the_others(shared: Running) -> None:
    for text in ("one.example", "one.other.test"):
        shared.ask(text)
    before = shared.asked("one.example"), shared.asked("one.other.test")
    assert shared.json("flush", "--all", "--block", "other.test")["removed"] >= 1
    for text in ("one.example", "one.other.test"):
        shared.ask(text)
    assert (shared.asked("one.example"), shared.asked("one.other.test")) == (before[0], before[1] + 1)


def test_inspect_tells_what_is_held(shared: Running) -> None:
    shared.ask("seen.example")
    (entry,) = shared.json("inspect", "Seen.Example")["entries"]
    assert (entry["name"], entry["type"], entry["class"], entry["kind"], entry["rcode"], entry["source"]) == (
        "seen.example.", "A", "IN", "success", "NOERROR", "reply")
    assert entry["age"] >= 0 and entry["age"] + entry["ttl"] == 300
    assert entry["octets"] == 12 + 14 + 4 + 16 and entry["memory"] % 64 == 0
    status, out, _ = shared.ctl("inspect", "seen.example", "A")
    assert status == 0 and "seen.example." in out and "NOERROR" in out
    up = f"127.0.0.1:{shared.upstream.port}"
    assert entry["upstream"] == up and out.rstrip().endswith(f"reply of {up}")
    assert shared.ctl("inspect", "never.example")[1] == "not in the cache\n"
    assert shared.json("inspect", "--subtree", "example")["entries"]


def test_inspect_tells_which_upstream_answered(tmp_path: Path) -> None:
    corefile = """
    .:{port} {
        bind 127.0.0.1
        cache
        template IN A made.example {
            answer "{{ .Name }} 60 IN A 192.0.2.9"
            fallthrough
        }
        forward . 127.0.0.1:UP 127.0.0.1:OTHER {
            policy sequential
        }
    }
    """
    with Upstream(script) as second, running(tmp_path, corefile.replace("OTHER", str(second.port))) as own:
        to = [f"127.0.0.1:{one.port}" for one in (own.upstream, second)]

        def sources() -> list[str | None]:
            found = {one["name"]: one["upstream"] for one in own.json("inspect", "--subtree", "example")["entries"]}
            return [found[text] for text in ("one.example.", "two.example.", "made.example.", "past.made.example.")]

        own.ask("one.example")
        own.ask("made.example")
        own.json("drain", to[0])
        own.ask("two.example")
        own.ask("past.made.example", 28)  # template passes it on, in Python
        assert sources() == [*to, None, to[1]]
        # The numbers behind the names stay, whatever other upstreams a reload brings.
        own.server.corefile.write_text(own.server.corefile.read_text() + f"""
        other.test:{own.server.port} {{
            bind 127.0.0.1
            forward . 127.0.0.3 {to[1]} {to[0]}
        }}
        """)
        own.json("reload")
        assert sources() == [*to, None, to[1]]


def test_a_dump_loaded_into_a_fresh_server_answers_without_upstream(tmp_path: Path, shared: Running) -> None:
    shared.ask("kept.example")
    dump = tmp_path / "dump"
    assert shared.json("dump", str(dump))["octets"] == dump.stat().st_size
    assert dump.stat().st_mode & 0o777 == 0o600
    folder = tmp_path / "fresh"
    folder.mkdir()
    with running(folder) as fresh:
        time.sleep(1.1)
        found = fresh.json("load", str(dump))
        assert found["stored"] >= 1 and found["foreign"] == 0
        answer = fresh.ask("kept.example")
        assert fresh.upstream.asked == []
        assert answer[-4:] == bytes((192, 0, 2, 1)) and 200 < int.from_bytes(answer[-10:-6], "big") < 300
        (entry,) = fresh.json("inspect", "kept.example")["entries"]
        assert entry["source"] == "file" and entry["upstream"] is None


def test_a_dump_that_fails_leaves_what_was_there(tmp_path: Path, shared: Running) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    beside = tmp_path / "dump.new"
    beside.write_text("somebody's")
    for words in (["dump", str(folder)], ["dump", "--block", "nobody.test", str(tmp_path / "none")]):
        status, _, err = shared.ctl(*words)
        assert status == 1 and err.startswith("fastdns ctl: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "dump.new"]
    assert shared.ctl("dump", str(tmp_path / "whole"))[0] == 0
    assert beside.read_text() == "somebody's"


def test_a_reader_who_leaves_is_no_failure(shared: Running) -> None:
    command = [sys.executable, "-m", "fastdns", "ctl", "--socket", str(shared.path), "report", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_damaged_dump_is_refused_and_nothing_of_it_loaded(tmp_path: Path, shared: Running) -> None:
    shared.ask("damaged.example")
    dump = tmp_path / "dump"
    shared.json("dump", str(dump))
    shared.json("flush", "--all")
    octets = bytearray(dump.read_bytes())
    octets[len(octets) // 2] ^= 1
    dump.write_bytes(octets)
    status, _, err = shared.ctl("load", str(dump))
    assert status == 1 and "not loaded: damaged at octet" in err
    assert shared.ctl("inspect", "--subtree", ".")[1] == "not in the cache\n"
    dump.write_bytes(b"another file altogether")
    assert "not a snapshot of this version" in shared.ctl("load", str(dump))[2]
    assert "not a file" in shared.ctl("load", "/dev/zero")[2]


# ---- the server


def test_stats_workers_report(shared: Running) -> None:
    shared.ask("counted.example")
    found = shared.json("stats")
    assert found["queries"] >= 1 and found["workers"] == 2 and len(found["cache"]["blocks"]) == 2
    assert "queries: " in shared.ctl("stats")[1]
    processes = shared.json("workers")["processes"]
    pids = {one["pid"] for one in processes if one["role"] == "worker"}
    assert pids == set(shared.server.children("worker"))
    assert {one["index"] for one in processes if one.get("index", -1) >= 0} == {0, 1}
    assert sum(one.get("beat_ago") is not None for one in processes) == 2
    assert "keeper" in shared.ctl("workers")[1]
    report = shared.json("report")
    assert len(report["config_sha512"]) == 128 and report["counters"]["coredns_dns_requests_total"] >= 1
    text = shared.ctl("report")[1]
    assert "config_sha512" in text and "counted.example" not in text + json.dumps(report)


def test_a_drained_upstream_is_asked_nothing(tmp_path: Path) -> None:
    with running(tmp_path, COREFILE[:COREFILE.index("other.test")]) as own:
        up = f"127.0.0.1:{own.upstream.port}"
        assert own.json("drain", up) == {"to": up, "drained": True}
        assert {one["to"]: one["drained"] for one in own.json("upstreams")["upstreams"]} == {
            up: True, f"127.0.0.2:{own.upstream.port}": False}
        assert "drained" in own.ctl("upstreams")[1]
        with contextlib.suppress(OSError):
            own.ask("drained.example")  # nobody listens at the other one
        assert own.upstream.asked == []
        status, _, err = own.ctl("drain", f"127.0.0.2:{own.upstream.port}")
        assert status == 1 and "the last upstream" in err
        assert "no upstream" in own.ctl("drain", "192.0.2.1:53")[2]
        own.json("resume", up)
        own.ask("resumed.example")
        assert own.asked("resumed.example") == 1


def test_reload_answers_when_it_is_done_or_has_failed(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        text = own.server.corefile.read_text()
        own.server.corefile.write_text(text.replace("success 2000", "success 3000"))
        assert own.json("reload") == {"generation": 2}
        assert own.server.out.count("Reloading complete") <= 1
        own.server.corefile.write_text(text.replace("success 2000", "success nonsense"))
        status, _, err = own.ctl("reload")
        assert status == 1 and "nonsense" in err
        assert own.json("stats")["generation"] == 2
        own.server.corefile.unlink()
        assert "no such file" in own.ctl("reload")[2]
        assert ask(own.server.port)


def test_a_reload_waits_for_the_counter_rows_of_workers_that_leave(tmp_path: Path) -> None:
    """Two reloads in a row while the workers of before wait for an upstream that never answers."""
    text = ".:{port} {\n bind 127.0.0.1\n multisocket COUNT\n forward . 127.0.0.1:UP\n}\n"
    path = tmp_path / "control.sock"

    def reload() -> tuple[int, str]:
        err = io.StringIO()
        return ctl.main(["--socket", str(path), "reload"], io.StringIO(), err), err.getvalue()

    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent.bind(("127.0.0.1", 0))
        text = text.replace("UP", str(silent.getsockname()[1]))
        server = stack.enter_context(Server(tmp_path, text.replace("COUNT", "4"), "-control", str(path)))
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(64)]
        for number, client in enumerate(clients):
            client.sendto(query(number, name(f"{number}.example")), ("127.0.0.1", server.port))
        assert reload() == (0, "")
        assert len(server.children("worker")) > 5
        assert reload() == (0, "")
        server.write(text.replace("COUNT", "12"))
        status, err = reload()
        assert status == 1 and "12 workers beside the old ones need more counter rows" in err
        assert server.process.poll() is None


def test_the_level_of_the_log(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        assert own.json("log") == {"level": "info"}
        assert own.json("log", "error") == {"level": "error"}
        own.json("reload")
        assert own.json("log", "info") == {"level": "info"}
        assert "Reloading" not in own.server.out
        own.json("reload")
        own.server.wait_line("Reloading complete")


def test_a_web_process_that_dies_is_followed_by_one_that_serves_the_socket(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        (web,) = own.server.children("web")
        os.kill(web, signal.SIGKILL)
        wait_for(lambda: own.server.children("web") not in ([], [web]), "another web process")
        assert own.json("stats")["generation"] == 1
        assert own.server.stop() == 0
        assert not own.path.exists()


# ---- who asks, and how


def raw(path: Path, octets: bytes, fds: tuple[int, ...] = ()) -> bytes:
    """What comes back for some octets, until the server closes or two seconds pass."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(str(path))
        found = b""
        with contextlib.suppress(OSError):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            sent = sock.sendmsg([octets], rights)
            sock.sendall(octets[sent:])
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):  # whoever is refused early cannot send all of it, but can read why
            while data := sock.recv(65536):
                found += data
        return found


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\n", "a request is a JSON object in a line"),
        (b"\xff\xfe\0\n", "a request is a JSON object in a line"),
        (b"[" * 60000 + b"\n", "a request is a JSON object in a line"),
        (b"[]\n", "a request is an object with"),
        (b'{"do": 1}\n', "a request is an object with"),
        (b'{"do": "nothing"}\n', "unknown command"),
        (b'{"do": "stats", "x": 1}\n', "stats takes no"),
        (b'{"do": "flush", "all": "yes"}\n', "all of flush is a bool"),
        (b'{"do": "flush", "all": false}\n', "flush what?"),
        (b'{"do": "flush", "name": "a..b"}\n', "is no domain name"),
        (b'{"do": "flush", "type": "TYPE70000"}\n', "is no type"),
        (b'{"do": "inspect", "name": "a", "block": "x"}\n', "no block with a cache"),
        (b'{"do": "dump"}\n', "dump needs a descriptor"),
        (b'{"do": "log", "level": "loud"}\n', "a level is one of"),
        (b"x" * 70000, "a request has at most 65536 octets"),
    ],
)
def test_garbage_is_refused_with_a_reason(shared: Running, octets: bytes, why: str) -> None:
    answer = json.loads(raw(shared.path, octets))
    assert answer["ok"] is False and why in answer["error"]
    assert shared.json("stats")["workers"] == 2


def test_descriptors_that_do_not_fit_are_refused(shared: Running) -> None:
    with tempfile.TemporaryFile() as file:
        assert b"takes no descriptor" in raw(shared.path, b'{"do": "stats"}\n', (file.fileno(),))
        assert b"at most one descriptor" in raw(shared.path, b'{"do": "dump"}\n', (file.fileno(), file.fileno()))
    readable, writable = os.pipe()
    try:
        assert b"not a file's" in raw(shared.path, b'{"do": "dump"}\n', (writable,))
    finally:
        os.close(readable)
        os.close(writable)


def test_clients_are_bounded_and_a_place_becomes_free(shared: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(shared.path))
            sock.sendall(b'{"do": "log"}\n')
            assert json.loads(sock.recv(4096))["ok"]
        assert b"connected already" in raw(shared.path, b'{"do": "log"}\n')
    wait_for(lambda: shared.ctl("stats")[0] == 0, "a free place")


def test_more_clients_than_are_heard_at_once_wait_for_their_turn(shared: Running) -> None:
    """60 at once: more than are heard, and more than the kernel lets wait."""
    found: list[tuple[int, str]] = []

    def one() -> None:
        status, _, err = shared.ctl("stats")
        found.append((status, err))

    threads = [threading.Thread(target=one) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [(0, "")] * 60


@may("setuid", "setgid")
def test_another_user_is_refused_even_if_the_file_would_let_it(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        with running(folder) as own:
            assert own.path.stat().st_mode & 0o777 == 0o600
            folder.chmod(0o755)
            own.path.chmod(0o666)
            program = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                       "s.settimeout(5); print(s.recv(4096).decode())")
            python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
            found = subprocess.run([python, "-c", program, str(own.path)], user=65534, group=65534, extra_groups=[],
                                   capture_output=True, text=True, timeout=20, cwd="/")
            assert json.loads(found.stdout) == {"ok": False, "error": "user 65534 may not"}, found.stderr
    finally:
        shutil.rmtree(folder)


def test_a_path_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a file")
    with Server(tmp_path, ".:{port} {\n whoami\n}\n", "-control", str(tmp_path / "there"), wait=False) as server:
        assert server.process.wait(20) == 1
        assert "there is something else at this path" in server.err


def test_the_usual_place_and_several_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "run"
    place.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(place))
    out, err = io.StringIO(), io.StringIO()
    assert ctl.main(["stats"], out, err) == 1
    assert "no server has a control socket" in err.getvalue()
    # What a server that was killed left behind: nobody listens, and no process has its number.
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = place / f"control-{ended.pid}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(left))
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    whoami = ".:{port} {\n bind 127.0.0.1\n whoami\n}\n"
    with Server(folders[0], whoami) as first:
        assert not left.exists()
        assert sorted(place.iterdir()) == [place / f"control-{first.process.pid}.sock"]
        assert ctl.main(["stats"], out, err) == 0
        with Server(folders[1], whoami) as second:
            several = io.StringIO()
            assert ctl.main(["stats"], out, several) == 1
            for server in (first, second):
                assert f"--pid {server.process.pid}" in several.getvalue()
                assert ctl.main(["--pid", str(server.process.pid), "stats"], out, err) == 0
            assert ctl.main(["flush", "--all"], out, several) == 1
        assert ctl.main(["stats", "--json"], out, err) == 0
        refused = io.StringIO()
        assert ctl.main(["flush", "--all"], out, refused) == 1
        assert refused.getvalue() == "fastdns ctl: no block has a cache\n"
    assert list(place.iterdir()) == []


def test_a_place_that_is_not_there_is_said_once_and_the_server_serves(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "file"))
    with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n") as server:
        server.wait_line("[INFO] off: control socket")
        assert ask(server.port)


@pytest.mark.parametrize("words", [[], ["bogus"], ["inspect"], ["drain"], ["log", "loud"], ["stats", "more"]])
def test_words_that_make_no_sense(words: list[str]) -> None:
    err = io.StringIO()
    assert ctl.main(words, io.StringIO(), err) == 2
    assert err.getvalue().startswith("usage: fastdns ctl")


# ---- an upgrade between


PROGRAM = "from fastdns.cli import entry\nentry()\n"
# An upgrade passes its trial and then fails, so that no generation of the new program ever serves.
FAILS_LATER = ".:{port} {\n bind 192.0.2.99\n forward . 127.0.0.1:9\n}\n"


def failed_upgrade(own: Running, count: int = 1) -> None:
    own.server.process.send_signal(signal.SIGUSR2)
    own.server.wait_line("[ERROR] SIGUSR2: starting with listener file descriptors: ", count)


def test_the_socket_and_the_level_outlive_the_exec_of_an_upgrade(tmp_path: Path) -> None:
    with running(tmp_path) as own:
        corefile, inode = own.server.corefile.read_text(), own.path.stat().st_ino
        (web,) = own.server.children("web")
        assert own.json("log", "error")["level"] == "error"
        own.server.write(FAILS_LATER)
        failed_upgrade(own)
        # The web process of before has the socket of before, and serves it.
        assert own.json("stats")["generation"] == 1
        assert (own.path.stat().st_ino, own.server.children("web")) == (inode, [web])
        # A name that was taken away comes back with the next exec, for the process that serves.
        own.path.unlink()
        failed_upgrade(own, 2)
        assert own.json("stats")["generation"] == 1
        own.server.write(corefile)
        before = own.server.out.count("Upgrading complete")
        own.server.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: own.json("stats")["generation"] > 1, "the new program's generation")
        assert own.json("log")["level"] == "error"
        # An INFO line of the supervisor: below the level, so not there.
        assert own.server.out.count("Upgrading complete") == before
        assert own.server.stop() == 0
        assert not own.path.exists()


def test_a_reload_that_is_asked_for_during_an_upgrade_is_answered(tmp_path: Path) -> None:
    with running(tmp_path) as own, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(own.path))
        sock.sendall(b'{"do": "log"}\n')
        assert json.loads(sock.recv(4096))["ok"]
        own.server.process.send_signal(signal.SIGUSR2)
        own.server.wait_line("[INFO] SIGUSR2: Upgrading\n")
        sock.sendall(b'{"do": "reload"}\n')
        assert json.loads(sock.recv(4096)) == {"ok": True, "generation": 2}
        own.server.wait_line("Upgrading complete")


TAKES_AWAY = """from pathlib import Path
from fastdns.server.supervisor import Supervisor
adopt = Supervisor._adopt
def _adopt(self, state):
    Path(self.settings.conf).unlink()
    adopt(self, state)
Supervisor._adopt = _adopt
""" + PROGRAM


def test_a_reload_is_answered_if_the_new_program_cannot_read_the_corefile(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    (tmp_path / "prog.py").write_text(PROGRAM)
    with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n", "-control", str(path),
                program=("-m", "prog")) as server, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(path))
        sock.sendall(b'{"do": "log"}\n')
        assert json.loads(sock.recv(4096))["ok"]
        (tmp_path / "prog.py").write_text(TAKES_AWAY)
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("[INFO] SIGUSR2: Upgrading\n")
        sock.sendall(b'{"do": "reload"}\n')
        server.wait_line("[ERROR] SIGUSR2: loading updated Caddyfile: ")
        assert "loading Caddyfile via flag" in json.loads(sock.recv(4096))["error"]
        assert ask(server.port) is not None


@pytest.mark.parametrize(("command", "times"), [("stats", 2), ("dump", 1)])
def test_only_what_may_be_done_twice_is_asked_twice(tmp_path: Path, command: str, times: int) -> None:
    """Against a server that takes the request and ends."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as sock, (tmp_path / "file").open("wb") as file:
        sock.bind(str(path))
        sock.listen(4)

        def serve() -> None:
            for _ in range(times):
                taken, _ = sock.accept()
                with taken:
                    taken.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TalkError, match="ask again" if command == "dump" else "without an answer|reset by peer"):
            talk(path, {"do": command}, file.fileno() if command == "dump" else -1)
        thread.join(10)
        assert not thread.is_alive()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.accept()


SHORT = """from pathlib import Path
from fastdns.server import children
start = children.start_template
def started(beside=False):
    if Path("short").exists():
        raise OSError(11, "Resource temporarily unavailable")
    return start(beside)
children.start_template = started
from fastdns.cli import entry
entry()
"""


def test_a_reload_for_which_no_process_can_be_had_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    (tmp_path / "prog.py").write_text(SHORT)
    with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n", "-control", str(path), program=("-m", "prog")):
        (tmp_path / "short").touch()
        err = io.StringIO()
        assert ctl.main(["--socket", str(path), "reload"], io.StringIO(), err) == 1
        assert "cannot start a template: [Errno 11] Resource temporarily unavailable" in err.getvalue()
        (tmp_path / "short").unlink()
        assert ctl.main(["--socket", str(path), "reload"], io.StringIO(), err) == 0


NO_FORK = """from pathlib import Path
from fastdns.server import children, control
ask = children.ask_fork
def asked(template, role, **words):
    if Path("short").exists() and Path("short").read_text() == role:
        if role == "web":
            # Not even a message can be sent: nothing says that the template hears this again.
            template.channel.send = lambda *_: (_ for _ in ()).throw(control.Closed("it does not read"))
        else:
            def pair():
                control.pair = real
                raise OSError(24, "Too many open files")
            real, control.pair = control.pair, pair
        Path("short").unlink()
    return ask(template, role, **words)
children.ask_fork = asked
from fastdns.cli import entry
entry()
"""


@pytest.mark.parametrize(("role", "why"), [
    ("keeper", "cannot fork a keeper: [Errno 24] Too many open files"),
    ("worker", "cannot fork a worker: [Errno 24] Too many open files"),
    ("web", " ended while starting: "),  # the template, or who it had not forked yet: whose end is noticed first
])
def test_a_fork_that_fails_is_the_failure_of_its_reload_alone(tmp_path: Path, role: str, why: str) -> None:
    path = tmp_path / "control.sock"
    (tmp_path / "prog.py").write_text(NO_FORK)
    with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n", "-control", str(path),
                program=("-m", "prog")) as server:
        (tmp_path / "short").write_text(role)
        err = io.StringIO()
        assert ctl.main(["--socket", str(path), "reload"], io.StringIO(), err) == 1
        assert why in err.getvalue()
        assert ask(server.port) is not None
        assert ctl.main(["--socket", str(path), "reload"], io.StringIO(), err) == 0
        wait_for(lambda: len(server.children("template"[:7])) == 1, "the failed generation's end")
