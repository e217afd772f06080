# SPDX-License-Identifier: Apache-2.0
"""dnstap: collectors that are not there, come late, hang up, read slowly, talk nonsense or want to see certificates;
those that connect themselves; reloads and dead processes. Whatever they do, every query is answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import stat
import struct
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from fastdns import metrics
from fastdns._stats import Stats
from fastdns.numbers import A
from fastdns.plugins.dnstap import frames, listening, outgoing, stream
from fastdns.plugins.dnstap.config import Tap
from fastdns.plugins.dnstap.feed import MESSAGE, Dnstap, Message
from fastdns.plugins.dnstap.listening import Listening
from fastdns.plugins.dnstap.outgoing import Outgoing
from fastdns.plugins.dnstap.stream import Waiting
from fastdns.testing import Server, exchange, free_port, question
from tests.framestream import ACCEPT, CONTENT_TYPE, FINISH, READY, START, Reader, Sink, control

LOG = logging.getLogger("plugin/dnstap")
SOON = 20.0


def frame(number: int, size: int = 0) -> bytes:
    """A frame that says which one it is."""
    message = Message(type=6, query_port=number, response_message=bytes(size))
    octets: bytes = Dnstap(type=MESSAGE, message=message).SerializeToString()
    return octets


@pytest.fixture(autouse=True)
def counters() -> Iterator[Stats]:
    """A table for this test alone."""
    before = metrics._Process.stats, metrics._Process.row
    stats = Stats.create(4)
    metrics.attach(stats, 2)
    yield stats
    metrics._Process.stats, metrics._Process.row = before


def counted(stats: Stats, name: str, **labels: str) -> int:
    wanted = set(labels.items())
    return sum(one.values[0] for one in stats.snapshot() if one.name == name and wanted <= set(one.labels))


def dropped(stats: Stats, reason: str) -> int:
    return counted(stats, "fastdns_dnstap_dropped_total", reason=reason)


async def until(condition: Any, seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that a test can wait for."""
    monkeypatch.setattr(frames, "TIMEOUT", 0.5)
    monkeypatch.setattr(outgoing, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(outgoing, "STEADY_SECONDS", 0.0)


# ---------------------------------------------------------------------------------------------- Frame Streams


def test_control_frames() -> None:
    assert frames.control(frames.STOP) == bytes([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 3]) == control(3)
    assert frames.control(frames.READY, CONTENT_TYPE) == control(READY, CONTENT_TYPE)
    assert frames.fields(control(ACCEPT, CONTENT_TYPE)[8:]) == (ACCEPT, [CONTENT_TYPE])
    assert frames.fields(control(ACCEPT)[8:]) == (ACCEPT, [])
    assert frames.data(b"abc") == b"\0\0\0\3abc"


@given(st.binary(max_size=60))
def test_no_control_frame_breaks_its_reader(payload: bytes) -> None:
    try:
        kind, types = frames.fields(payload)
    except frames.FrameError:
        return
    assert kind == int.from_bytes(payload[:4], "big")
    assert 4 + sum(8 + len(one) for one in types) == len(payload)


async def handshake(said: bytes) -> bytes:
    """What we say to a collector that says this, and nothing more."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.write_eof()
        heard.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            await frames.begin(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()
        await until(lambda: heard)
    return bytes(heard)


READY_FRAME = control(READY, CONTENT_TYPE)


BOTH = struct.pack("!III", 0, 4 + 13 + 30, ACCEPT) + control(ACCEPT, b"other")[12:] + control(ACCEPT, CONTENT_TYPE)[12:]


@pytest.mark.parametrize("said", [control(ACCEPT, CONTENT_TYPE), control(ACCEPT), BOTH])
def test_handshakes(said: bytes) -> None:
    assert asyncio.run(handshake(said)) == READY_FRAME + control(START, CONTENT_TYPE)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (control(ACCEPT, b"other"), "content type mismatch"),
        (control(FINISH), "decoding error"),
        (b"\0\0\0\1" + control(ACCEPT)[4:], "decoding error"),
        (struct.pack("!II", 0, 513) + bytes(513), "decoding error"),
        (struct.pack("!II", 0, 3) + bytes(3), "decoding error"),
        (struct.pack("!III", 0, 8, ACCEPT) + bytes(4), "decoding error"),
        (struct.pack("!IIIII", 0, 12, ACCEPT, 2, 0), "decoding error"),
        (struct.pack("!IIIII", 0, 12, ACCEPT, 1, 9), "decoding error"),
        (b"", "0 bytes read"),
        (control(ACCEPT)[:9], "1 bytes read"),
    ],
)
def test_handshakes_that_fail(said: bytes, error: str) -> None:
    with pytest.raises((frames.FrameError, EOFError), match=error):
        asyncio.run(handshake(said))


# ---------------------------------------------------------------------------------------------- what waits


def test_what_waits_is_bounded_by_number_and_by_octets() -> None:
    async def main() -> None:
        waiting = Waiting(2)
        assert all(waiting.put(b"x") for _ in range(20_000)) and not waiting.put(b"x")
        assert sum(len(iter_) for iter_ in iter(waiting.take, [])) == 20_000 and not waiting.some.is_set()
        big = bytes(1 << 20)
        assert [waiting.put(big) for _ in range(33)] == [True] * 32 + [False] and waiting.put(b"") is True
        assert waiting.take() == [big] and waiting.put(big)
        assert waiting.clear() == 33 and waiting.take() == [] and waiting.octets == 0
        small = [bytes(30_000)] * 3
        for one in small:
            waiting.put(one)
        assert len(waiting.take()) == 2 and len(waiting.take()) == 1

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- connecting


@contextlib.asynccontextmanager
async def connecting(tap: Tap, seconds: float = 1.0) -> AsyncIterator[Outgoing]:
    sink = Outgoing(tap, "to", LOG)
    sink.start()
    try:
        yield sink
    finally:
        await sink.stop(seconds)


def to(collector: Sink, **more: Any) -> Tap:
    return Tap("tcp", f"127.0.0.1:{collector.port}", **more)


def test_messages_wait_for_the_connection_and_are_sent_in_order(counters: Stats) -> None:
    async def main() -> None:
        with Sink() as collector:
            async with connecting(to(collector)) as sink:
                for number in range(1000):
                    sink.put(frame(number))
                await until(lambda: len(collector.frames) == 1000)
            assert [one["query_port"] for one in collector.frames] == list(range(1000))
            (talk,) = collector.talks
            assert talk.finished

    asyncio.run(main())
    assert counted(counters, "fastdns_dnstap_messages_total", to="to") == 1000
    assert counted(counters, "fastdns_dnstap_dropped_total") == 0
    assert counted(counters, "fastdns_dnstap_connections") == 0


def test_what_waits_at_the_end_is_sent() -> None:
    async def main() -> None:
        with Sink() as collector:
            async with connecting(to(collector)) as sink:
                await until(lambda: sink.stream is not None)
                for number in range(5000):
                    sink.put(frame(number, 200))
            assert len(collector.frames) == 5000

    asyncio.run(main())


@pytest.mark.usefixtures("brief")
def test_a_collector_that_is_not_there(counters: Stats, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "no.sock"

    async def main() -> None:
        async with connecting(Tap("tcp", f"127.0.0.1:{port}")) as sink, connecting(Tap("unix", str(path))) as other:
            await until(lambda: sink.refuses and other.refuses)
            sink.drop("down", 5)
            await until(lambda: "Dropped" in caplog.text)
            assert "Dropped dnstap messages: 5" in caplog.text
            # It comes, and is found.
            with Sink(("127.0.0.1", port)) as collector:
                await until(lambda: sink.stream is not None)
                sink.put(frame(1))
                await until(lambda: collector.frames)

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert f"No connection to dnstap endpoint: dial tcp 127.0.0.1:{port}: connect: connection refused" in caplog.text
    assert f"No connection to dnstap endpoint: dial unix {path}: connect: no such file or directory" in caplog.text
    assert caplog.text.count("No connection") == 2, "the first failure alone is told of"
    assert dropped(counters, "down") == 5


@pytest.mark.parametrize(
    ("tap", "error"),
    [
        (Tap("tcp", "a"), "dial tcp: address a: missing port in address"),
        (Tap("tcp", "a:1:2"), "dial tcp: address a:1:2: too many colons in address"),
        (Tap("tcp", "a:99999"), "dial tcp: address 99999: invalid port"),
        (Tap("tcp", "no-such-host.invalid:1"), "dial tcp: lookup no-such-host.invalid: no such host"),
        (Tap("unix", "/"), "dial unix /: connect: connection refused"),
    ],
)
def test_endpoints_that_lead_nowhere(tap: Tap, error: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with connecting(tap):
            await until(lambda: "No connection" in caplog.text)

    asyncio.run(main())
    assert f"No connection to dnstap endpoint: {error}" in caplog.text


@pytest.mark.usefixtures("brief")
def test_a_connection_that_breaks_is_made_again_at_once(counters: Stats) -> None:
    async def main() -> None:
        with Sink() as collector:
            async with connecting(to(collector)) as sink:
                for number in range(5):
                    await until(lambda: len(collector.talks) == number + 1 and sink.stream is not None)  # noqa: B023
                    sink.put(frame(number))
                    await until(lambda: len(collector.frames) == number + 1)  # noqa: B023
                    collector.hang_up()
            assert [one["query_port"] for one in collector.frames] == list(range(5))

    asyncio.run(main())
    assert counted(counters, "fastdns_dnstap_dropped_total") == 0


@pytest.mark.usefixtures("brief")
def test_a_collector_that_stops_reading_loses_its_connection_and_what_was_being_written(counters: Stats) -> None:
    async def main() -> None:
        with Sink(rcvbuf=4096) as collector:
            async with connecting(to(collector), 0.2) as sink:
                sink.put(frame(0))
                await until(lambda: len(collector.frames) == 1)
                collector.gate.clear()
                loop = asyncio.get_running_loop()
                longest = 0.0
                sent = 1
                while len(collector.talks) < 2:
                    begun = loop.time()
                    for _ in range(20):
                        sink.put(frame(1, 60_000))  # in the midst of one of these
                        sent += 1
                    longest = max(longest, loop.time() - begun)
                    await asyncio.sleep(0.01)
                assert longest < 0.4, "put never waits"
                assert dropped(counters, "broken") > 0 and dropped(counters, "queue") > 0
                collector.gate.set()

    asyncio.run(main())


def test_a_queue_that_is_full_counts(counters: Stats, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with Sink(rcvbuf=4096) as collector:
            collector.gate.clear()  # not even a handshake
            async with connecting(to(collector), 0.1) as sink:
                for number in range(10_007):
                    sink.put(frame(number))
                assert dropped(counters, "queue") == 7 and sink.refuses == "queue"
            collector.gate.set()

    asyncio.run(main())
    assert dropped(counters, "down") == 10_000 and "Dropped dnstap messages: 10007" in caplog.text


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", control(ACCEPT, b"other"), None])
def test_a_collector_that_talks_nonsense(said: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked again every CHECK_SECONDS, and costs nothing else."""
    asked = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readexactly(len(READY_FRAME)))
        if said is None:
            await reader.read()  # says nothing
        else:
            writer.write(said)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            async with connecting(Tap("tcp", f"127.0.0.1:{server.sockets[0].getsockname()[1]}")):
                await until(lambda: len(asked) >= 3)

    asyncio.run(main())
    assert set(asked) == {READY_FRAME} and caplog.text.count("No connection to dnstap endpoint: ") == 1


def test_a_stream_that_is_over_at_once_is_not_made_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "CHECK_SECONDS", 60.0)

    async def main() -> None:
        with Sink() as collector:
            async with connecting(to(collector)) as sink:
                await until(lambda: sink.stream is not None)
                collector.hang_up()
                await until(lambda: sink.refuses)
                await asyncio.sleep(0.2)
                assert len(collector.talks) == 1

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_tls_unseen_and_seen(authority: trustme.CA, caplog: pytest.LogCaptureFixture, tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))

    async def told(name: str, collector: Sink, **more: Any) -> bool:
        async with connecting(Tap("tls", f"{name}:{collector.port}", **more)) as sink:
            sink.put(frame(7))
            before = len(collector.frames)
            await until(lambda: len(collector.frames) > before or sink.refuses)
            return len(collector.frames) > before

    async def main() -> None:
        with Sink(tls=server_side(authority)) as collector:
            assert not await told("localhost", collector)
            assert await told("localhost", collector, skipverify=True)
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
            assert await told("localhost", collector)
            assert not await told("127.0.0.1", collector), "the certificate is for another name"

    asyncio.run(main())
    assert caplog.text.count("No connection to dnstap endpoint: tls: ") == 2


# ---------------------------------------------------------------------------------------------- listening


@contextlib.asynccontextmanager
async def open_listener(tap: Tap) -> AsyncIterator[Listening]:
    sink = Listening(tap, "listen to", LOG)
    sink.start()
    try:
        yield sink
    finally:
        await sink.stop(1.0)


async def reading(address: tuple[str, int] | str, tls: ssl.SSLContext | None = None) -> Reader:
    return await asyncio.to_thread(Reader, address, tls)


def test_every_client_gets_every_message_from_then_on(counters: Stats, tmp_path: Path) -> None:
    path = str(tmp_path / "tap.sock")

    async def main() -> None:
        async with open_listener(Tap("unix", path, listen=True)) as sink:
            sink.put(frame(0))
            assert sink.refuses
            one = await reading(path)
            await until(lambda: len(sink.streams) == 1)
            sink.put(frame(1))
            two = await reading(path)
            await until(lambda: len(sink.streams) == 2)
            assert counted(counters, "fastdns_dnstap_connections", to="listen to") == 2
            sink.put(frame(2))
            await until(lambda: len(one.frames) == 2 and len(two.frames) == 1)
            await asyncio.to_thread(two.close)
            await until(lambda: len(sink.streams) == 1)
            sink.put(frame(3))
        assert [each["query_port"] for each in one.frames] == [1, 2, 3] and one.talk.finished
        one.close()

    asyncio.run(main())
    assert not Path(path).exists() and dropped(counters, "broken") == 0
    assert counted(counters, "fastdns_dnstap_messages_total") == 4


@pytest.mark.usefixtures("brief")
def test_a_client_that_does_not_read_is_sent_away_and_the_others_lose_nothing(counters: Stats, tmp_path: Path) -> None:
    path = str(tmp_path / "tap.sock")

    async def main() -> None:
        async with open_listener(Tap("unix", path, listen=True)) as sink:
            slow, quick = await reading(path), await reading(path)
            await until(lambda: len(sink.streams) == 2)
            slow.gate.clear()
            sent = 0
            while len(sink.streams) == 2:
                sink.put(frame(sent, 50_000))
                sent += 1
                await until(lambda: len(quick.frames) == sent)  # noqa: B023
            assert dropped(counters, "broken") > 0
            for each in (slow, quick):
                each.close()

    asyncio.run(main())


@pytest.mark.usefixtures("brief")
def test_clients_are_bounded_and_one_that_says_nothing_leaves(caplog: pytest.LogCaptureFixture,
                                                              monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(listening, "CLIENTS_MOST", 2)
    path = str(tmp_path / "tap.sock")

    async def main() -> None:
        async with open_listener(Tap("unix", path, listen=True)) as sink:
            mute = socket.socket(socket.AF_UNIX)
            await until(lambda: os.path.exists(path))  # noqa: PTH110
            mute.connect(path)
            one = await reading(path)
            await until(lambda: len(sink.streams) == 1)
            three = await reading(path)
            await until(lambda: "2 of them are connected" in caplog.text)
            await until(lambda: "i/o timeout" in caplog.text)
            for each in (mute, one, three):
                each.close()

    asyncio.run(main())
    assert caplog.text.count("Error creating encoder for dnstap client: ") == 2


def test_listeners_that_cannot_be(caplog: pytest.LogCaptureFixture, tmp_path: Path, authority: trustme.CA) -> None:
    busy = socket.create_server(("127.0.0.1", 0))
    port = busy.getsockname()[1]
    plain = tmp_path / "file"
    plain.write_text("")
    cert = authority.issue_cert("localhost")
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.cert_chain_pems[0].write_to_path(str(pem))
    cert.private_key_pem.write_to_path(str(key))
    cases = [
        (Tap("tcp", f"127.0.0.1:{port}"), f"listen tcp 127.0.0.1:{port}: bind: address already in use"),
        (Tap("tcp", "127.0.0.1"), "listen tcp: address 127.0.0.1: missing port in address"),
        (Tap("unix", str(plain)), f"listen unix {plain}: bind: address already in use"),
        (Tap("unix", "/no/folder/x"), "listen unix /no/folder/x: bind: no such file or directory"),
        (Tap("tls", "127.0.0.1:0", tls=("no.pem", "no.key")), "open no.pem: no such file or directory"),
        (Tap("tls", "127.0.0.1:0", tls=(str(pem), str(key), "no.ca")), "open no.ca: no such file or directory"),
        (Tap("tls", "127.0.0.1:0", tls=(str(plain), str(key))), "tls: "),
    ]

    async def main() -> None:
        for tap, text in cases:
            caplog.clear()
            async with open_listener(tap):
                await until(lambda: "Failed to start dnstap listener: " in caplog.text)
            assert f"Failed to start dnstap listener: {text}" in caplog.text
        async with open_listener(Tap("tls", "127.0.0.1:0")):
            await until(lambda: "TLS listener requires cert and key files" in caplog.text)

    asyncio.run(main())
    busy.close()
    assert stat.S_ISREG(plain.stat().st_mode)


def test_a_socket_that_a_dead_server_left_is_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "tap.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)

    async def main() -> None:
        async with open_listener(Tap("unix", path, listen=True)) as sink:
            one = await reading(path)
            await until(lambda: len(sink.streams) == 1)
            # Another server's is left alone, as its file is when we end.
            other = Listening(Tap("unix", path, listen=True), "listen to", LOG)
            await other.open()
            await other.stop(0.1)
            assert Path(path).exists()
            one.close()

    asyncio.run(main())


@pytest.mark.parametrize("skipverify", [False, True])
def test_a_listener_that_wants_to_see_certificates(skipverify: bool, authority: trustme.CA, tmp_path: Path) -> None:
    cert = authority.issue_cert("localhost")
    files = [str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")]
    cert.cert_chain_pems[0].write_to_path(files[0])
    cert.private_key_pem.write_to_path(files[1])
    authority.cert_pem.write_to_path(files[2])

    def client(own: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if own:
            authority.issue_cert("client").configure_cert(context)
        return context

    async def main() -> None:
        tap = Tap("tls", f"127.0.0.1:{free_port()}", listen=True, tls=tuple(files), skipverify=skipverify)
        address = ("127.0.0.1", int(tap.endpoint.rpartition(":")[2]))
        async with open_listener(tap) as sink:
            one = await reading(address, client(True))
            await until(lambda: len(sink.streams) == 1)
            sink.put(frame(5))
            await until(lambda: len(one.frames) == 1)
            with contextlib.suppress(ssl.SSLError):
                two = await reading(address, client(False))
                if skipverify:
                    await until(lambda: len(sink.streams) == 2)
                else:
                    await asyncio.to_thread(two.thread.join, 10)
                    assert not two.thread.is_alive()
                two.close()
            assert skipverify or len(sink.streams) == 1
            one.close()

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- a running server


def children(server: Server, role: str) -> list[int]:
    """Processes of the server by the beginning of what they are called (a name has 15 letters)."""
    found = []
    for one in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            if role in Path(f"/proc/{one.pid}/comm").read_text():
                found.append(one.pid)
    return found


def asked(server: Server, first: int, count: int) -> None:
    """Every query is answered."""
    for number in range(first, first + count):
        wire = question(f"n{number}.test", A, id=number)
        assert exchange(wire, server.port, seconds=10)[:2] == wire[:2]


def test_no_answer_waits_for_a_collector_that_is_dead_or_deaf() -> None:
    port = free_port()
    with Sink(rcvbuf=4096) as deaf:
        deaf.gate.clear()
        text = (f". {{\n dnstap tcp://127.0.0.1:{port} full\n dnstap tcp://127.0.0.1:{deaf.port} full\n"
                " template ANY ANY {\n rcode NXDOMAIN\n }\n}")
        with Server(text) as server:
            server.wait_for("No connection to dnstap endpoint", SOON)
            asked(server, 0, 500)
            line = server.wait_for("Dropped dnstap messages: ", SOON)
            assert int(line.rsplit(" ", 1)[1]) > 0 and "[WARNING] plugin/dnstap: " in line
            assert server.stop() == 0
        deaf.gate.set()


def test_a_reload_with_another_line_and_the_same_listener() -> None:
    port = free_port()
    with Sink() as one, Sink() as two:
        text = (f". {{\n dnstap tcp://127.0.0.1:{one.port}\n dnstap listen tcp://127.0.0.1:{port}\n whoami\n}}")
        with Server(text) as server, Reader(("127.0.0.1", port)) as reader:
            before = 2 * (until_connected(reader, server) + 10)  # it hears of what comes after its handshake alone
            asked(server, 0, 10)
            one.wait(before)
            changed = server.corefile.read_text().replace(str(one.port), str(two.port))
            server.corefile.write_text(changed)
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("Reloading complete", SOON)
            asked(server, 10, 10)
            two.wait(20)
            assert len(one.frames) == before, "all of the old configuration, nothing of the new one"
            with Reader(("127.0.0.1", port)) as again:
                until_connected(again, server)
            assert not any("Failed to start dnstap listener" in line for line in server.lines())
            # A Corefile that fails changes nothing: the listener is there again.
            server.corefile.write_text(changed.replace("whoami", "no-such-directive"))
            server.process.send_signal(signal.SIGUSR1)
            server.wait_for("Restart failed", SOON)
            with Reader(("127.0.0.1", port)) as again:
                until_connected(again, server)
            assert server.stop() == 0


def until_connected(reader: Reader, server: Server) -> int:
    """Asks until the reader hears of it; how many questions that took."""
    end = time.monotonic() + SOON
    count = 0
    while not reader.frames:
        assert time.monotonic() < end
        asked(server, 1000, 1)
        count += 1
        time.sleep(0.05)
    return count


def test_a_keeper_that_dies_leaves_what_was_noted_to_the_next_one() -> None:
    with Sink() as sink:
        with Server(f". {{\n dnstap tcp://127.0.0.1:{sink.port}\n whoami\n}}") as server:
            asked(server, 0, 5)
            sink.wait(10)
            (pid,) = children(server, "keeper")
            os.kill(pid, signal.SIGKILL)
            asked(server, 5, 20)
            sink.wait(50)
            assert len(sink.frames) == 50
            assert server.stop() == 0


def test_a_killed_worker_and_a_killed_template_take_nothing_along() -> None:
    with Sink() as sink:
        with Server(f". {{\n dnstap tcp://127.0.0.1:{sink.port}\n whoami\n}}") as server:
            asked(server, 0, 5)
            sink.wait(10)
            for pid in children(server, "templat") + children(server, "worker"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + SOON
            before = len(sink.frames)
            while len(sink.frames) < before + 4:
                assert time.monotonic() < end
                with contextlib.suppress(TimeoutError, OSError):
                    exchange(question("after.test", A), server.port, seconds=0.5)
            server.stop()


def test_times_and_sizes_are_those_of_coredns() -> None:
    assert (frames.TIMEOUT, outgoing.CHECK_SECONDS, stream.QUEUE_FRAMES) == (4.0, 10.0, 10_000)
