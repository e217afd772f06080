# SPDX-License-Identifier: Apache-2.0
"""health: grammar, what it asks the server for, and when /health says that the server is well."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from fastdns import metrics
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import BlockPlan, Event
from fastdns.plugins.health import Health
from fastdns.server.web import Web


def parse(text: str) -> list:
    return Health.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "health"))


@pytest.mark.parametrize(
    ("text", "address", "lameduck"),
    [
        ("health", ":8080", 0.0),
        ("health localhost:8091", "localhost:8091", 0.0),
        ("health bla:a", "bla:a", 0.0),
        ("health :1\nhealth {\n lameduck 5s\n}", ":1", 5.0),
        ("health :1\nhealth :2 {\n lameduck 1m30s\n lameduck 2s\n}", ":2", 2.0),
    ],
)
def test_grammar(text: str, address: str, lameduck: float) -> None:
    (config,) = parse(text)
    assert (config["address"], config["lameduck"]) == (address, lameduck)
    plan = BlockPlan(0, (), ())
    Health.plan(config, plan)
    assert plan.asks[0] == ("http", {"block": 0, "service": "health", "address": address})
    assert plan.asks[1:] == ([("lameduck", {"block": 0, "seconds": lameduck})] if lameduck else [])


def test_a_negative_lameduck_asks_for_nothing() -> None:
    plan = BlockPlan(0, (), ())
    Health.plan(parse("health {\n lameduck -5s\n}")[0], plan)
    assert [kind for kind, _ in plan.asks] == ["http"]


COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("health a b", f"Corefile:1 - {COUNT} 'b'"),
        ("health bla", "address bla: missing port in address"),
        ("health :1:2", "address :1:2: too many colons in address"),
        ("health {\n lameduck\n}", f"Corefile:2 - {COUNT} 'lameduck'"),
        ("health {\n lameduck 5 6\n}", f"Corefile:2 - {COUNT} '6'"),
        (
            "health {\n lameduck 5\n}",
            "unable to parse lameduck duration value: '5' : time: missing unit in duration \"5\"",
        ),
        ("health {\n lameduc 5\n}", "Corefile:2 - Error during parsing: unknown property 'lameduc'"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/health: {error}"


def test_lameduck_is_told(caplog: pytest.LogCaptureFixture) -> None:
    plugin = Health.__new__(Health)
    plugin.config = parse("health {\n lameduck 1m30s\n}")[0]
    plugin.log = logging.getLogger("plugin/health")
    with caplog.at_level(logging.INFO):
        plugin.on_event(Event.STARTUP)
        plugin.on_event(Event.FINAL_SHUTDOWN)
    assert [r.getMessage() for r in caplog.records] == ["Going into lameduck mode for 1m30s"]


def health(stats: Stats, listeners: tuple[int, ...]) -> int:
    return asyncio.run(Web([], listeners, stats, None, 1).health()).status


def beat(stats: Stats, row: int, seconds_ago: float) -> None:
    stats.set(row, metrics.beat_slot(stats, row), time.monotonic_ns() - int(seconds_ago * 1e9))


def test_healthy_while_each_listener_has_a_worker_that_beats() -> None:
    stats = Stats.create(16)
    assert health(stats, (1, 2)) == 503
    metrics.serves(stats, 1, 0)
    metrics.serves(stats, 5, 1)
    beat(stats, 1, 0.5)
    beat(stats, 5, 0.5)
    assert health(stats, (1, 2)) == 200
    beat(stats, 1, 60)
    assert health(stats, (1, 2)) == 503, "worker 1 has no socket of the first listener"
    assert health(stats, (2, 2)) == 200
    metrics.serves(stats, 5, None)
    assert health(stats, (2, 2)) == 503
