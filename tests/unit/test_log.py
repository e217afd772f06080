# SPDX-License-Identifier: Apache-2.0
"""Log rings and line rendering: order, drops, crashes of a producer, damaged memory, and one record = one line."""

from __future__ import annotations

import ipaddress
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._log import Formatter, Rings, error_record, parse_format, query_record, type_name
from fastdns._stats import Stats

COMMON = (
    '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" '
    "{rcode} {>rflags} {rsize} {duration}"
)
LOG_QUERY, LOG_ERROR, LOG_TEXT = 1, 2, 3
NAME = b"\x07example\x03org\x00"
FIELDS = {
    "duration_ns": 1_234_567,
    "rsize": 45,
    "size": 29,
    "id": 4711,
    "qtype": 1,
    "qclass": 1,
    "rcode": 0,
    "rflags": 0x8580,
    "bufsize": 512,
    "client_port": 5353,
    "family": 4,
    "local_family": 4,
    "written": 1,
    "client": bytes([127, 0, 0, 1]) + bytes(12),
    "local": bytes([127, 0, 0, 2]) + bytes(12),
}


@pytest.fixture
def rings() -> Rings:
    return Rings.create(4, 8192, 4096)


def reader(rings: Rings, text: str = COMMON) -> Formatter:
    return Formatter(rings, lambda number: text if number == 7 else None, COMMON)


def render(text: str, qname: bytes = NAME, labels: tuple[bytes, ...] = (), **fields: object) -> str:
    """One record's line without its level, by the format `text`."""
    rings = Rings.create(2, 1 << 16, 4096)
    assert rings.handle(1, -1).record(LOG_QUERY, query_record(FIELDS | {"format": 7} | fields, qname, labels))
    line = reader(rings, text).collect()
    assert line.startswith(b"[INFO] ")
    assert line.endswith(b"\n")
    return line[7:-1].decode()


def test_the_common_format() -> None:
    line = '127.0.0.1:5353 - 4711 "A IN example.org. udp 29 false 512" NOERROR qr,aa,rd,ra 45 0.001234567s'
    assert render(COMMON) == line
    assert render("unknown number", format=8) == line


@pytest.mark.parametrize(
    ("text", "fields", "want"),
    [
        ("{type} {class}", {"qtype": 65280, "qclass": 255}, "TYPE65280 CLASS255"),
        ("{type}", {"qtype": 0}, "None"),
        ("{type}", {"qtype": 65535}, "Reserved"),
        ("{type}", {"qtype": 260}, "AMTRELAY"),
        ("{proto}", {"proto": 1}, "tcp"),
        ("{>do}", {"do_bit": 1}, "true"),
        ("{>opcode}", {"opcode": 4}, "4"),
        ("{rcode} {>rflags}", {"written": 0}, "- -"),
        ("{rcode}", {"rcode": 3841}, "3841"),
        ("{rcode}", {"rcode": 16}, "BADSIG"),
        ("{>rflags}", {"rflags": 0xFFF0}, "qr,aa,tc,rd,ra,z,ad,cd"),
        ("[{>rflags}]", {"rflags": 0}, "[]"),
        ("{duration}", {"duration_ns": 0}, "0s"),
        ("{duration}", {"duration_ns": 2_500_000_000}, "2.5s"),
        ("{duration}", {"duration_ns": 1}, "0.000000001s"),
        ("{local}", {}, "127.0.0.2"),
        ("{unknown} {type", {}, "{unknown} {type"),
        ("a } { {type} }", {}, "a } { A }"),
        ("{/a/b}{/c}", {}, "--"),
        ("", {}, ""),
    ],
)
def test_tokens(text: str, fields: dict, want: str) -> None:
    assert render(text, **fields) == want


def test_labels_in_order_and_kept_on_the_line() -> None:
    assert render("{/a/b}|{/c}|{/d}", labels=(b"one\ntwo", b"")) == "one?two||-"


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_ipv6_as_in_rfc_5952(address: bytes) -> None:
    want = ipaddress.IPv6Address(address)
    shown = render("{remote}", client=address, family=6)
    assert shown.startswith("[") and shown.endswith("]")
    assert ipaddress.IPv6Address(shown[1:-1]) == want
    assert "." in str(want) or shown[1:-1] == str(want)


labels_of_names = st.lists(st.binary(min_size=1, max_size=30), max_size=7)


@settings(max_examples=200, deadline=None)
@given(labels_of_names)
def test_any_name_is_one_line(labels: list[bytes]) -> None:
    qname = b"".join(bytes([len(x)]) + x for x in labels) + b"\x00"
    line = render('"{name}" {rcode}', qname)
    assert line.isprintable()
    assert line.endswith('." NOERROR')


def test_a_name_that_is_none_does_no_harm() -> None:
    assert render("{name}", b"\x3fabc") == "."
    assert render("{name}", b"") == "."


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_formats_lose_no_literal(text: str) -> None:
    ops = parse_format(text)
    literal = "".join(x for _, x in ops)
    assert literal == text or any(kind for kind, _ in ops)


def test_types_without_a_mnemonic() -> None:
    assert (type_name(1), type_name(4711)) == ("A", "TYPE4711")


def test_text_and_error_lines(rings: Rings) -> None:
    handle = rings.handle(2, -1)
    assert handle.text(2, "plugin/x: careful")
    assert handle.record(LOG_ERROR, error_record(0, 2, 28, NAME, b"read udp: i/o\ntimeout"))
    assert handle.text(9, "clamped")
    assert reader(rings).collect() == (
        b"[WARNING] plugin/x: careful\n"
        b"[ERROR] plugin/errors: 2 example.org. AAAA: read udp: i/o?timeout\n"
        b"[FATAL] clamped\n"
    )


def test_errors_of_a_site_that_consolidates_are_handed_over(rings: Rings) -> None:
    rings.handle(1, -1).record(LOG_ERROR, error_record(5, 2, 1, NAME, b"boom"))
    out = reader(rings)
    assert out.collect() == b""
    assert out.errors == [(5, 2, "example.org.", "A", "boom")]


def test_a_full_ring_drops_and_counts_then_goes_on(rings: Rings) -> None:
    stats = Stats.create(8, 4096)
    handle = rings.handle(1, -1, stats)
    sent = [handle.text(1, f"line {i:04}") for i in range(1000)]
    kept = sent.index(False)
    assert sent == [True] * kept + [False] * (1000 - kept)
    assert stats.get_row(1, stats.intern("fastdns_log_dropped_total")) == 1000 - kept
    out = reader(rings)
    lines = b""
    while got := out.collect():
        lines += got
    assert lines.decode().splitlines() == [f"[INFO] line {i:04}" for i in range(kept)]
    assert handle.text(1, "again")
    assert out.collect() == b"[INFO] again\n"


def test_a_record_larger_than_half_the_ring_is_dropped(rings: Rings) -> None:
    stats = Stats.create(8, 4096)
    handle = rings.handle(2, -1, stats)
    assert not handle.text(1, "x" * 4000)
    assert stats.get(stats.intern("fastdns_log_dropped_total")) == 1
    assert reader(rings).collect() == b""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 900), st.booleans()), max_size=80))
def test_what_goes_in_comes_out_in_order(steps: list[tuple[int, int, bool]]) -> None:
    rings = Rings.create(4, 4096, 4096)
    handles = {row: rings.handle(row, -1) for row in (1, 2, 3)}
    out = reader(rings)
    want: dict[str, list[str]] = {"1": [], "2": [], "3": []}
    got: dict[str, list[str]] = {"1": [], "2": [], "3": []}

    def drain() -> None:
        while block := out.collect():
            for line in block.decode().splitlines():
                got[line[7]].append(line)

    for i, (row, size, read) in enumerate(steps):
        line = f"{row}:{i}:" + "y" * size
        if handles[row].text(1, line):
            want[str(row)].append("[INFO] " + line)
        if read:
            drain()
    drain()
    assert got == want
    assert out.damaged == 0


def test_a_new_producer_goes_on_where_a_dead_one_stopped(rings: Rings) -> None:
    rings.handle(1, -1).text(1, "first")
    rings.handle(1, -1).text(1, "second")
    assert reader(rings).collect() == b"[INFO] first\n[INFO] second\n"


def test_a_sleeping_formatter_is_woken_once(rings: Rings) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    handle = rings.handle(1, fd)
    out = reader(rings)
    handle.text(1, "nobody sleeps")
    assert not out.sleep()
    out.collect()
    assert out.sleep()
    handle.text(1, "one")
    handle.text(1, "two")
    assert os.eventfd_read(fd) == 1
    os.close(fd)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 1 << 20), st.integers(-64, 64))
def test_arbitrary_ring_memory_is_survived(junk: bytes, tail: int, step: int) -> None:
    """Whatever the shared pages hold, the formatter ends, stays in bounds and can go on."""
    rings = Rings.create(2, 4096, 4096)
    base = 4096 + 4096 + 4096
    os.pwrite(rings.fd, junk, base + 4096 + tail % 4096)
    os.pwrite(rings.fd, struct.pack("<Q", (tail + step * 64) % 2**64), base)
    os.pwrite(rings.fd, struct.pack("<Q", tail), base + 64)
    out = reader(rings)
    for _ in range(100):
        if not out.waiting():
            break
        out.collect()
    assert not out.waiting()
    rings.handle(1, -1).text(1, "aligned anew")
    out.collect()
    assert rings.handle(1, -1).text(1, "on we go")
    assert out.collect() == b"[INFO] on we go\n"


@pytest.mark.parametrize("sizes", [(0, 4096, 4096), (4, 4097, 4096), (4, 4096, 2048), (70000, 4096, 4096)])
def test_sizes_are_checked(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"rows|octets"):
        Rings.create(*sizes)


def test_attach_refuses_what_is_no_segment(rings: Rings) -> None:
    assert Rings.attach(rings.fd).rows == 4
    fd = os.memfd_create("other")
    with pytest.raises(ValueError, match="rings"):
        Rings.attach(fd)
    os.ftruncate(fd, 8192)
    with pytest.raises(ValueError, match="rings"):
        Rings.attach(fd)
    os.close(fd)
    with pytest.raises(IndexError):
        rings.handle(4, -1)
