# SPDX-License-Identifier: Apache-2.0
"""_wire: parse a query, hash and fold its name, check and compress a reply, assemble and truncate one."""

import dns.message
import dns.rrset
import pytest

from fastdns import _drive_micro
from fastdns.testing import question

TURNS = 200_000
NAME = b"\x03www\x07EXAMPLE\x03org\0"
QUERIES = {
    "plain": question("www.example.org.", 1, id=1),
    "edns": question("www.example.org.", 1, id=1, bufsize=1232, do=True),
    "cookie": question("www.example.org.", 1, id=1, bufsize=1232, options=[(10, bytes(8))]),
    "long": question(".".join(["a" * 49] * 5) + ".", 1, id=1),
}


def reply(records: int) -> bytes:
    """An answer of so many addresses, its names compressed."""
    message = dns.message.make_response(dns.message.from_wire(QUERIES["plain"]))
    data = [f"192.0.2.{i}" for i in range(records)]
    message.answer.append(dns.rrset.from_text("www.example.org.", 300, "IN", "A", *data))
    return message.to_wire()


@pytest.mark.parametrize("kind", QUERIES)
def bench_parse(repeated, kind):
    assert repeated(_drive_micro.admit, QUERIES[kind], TURNS, items=TURNS, unit="query") == TURNS


def bench_hash(repeated):
    assert repeated(_drive_micro.siphash, NAME, TURNS, items=TURNS, unit="name")


def bench_lower(repeated):
    assert repeated(_drive_micro.lower, NAME, TURNS, items=TURNS, unit="name") == NAME.lower()


def bench_name_text(repeated):
    length = len("www.EXAMPLE.org.")
    assert repeated(_drive_micro.name_text, NAME, TURNS, items=TURNS, unit="name") == length * TURNS


@pytest.mark.parametrize("records", [1, 13])
def bench_scan(repeated, records):
    assert repeated(_drive_micro.scan, reply(records), TURNS, items=TURNS, unit="message") == records * TURNS


@pytest.mark.parametrize("records", [1, 13])
def bench_compress(repeated, records):
    wire = reply(records)
    turns = TURNS // 10
    assert repeated(_drive_micro.compress, wire, turns, items=turns, unit="message") == len(wire) * turns


@pytest.mark.parametrize("kind", ["plain", "edns"])
def bench_assemble(repeated, kind):
    """A reply that fits gets the client's OPT, if it had one."""
    wire = reply(1)
    octets = len(wire) + (11 if kind == "edns" else 0)
    done = repeated(_drive_micro.finish, QUERIES[kind], wire, TURNS, items=TURNS, unit="reply")
    assert done == octets * TURNS


def bench_truncate(repeated):
    """A reply of 60 records is cut to 512 octets."""
    turns = TURNS // 100
    done = repeated(_drive_micro.finish, QUERIES["plain"], reply(60), turns, items=turns, unit="reply")
    assert 400 * turns < done <= 512 * turns
