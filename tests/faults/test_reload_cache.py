# SPDX-License-Identifier: Apache-2.0
"""The cache outlives workers, reloads and a change of another block's size (which makes a new segment)."""

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
    multisocket 2
    cache
    forward . 127.0.0.1:UP
}
other.test:{port} {
    bind 127.0.0.1
    cache {
        success SIZE
    }
    forward . 127.0.0.1:UP
}
"""


@pytest.mark.parametrize("size", ["9984", "20000"])
def test_what_was_stored_is_served_after_everything_that_stored_it_is_gone(tmp_path: Path, size: str) -> None:
    with Upstream() as upstream:
        corefile = COREFILE.replace("UP", str(upstream.port))
        with Server(tmp_path, corefile.replace("SIZE", "9984")) as server:
            first = ask(server.port)
            assert first is not None
            asked = len(upstream.asked)
            assert asked >= 1
            server.write(corefile.replace("SIZE", size))
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("Reloading complete")
            wait_for(lambda: len(server.children("worker")) == 3, "the old workers' end")
            for pid in server.children("worker"):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda: ask(server.port, seconds=0.2), "a new worker")
            again = ask(server.port)
            assert again is not None
            assert len(upstream.asked) == asked
            assert server.stop() == 0
