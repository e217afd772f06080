# SPDX-License-Identifier: Apache-2.0
"""_count: a query and its reply counted: four counters and three histograms."""

from fastdns import _drive_micro, metrics
from fastdns._stats import Stats
from fastdns.testing import question

TURNS = 500_000


def bench_count_query(repeated):
    stats = Stats.create(4)
    slots = metrics.cell(stats, "dns://:53", ".", "", "cache")
    wire = question("www.example.org.", 1, id=1, bufsize=1232, do=True)
    assert repeated(_drive_micro.count, stats, 1, slots, wire, TURNS, items=TURNS, unit="query") >= TURNS
