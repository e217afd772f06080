# SPDX-License-Identifier: Apache-2.0
"""`cache { snapshot }`: a server that is started again answers from what it knew; a bad file costs a line of the log.
"""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from fastdns import ctl
from fastdns.server.memory import LAYOUTS
from fastdns.server.shutdown import HOOK_SECONDS
from fastdns.snapshot import MAGIC

from .serving import Server, ask, wait_for
from .upstream import Upstream

COREFILE = """
.:{port} {
    bind 127.0.0.1
    cache {
        snapshot SNAP EVERY
    }
    forward . 127.0.0.1:UP
}
"""


def corefile(upstream: Upstream, snap: Path, port: int, every: str = "0s") -> str:
    # The port belongs to a block's settings, and so to its snapshot.
    text = COREFILE.replace("UP", str(upstream.port)).replace("SNAP", str(snap)).replace("EVERY", every)
    return text.replace("{port}", str(port)) if port else text


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_started_again_answers_without_upstream(tmp_path: Path, end: signal.Signals) -> None:
    snap = tmp_path / "snap"
    with Upstream() as upstream:
        with Server(tmp_path, corefile(upstream, snap, 0, "1s")) as server:
            assert ask(server.port)
            port, asked = server.port, len(upstream.asked)
            if end == signal.SIGKILL:
                # Only what the interval saved is there.
                size = snap.stat().st_size if snap.exists() else 0
                wait_for(lambda: snap.exists() and snap.stat().st_size > max(size, 250), "a save")
                orphans = server.children()
                server.process.kill()
                server.process.wait()
                for pid in orphans:
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda: ask(port, seconds=0.2) is None, "the orphans' end")
            else:
                assert server.stop() == 0
        assert snap.stat().st_mode & 0o777 == 0o600
        with Server(tmp_path, corefile(upstream, snap, port, "1s")) as again:
            assert "1 entries loaded" in again.out
            reply = ask(port)
            assert reply and reply[-4:] == bytes((192, 0, 2, 1))
            assert len(upstream.asked) == asked


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign", "settings", "folder"])
def test_a_bad_file_is_left_alone_and_the_start_goes_on(tmp_path: Path, damage: str) -> None:
    snap = tmp_path / "snap"
    with Upstream() as upstream:
        with Server(tmp_path, corefile(upstream, snap, 0)) as server:
            assert ask(server.port)
            port = server.port
            assert server.stop() == 0
        octets = bytearray(snap.read_bytes())
        text = corefile(upstream, snap, port)
        if damage == "flip":
            octets[-40] ^= 4
        elif damage == "cut":
            del octets[-10:]
        elif damage == "foreign":
            octets[:] = os.urandom(500)
        elif damage == "settings":
            text = text.replace("cache {", "cache 77 {")
        snap.write_bytes(octets)
        if damage == "folder":
            snap.unlink()
            snap.mkdir()
        before = len(upstream.asked)
        with Server(tmp_path, text) as again:
            assert f"[WARNING] plugin/cache: snapshot {snap} is not loaded: " in again.out
            assert ask(port)
            assert len(upstream.asked) == before + 1
            assert again.stop() == 0
            if damage == "folder":
                assert f"[ERROR] plugin/cache: snapshot {snap}: is a directory" in again.out


def test_what_was_flushed_is_not_loaded_by_a_reload_or_another_keeper(tmp_path: Path) -> None:
    snap, path = tmp_path / "snap", tmp_path / "control.sock"
    with Upstream() as upstream:
        with Server(tmp_path, corefile(upstream, snap, 0)) as server:
            assert ask(server.port)
            port = server.port
            assert server.stop() == 0
        with Server(tmp_path, corefile(upstream, snap, port), "-control", str(path)) as again:
            assert ctl.main(["--socket", str(path), "flush", "--all"], io.StringIO(), io.StringIO()) == 0
            (keeper,) = again.children("keeper")
            os.kill(keeper, signal.SIGKILL)
            wait_for(lambda: again.children("keeper") not in ([], [keeper]), "another keeper")
            assert ctl.main(["--socket", str(path), "reload"], io.StringIO(), io.StringIO()) == 0
            before = len(upstream.asked)
            assert ask(port)
            assert len(upstream.asked) == before + 1


PROGRAM = "from fastdns.cli import entry\nentry()\n"


OTHERWISE = """from fastdns.server.memory import Memory
save = Memory.save
Memory.save = lambda self, note: {**save(self, note), "layouts": OLD}
""".replace("OLD", repr({**LAYOUTS, "cache": 0})) + PROGRAM


def test_an_upgrade_whose_cache_lies_otherwise_takes_what_was_saved_for_it(tmp_path: Path) -> None:
    snap = tmp_path / "snap"
    (tmp_path / "prog.py").write_text(OTHERWISE)
    with Upstream() as upstream, Server(tmp_path, corefile(upstream, snap, 0, "0s"),
                                        program=("-m", "prog")) as server:
        assert ask(server.port)
        asked = len(upstream.asked)
        (tmp_path / "prog.py").write_text(PROGRAM)
        server.process.send_signal(signal.SIGUSR2)
        server.wait_line("[INFO] SIGUSR2: Upgrading complete: fastdns-")
        assert "[WARNING] SIGUSR2: the cache starts empty" in server.out
        assert f"[INFO] plugin/cache: snapshot {snap}: 1 entries loaded" in server.out
        assert ask(server.port)
        assert len(upstream.asked) == asked


@pytest.mark.parametrize("readable", [True, False])
def test_what_is_asked_for_while_an_upgrade_has_entries_saved_waits_for_it(tmp_path: Path, readable: bool) -> None:
    snap, path = tmp_path / "snap", tmp_path / "control.sock"
    (tmp_path / "prog.py").write_text(OTHERWISE)
    with Upstream() as upstream, socket.socket(socket.AF_UNIX) as asker, \
            Server(tmp_path, corefile(upstream, snap, 0), "-control", str(path), program=("-m", "prog")) as server:
        assert ask(server.port)
        asked = len(upstream.asked)
        (keeper,) = server.children("keeper")
        (tmp_path / "prog.py").write_text(PROGRAM)
        asker.settimeout(30)
        asker.connect(str(path))
        os.kill(keeper, signal.SIGSTOP)
        try:
            server.process.send_signal(signal.SIGUSR2)
            server.wait_line("[WARNING] SIGUSR2: the cache starts empty")
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("[INFO] SIGUSR1: Reloading")
            asker.sendall(b'{"do": "reload"}\n')
            # Answered by the supervisor, after the question before it.
            assert ctl.main(["--socket", str(path), "workers"], io.StringIO(), io.StringIO()) == 0
            if not readable:
                server.corefile.unlink()
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert json.loads(asker.recv(4096)) == {"ok": True, "generation": 2}
        server.wait_line("[INFO] Reloading complete")
        assert server.out.count("[INFO] SIGUSR2: Upgrading complete: ") == readable
        if readable:
            assert server.out.index("Upgrading complete: ") < server.out.index("[INFO] Reloading\n")
        else:
            assert "[ERROR] SIGUSR2: loading updated Caddyfile: " in server.out
        assert f"[INFO] plugin/cache: snapshot {snap}: 1 entries loaded" in server.out
        assert ask(server.port)
        assert len(upstream.asked) == asked


def test_what_is_no_snapshot_of_ours_is_kept(tmp_path: Path) -> None:
    snap = tmp_path / "snap"
    octets = b"fastdns cache 999\nof a version that is to come"
    snap.write_bytes(octets)
    with Upstream() as upstream, Server(tmp_path, corefile(upstream, snap, 0)) as server:
        assert "is not loaded: not a snapshot of this version" in server.out
        assert ask(server.port)
        assert server.stop() == 0
    assert (tmp_path / "snap.kept").read_bytes() == octets
    assert snap.read_bytes().startswith(MAGIC)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A device as little as this pipe: a rename would take it away from everybody."""
    snap = tmp_path / "snap"
    os.mkfifo(snap)
    with Upstream() as upstream, Server(tmp_path, corefile(upstream, snap, 0)) as server:
        assert ask(server.port)
        assert server.stop() == 0
        assert f"[ERROR] plugin/cache: snapshot {snap}: not a file\n" in server.out
    assert snap.is_fifo()
    assert not (tmp_path / "snap.new").exists()


def test_an_end_waits_for_a_slow_save(tmp_path: Path) -> None:
    """The disk is a keeper that is stopped for longer than the events of an end may usually take."""
    snap = tmp_path / "snap"
    with Upstream() as upstream, Server(tmp_path, corefile(upstream, snap, 0)) as server:
        assert ask(server.port)
        (keeper,) = server.children("keeper")
        os.kill(keeper, signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(HOOK_SECONDS + 0.5)
        os.kill(keeper, signal.SIGCONT)
        assert server.stop() == 0
    assert snap.exists()
