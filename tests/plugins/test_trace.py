# SPDX-License-Identifier: Apache-2.0
"""trace: grammar, both formats, the way to a collector and its troubles, and what a running server tells one.

Strategy: the collector is a small HTTP server in a thread that keeps every request. What it gets as JSON is checked
against the shape that Zipkin's API asks for; names, tags and parents are what CoreDNS 1.14.7 sent for the same
Corefile.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastdns import metrics
from fastdns._drive_chain import ChainBench, holder, retyper
from fastdns._stats import Stats
from fastdns._wire import build
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA
from fastdns.plugins.trace import Trace, datadog, spans, zipkin
from fastdns.plugins.trace._trace import Tracer
from fastdns.plugins.trace.post import Failed, post
from fastdns.plugins.trace.reporter import REMIND_SECONDS, Reporter, Sending
from fastdns.testing import Server, Worker, free_port, question
from tests.faults.upstream import Upstream, reply
from tests.probes import installed

SPANS_PATH = "/api/v2/spans"
TRACES = 1024  # of a worker, under way or waiting


def parse(text: str) -> Any:
    (config,) = Trace.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "trace"))
    return config


# ---------------------------------------------------------------------------------------------- grammar


@pytest.mark.parametrize(
    ("text", "kind", "endpoint"),
    [
        ("trace", "zipkin", "http://localhost:9411/api/v2/spans"),
        ("trace tracinghost:9253", "zipkin", "http://tracinghost:9253/api/v2/spans"),
        ("trace zipkin tracinghost:9253", "zipkin", "http://tracinghost:9253/api/v2/spans"),
        ("trace http://t:9411/zipkin/api/v2/spans", "zipkin", "http://t:9411/zipkin/api/v2/spans"),
        ("trace ZipKin https://t", "zipkin", "https://t"),
        ("trace datadog localhost:8126", "datadog", "localhost:8126"),
        ('trace datadog ""', "datadog", "localhost:8126"),
        ("trace datadog", "zipkin", "http://datadog/api/v2/spans"),  # one word is an endpoint, as in CoreDNS
        ("trace a:1\ntrace b:2", "zipkin", "http://b:2/api/v2/spans"),
    ],
)
def test_endpoints(text: str, kind: str, endpoint: str) -> None:
    config = parse(text)
    assert (config["type"], config["endpoint"]) == (kind, endpoint)
    assert (config["every"], config["service"], config["client_server"]) == (1, "coredns", False)


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("every 0", "every", 0),
        ("every 18446744073709551615", "every", 2**64 - 1),
        ("service dnsproxy", "service", "dnsproxy"),
        ("client_server", "client_server", True),
        ("client_server F", "client_server", False),
        ("datadog_analytics_rate 0.25", "datadog_analytics_rate", 0.25),
        ("datadog_analytics_rate 0x1p-2", "datadog_analytics_rate", 0.25),
        ("datadog_analytics_rate 0_1", "datadog_analytics_rate", 1.0),
        ("datadog_analytics_rate", "datadog_analytics_rate", 0.0),
        ("zipkin_max_backlog_size 10", "zipkin_max_backlog_size", 10),
        ("zipkin_max_batch_size 20", "zipkin_max_batch_size", 20),
        ("zipkin_max_batch_interval 250ms", "zipkin_max_batch_interval", 0.25),
    ],
)
def test_options(line: str, key: str, value: object) -> None:
    assert parse(f"trace {{\n {line}\n}}")[key] == value
    assert parse(f"trace {{\n {line}\n}}\ntrace {{\n}}")[key] == value, "of several lines what was written counts"


COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"
SYNTAX = 'parsing "x": invalid syntax'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("trace a b c", f"Corefile:1 - {COUNT} 'c'"),
        ("trace X y", "tracing endpoint type 'x' is not supported"),
        ("trace {\n every\n}", f"Corefile:2 - {COUNT} 'every'"),
        ("trace {\n every x\n}", f"strconv.ParseUint: {SYNTAX}"),
        ("trace {\n every -1\n}", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        ("trace {\n service\n}", f"Corefile:2 - {COUNT} 'service'"),
        ("trace {\n service a b\n}", f"Corefile:2 - {COUNT} 'b'"),
        ("trace {\n client_server a b\n}", f"Corefile:2 - {COUNT} 'b'"),
        ("trace {\n client_server x\n}", f"strconv.ParseBool: {SYNTAX}"),
        ("trace {\n datadog_analytics_rate 1 2\n}", f"Corefile:2 - {COUNT} '2'"),
        ("trace {\n datadog_analytics_rate x\n}", f"strconv.ParseFloat: {SYNTAX}"),
        ('trace {\n datadog_analytics_rate "a\\"b"\n}',
         'strconv.ParseFloat: parsing "a\\"b": invalid syntax'),
        ("trace {\n datadog_analytics_rate 1e400\n}", 'strconv.ParseFloat: parsing "1e400": value out of range'),
        ("trace {\n datadog_analytics_rate -inf\n}",
         "datadog analytics rate must be between 0 and 1, '-Inf' is not supported"),
        ("trace {\n datadog_analytics_rate 2\n}",
         "datadog analytics rate must be between 0 and 1, '2.000000' is not supported"),
        ("trace {\n datadog_analytics_rate -0.1\n}",
         "datadog analytics rate must be between 0 and 1, '-0.100000' is not supported"),
        ("trace {\n zipkin_max_backlog_size\n}", f"Corefile:2 - {COUNT} 'zipkin_max_backlog_size'"),
        ("trace {\n zipkin_max_backlog_size x\n}", f"strconv.Atoi: {SYNTAX}"),
        ("trace {\n zipkin_max_batch_size x\n}", f"strconv.Atoi: {SYNTAX}"),
        ("trace {\n zipkin_max_batch_interval 5\n}", 'time: missing unit in duration "5"'),
        ("trace {\n zipkin_max_batch_interval x\n}", 'time: invalid duration "x"'),
        ("trace {\n foo\n}", "Corefile:2 - Error during parsing: unknown property 'foo'"),
        # Ours: CoreDNS starts, and panics later.
        ("trace {\n zipkin_max_backlog_size -1\n}", "-1 is negative"),
        ("trace {\n zipkin_max_batch_size -2\n}", "-2 is negative"),
        ("trace {\n zipkin_max_batch_interval -1s\n}", "-1s is negative"),
        # CoreDNS starts, and sends nothing.
        ("trace [::1", 'parse "http://[::1/api/v2/spans": Invalid IPv6 URL'),
        ("trace datadog [::1", 'parse "http://[::1": Invalid IPv6 URL'),
        ("trace http://a:99999/", 'parse "http://a:99999/": Port out of range 0-65535'),
        ("trace http://a:b/", """parse "http://a:b/": Port could not be cast to integer value as 'b'"""),
        ('trace "http://a b/"', 'parse "http://a b/": invalid character in host name'),
        ("trace http://\u00e9/", 'parse "http://\u00e9/": invalid character in host name'),
        ("trace http://a/\x7f", 'parse "http://a/\x7f": invalid control character in URL'),
        (f"trace http://{'a' * 64}/", f'parse "http://{"a" * 64}/": '
         "encoding with 'idna' codec failed (UnicodeError: label too long)"),
        ("trace {\n datadog_analytics_rate NaN\n}",
         "datadog analytics rate must be between 0 and 1, 'nan' is not supported"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/trace: {error}"


# ---------------------------------------------------------------------------------------------- formats

REAL, BEGIN = 1_700_000_000_000_000_000, 5_000_000_000
FOUND = (
    REAL, BEGIN, BEGIN + 900_000, 0x1234, 0, b"\3www\7example\0", 65280, 1, 2, b"\x20\x01" + bytes(13) + b"\1", 2,
    b"read udp: refused", 0,
    [(1, -1, BEGIN + 1_000, BEGIN + 800_000, None), (2, 0, BEGIN + 2_000, BEGIN + 2_100, None),
     (2, 1, BEGIN + 3_000, 0, "192.0.2.1:53")],
)  # fmt: skip
CHAIN = ("trace", "Errors", "forward")


def check_shape(batch: list[dict[str, Any]]) -> None:
    """The shape of a list of spans in Zipkin's API, version 2."""
    for span in batch:
        assert set(span) <= {"traceId", "id", "parentId", "name", "kind", "timestamp", "duration", "localEndpoint",
                             "remoteEndpoint", "annotations", "tags", "debug", "shared"}
        assert re.fullmatch("[0-9a-f]{16}|[0-9a-f]{32}", span["traceId"])
        assert re.fullmatch("[0-9a-f]{16}", span["id"]) and int(span["id"], 16)
        assert re.fullmatch("[0-9a-f]{16}", span.get("parentId", "0" * 16))
        assert span["name"] == span["name"].lower()
        assert span.get("kind", "SERVER") in ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")
        assert type(span["timestamp"]) is int and type(span["duration"]) is int and span["duration"] >= 1
        assert set(span["localEndpoint"]) <= {"serviceName", "ipv4", "ipv6", "port"}
        assert all(type(key) is type(value) is str for key, value in span.get("tags", {}).items())
        assert all(set(one) == {"timestamp", "value"} for one in span.get("annotations", ()))


def tree(batch: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """(name, name of the parent) of each span, by time."""
    names = {span["id"]: span["name"] for span in batch}
    assert len(names) == len(batch)
    ordered = list(reversed(batch))  # the outermost first, where they begin in the same microsecond
    ordered.sort(key=lambda span: span["timestamp"])
    return [(span["name"], names[span["parentId"]] if "parentId" in span else None) for span in ordered]


def test_zipkin() -> None:
    at = zipkin.local("CoreDNS", "dns://[fe80::1%eth0]:53")
    assert at == {"serviceName": "coredns", "ipv6": "fe80::1", "port": 53}
    assert zipkin.local("x", "dns://:53") == zipkin.local("x", "") == {"serviceName": "x"}
    batch = json.loads(zipkin.encode(zipkin.spans(spans.read(FOUND, CHAIN), at)))
    check_shape(batch)
    assert tree(batch) == [("servedns", None), ("errors", "servedns"), ("forward", "errors"), ("connect", "forward")]
    top = batch[-1]
    assert (top["timestamp"], top["duration"], top["id"], top["traceId"]) == (
        REAL // 1000, 900, "0000000000001234", "0000000000001234")
    assert top["tags"] == {
        "coredns.io/name": "www.example.", "coredns.io/type": "TYPE65280", "coredns.io/rcode": "SERVFAIL",
        "coredns.io/proto": "tcp", "coredns.io/remote": "2001::1", "error": "true"}
    assert top["annotations"] == [{"timestamp": REAL // 1000 + 900, "value": "event:error"},
                                  {"timestamp": REAL // 1000 + 900, "value": "error.object:read udp: refused"}]
    assert [(span["name"], span["timestamp"] - REAL // 1000, span["duration"]) for span in batch[:-1]] == [
        ("connect", 3, 897), ("forward", 2, 1), ("errors", 1, 799)]
    assert batch[0]["tags"] == {"peer.address": "192.0.2.1:53"}


def unpack(octets: bytes) -> Any:
    """MessagePack: a reader of the tests' own."""
    at = 0

    def take(n: int) -> bytes:
        nonlocal at
        at += n
        assert at <= len(octets)
        return octets[at - n:at]

    def value() -> Any:
        (head,) = take(1)
        if head < 0x80:
            return head
        if head < 0x90 or head == 0xDE:
            size = head & 15 if head < 0x90 else struct.unpack("!H", take(2))[0]
            return {value(): value() for _ in range(size)}
        if head < 0xA0 or head == 0xDD:
            size = head & 15 if head < 0xA0 else struct.unpack("!I", take(4))[0]
            return [value() for _ in range(size)]
        if head < 0xC0 or head == 0xDB:
            return take(head & 31 if head < 0xC0 else struct.unpack("!I", take(4))[0]).decode()
        return struct.unpack({0xCB: "!d", 0xCF: "!Q", 0xD3: "!q"}[head], take(8))[0]

    found = value()
    assert at == len(octets)
    return found


def test_datadog() -> None:
    found = (*FOUND[:4], 0x6B0E062F << 32, *FOUND[5:])
    query = spans.read(found, CHAIN)
    assert query.trace_id == "6b0e062f000000000000000000001234"
    ((span,),) = unpack(datadog.pack([datadog.trace(query, "coredns", 0.5)]))
    assert (span["name"], span["service"], span["resource"], span["error"], span["parent_id"]) == (
        "servedns", "coredns", "servedns", 1, 0)
    assert (span["span_id"], span["trace_id"], span["start"], span["duration"]) == (0x1234, 0x1234, REAL, 900_000)
    assert span["meta"].items() >= {
        "coredns.io@name": "www.example.", "coredns.io@type": "TYPE65280", "coredns.io@rcode": "SERVFAIL",
        "coredns.io@proto": "tcp", "coredns.io@remote": "2001::1", "error.message": "read udp: refused",
        "error.type": "dns_error", "dns": "true", "_dd.p.tid": "6b0e062f00000000"}.items()
    assert span["metrics"]["_dd1.sr.eausr"] == 0.5 and span["metrics"]["_dd.top_level"] == 1.0
    ((quiet,),) = unpack(datadog.pack([datadog.trace(spans.read((*FOUND[:11], b"", *FOUND[12:]), CHAIN), "c", 0.0)]))
    assert quiet["error"] == 0 and "error.message" not in quiet["meta"]
    assert "_dd1.sr.eausr" not in quiet["metrics"]
    assert dict(datadog.headers([[], []]))["X-Datadog-Trace-Count"] == "2"


def test_messagepack() -> None:
    for value in (0, 127, 128, 2**64 - 1, -1, 1.5, "", "x" * 40, "ä", [1] * 20, {str(i): i for i in range(20)}):
        assert unpack(datadog.pack(value)) == value
    with pytest.raises(TypeError):
        datadog.pack(None)


# ---------------------------------------------------------------------------------------------- the collector


class Collector:
    """Keeps what is posted: (path, head, body). `status` is what it answers; `silent`: it answers nothing."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 202
        self.release = threading.Event()
        self.release.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                outer.release.wait(30)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return

        self.server = Quiet(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}{SPANS_PATH}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()

    def spans(self) -> list[dict[str, Any]]:
        """Every span so far; each request is checked."""
        found: list[dict[str, Any]] = []
        for path, head, body in list(self.got):
            assert path == SPANS_PATH and head["Content-Type"] == "application/json"
            batch = json.loads(body)
            check_shape(batch)
            found += batch
        return found

    def traces(self, least: int, seconds: float = 20.0) -> list[list[dict[str, Any]]]:
        """The traces, each whole, once there are so many."""
        deadline = time.monotonic() + seconds
        while True:
            by: dict[str, list[dict[str, Any]]] = {}
            for span in self.spans():
                by.setdefault(span["traceId"], []).append(span)
            whole = [batch for batch in by.values() if any(span["name"] == "servedns" for span in batch)]
            if len(whole) >= least:
                return sorted(whole, key=lambda batch: min(span["timestamp"] for span in batch))
            assert time.monotonic() < deadline, f"{len(whole)} traces of {least}"
            time.sleep(0.05)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as one:
        yield one


def test_post(collector: Collector) -> None:
    url = collector.url.replace("http://", "http://me:a%20b@") + "?x=1"
    assert asyncio.run(post(url, [("b3", "0")], b"[]")) == 202
    ((path, head, body),) = collector.got
    assert (path, body, head["b3"]) == (f"{SPANS_PATH}?x=1", b"[]", "0")
    assert head["Authorization"] == "Basic bWU6YSBi" and head["Host"] == f"127.0.0.1:{collector.port}"
    assert asyncio.run(post(collector.url + "?a b=%20\u00e9", [], b"")) == 202
    assert collector.got.pop()[0] == f"{SPANS_PATH}?a%20b=%20%C3%A9"
    collector.status = 503
    assert asyncio.run(post(collector.url, [], b"")) == 503
    collector.release.clear()
    with pytest.raises(Failed, match=r"context deadline exceeded"):
        asyncio.run(post(collector.url, [], b"", 0.2))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("httpx://a/", 'Post "httpx://a/": unsupported protocol scheme "httpx"'),
        ("http:///x", 'Post "http:///x": http: no Host in request URL'),
        ("http://[::1/", 'parse "http://[::1/": Invalid IPv6 URL'),
        ("http://\u00e9/", """Post "http://\u00e9/": 'ascii' codec can't encode"""),
        ("http://a/\udc80", """Post "http://a/\udc80": 'utf-8' codec can't encode"""),
        (f"http://{'a' * 64}/", f'Post "http://{"a" * 64}/": encoding with'),
        ("http://a:99999/", 'parse "http://a:99999/": Port out of range 0-65535'),
    ],
)
def test_urls_that_lead_nowhere(url: str, text: str) -> None:
    with pytest.raises(Failed) as caught:
        asyncio.run(post(url, [], b""))
    assert str(caught.value).startswith(text)


def test_a_collector_that_is_not_there_or_talks_nonsense() -> None:
    port = free_port()
    with pytest.raises(Failed) as caught:
        asyncio.run(post(f"http://127.0.0.1:{port}/", [], b""))
    assert str(caught.value) == (
        f'Post "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused')
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def answer() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.sendall(b"nonsense\r\n\r\n" * 10)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Failed):
            asyncio.run(post(f"http://127.0.0.1:{listening.getsockname()[1]}/", [], b""))
        thread.join()


class Source:
    """What the compiled half gives, as the tests want it."""

    def __init__(self) -> None:
        self.ready: list[Any] = []
        self.full = 0
        self.fd = -1

    def open(self, fd: int) -> None:
        self.fd = fd

    def arm(self) -> bool:
        return bool(self.ready)

    def drain(self, most: int) -> list[Any]:
        found, self.ready = self.ready[:most], self.ready[most:]
        return found

    def give(self, *numbers: int, lost: int = 0) -> None:
        self.ready += [(number, lost, []) for number in numbers]
        if self.fd >= 0:
            os.eventfd_write(self.fd, 1)


def sending(url: str, **changes: Any) -> Sending:
    values: dict[str, Any] = {
        "make": lambda found: [found[0]], "encode": lambda batch: json.dumps(batch).encode(),
        "headers": lambda _: (), "backlog": 1000, "batch": 100, "interval": 0.05, "keep": True, **changes}
    return Sending(url, **values)


def count(stats: Stats, name: str, **labels: str) -> int:
    wanted = set(labels.items())
    return sum(one.values[0] for one in stats.snapshot() if one.name == name and wanted <= set(one.labels))


@pytest.fixture
def counted() -> Stats:
    stats = Stats.create(4)
    metrics.attach(stats, 2)
    return stats


async def until(condition: Any) -> None:
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came")


def bodies(collector: Collector) -> list[list[int]]:
    return [json.loads(body) for _, _, body in list(collector.got)]


def test_batches(collector: Collector, counted: Stats) -> None:
    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url, batch=3, interval=600.0), logging.getLogger("x"))
        source.give(1, 2, lost=4)
        await asyncio.sleep(0.3)
        assert collector.got == [], "too few, and the time is not over"
        source.give(3)
        await until(lambda: bodies(collector) == [[1, 2, 3]])
        source.give(4)
        await asyncio.sleep(0.2)
        await one.stop()
        assert source.fd == -1

    asyncio.run(main())
    assert bodies(collector) == [[1, 2, 3], [4]], "what is left goes at the end"
    assert count(counted, "fastdns_trace_queries_total") == 4
    assert count(counted, "fastdns_trace_dropped_total", reason="query") == 8


def test_what_waits_is_sent_after_the_interval(collector: Collector, counted: Stats) -> None:
    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url, interval=0.1), logging.getLogger("x"))
        source.give(1)
        await until(lambda: bodies(collector) == [[1]])
        await one.stop()

    asyncio.run(main())


def test_a_dead_collector_costs_a_bounded_number(counted: Stats, caplog: pytest.LogCaptureFixture) -> None:
    """The oldest go; what waits is sent when it is back; the trouble is told once in a while."""
    port = free_port()

    async def main() -> list[list[int]]:
        source = Source()
        one = Reporter(source, sending(f"http://127.0.0.1:{port}/", backlog=5), logging.getLogger("plugin/trace"))
        source.give(*range(12))
        source.full = 7
        await until(lambda: len(one.waiting) == 5 and caplog.records)
        for _ in range(3):
            assert await one.send() is False
        assert list(one.waiting) == [7, 8, 9, 10, 11]
        one._told -= REMIND_SECONDS
        assert await one.send() is False
        with Collector(port) as back:
            await until(lambda: back.got)
            await until(lambda: not one.waiting)
            await one.stop()
            return bodies(back)

    assert asyncio.run(main()) == [[7, 8, 9, 10, 11]]
    assert [record.getMessage() for record in caplog.records] == 2 * [
        f'failed to send the request: Post "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: '
        "connection refused"]
    assert count(counted, "fastdns_trace_dropped_total", reason="backlog") == 7
    assert count(counted, "fastdns_trace_dropped_total", reason="table") == 7


def test_a_collector_that_refuses(collector: Collector, counted: Stats, caplog: pytest.LogCaptureFixture) -> None:
    collector.status = 500

    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url), logging.getLogger("plugin/trace"))
        source.give(1, 2)
        await until(lambda: len(collector.got) == 1 and not one.waiting)
        await one.stop()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["failed the request with status code 500"]
    assert count(counted, "fastdns_trace_dropped_total", reason="refused") == 2


@pytest.mark.parametrize("turns", range(5))
def test_an_end_at_the_moment_when_a_batch_is_full(collector: Collector, counted: Stats, turns: int) -> None:
    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url, batch=2, interval=600.0), logging.getLogger("x"))
        source.give(1)
        await until(lambda: one.waiting)
        await asyncio.sleep(0.05)
        one._enough.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await one.stop()

    asyncio.run(main())
    assert bodies(collector) == [[1]]


def test_what_nobody_thought_of_ends_no_task(collector: Collector, counted: Stats,
                                             caplog: pytest.LogCaptureFixture) -> None:
    """A trace that cannot be made ready is dropped, and a batch, each counted and told; what comes later is sent."""
    def make(found: Any) -> list[int]:
        return [1 // found[0]]

    def encode(batch: list[int]) -> bytes:
        if len(collector.got) == 0 and not caplog.records[1:]:
            raise LookupError("not thought of")
        return json.dumps(batch).encode()

    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url, make=make, encode=encode), logging.getLogger("plugin/trace"))
        source.give(0)
        await until(lambda: count(counted, "fastdns_trace_dropped_total", reason="error") == 1)
        one._told -= REMIND_SECONDS
        source.give(1, 1)
        await until(lambda: count(counted, "fastdns_trace_dropped_total", reason="error") == 3)
        source.give(1)
        await until(lambda: collector.got)
        await one.stop()

    asyncio.run(main())
    assert bodies(collector) == [[1]]
    assert [record.getMessage() for record in caplog.records] == [
        "a trace cannot be sent: ZeroDivisionError: integer division or modulo by zero",
        "failed to send the request: LookupError: not thought of"]


def test_what_the_hot_thread_counts_meanwhile_is_counted_once(counted: Stats) -> None:
    class Busy(Source):
        """Its figure rises whenever it is read."""

        @property
        def full(self) -> int:
            self.reads += 1
            return self.reads

        @full.setter
        def full(self, value: int) -> None:
            self.reads = value

    async def main() -> int:
        source = Busy()
        one = Reporter(source, sending("http://127.0.0.1:1/"), logging.getLogger("x"))
        for _ in range(5):
            one.drain()
        reads = source.reads
        await one.stop()
        return reads

    reads = asyncio.run(main())
    assert count(counted, "fastdns_trace_dropped_total", reason="table") == reads + 1 == 6


def test_authorities_are_read_once_and_not_in_the_loop(counted: Stats, monkeypatch: pytest.MonkeyPatch,
                                                       caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []

    def verified() -> ssl.SSLContext:
        made.append(threading.get_ident())
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr("fastdns.plugins.trace.post.verified", verified)
    monkeypatch.setattr("fastdns.plugins.trace.reporter.verified", verified)

    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(f"https://127.0.0.1:{free_port()}/"), logging.getLogger("x"))
        source.give(1)
        await until(lambda: caplog.records)
        for _ in range(3):
            assert await one.send() is False
        await one.stop()

    asyncio.run(main())
    assert len(made) == 1 and made[0] != threading.get_ident()


def test_datadogs_traces_do_not_wait_for_a_second_try(counted: Stats) -> None:
    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(f"http://127.0.0.1:{free_port()}/", keep=False), logging.getLogger("x"))
        source.give(1, 2)
        await until(lambda: count(counted, "fastdns_trace_dropped_total", reason="refused") == 2)
        await one.stop()

    asyncio.run(main())


def test_what_comes_while_a_batch_is_on_its_way(collector: Collector, counted: Stats) -> None:
    collector.release.clear()

    async def main() -> None:
        source = Source()
        one = Reporter(source, sending(collector.url, backlog=4, batch=2), logging.getLogger("x"))
        source.give(1, 2)
        await until(lambda: collector.got)
        source.give(3, 4, 5)
        await until(lambda: list(one.waiting) == [2, 3, 4, 5])
        collector.release.set()
        await until(lambda: not one.waiting)
        await one.stop()

    asyncio.run(main())
    assert bodies(collector) == [[1, 2], [3, 4, 5]]


# ---------------------------------------------------------------------------------------------- the compiled half


@pytest.fixture
def bell() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def told(found: Any) -> tuple[Any, ...]:
    """(name, type, rcode, error, [(position, parent, whether it ended)]) of a trace."""
    return found[5], found[6], found[10], found[11], [(pos, parent, end > 0) for pos, parent, _, end, _ in found[13]]


A_TEST = b"\1a\4test\0"


def test_a_traced_query_is_answered_as_one_that_is_not(bell: int) -> None:
    """Through a held answer, a changed query and every verdict: the same answer, and where it went."""
    tracer, sent = Tracer(2), []
    tracer.open(bell)
    bench = ChainBench([holder(), tracer.stage(), holder(), retyper(AAAA)], Stats.create(8, 4096))
    query = question("A.test.", 1, id=7)
    for end in ({"reply": build(query, 0x8000, 0, [(0, None, 1, 1, 60, bytes(4))])}, {"rcode": 5}, {"dropped": True}):
        for turn in range(2):
            assert bench.ask(query, token=turn) == []
            ((_, asked, *_),) = bench.waiting
            assert asked[-4:-2] == b"\0\x1c"
            assert bench.answer(0, **end) == bench.let_go() == []
            sent.append([one[1:] for one in bench.let_go()])
        assert sent[-1] == sent[-2]
    assert bench.in_flight == 0
    found = [told(one) for one in tracer.drain()]
    way = [(2, -1, True), (3, 0, True), (4, 1, True)]
    # What a stage asked in the client's place is what is told, as everywhere.
    assert found == [(A_TEST, AAAA, rcode, b"", way) for rcode in (0, 5, 0)]


def test_the_bell_rings_for_who_sleeps_alone(bell: int) -> None:
    tracer = Tracer(1)
    tracer.open(bell)
    bench = ChainBench([tracer.stage()], Stats.create(8, 4096))

    def one() -> None:
        bench.ask(question("a.test.", 1))
        bench.answer(0, rcode=5)

    one()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    assert tracer.arm() is True, "there is one already"
    assert len(tracer.drain()) == 1 and tracer.arm() is False
    one()
    one()
    assert os.eventfd_read(bell) == 1, "once"


def test_nobody_listens() -> None:
    tracer = Tracer(1)
    bench = ChainBench([tracer.stage()], Stats.create(8, 4096))
    bench.ask(question("a.test.", 1))
    bench.answer(0, rcode=5)
    assert tracer.drain() == [] and tracer.full == 0


def test_what_never_came_back_gives_its_place_up(bell: int) -> None:
    tracer = Tracer(1)
    tracer.open(bell)
    bench = ChainBench([tracer.stage()], Stats.create(8, 4096))
    bench.ask(question("done.test.", 1))
    bench.answer(0, rcode=5)
    for number in range(TRACES - 2):
        bench.ask(question(f"n{number}.test.", 1), token=number)
    bench.now_ns += 30 * 10**9
    bench.ask(question("young.test.", 1))
    assert tracer.full == 0
    bench.answer(TRACES - 2, rcode=5)
    for _ in range(2):
        bench.ask(question("full.test.", 1), token=99)
        bench.answer(TRACES - 2, rcode=5)
    assert tracer.full == 2, "the ended ones wait for Python"
    bench.now_ns += 31 * 10**9
    bench.ask(question("new.test.", 1))
    assert tracer.full == 2
    # The one whose place it took ends as any query, and is in nobody's trace.
    assert [one[0] for one in bench.answer(0, rcode=3)] == [0]
    bench.answer(TRACES - 3, rcode=5)
    names = [found[5] for found in tracer.drain()]
    assert names == [b"\4done\4test\0", b"\5young\4test\0", b"\3new\4test\0"]
    while bench.waiting:
        bench.answer(0, rcode=5)
    assert len(tracer.drain()) == TRACES - 3
    # All places are free again, and used again.
    for _ in range(3 * TRACES):
        bench.ask(question("a.test.", 1))
        bench.answer(0, rcode=5)
        assert len(tracer.drain()) == 1
    assert tracer.full == 2


def test_more_stages_than_a_trace_has_spans(bell: int) -> None:
    tracer = Tracer(1)
    tracer.open(bell)
    bench = ChainBench([tracer.stage(), *[Tracer(0).stage() for _ in range(60)]], Stats.create(8, 4096))
    bench.ask(question("a.test.", 1))
    bench.answer(0, rcode=5)
    (found,) = tracer.drain()
    assert len(found[13]) == 48 and found[12] == 61 - 48
    assert all(end for _, _, _, end, _ in found[13])


def test_a_stream_is_one_trace(bell: int) -> None:
    tracer = Tracer(1)
    tracer.open(bell)
    bench = ChainBench([tracer.stage(), retyper(AAAA)], Stats.create(8, 4096))
    query = question("a.test.", 252)
    bench.ask(query, proto=1)
    message = build(query, 0x8000, 0, [(0, None, 1, 1, 60, bytes(4))])
    for _ in range(3):
        assert len(bench.stream(message)[1]) == 1
    assert tracer.drain() == []
    bench.stream_end()
    assert [told(one)[2:] for one in tracer.drain()] == [(0, b"", [(1, -1, True), (2, 0, True)])]


# ---------------------------------------------------------------------------------------------- a server

COREFILE = """
. {{
    multisocket 1
    metadata
    trace zipkin http://127.0.0.1:{collector}/api/v2/spans {{
        zipkin_max_batch_interval 50ms
        {more}
    }}
    prometheus 127.0.0.1:{metrics}
    errors
    log . "{{name}} {{/trace/traceid}}"
    cache
    forward up.test 127.0.0.1:{upstream}
    forward down.test 127.0.0.1:{dead} 127.0.0.1:{dead2} {{
        max_fails 0
        max_connect_attempts 4
    }}
    whoami
}}
"""
OUTER = [("servedns", None), ("prometheus", "servedns"), ("errors", "prometheus"), ("log", "errors"), ("cache", "log")]


def corefile(collector: Collector, upstream: int, more: str = "") -> str:
    return COREFILE.format(collector=collector.port, metrics=free_port(), upstream=upstream, dead=free_port(),
                           dead2=free_port(), more=more)


def test_the_way_through_a_chain_is_what_coredns_sends(collector: Collector) -> None:
    with Upstream(lambda asked: [reply(asked)]) as upstream, Server(corefile(collector, upstream.port)) as server:
        server.ask("Example.com.", 1)
        server.ask("example.com.", 1, "tcp")
        server.ask("a.up.test.", 65280)
        server.ask("b.down.test.", 1)
        whoami, hit, up, down = collector.traces(4)
        forwards = [("forward", "cache"), ("forward", "forward")]
        assert tree(whoami) == [*OUTER, *forwards, ("whoami", "forward")]
        assert tree(hit) == OUTER
        assert tree(up) == [*OUTER, ("forward", "cache"), ("connect", "forward")]
        assert tree(down) == [*OUTER, *forwards, *[("connect", "forward")] * 4]

        def tags(batch: list[dict[str, Any]]) -> dict[str, str]:
            (top,) = [span for span in batch if "parentId" not in span]
            assert top["kind"] == "SERVER" and top["id"] == top["traceId"]
            return {key.removeprefix("coredns.io/"): value for key, value in top["tags"].items()}

        same = {"name": "example.com.", "type": "A", "rcode": "NOERROR", "proto": "udp", "remote": "127.0.0.1"}
        assert tags(whoami) == same
        assert tags(hit) == {**same, "proto": "tcp"}
        assert tags(up) == {**same, "name": "a.up.test.", "type": "TYPE65280"}
        assert tags(down) == {**same, "name": "b.down.test.", "rcode": "SERVFAIL", "error": "true"}
        (connect,) = [span for span in up if span["name"] == "connect"]
        assert connect["tags"] == {"peer.address": f"127.0.0.1:{upstream.port}"}
        assert all("tags" not in span and "kind" not in span for span in whoami if span["name"] != "servedns")
        (top,) = [span for span in down if "parentId" not in span]
        assert [one["value"].partition(":")[0] for one in top["annotations"]] == ["event", "error.object"]
        assert "connection refused" in top["annotations"][1]["value"]
        assert {json.dumps(span["localEndpoint"]) for span in down} == {
            json.dumps({"serviceName": "coredns", "ipv4": "127.0.0.1", "port": server.port})}
        for batch in (whoami, hit, up, down):
            inside = {span["id"]: span for span in batch}
            for span in batch:
                if "parentId" in span:
                    outer = inside[span["parentId"]]
                    assert outer["timestamp"] <= span["timestamp"]
                    # Microseconds, rounded twice.
                    assert span["timestamp"] + span["duration"] <= outer["timestamp"] + outer["duration"] + 2
        ids = [batch[0]["traceId"] for batch in (whoami, hit, up, down)]
        for name, number in zip(("example.com.", "example.com.", "a.up.test.", "b.down.test."), ids, strict=True):
            server.wait_for(f"[INFO] {name} {number}")


def test_who_waits_for_an_equal_question_has_no_exchange_of_its_own(collector: Collector) -> None:
    gate = threading.Event()

    def script(asked: Any) -> list[bytes]:
        gate.wait(10)
        return [reply(asked)]

    with Upstream(script) as upstream, Server(corefile(collector, upstream.port)) as server:
        asking = [threading.Thread(target=server.ask, args=("a.up.test.", 1)) for _ in range(2)]
        for thread in asking:
            thread.start()
        time.sleep(0.5)
        gate.set()
        for thread in asking:
            thread.join()
        found = collector.traces(2)
    assert sorted(sum(span["name"] == "connect" for span in batch) for batch in found) == [0, 1]
    assert all(("forward", "cache") in tree(batch) for batch in found)


def test_one_of_so_many_and_none(collector: Collector) -> None:
    with Server(corefile(collector, free_port(), "every 3")) as server:
        for number in range(7):
            server.ask(f"n{number}.test.", 1)
        tops = [span for batch in collector.traces(2) for span in batch if span["name"] == "servedns"]
        assert [span["tags"]["coredns.io/name"] for span in tops] == ["n2.test.", "n5.test."]
        assert server.wait_for("[INFO] n6.test.").split()[-1] != tops[1]["traceId"]
    collector.got.clear()
    with Server(corefile(collector, free_port(), "every 0")) as server:
        server.ask("never.test.", 1)
        server.wait_for("never.test.")
    assert collector.got == []


def test_what_is_left_is_sent_at_the_end(collector: Collector) -> None:
    text = corefile(collector, free_port()).replace("zipkin_max_batch_interval 50ms", "zipkin_max_batch_interval 10m")
    with Server(text) as server:
        server.ask("late.test.", 1)
    assert len(collector.traces(1, 0.1)) == 1


def test_stages_in_python(collector: Collector, tmp_path: Any) -> None:
    """tag and relay run in Python, each between compiled stages; their spans hold what `next` ran."""
    text = corefile(collector, 1).replace("    cache", "    tag\n    cache")
    text = text.replace("    whoami", "    relay\n    whoami")
    with installed(tmp_path) as environ, Upstream(lambda asked: [reply(asked)]) as upstream:
        text = text.replace("forward up.test 127.0.0.1:1", f"forward up.test 127.0.0.1:{upstream.port}")
        with Server(text, environ=environ) as server:
            server.ask("a.up.test.", 1)
            server.ask("a.up.test.", 1)
            miss, hit = collector.traces(2)
    outer = OUTER[:-1]
    assert tree(hit) == [*outer, ("tag", "log"), ("cache", "tag")]
    assert tree(miss) == [*outer, ("tag", "log"), ("cache", "tag"), ("relay", "cache"), ("forward", "relay"),
                          ("connect", "forward")]


def test_a_kept_answer_has_one_span(collector: Collector) -> None:
    """Whether Python ran or its answer was kept: the plugin's span is there once, and so is a kept rewriting's."""
    added = "    rewrite name regex ^(.*)[.]old[.]$ {1}. answer auto\n    demo\n"
    text = corefile(collector, 1).replace("    cache\n", added)
    with Server(text) as server:
        for _ in range(3):
            assert server.ask("a.kept.old.", 1).answer == ["a.kept.old. 0 IN A 1.1.1.1"]
        traces = collector.traces(3)
    assert [sorted(tree(found), key=str) for found in traces] == 3 * [sorted(tree(traces[0]), key=str)]
    names = [name for name, _ in tree(traces[2])]
    assert names.count("demo") == names.count("rewrite") == 1


def test_datadog_end_to_end(collector: Collector) -> None:
    text = corefile(collector, free_port()).replace(f"zipkin http://127.0.0.1:{collector.port}{SPANS_PATH}",
                                                    f"datadog 127.0.0.1:{collector.port}")
    with Server(text) as server:
        server.ask("dog.test.", 1)
        server.ask("b.down.test.", 1)
        line = server.wait_for("[INFO] dog.test. ")
    found = [trace for path, _, body in collector.got if path == "/v0.4/traces" for trace in unpack(body)]
    (one,), (bad,) = found
    assert one["meta"]["coredns.io@name"] == "dog.test." and one["error"] == 0 and bad["error"] == 1
    assert line.split()[-1] == one["meta"]["_dd.p.tid"] + f"{one['trace_id']:016x}"


IN_PROCESS = """
. {{
    trace 127.0.0.1:{port} {{
        zipkin_max_batch_interval 50ms
    }}
    {behind}
}}
"""


def test_a_full_table_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes the traces: each query is answered, and those without a trace are counted."""

    async def idle(_self: Reporter) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(Reporter, "_take", idle)
    with Worker(IN_PROCESS.format(port=free_port(), behind="local")) as worker:
        for _ in range(TRACES + 50):
            assert worker.ask("localhost.", 1).rcode == 0
        (plugin,) = [plugin for name, plugin in worker.generation.members() if name == "trace"]
        assert plugin.tracer.full == 50
        assert len(plugin.tracer.drain(10)) == 10
        for _ in range(20):
            assert worker.ask("localhost.", 1).rcode == 0
        assert plugin.tracer.full == 60
        plugin.tracer.drain()
        plugin.tracer.drain()
    assert worker.counter("fastdns_trace_dropped_total", reason="table") == 60


def test_a_dead_collector_delays_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Worker(IN_PROCESS.format(port=silent.getsockname()[1], behind="local")) as worker:
            for _ in range(3000):
                assert worker.ask("localhost.", 1).rcode == 0
    assert worker.counter("fastdns_trace_queries_total") + worker.counter(
        "fastdns_trace_dropped_total", reason="table") == 3000
    assert worker.counter("fastdns_trace_dropped_total", reason="backlog") > 0


def test_a_chain_with_nothing_behind(collector: Collector) -> None:
    with Worker(IN_PROCESS.format(port=collector.port, behind="errors")) as worker:
        assert worker.ask("a.test.", 1).rcode == 2
        (batch,) = collector.traces(1)
    assert tree(batch) == [("servedns", None), ("errors", "servedns")]
    (top,) = [span for span in batch if "parentId" not in span]
    assert top["annotations"][1]["value"] == "error.object:plugin/errors: no next plugin found"
