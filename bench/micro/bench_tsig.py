# SPDX-License-Identifier: Apache-2.0
"""_tsig: a query is verified, and its reply signed. The loop in Python, and the reading of the query, are in it."""

import pytest

from fastdns._tsig import ALGORITHMS, KeyTable
from fastdns.testing import question

TURNS = 2000
NOW = 1_800_000_000
KEYS = KeyTable({b"\3key\0": b"k" * 32, **{bytes([1, n, 0]): b"x" for n in range(200)}})
QUERY = question("www.example.org.", 1, id=1)


def query(algorithm: str) -> bytes:
    """A query whose MAC is wrong, which costs what a good one does."""
    name = algorithm.rstrip(".").encode()
    octets = {"1": 20, "224": 28, "256": 32, "384": 48, "512": 64}[algorithm[len("hmac-sha") : -1]]
    rdata = bytes([len(name)]) + name + b"\0" + NOW.to_bytes(6, "big") + b"\1\x2c" + octets.to_bytes(2, "big")
    rdata += bytes(octets) + b"\0\1\0\0\0\0"
    record = b"\3key\0\0\xfa\0\xff\0\0\0\0" + len(rdata).to_bytes(2, "big") + rdata
    return QUERY[:11] + b"\1" + QUERY[12:] + record


def verified(wire: bytes) -> int:
    return sum(KEYS.verify(wire, NOW)[0] for _ in range(TURNS))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def bench_verify(repeated, algorithm):
    assert repeated(verified, query(algorithm), items=TURNS, unit="query") == 16 * TURNS


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def bench_sign(repeated, algorithm):
    """A stream of so many messages: one query, and a MAC for each."""
    wire = query(algorithm)
    made = repeated(KEYS.sign, wire, [QUERY] * TURNS, NOW, NOW, 18, items=TURNS, unit="reply")
    assert len(made) == TURNS
