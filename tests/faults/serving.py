# SPDX-License-Identifier: Apache-2.0
"""A server of its own for a test, and clients that count what is lost.

Strategy: ports come from the kernel; the server's stdout goes to a file, so that a test may wait for a line without a
thread; queries carry their number as id, so that a loss is counted exactly.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fastdns import testing

# A sanitized server of many blocks takes a while to start where others use the machine.
WAIT_SECONDS = 90.0 if "FASTDNS_SANITIZED" in os.environ else 20.0


def free_port() -> int:
    """A port that is free for UDP and TCP on all addresses now."""
    return testing.free_port("::")


def query(number: int, name: bytes = b"\3www\7example\0", qtype: int = 1) -> bytes:
    """A recursive question with `number` as its id."""
    return struct.pack("!HHHHHH", number & 0xffff, 0x100, 1, 0, 0, 0) + name + struct.pack("!HH", qtype, 1)


def ask(port: int, host: str = "127.0.0.1", seconds: float = 2.0) -> bytes | None:
    """One question over UDP; None where no answer comes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((host, port))
            sock.send(query(1))
            return sock.recv(65535)
        except OSError:
            return None


def page(port: int, path: str = "/metrics", seconds: float = 20.0) -> str:
    """What the web process answers at a port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:
        return str(answer.read(), "utf-8")


def counted(port: int, name: str, **labels: str) -> float:
    """A metric that /metrics at a port tells: the sum of its series with these labels."""
    wanted = [f',{key}="{value}"' for key, value in labels.items()]
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", page(port), re.M)
    return sum(float(value) for text, value in found if all(label in f",{text}" for label in wanted))


def readable(sock: socket.socket, seconds: float) -> bool:
    """Whether something can be read within `seconds`. By poll: a long suite has descriptors that select cannot take."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(int(seconds * 1000)))


def wait_for(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until condition is true; fails the test when it never is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Server:
    """`with Server(tmp_path, corefile) as server`: serves until the block ends. `{port}` in the Corefile is `port`."""

    def __init__(self, folder: Path, corefile: str, *flags: str, wait: bool = True, ports: int = 1,
                 program: tuple[str, ...] = ("-m", "fastdns")) -> None:
        self.ports = [free_port() for _ in range(ports)]
        self.port = self.ports[0]
        self.corefile = folder / "Corefile"
        self.write(corefile)
        self.out_file = folder / "stdout"
        self.err_file = folder / "stderr"
        with self.out_file.open("wb") as out, self.err_file.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *program, "-conf", str(self.corefile), *flags], stdout=out, stderr=err,
                stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True)
        if wait:
            self.wait_line("fastdns-")

    def write(self, corefile: str) -> None:
        """Replace the Corefile."""
        for number, port in enumerate(self.ports):
            corefile = corefile.replace("{port}" if number == 0 else f"{{port{number + 1}}}", str(port))
        self.corefile.write_text(corefile)

    @property
    def out(self) -> str:
        return self.out_file.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.err_file.read_text(errors="replace")

    def wait_line(self, text: str, count: int = 1) -> None:
        """Wait until stdout has `text` `count` times."""
        def there() -> bool:
            assert self.process.poll() is None or self.out.count(text) >= count, f"the server ended: {self.err}"
            return self.out.count(text) >= count

        wait_for(there, f"{text!r} in {self.out_file}")

    def children(self, role: str = "") -> list[int]:
        """Process ids of the supervisor's children whose role starts with `role`, in order of age."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                name, rest = (folder / "stat").read_text().split(" (", 1)[1].rsplit(") ", 1)
            except OSError:
                continue
            state, parent = rest.split()[:2]
            if int(parent) == self.process.pid and state != "Z" and name.startswith(f"fastdns:{role}"):
                found.append((int(rest.split()[19]), int(folder.name)))
        return [pid for _, pid in sorted(found)]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None,
                 _trace: TracebackType | None) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            # Children notice by their channels; a stopped supervisor cannot be asked.
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            raise


class Load:
    """Clients that send numbered queries at a bounded rate and count the answers by number."""

    def __init__(self, port: int, sockets: int = 32) -> None:
        self.socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sockets)]
        self.poller = select.poll()
        self.by_fd = {}
        for sock in self.socks:
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            self.poller.register(sock, select.POLLIN)
            self.by_fd[sock.fileno()] = sock
        self.waiting: dict[tuple[int, int], float] = {}
        self.sent = 0
        self.answered = 0
        self.doubled = 0

    def run(self, seconds: float, rate: float) -> None:
        """Send at `rate` queries a second for `seconds`, reading what comes."""
        begin, had = time.monotonic(), self.sent
        while (now := time.monotonic()) < begin + seconds:
            due = had + int((now - begin) * rate)
            while self.sent < due:
                self._send()
            self.read(1)

    def _send(self) -> None:
        sock = self.socks[self.sent % len(self.socks)]
        number = (self.sent // len(self.socks)) & 0xffff
        try:
            sock.send(query(number))
        except BlockingIOError:
            return
        self.waiting[sock.fileno(), number] = time.monotonic()
        self.sent += 1

    def read(self, milliseconds: int) -> None:
        """Take what has arrived."""
        for fd, _ in self.poller.poll(milliseconds):
            try:
                while True:
                    reply = self.by_fd[fd].recv(4096)
                    if self.waiting.pop((fd, int.from_bytes(reply[:2], "big")), None) is None:
                        self.doubled += 1
                    else:
                        self.answered += 1
                        self.took(reply)
            except OSError:
                continue

    def took(self, reply: bytes) -> None:
        """Look at an answer: for those who want to know more than that it came."""

    def settle(self, seconds: float = 2.0) -> int:
        """Wait for the last answers; returns the number of queries that have none."""
        deadline = time.monotonic() + seconds
        while self.waiting and time.monotonic() < deadline:
            self.read(20)
        return len(self.waiting)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


L = TypeVar("L", bound=Load)


@contextmanager
def load(port: int, sockets: int = 32, kind: type[L] = Load) -> Iterator[L]:  # type: ignore[assignment]
    """A Load that is closed at the end."""
    clients = kind(port, sockets)
    try:
        yield clients
    finally:
        clients.close()
