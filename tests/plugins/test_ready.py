# SPDX-License-Identifier: Apache-2.0
"""ready: who is asked and how often, and what /ready makes of the answers."""

from __future__ import annotations

import asyncio

import pytest

from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.plugin import BlockContext, BlockPlan, ReadyCheck
from fastdns.plugins.ready import Ready, handler
from fastdns.server.web import Web


def parse(text: str) -> list:
    return Ready.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "ready"))


class Slow(ReadyCheck):
    """A provider that counts how often it is asked."""

    def __init__(self, name: str, *answers: bool) -> None:
        self.name = name
        self.answers = list(answers)
        self.asked = 0

    def ready(self) -> bool:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def block(stats: Stats, *members: Slow, index: int = 0, generation: int = 1) -> BlockContext:
    # Members of a chain come with their names.
    context = BlockContext(
        index=index, block_id=1, zones=(".",), keys=(), servers=(), listeners=(), chain=(), stats=stats,
        generation=generation,
    )
    context.members = [(member.name, member) for member in members]
    return context


def answer(stats: Stats, generation: int = 1, draining: bool = False) -> tuple[int, bytes]:
    web = Web([], (), stats, None, generation)
    web.draining = draining
    found = asyncio.run(web.ready())
    return found.status, found.body


def test_ready_at_once_without_anybody_to_ask() -> None:
    stats = Stats.create(8)
    plugin = Ready(parse("ready")[0], block(stats))
    assert answer(stats) == (503, b"ready")
    asyncio.run(plugin.start_server(None))
    assert answer(stats) == (200, b"OK")
    assert answer(stats, draining=True) == (503, b"Shutting down")


async def seconds(plugin: Ready, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the keeper's hooks over `count` of its seconds."""
    monkeypatch.setattr(handler, "SECONDS", 0.01)
    await plugin.start_server(None)
    await asyncio.sleep(0.01 * count + 0.05)
    await plugin.stop_server()


def test_until_ready_asks_no_more_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = Stats.create(8)
    one, two = Slow("kubernetes", True, False), Slow("erratic", False, False, True, False)
    plugin = Ready(parse("ready")[0], block(stats, one, two))
    plugin.ask()
    plugin._say("ready", True)
    assert answer(stats) == (503, b"erratic")
    asyncio.run(seconds(plugin, 10, monkeypatch))
    assert answer(stats) == (200, b"OK")
    assert (one.asked, two.asked) == (1, 3)


def test_continuously_goes_on_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = Stats.create(8)
    one, two = Slow("a", True, True, False), Slow("b", False)
    plugin = Ready(parse("ready {\n monitor continuously\n}")[0], block(stats, one, two))
    asyncio.run(seconds(plugin, 10, monkeypatch))
    assert one.asked > 3
    assert answer(stats) == (503, b"a,b")


def test_generations_do_not_speak_for_each_other() -> None:
    stats = Stats.create(8)
    old = Ready(parse("ready")[0], block(stats, Slow("a", False)))
    asyncio.run(old.start_server(None))
    assert answer(stats) == (503, b"a")
    new = Ready(parse("ready")[0], block(stats, generation=2))
    assert answer(stats, 2) == (503, b"ready")
    asyncio.run(new.start_server(None))
    assert answer(stats, 2) == (200, b"OK")


def test_every_block_has_to_be_ready() -> None:
    stats = Stats.create(8)
    first, second = (Ready(parse("ready")[0], block(stats, index=i)) for i in (0, 1))
    asyncio.run(first.start_server(None))
    assert answer(stats) == (503, b"ready/1")
    asyncio.run(second.start_server(None))
    assert answer(stats) == (200, b"OK")


def test_grammar_and_what_it_asks_for() -> None:
    (config,) = parse("ready")
    assert (config["address"], config["monitor"]) == (":8181", "until-ready")
    (config,) = parse("ready localhost:1 {\n monitor continuously\n}")
    plan = BlockPlan(2, (), ())
    Ready.plan(config, plan)
    assert plan.asks == [("http", {"block": 2, "service": "ready", "address": "localhost:1"})]
    assert config["monitor"] == "continuously"


COUNT = "Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ready a b", f"Corefile:1 - {COUNT} 'b'"),
        ("ready bla", "address bla: missing port in address"),
        ("ready {\n monitor\n}", f"Corefile:2 - {COUNT} 'monitor'"),
        ("ready {\n monitor x\n}", "Corefile:2 - Error during parsing: monitor type 'x' not supported"),
        ("ready {\n monitor until-ready x\n}", f"Corefile:2 - {COUNT} 'x'"),
        ("ready {\n mon until-ready\n}", "Corefile:2 - Error during parsing: unknown property 'mon'"),
        ("ready\nready", "this plugin can only be used once per Server Block"),
    ],
)
def test_errors_are_worded_as_in_coredns(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"plugin/ready: {error}"
