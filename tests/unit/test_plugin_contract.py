# SPDX-License-Identifier: Apache-2.0
"""The contract of plugins: order, discovery, what is imported when, plans, set-up, and the hooks' order."""

import asyncio
import json
import pickle
import subprocess
import sys
from typing import ClassVar

import pytest

from fastdns import chain, order, registry
from fastdns._stats import Stats
from fastdns.corefile import load_source
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError, FastdnsError, KeysError, SetupError
from fastdns.order import Place, arrange
from fastdns.plugin import BlockPlan, Channel, Directive, Event, Plugin, ReadyCheck
from tests.probes import EXTERNAL, installed, write_metadata


def parsed(text: str):
    return load_source(Source("Corefile", text.encode()), chain.known(), chain.not_built())


def loaded(text: str) -> chain.Generation:
    return chain.load(parsed(text))


def built(generation: chain.Generation) -> Stats:
    stats = Stats.create(8)
    generation.build(stats, None, list(range(1, len(generation.blocks) + 1)), 1)
    return stats


@pytest.fixture
def external(tmp_path):
    with installed(tmp_path) as environ:
        yield environ


# ---- order


def test_the_table_is_coredns_order():
    names = [name for name in order.NAMES if name not in order.OURS]
    assert len(names) == len(set(order.NAMES)) - len(order.OURS) == 60
    assert [names[n - 1] for n in (1, 2, 22, 24, 35, 53, 56, 60)] == [
        "root", "metadata", "prometheus", "log", "cache", "forward", "whoami", "nomad"]
    side = {name for name, kind in order.KINDS.items() if kind == "side"}
    assert side == {
        "root", "proxyproto", "quic", "grpc_server", "https", "https3", "timeouts", "multisocket", "reload", "bind",
        "debug", "ready", "health", "pprof", "tls", "on", "sign"}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ({"x": Place(before="cache")}, ["log", "x", "cache", "forward"]),
        ({"x": Place(after="cache")}, ["log", "cache", "x", "forward"]),
        ({"b": Place(after="cache"), "a": Place(after="cache")}, ["log", "cache", "a", "b", "forward"]),
        ({"b": Place(before="cache"), "a": Place(before="cache")}, ["log", "a", "b", "cache", "forward"]),
        ({"x": Place(after="y"), "y": Place(before="log")}, ["y", "x", "log", "cache", "forward"]),
        # A neighbour that the Corefile does not name has its place all the same.
        ({"x": Place(before="hosts")}, ["log", "cache", "x", "forward"]),
    ],
)
def test_strangers_stand_where_they_say(places, expected):
    names = ["forward", "cache", *places, "log"]
    assert arrange(names, places) == expected
    assert arrange(sorted(names), dict(reversed(places.items()))) == expected


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place(), "either before= or after="),
        (Place("cache", "log"), "either before= or after="),
        (Place(before="nobody"), "no plugin 'nobody'"),
        (Place(after="x"), "no plugin 'x'"),
    ],
)
def test_a_stranger_without_a_place_is_refused(place, text):
    with pytest.raises(ConfigError, match=text):
        arrange(["cache", "x"], {"x": place})


def test_an_unplaced_name_is_refused():
    with pytest.raises(ConfigError, match="'x' has no place"):
        arrange(["cache", "x"], {})


# ---- registry


def test_a_directive_is_built_unknown_or_not_built():
    assert "whoami" in registry.built() and "whoami" not in registry.not_built()
    assert "nomad" in registry.not_built() and "nomad" not in chain.known()
    assert "fleeb" not in chain.known() and "fleeb" not in chain.not_built()


@pytest.mark.parametrize(
    ("name", "text"),
    [("nomad", "Corefile:2 - Error during parsing: directive 'nomad' is not built yet"),
     ("fleeb", "Corefile:2 - Error during parsing: Unknown directive 'fleeb'")],
)
def test_the_parser_tells_them_apart(name, text):
    with pytest.raises(ConfigError) as error:
        parsed(f". {{\n{name}\n}}\n")
    assert str(error.value) == text


def test_only_what_a_corefile_names_is_imported():
    code = (
        "import sys\n"
        "from fastdns import chain\n"
        "from fastdns.corefile import load_source\n"
        "from fastdns.corefile.source import Source\n"
        "chain.load(load_source(Source('f', b'. {\\nwhoami\\n}'), chain.known(), chain.not_built()))\n"
        "print(sorted({name.split('.')[2] for name in sys.modules if name.startswith('fastdns.plugins.')}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "['whoami']"


def test_entry_points_are_read_for_strange_names_only(monkeypatch):
    def refuse():
        raise AssertionError("entry points were read")

    monkeypatch.setattr(registry, "installed", refuse)
    assert loaded(". {\nwhoami\nerrors\n}\n").line == ["errors", "whoami"]
    with pytest.raises(AssertionError):
        parsed(". {\nstrange\n}\n")


def test_an_installed_package_is_found(external):
    assert "probe" in chain.known()
    generation = loaded(". {\nwhoami\nrelay\nprobe\nlog\n}\n")
    assert generation.line == ["log", "relay", "probe", "whoami"]
    assert generation.classes["probe"].__module__ == "fastdns_probes"


@pytest.mark.parametrize(
    ("value", "text"),
    [("fastdns_probes:Nobody", "cannot be imported"), ("fastdns_probes:DROP", "is no Plugin class"),
     ("fastdns_probes:Tag", "holds the plugin 'tag'"), ("no_such_package:X", "cannot be imported")],
)
def test_a_broken_entry_point_names_itself(tmp_path, monkeypatch, value, text):
    write_metadata(tmp_path)
    points = tmp_path / "fastdns_probes-1.0.dist-info" / "entry_points.txt"
    points.write_text(f"[fastdns.plugins]\nbroken = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(EXTERNAL))
    registry.installed.cache_clear()
    try:
        with pytest.raises(SetupError) as error:
            loaded(". {\nbroken\n}\n")
        assert str(error.value).startswith("plugin/broken: ") and text in str(error.value)
    finally:
        registry.installed.cache_clear()


# ---- plans


def test_a_plan_is_plain_data():
    plan = loaded("a.test:5301 b.test:5302 {\nwhoami\n}\nc.test:5301 {\nbind 127.0.0.1\nwhoami\n}\n").plan()
    assert json.loads(json.dumps(plan)) == plan and pickle.loads(pickle.dumps(plan)) == plan
    assert [(at["server"], at["zones"], at["sockets"]) for at in plan["listeners"]] == [
        ("dns://:5301", ["a.test."], 0), ("dns://:5302", ["b.test."], 0), ("dns://127.0.0.1:5301", ["c.test."], 0)]
    assert [block["zones"] for block in plan["blocks"]] == [["a.test.", "b.test."], ["c.test."]]


def test_blocks_share_listeners():
    plan = loaded("a.test {\nwhoami\n}\nb.test {\nwhoami\n}\n").plan()
    assert [(at["server"], at["zones"]) for at in plan["listeners"]] == [("dns://:53", ["a.test.", "b.test."])]


def test_equal_blocks_have_equal_settings():
    one = loaded("a.test {\nwhoami\nlog\n}\n").plan()["blocks"][0]["settings"]
    moved = loaded("\n\n# a remark\na.test {\nwhoami\n\nlog\n}\n").plan()["blocks"][0]["settings"]
    other = loaded("a.test {\nwhoami\nlog a.test\n}\n").plan()["blocks"][0]["settings"]
    aside = loaded("a.test {\nbind 127.0.0.1\nmultisocket 2\nwhoami\nlog\n}\n").plan()["blocks"][0]["settings"]
    assert one == aside
    assert one == moved != other


@pytest.mark.parametrize("scheme", ["tls", "https", "grpc", "quic", "https3"])
def test_a_transport_that_is_not_built_is_refused_by_name(scheme):
    with pytest.raises(KeysError, match=f"scheme '{scheme}' is not built yet"):
        loaded(f"{scheme}://. {{\nwhoami\n}}\n")


def test_two_blocks_cannot_serve_the_same_zone():
    with pytest.raises(KeysError, match="already defined"):
        loaded("a.test {\nwhoami\n}\na.test {\nwhoami\n}\n")


# ---- instances


def test_all_keys_of_a_block_share_its_instances(external):
    generation = loaded("a.test:5301 b.test:5302 10.0.0.0/17 {\nrelay\nwhoami\n}\n")
    built(generation)
    assert [name for name, _ in generation.members()] == ["relay", "whoami"]
    relay = generation.blocks[0].members[0][1]
    assert relay.block.zones[:2] == ("a.test.", "b.test.") and len(relay.block.zones) == 130
    assert relay.block.servers == ("dns://:5301", "dns://:5302", "dns://:53") and relay.block.listeners == (0, 1, 2)


def test_a_context_knows_the_chain(external):
    generation = loaded(". {\nprobe\nwhoami\nrelay\nlog\nbind 127.0.0.1\n}\n")
    built(generation)
    contexts = {name: plugin.block for name, plugin in generation.members()}
    assert contexts["probe"].chain == ("log", "relay", "probe", "whoami")
    assert {name: context.position for name, context in contexts.items()} == {
        "bind": None, "log": 0, "relay": 1, "probe": 2, "whoami": 3}


class Ready(ReadyCheck, Plugin):
    name = "ready-check"
    directive = Directive("ready-check")

    def ready(self):
        return True


def test_providers_in_order(external):
    generation = loaded(". {\nwhoami\n}\n")
    built(generation)
    (_, whoami), = generation.members()
    mine = Ready(None, whoami.block)
    whoami.block.members.append(("ready-check", mine))
    assert whoami.block.providers(ReadyCheck) == [mine]
    assert whoami.block.providers(Plugin) == [whoami, mine]


def test_a_capability_must_be_filled():
    with pytest.raises(TypeError):
        ReadyCheck().ready()


# ---- life


class Hooks(Plugin):
    """Notes what happens to it."""

    directive = Directive("hooks")
    said: ClassVar[list[str]] = []
    fails = ""

    def note(self, what):
        Hooks.said.append(f"{self.name} {what}")
        if f"{self.name} {what}" == Hooks.fails:
            raise ValueError("no")

    def start_server(self, channel):
        channel.log("INFO", self.name)
        self.note("start")

    async def stop_server(self):
        await asyncio.sleep(0)
        self.note("stop")

    async def on_event(self, event):
        self.note(str(event))


class Keeper:
    def __init__(self):
        self.lines = []

    def log(self, level, text):
        self.lines.append((level, text))

    def fatal(self, text):
        self.lines.append(("FATAL", text))


def hooked(*names: str) -> chain.Generation:
    generation = loaded(". {\nwhoami\n}\n")
    built(generation)
    block = generation.blocks[0]
    context = block.members[0][1].block
    block.members = [(name, type(name, (Hooks,), {"name": name})(None, context)) for name in names]
    generation.line = list(names)
    Hooks.said, Hooks.fails = [], ""
    return generation


def test_hooks_run_in_order_and_end_in_reverse():
    generation, keeper = hooked("one", "two"), Keeper()

    async def life():
        await generation.start_server(keeper)
        await generation.event("first_startup")
        await generation.stop_server()

    asyncio.run(life())
    assert Hooks.said == ["one start", "two start", "one first_startup", "two first_startup", "one startup",
                          "two startup", "two stop", "one stop"]
    assert keeper.lines == [("INFO", "one"), ("INFO", "two")]


def test_a_failed_start_stops_what_had_started():
    generation = hooked("one", "two", "three")
    Hooks.fails = "two start"
    with pytest.raises(FastdnsError, match="plugin/two: ValueError: no"):
        asyncio.run(generation.start_server(Keeper()))
    assert Hooks.said == ["one start", "two start", "one stop"]


def test_all_hear_of_an_event_before_a_failure_is_raised():
    generation = hooked("one", "two")
    Hooks.fails = "one shutdown"
    with pytest.raises(FastdnsError, match="plugin/one: no"):
        asyncio.run(generation.event(Event.SHUTDOWN))
    assert Hooks.said == ["one shutdown", "two shutdown"]


def test_a_channel_reaches_the_keeper():
    keeper = Keeper()
    Channel(keeper.log, keeper.fatal).fatal("the end")
    assert keeper.lines == [("FATAL", "the end")]


def test_asks_carry_their_block():
    plan = BlockPlan(3, (), ())
    plan.ask("http", service="ready")
    assert plan.asks == [("http", {"block": 3, "service": "ready"})]


def test_a_plugin_without_on_update_cannot_publish():
    with pytest.raises(TypeError):
        Channel(print, print).publish(b"x")


def test_a_metric_without_labels_is_exported_before_it_counts(external):
    from fastdns.testing import Worker

    with Worker(". {\nrelay\nwhoami\n}\n") as worker:
        def values() -> list:
            return [series.values for series in worker.stats.snapshot() if series.name == "relayed_total"]

        assert values() == [(0,)]
        worker.ask("a.", 1)
        assert values() == [(1,)]


def test_what_the_keeper_publishes_reaches_the_next_query(external):
    from fastdns.testing import Worker

    with Worker(". {\nbulletin\n}\n") as worker:
        (_, bulletin), = worker.generation.members()

        def said() -> str:
            return worker.ask("a.", 16).message.rr[0].rdata.data[0].decode()

        assert said() == "nothing"
        bulletin.board.publish(b"edition 1")
        assert said() == "edition 1 of 1 9 octets" and worker.counter("coredns_panics_total") == 1
        bulletin.board.publish(b"x" * 100_000)
        bulletin.board.publish(b"edition 3")
        assert said() == said() == "edition 3 of 3 9 octets" and bulletin.updates == 2


def test_the_keeper_publishes_to_all_workers(external):
    from fastdns.testing import Server

    with Server(". {\nmultisocket 2\nbulletin\n}\n", environ=external) as server:
        editions = [0]
        while editions[-1] < 20:
            text = server.ask("a.", 16).message.rr[0].rdata.data[0].decode()
            editions.append(int(text.split()[3]) if text != "nothing" else 0)
        assert editions == sorted(editions)


@pytest.mark.parametrize("deadline", [0, -1, 3601])
def test_a_senseless_deadline_is_refused(external, deadline, monkeypatch):
    monkeypatch.setattr(registry.load("probe"), "deadline", deadline)
    with pytest.raises(SetupError, match="plugin/probe: a deadline"):
        built(loaded(". {\nprobe\n}\n"))
