# SPDX-License-Identifier: Apache-2.0
"""The server under load: one that is started for the measurement and pinned, or one that runs already.

    with Target.fastdns(corefile, cpus="0") as server:
        Load(server.address, server.port, questions, cpu=1).run(5)

Strategy: any argv under taskset, in a session of its own; it is up when it answers a question, whatever the answer.
`pids()` is asked anew for each measurement, because a server forks. At the end the whole session goes: first asked,
then killed; an end by a signal comes here too (ending.py).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from fastdns.errors import FastdnsError
from fastdns.ports import free_port

from .cpu import tree
from .ending import held_back
from .questions import query

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02
ANSWER_SECONDS = 0.2
SHOWN_OCTETS = 2000  # of what a server that failed had said


class TargetError(FastdnsError):
    """A server did not start, did not answer, or ended too early; the text has its last words."""


class Server(Protocol):
    """What a measurement needs to know of a server."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    def pids(self) -> list[int]: ...


def answers(address: str, port: int, question: bytes, protocol: str = "udp", seconds: float = ANSWER_SECONDS) -> bool:
    """Whether a server sends anything back that has the question's id (over TCP: behind a length)."""
    wire = secrets.token_bytes(2) + question[2:]
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect((address, port))
            sock.sendall(wire if protocol == "udp" else len(wire).to_bytes(2, "big") + wire)
            reply = sock.recv(4096)
        except OSError:
            return False
    return reply[:2] == wire[:2] if protocol == "udp" else reply[2:4] == wire[:2]


class Address:
    """A server that runs already: `pids` name its processes, if its CPU time is to be measured."""

    def __init__(self, address: str, port: int = 53, pids: Sequence[int] = ()) -> None:
        ipaddress.ip_address(address.partition("%")[0])  # ValueError
        self.address, self.port = address, port
        self.start_seconds = 0.0
        self._pids = list(pids)

    def pids(self) -> list[int]:
        """The processes named and all their descendants."""
        return tree(self._pids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Target:
    """A server started for a measurement; a context manager.

    `argv` starts it in the foreground, on `address` and `port`. `cpus`: where it may run, as taskset(1) reads it, ""
    anywhere. `question`, in wire form, is asked until it is answered, for `patience` seconds. `start_seconds`: how
    long that took. TargetError when it ends before, or never answers.
    """

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        *,
        address: str = LOOPBACK,
        cpus: str = "",
        question: bytes = b"",
        protocol: str = "udp",
        patience: float = 30.0,
        environment: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stop: int = signal.SIGTERM,
    ) -> None:
        self.argv = [*(["taskset", "-c", cpus] if cpus else []), *argv]
        self.address, self.port, self.cpus = address, port, cpus
        self.start_seconds = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._question = question or query("h0000000.example.org", 1)
        self._protocol, self._patience, self._stop = protocol, patience, stop
        self._environment = {**os.environ, **(environment or {})}
        self._cwd = cwd
        self._output: IO[bytes] | None = None
        self._files: list[Path] = []

    @classmethod
    def fastdns(
        cls, corefile: str, *, port: int = 0, cpus: str = "", arguments: Sequence[str] = (), **options: Any
    ) -> Self:
        """fastdns from this interpreter. `{port}` in the Corefile is replaced; without it `-dns.port` says the port."""
        port = port or free_port()
        handle, name = tempfile.mkstemp(prefix="Corefile-", suffix=".bench")
        with os.fdopen(handle, "w") as file:
            file.write(corefile.replace("{port}", str(port)))
        argv = [sys.executable, "-m", "fastdns", "-conf", name, "-dns.port", str(port), *arguments]
        made = cls(argv, port, cpus=cpus, **options)
        made._files.append(Path(name))
        return made

    @classmethod
    def floor(cls, *, segment: bool = False, port: int = 0, cpus: str = "", **options: Any) -> Self:
        """The floor (`fastdns.bench.floor`) as a process of its own."""
        port = port or free_port()
        more = ["--segment"] if segment else []
        return cls([sys.executable, "-m", "fastdns.bench.floor", *more, str(port)], port, cpus=cpus, **options)

    def pids(self) -> list[int]:
        """Every process of the server now; empty when it does not run."""
        return tree([self.process.pid]) if self.process and self.process.poll() is None else []

    def words(self) -> str:
        """The end of what the server printed so far."""
        if self._output is None:
            return ""
        self._output.seek(max(0, self._output.seek(0, os.SEEK_END) - SHOWN_OCTETS))
        return self._output.read().decode(errors="replace").strip()

    def start(self) -> Self:
        """Start it and wait until it answers. TargetError."""
        self._output = tempfile.TemporaryFile(prefix="bench-target-")  # noqa: SIM115 - stop() closes it
        begin = time.monotonic()
        try:
            with held_back():
                self.process = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    cwd=self._cwd,
                    start_new_session=True,
                )
            while not answers(self.address, self.port, self._question, self._protocol):
                if self.process.poll() is not None:
                    raise TargetError(f"{self.argv[0]} ended with {self.process.returncode}: {self.words()}")
                if time.monotonic() - begin > self._patience:
                    raise TargetError(f"no answer from {self.address} port {self.port}: {self.words()}")
                time.sleep(POLL_SECONDS)
        except OSError as error:
            self.stop()
            raise TargetError(f"{' '.join(self.argv)}: {error}") from error
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - begin
        return self

    def stop(self, seconds: float = 10.0) -> None:
        """Ask it to end, then kill what is left of its session. May be called twice."""
        with held_back():
            self._end(seconds)

    def _end(self, seconds: float) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(self._stop)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(seconds)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        if self._output is not None:
            self._output.close()
            self._output = None
        for path in self._files:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
