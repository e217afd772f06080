# SPDX-License-Identifier: Apache-2.0
"""_log: a record into the ring, and the formatter's line out of it."""

from fastdns import _drive_micro
from fastdns._log import Formatter, Rings, query_record
from fastdns._stats import Stats

TURNS = 200_000
LINES = 10_000
FORMAT = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize}'


def bench_record(repeated):
    rings = Rings.create(2)
    handle = rings.handle(1, -1)
    assert repeated(_drive_micro.log, handle, TURNS, items=TURNS, unit="record") > TURNS * 0.9


def bench_line(repeated):
    """Off the hot path: what the formatter's process does with a record."""
    rings = Rings.create(2)
    handle = rings.handle(1, -1, Stats.create(4))
    formatter = Formatter(rings, lambda number: FORMAT, FORMAT)
    fields = {"qtype": 1, "qclass": 1, "family": 4, "written": 1, "rsize": 60, "size": 40}
    record = query_record(fields, b"\x03www\x07example\x03org\0")

    def fill() -> None:
        formatter.collect()
        for _ in range(LINES):
            handle.record(1, record)

    def render() -> int:
        lines = 0
        while text := formatter.collect():
            lines += text.count(b"\n")
        return lines

    assert repeated(render, items=LINES, unit="line", before=fill) == LINES
