# SPDX-License-Identifier: Apache-2.0
"""Reloads: nothing is lost, a failure changes nothing, sockets come and go with their listeners."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from .serving import Server, ask, load, page, wait_for

SAME = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n whoami\n}\n"
MORE = ".:{port} {\n bind 127.0.0.1\n multisocket 3\n whoami\n}\n.:{port2} {\n whoami\n}\n"
LESS = ".:{port} {\n bind 127.0.0.1\n multisocket 1\n whoami\n}\n"


def test_reloads_under_load_lose_nothing(tmp_path: Path) -> None:
    with Server(tmp_path, SAME, ports=2) as server, load(server.port) as clients:
        for number, corefile in enumerate((SAME, MORE, LESS, SAME), 1):
            server.write(corefile)
            server.process.send_signal(signal.SIGUSR1)
            while server.out.count("[INFO] Reloading complete") < number:
                clients.run(0.1, 2000.0)
            clients.run(0.2, 2000.0)
        assert clients.settle() == 0
        assert clients.doubled == 0
        # Only the newest generation is left.
        wait_for(lambda: len(server.children("worker")) == 3, "the old workers' end")
        wait_for(lambda: len(server.children("templat")) == 1, "the old templates' end")
        assert "died" not in server.out
        assert server.out.count("[INFO] SIGUSR1: Reloading\n[INFO] Reloading\n") == 4
        assert server.out.count("fastdns-") == 1


def refused(port: int) -> bool:
    """Whether nobody listens on a TCP port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_listeners_come_and_go(tmp_path: Path) -> None:
    with Server(tmp_path, SAME, ports=2) as server:
        assert ask(server.ports[1], seconds=0.2) is None
        server.write(MORE)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        assert ask(server.ports[1]) is not None
        server.write(SAME)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete", 2)
        wait_for(lambda: ask(server.ports[1], seconds=0.05) is None, "the listener's end")
        # The descriptor is in the hands of the old generation's processes until the last of them has drained.
        wait_for(lambda: refused(server.ports[1]), "the TCP listener's end")
        assert ask(server.port) is not None


@pytest.mark.parametrize(
    ("corefile", "text"),
    [
        ("bad {", "Corefile:1 - Syntax error: Unexpected token '{', expecting '}'"),
        (".:{port} {\n bind 192.0.2.99\n whoami\n}\n",
         "Listen: listen tcp 192.0.2.99:{port}: bind: cannot assign requested address"),
        # Sockets were added, and clients asked meanwhile, when it fails.
        (SAME.replace("multisocket 2", "multisocket 6\n health 192.0.2.99:1"),
         "listen tcp 192.0.2.99:1: bind: cannot assign requested address"),
    ],
)
def test_a_failed_reload_changes_nothing(tmp_path: Path, corefile: str, text: str) -> None:
    with Server(tmp_path, SAME) as server, load(server.port) as clients:
        wait_for(lambda: len(server.children("worker")) == 3, "the spare")
        before = server.children()
        server.write(corefile)
        server.process.send_signal(signal.SIGUSR1)
        while "SIGUSR1: starting with listener file descriptors: " not in server.out:
            clients.run(0.1, 1000.0)
        shown = text.replace("{port}", str(server.port))
        lines = server.out.splitlines()
        assert any(line.startswith("[ERROR] Restart failed: ") and line.endswith(shown) for line in lines)
        assert clients.settle() == 0
        wait_for(lambda: server.children() == before, "the failed generation's end")


def test_a_corefile_that_is_gone_is_told(tmp_path: Path) -> None:
    with Server(tmp_path, SAME) as server:
        server.corefile.unlink()
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("[ERROR] SIGUSR1: loading updated Caddyfile: loading Caddyfile via flag: open ")
        assert ask(server.port) is not None


@pytest.mark.parametrize("what", ["corefile", "import"])
def test_a_pipe_that_nobody_writes_keeps_nobody_waiting(tmp_path: Path, what: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Server(tmp_path, SAME) as server:
        text = server.corefile.read_text()
        if what == "corefile":
            server.corefile.unlink()
            server.corefile.symlink_to(pipe)
        else:
            server.write("import pipe\n" + text)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("not a file, so it cannot be read again" if what == "corefile" else f"{pipe}: is a pipe")
        assert ask(server.port) is not None
        server.corefile.unlink()
        server.corefile.write_text(text)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")


def test_requests_while_reloading_end_in_the_last_state(tmp_path: Path) -> None:
    with Server(tmp_path, SAME, ports=2) as server:
        server.write(MORE)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("[INFO] Reloading\n")
        server.write(LESS)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete", 2)
        wait_for(lambda: len(server.children("worker")) == 2, "one worker and its spare")
        assert ask(server.port) is not None


def test_sigterm_while_reloading(tmp_path: Path) -> None:
    with Server(tmp_path, SAME) as server:
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("[INFO] Reloading\n")
        everybody = server.children()
        assert server.stop() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in everybody)


def test_a_formatter_that_ends_while_there_is_no_template_is_followed(tmp_path: Path) -> None:
    with Server(tmp_path, SAME) as server:
        (old,) = server.children("formatt")
        os.kill(old, signal.SIGSTOP)  # so that it outlives its generation until it is killed
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        wait_for(lambda: len(server.children("templat")) == 1, "the old template's end")
        (template,) = server.children("templat")
        os.kill(template, signal.SIGKILL)
        server.wait_line(f"template (pid {template}) died")
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: [len(server.children(role)) for role in ("formatt", "templat")] == [1, 1], "their successors")
        assert server.children("formatt") != [old]
        assert "ended before it began" not in server.out


@pytest.mark.slow
def test_the_reload_plugin_notices_a_change_and_tries_a_bad_one_once(tmp_path: Path) -> None:
    watched = ".:{port} {\n bind 127.0.0.1\n reload 2s 0s\n whoami\n}\n"
    with Server(tmp_path, watched, ports=2) as server:
        server.wait_line("[INFO] plugin/reload: Running configuration SHA512 = ")
        server.write(watched + ".:{port2} {\n whoami\n}\n")
        server.wait_line("[INFO] Reloading complete")
        assert ask(server.ports[1]) is not None
        server.write(watched + ".:{port2} {\n bind 192.0.2.99\n whoami\n}\n")
        server.wait_line("[ERROR] plugin/reload: Corefile changed but reload failed: starting with listener file "
                         "descriptors: Listen: listen tcp 192.0.2.99:")
        server.write("bad {")
        server.wait_line("[WARNING] plugin/reload: Corefile parse failed: ")
        server.write(watched)
        server.wait_line("[INFO] Reloading complete", 2)
        assert server.out.count("Restart failed") == 1
        assert server.out.count("SHA512") == 3


FAILING = ".:{port} {\n bind 127.0.0.1\n reload 2s 0s\n prometheus 127.0.0.1:{port2}\n whoami\n}\n"
SERIES = re.compile(r'^fastdns_reload_failures_total{by="([^"]+)",reason="([^"]+)"} (\d+)$', re.M)


def test_failures_are_counted_by_step_and_the_running_hash_is_shown(tmp_path: Path) -> None:
    with Server(tmp_path, FAILING, ports=2) as server:
        def reload() -> None:
            server.process.send_signal(signal.SIGUSR1)

        assert not SERIES.search(page(server.ports[1]))
        assert "coredns_reload_version_info{" not in page(server.ports[1])
        server.corefile.unlink()
        reload()
        server.wait_line("loading updated Caddyfile: ")
        for at, text in enumerate(("bad {", FAILING.replace("whoami", "forward"),
                                   FAILING.replace("127.0.0.1\n reload", "192.0.2.99\n reload")), 1):
            server.write(text)
            reload()
            server.wait_line("Restart failed: ", at)
        server.write(FAILING.replace("2s", "3s"))
        reload()
        server.wait_line("Reloading complete")
        found = {(by, reason): int(count) for by, reason, count in SERIES.findall(page(server.ports[1]))
                 if by == "SIGUSR1"}  # the directive may look at a bad file, too
        assert found == {("SIGUSR1", "read"): 1, ("SIGUSR1", "corefile"): 2, ("SIGUSR1", "open"): 1}
        digest = re.findall(r"SHA512 = (\w{128})", server.out)[-1]
        text = page(server.ports[1])
        assert re.findall(r'^coredns_reload_version_info{hash="sha512",value="(\w+)"} 1$', text, re.M) == [digest]
