# SPDX-License-Identifier: Apache-2.0
"""`cache { snapshot }`: a server that is started again answers from what it knew; a bad file costs a line of the log.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

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
    import io

    from fastdns import ctl

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
