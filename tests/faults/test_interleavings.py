# SPDX-License-Identifier: Apache-2.0
"""Reloads, upgrades, stops and deaths in any order: never a deadlock, never an orphan, and the last request is what
is served in the end.

Strategy: a case is a seed, from which come its steps and the pauses between them; several cases run in one server until
a stop ends it. Each server is a session of its own, so that a process it left behind is found by the session's number.
`make interleavings CASES=1000` runs as many as wanted; a failure names its seed (`FASTDNS_SEED=N FASTDNS_CASES=1`). On
two busy cores 150 cases took 4 minutes, so a thousand take less than half an hour; a run that needs six times as long
has hung.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from .serving import Server, ask, wait_for

CASES = int(os.environ.get("FASTDNS_CASES", "15"))
SEED = int(os.environ.get("FASTDNS_SEED", "0"))
HERE = ".:{port} {\n bind 127.0.0.1\n multisocket COUNT\n whoami\n}\n"
GUEST = ".:{port2} {\n bind 127.0.0.1\n whoami\n}\n"
BROKEN = ("bad {", HERE.replace("COUNT", "1").replace("127.0.0.1", "192.0.2.99"))
ROLES = ("worker", "worker", "worker", "templat", "keeper", "web", "formatt")
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PAUSE_SECONDS = 0.4  # at most, between two steps: less than a reload or an upgrade takes


class Case:
    """The server under test and what it has to be in the end."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder, HERE.replace("COUNT", "1"), ports=2)
        self.workers, self.guest = 1, False
        self.failures = 0

    def step(self, draw: random.Random) -> None:
        """One random request or death."""
        kind = draw.choice(("reload", "reload", "upgrade", "broken", "kill", "kill"))
        if kind == "kill":
            found = self.server.children(draw.choice(ROLES))
            if found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(found), signal.SIGKILL)
            return
        if kind == "broken":
            # What it asks for is refused, so it is taken back: what was asked for before is asked for again.
            before = self.server.corefile.read_text()
            self.server.write(draw.choice(BROKEN))
            self.server.process.send_signal(draw.choice((signal.SIGUSR1, signal.SIGUSR2)))
            time.sleep(draw.random() * PAUSE_SECONDS)
            self.server.corefile.write_text(before)
        else:
            self.workers, self.guest = draw.randint(1, 3), draw.random() < 0.3
            self.server.write(HERE.replace("COUNT", str(self.workers)) + (GUEST if self.guest else ""))
        self.server.process.send_signal(signal.SIGUSR2 if kind == "upgrade" else signal.SIGUSR1)

    def as_asked(self) -> bool:
        """Whether the server is what the last request wants, and nothing else is left."""
        server = self.server
        assert server.process.poll() is None, server.err
        # A death that hit a configuration before it served is that reload's failure, and said: it is asked for again.
        if self.server.out.count("[ERROR] Restart failed: ") > self.failures:
            self.failures = self.server.out.count("[ERROR] Restart failed: ")
            server.process.send_signal(signal.SIGUSR1)
            return False
        counts = [len(server.children(role)) for role in ("worker", "templat", "keeper", "web", "formatt")]
        # Each server block's default is one worker for each CPU; the listener with most sockets decides.
        workers = max(self.workers, len(os.sched_getaffinity(0))) if self.guest else self.workers
        return (counts == [workers + 1, 1, 1, 1, 1] and ask(server.port, seconds=0.3) is not None
                and (ask(server.ports[1], seconds=0.1) is not None) == self.guest)


def left(session: int) -> list[str]:
    """The living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                name, rest = (folder / "stat").read_text().rsplit(") ", 1)
                if int(rest.split()[3]) == session and rest[0] != "Z":
                    found.append(name)
    return found


def run(folder: Path, seed: int, cases: int) -> None:
    """So many cases from `seed` on."""
    case: Case | None = None
    for number in range(seed, seed + cases):
        draw = random.Random(number)
        if case is None:
            (folder / str(number)).mkdir()
            case = Case(folder / str(number))
        end = draw.choice(ENDS) if draw.random() < 0.2 or number == seed + cases - 1 else None
        where = f"seed {number}, in {case.server.out_file}"
        try:
            for _ in range(draw.randint(1, 4)):
                case.step(draw)
                time.sleep(draw.random() * PAUSE_SECONDS)
            if end is None:
                wait_for(case.as_asked, f"the last request, {where}", 60.0)
                continue
            assert case.server.stop(end) == 0, f"exit status, {where}"
            wait_for(lambda case=case: not left(case.server.process.pid),  # type: ignore[misc]
                     f"the end of all processes, {where}: {left(case.server.process.pid)}")
            case = None
        except BaseException:
            with contextlib.suppress(OSError):
                os.killpg(case.server.process.pid, signal.SIGKILL)
            raise


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_interleavings(tmp_path: Path) -> None:
    run(tmp_path, SEED, min(CASES, 15))


@pytest.mark.nightly
@pytest.mark.timeout(600 + 10 * CASES)
def test_many_random_interleavings(tmp_path: Path) -> None:
    run(tmp_path, SEED, CASES)
