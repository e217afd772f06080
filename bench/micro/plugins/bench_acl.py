# SPDX-License-Identifier: Apache-2.0
"""acl: what a query costs that passes one rule of so many networks, and one that is refused."""

import ipaddress

import pytest

from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.plugins.acl._acl import stage
from fastdns.plugins.acl.config import Policy
from fastdns.plugins.acl.tables import Decisions, stretches
from fastdns.testing import question

TURNS = 200_000
CLIENT = ipaddress.ip_address("10.128.7.1").packed + bytes(12)


def policies(networks: int) -> list[Policy]:
    """A line for each of so many networks of 256 addresses, every second one of 10.0.0.0/8 first."""
    firsts = (0x0A000000 + (i << 9) for i in range(networks))
    return [Policy("block", None, ((4, first, first + 255),)) for first in firsts]


def driven(lines: list[Policy], zone: bytes) -> Bench:
    decisions = Decisions()
    tables = [stretches(lines, version, decisions).packed() for version in (4, 6)]
    return Bench(stage([zone], [([0], *tables)], list(decisions.numbers), [(1, [2, 3, 4])]), stats=Stats.create(4))


@pytest.mark.parametrize("networks", [1, 100, 10_000])
def bench_pass(repeated, networks):
    bench = driven(policies(networks), b"\0")
    wire = question("www.example.org.", 1)
    done = repeated(bench.run, wire, client=CLIENT, repeat=TURNS, items=TURNS, unit="query")
    assert done[:2] == ("next", False)


def bench_pass_by_zone(repeated):
    bench = driven(policies(10_000), b"\7example\3org\0")
    wire = question("www.example.org.", 1)
    done = repeated(bench.run, wire, client=CLIENT, repeat=TURNS, items=TURNS, unit="query")
    assert done[:2] == ("next", False)


def bench_refuse(repeated):
    bench = driven([Policy("block")], b"\0")
    done = repeated(bench.run, question("www.example.org.", 1), repeat=TURNS, items=TURNS, unit="query")
    assert done[:3] == ("reply", False, 5)
