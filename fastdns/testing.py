# SPDX-License-Identifier: Apache-2.0
"""The test kit for plugin authors: a real server, questions, and answers to compare with.

    CASES = [
        Case("example.org", A, answer=["example.org. 60 IN A 192.0.2.1"]),
        Case("nothing.example.org", A, rcode=NXDOMAIN),
    ]

    def test_hello():
        with Server(". {\\n hello\\n}") as server:
            for case in CASES:
                server.check(case)

Strategy: `Server` runs the command line in a process of its own on a free port of 127.0.0.1, so what is tested is what
users run. `Worker` runs one worker's engine in threads of this process, where a plugin can be watched and a debugger
attached; it starts in milliseconds. Both answer through real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import __version__
from ._wire import name_from_text
from .message import Message, text
from .numbers import ANY, IN, NOERROR
from .ports import free_port

if TYPE_CHECKING:
    from ._log import RingHandle

START_SECONDS = 20.0
ANSWER_SECONDS = 5.0
SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>; the socket module has no name for it
RECEIVE_OCTETS = 4 << 20  # a flood of questions waits, as it does at the real server
ADDRESS = "127.0.0.1"


def question(
    name: str,
    qtype: int,
    *,
    qclass: int = IN,
    id: int | None = None,
    rd: bool = True,
    cd: bool = False,
    do: bool = False,
    bufsize: int = 0,
    options: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """A query in wire form. `bufsize` octets, `do` or `options` (code, data) give it an OPT (RFC 6891)."""
    flags = (0x0100 if rd else 0) | (0x0010 if cd else 0)
    ident = secrets.randbits(16) if id is None else id
    edns = bool(bufsize or do or options)
    head = b"".join(n.to_bytes(2, "big") for n in (ident, flags, 1, 0, 0, int(edns)))
    wire = head + name_from_text(name) + qtype.to_bytes(2, "big") + qclass.to_bytes(2, "big")
    if edns:
        rdata = b"".join(code.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for code, data in options)
        ttl = 0x8000 if do else 0
        wire += b"\0\0\x29" + (bufsize or 1232).to_bytes(2, "big") + ttl.to_bytes(4, "big")
        wire += len(rdata).to_bytes(2, "big") + rdata
    return wire


def exchange(
    wire: bytes, port: int, proto: str = "udp", address: str = ADDRESS, seconds: float = ANSWER_SECONDS
) -> bytes:
    """Sends a query and gives the reply's octets. Raises TimeoutError when none comes, EOFError when it is closed."""
    kind = socket.SOCK_DGRAM if proto == "udp" else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.settimeout(seconds)
        sock.connect((address, port))
        if proto == "udp":
            sock.send(wire)
            return sock.recv(65535)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        return receive(sock, int.from_bytes(receive(sock, 2), "big"))


def receive(sock: socket.socket, octets: int) -> bytes:
    """Exactly so many octets of a stream."""
    data = b""
    while len(data) < octets:
        piece = sock.recv(octets - len(data))
        if not piece:
            raise EOFError("the connection was closed")
        data += piece
    return data


@dataclass
class Answer:
    """A reply, decoded: flags as a set of lower-case names, sections as lines of a zone file in the order received."""

    wire: bytes
    message: Message
    rcode: int
    flags: set[str]
    answer: list[str]
    authority: list[str]
    additional: list[str]

    @classmethod
    def of(cls, wire: bytes) -> Answer:
        """Decodes octets. Raises ValueError when they are malformed."""
        message = Message.parse(wire)
        names = ("qr", "aa", "tc", "rd", "ra", "ad", "cd")
        return cls(
            wire=wire,
            message=message,
            rcode=message.rcode,
            flags={name for name in names if getattr(message.header, name)},
            answer=[text(record) for record in message.rr],
            authority=[text(record) for record in message.auth],
            additional=[text(record) for record in message.ar if record is not message.edns],
        )


@dataclass
class Case:
    """A question, and what the answer must be. None: not looked at. Records may come in any order."""

    name: str
    qtype: int = ANY
    rcode: int = NOERROR
    answer: Sequence[str] | None = ()
    authority: Sequence[str] | None = ()
    additional: Sequence[str] | None = None
    flags: set[str] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `question`."""

    def check(self, got: Answer) -> None:
        """Compares. Raises AssertionError with both sides."""
        assert got.rcode == self.rcode, f"{self.name}: rcode {got.rcode}, expected {self.rcode}"
        for section in ("answer", "authority", "additional"):
            wanted = getattr(self, section)
            if wanted is not None:
                found = sorted(getattr(got, section))
                assert found == sorted(wanted), f"{self.name}: {section} {found}, expected {sorted(wanted)}"
        if self.flags is not None:
            assert got.flags == self.flags, f"{self.name}: flags {sorted(got.flags)}, expected {sorted(self.flags)}"


class _Asking:
    """What both kinds of server can be asked."""

    port = 0

    def ask(
        self, name: str, qtype: int, proto: str = "udp", *, seconds: float = ANSWER_SECONDS, **options: Any
    ) -> Answer:
        """Asks and decodes. Raises TimeoutError when no answer comes; `options` are those of `question`."""
        wire = question(name, qtype, **options)
        reply = exchange(wire, self.port, proto, seconds=seconds)
        assert reply[:2] == wire[:2], "the reply has another id"
        return Answer.of(reply)

    def check(self, case: Case) -> None:
        """Asks over UDP and over TCP, and compares both answers."""
        for proto in ("udp", "tcp"):
            case.check(self.ask(case.name, case.qtype, proto, **case.options))


class Server(_Asking):
    """The command line in a process of its own. Keys of the Corefile without a port get a free one (`port`).

    `output` collects the lines that it prints; `lines()` waits for none. Raises AssertionError when it does not start.
    """

    def __init__(
        self, corefile: str, *, arguments: Sequence[str] = (), environ: dict[str, str] | None = None,
        python: str = sys.executable, bind: bool = True, seconds: float = START_SECONDS,
    ) -> None:
        self.port = free_port()
        self.output: list[str] = []
        self.directory = tempfile.TemporaryDirectory(prefix="fastdns-test-")
        self.corefile = Path(self.directory.name) / "Corefile"
        self.corefile.write_text(_bound(corefile) if bind else corefile)
        command = [python, "-m", "fastdns", "-conf", str(self.corefile), "-dns.port", str(self.port), *arguments]
        # Unbuffered, and in a session of its own so that nothing of it outlives the test.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env={**os.environ, **(environ or {})}, cwd=self.directory.name,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.wait_for(f"fastdns-{__version__}", seconds)
        except BaseException:
            self.stop()
            raise

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def lines(self) -> list[str]:
        """Everything printed so far."""
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get_nowait()) is not None:
                self.output.append(line)
        return self.output

    def wait_for(self, part: str, seconds: float = ANSWER_SECONDS) -> str:
        """The first line, printed before or now, that holds `part`. Raises AssertionError when none comes in time."""
        for line in self.output:
            if part in line:
                return line
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                line_or_end = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line_or_end is None:
                raise AssertionError("the server ended:\n" + "\n".join(self.output))
            self.output.append(line_or_end)
            if part in line_or_end:
                return line_or_end
        raise AssertionError(f"no line with {part!r} in {seconds:g} s:\n" + "\n".join(self.output))

    def stop(self, seconds: float = 10.0) -> int:
        """Ends the server as an operator does (SIGTERM); returns its exit status. Kills what does not end."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._reader.join(seconds)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.directory.cleanup()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _bound(corefile: str) -> str:
    """The same blocks on 127.0.0.1 alone."""
    lines = []
    depth = 0
    for line in corefile.splitlines():
        lines.append(line)
        opens = line.rstrip().endswith("{")
        if opens and depth == 0 and not line.lstrip().startswith("("):
            lines.append(f"    bind {ADDRESS}")
        depth += opens - (line.strip() == "}")
    return "\n".join(lines) + "\n"


class Worker(_Asking):
    """One worker's engine in this process: the hot thread, and a Python thread with the plugins' event loop.

    `generation` has the plugin instances, `stats` the counters. The plugins' keeper hooks are not run.
    """

    def __init__(self, corefile: str) -> None:
        from . import chain, metrics
        from ._stats import Stats
        from ._udp import Engine
        from .corefile import load_source
        from .corefile.source import Source

        source = Source("Corefile", corefile.encode())
        self.generation = chain.load(load_source(source, chain.known(), chain.not_built()))
        self.stats = Stats.create(4)
        metrics.attach(self.stats, 2)
        metrics.declare(self.stats)
        asked = self.generation.plan()["cache"]
        ids = list(range(1, len(self.generation.blocks) + 1))
        segment = None
        if asked:
            from ._cache import Segment

            segment = Segment.create([(ids[at["block"]], at["success"], at["denial"], 0) for at in asked])
        self.program = self.generation.build(self.stats, segment, ids, 1)
        self.engine = Engine(self.program, self.stats, segment, {})
        self.sockets: list[socket.socket] = []
        self.ports: list[int] = []
        for index in range(len(self.generation.listeners)):
            self._open(index)
        self.port = self.ports[0]
        self.engine.start(0, 1, self.ring())
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._python = threading.Thread(target=self._serve, name="python", daemon=True)
        self._python.start()
        self._up.wait(START_SECONDS)
        if self._failure is not None:
            raise self._failure

    def ring(self) -> RingHandle | None:
        """Where the hot thread writes its log records; None: nowhere."""
        return None

    def _open(self, index: int) -> None:
        port = free_port()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_OCTETS)
        except PermissionError:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
        for sock in (udp, tcp):
            sock.setblocking(False)
            sock.bind((ADDRESS, port))
            self.sockets.append(sock)
        tcp.listen()
        self.ports.append(port)
        self.engine.listener(index, udp.fileno(), tcp.fileno())

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
        self._up.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        await self.generation.start_worker(self.engine, self.stats, 1)
        hot = threading.Thread(target=self.engine.run, name="hot", daemon=True)
        hot.start()
        self._up.set()
        await self._end.wait()
        self.engine.stop(1.0)
        await asyncio.get_running_loop().run_in_executor(None, hot.join, 5.0)
        await self.generation.stop_worker()

    def counter(self, name: str, **labels: str) -> int:
        """The value of a counter: the sum of its series with these labels."""
        wanted = set(labels.items())
        return sum(s.values[0] for s in self.stats.snapshot() if s.name == name and wanted <= set(s.labels))

    def stop(self) -> None:
        """Ends both threads."""
        self.loop.call_soon_threadsafe(self._end.set)
        self._python.join(10.0)
        for sock in self.sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
