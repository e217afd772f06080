# SPDX-License-Identifier: Apache-2.0
"""From a parsed Corefile to plugin instances in order, and from these to the program that the workers run.

Strategy: two phases, because memory and sockets lie between them. `load` imports the plugins that the Corefile names,
has each parse its lines and say what it asks of the server; `Generation.plan` is the sum, plain data for the
supervisor. When the supervisor has opened everything, `Generation.build` sets the instances up and fills the compiled
program. Both go through the directives in order of the chain and, within one, through the blocks in order of the
Corefile, as CoreDNS does, so that of two mistakes the same is reported. All keys of a block share its instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import inspect
import itertools
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import metrics, order, registry
from .corefile import Corefile, ServerBlock
from .errors import ConfigError, FastdnsError, SetupError
from .facts import Fact, Key
from .facts import key as key_of
from .listeners import Block, Listener, gates, listeners_of
from .plugin import (
    BlockContext,
    BlockPlan,
    Channel,
    Event,
    KeySource,
    MetadataCollector,
    Observer,
    Plugin,
    Query,
    Rcode,
    RouteFilter,
)
from .published import GRACE_SECONDS, Board, Packs, make

if TYPE_CHECKING:
    from ._cache import Segment
    from ._chain import Program
    from ._kept import Shelf
    from ._stage import CompiledStage
    from ._stats import Stats
    from ._tsig import KeyTable
    from ._udp import Engine

WILDCARDS = ("", "0.0.0.0", "::")
LOG_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
LAST_WINS = ("reload",)
DEADLINE_MOST = 3600  # seconds
SHELF_ENTRIES = 1 << 15  # 19 MiB when it is full
KEEPING = True
"""Whether answers are kept. Tests compare with a server that keeps none."""


class Keeper(Protocol):
    """What `start_server` needs of the keeper process."""

    def log(self, level: str, text: str) -> None:
        """Prints a log line."""

    def fatal(self, text: str) -> None:
        """Ends the whole server."""


def known() -> registry.Known:
    """The directives that a Corefile may use."""
    return registry.Known()


def not_built() -> tuple[str, ...]:
    """CoreDNS's directives that are refused by name."""
    return registry.not_built()


def load(corefile: Corefile) -> Generation:
    """Imports the plugins and parses their lines. Raises ConfigError, worded as CoreDNS words it."""
    names = list(dict.fromkeys(name for block in corefile.blocks for name in block.tokens))
    classes = {name: registry.load(name) for name in names}
    line = order.arrange(names, {name: registry.place(name) for name in names if name not in order.PLACES})
    blocks = []
    for source in corefile.blocks:
        own = tuple(name for name in line if name in source.tokens)
        blocks.append(Block(source, BlockPlan(source.index, source.zones, own)))
    for name in line:
        for block in blocks:
            if name in block.source.tokens:
                block.configs[name] = classes[name].parse(block.source.dispenser(name))
                for config in block.configs[name]:
                    classes[name].plan(config, block.plan)
    if (error := gates(blocks)) is not None:
        raise error
    return Generation(line, classes, blocks)


class Generation:
    """One configuration: its blocks, listeners and, once built, plugin instances."""

    def __init__(self, line: list[str], classes: dict[str, type[Plugin]], blocks: list[Block]) -> None:
        self.line = line
        self.classes = classes
        self.blocks = blocks
        self.listeners = listeners_of(blocks)
        self.fresh = False  # a later generation whose cache begins empty, as the first one's does
        self.started: list[tuple[str, Plugin]] = []
        self.common: dict[str, dict[str, Any]] = {}
        self.kept: dict[tuple[int, str], int] = {}
        self.files: dict[str, int] = {}
        self.shelf: Shelf | None = None

    # ---- first phase

    def plan(self) -> dict[str, Any]:
        """What the configuration asks of the server, as data that pickles and is JSON.

        `listeners`: scheme, address, port, sockets (0 unsaid, -1 usable CPUs), steer, server (the label), zones,
        blocks. `blocks`: settings (a digest that is equal for equal blocks), zones, directives. `http`, `cache`: what
        was asked for under these names, in Corefile order; `lameduck`: seconds in all; `reload`: the last one, or
        absent. `asks`: everything, by kind. `boards`: names of the instances that publish data. `shelf`: entries of the
        shelf of kept answers, 0 where nothing is kept.
        """
        asks: dict[str, list[dict[str, Any]]] = {}
        for block in self.blocks:
            for kind, facts in block.plan.asks:
                asks.setdefault(kind, []).append(facts)
        plan: dict[str, Any] = {
            "listeners": [
                {
                    "scheme": at.scheme,
                    "address": at.address,
                    "port": at.port,
                    "sockets": at.sockets,
                    "steer": at.steer,
                    "server": at.server,
                    "zones": list(at.routes),
                    "blocks": sorted(at.blocks()),
                }
                for at in self.listeners
            ],
            "blocks": [
                {
                    "settings": _settings(b.source, self.classes),
                    "zones": list(b.zones),
                    "directives": list(b.plan.directives),
                }
                for b in self.blocks
            ],
            "http": asks.get("http", []),
            "cache": asks.get("cache", []),
            "lameduck": sum(facts["seconds"] for facts in asks.get("lameduck", [])),
            "asks": asks,
            "boards": [_board(block.plan.index, name, stanza) for name in self.line for block in self.blocks
                       for stanza, config in enumerate(block.configs.get(name, ()))
                       if self.classes[name].publishes(config)],
            "shelf": SHELF_ENTRIES if KEEPING and self.keeps() else 0,
        }
        for kind in LAST_WINS:
            if kind in asks:
                plan[kind] = {name: value for name, value in asks[kind][-1].items() if name != "block"}
        return plan

    def keeps(self) -> bool:
        """Whether an instance may want the shelf of kept answers."""
        return any(self.classes[name].keeps(config) for block in self.blocks for name, configs in block.configs.items()
                   for config in configs)

    # ---- second phase

    def build(self, stats: Stats, segment: Segment | None, block_ids: list[int], generation: int,
              kept: Sequence[int] = (), boards: Mapping[str, int] | None = None) -> Program:
        """Sets the plugins up and fills the program. `block_ids` are the blocks' numbers in the shared cache, `kept`
        descriptors of the memory that plugins asked for under "kept", in the plan's order, `boards` those of files for
        published data, by the plan's names, which become the instances'."""
        from ._chain import Program
        from ._wire import echo_none, name_from_text

        echo_none()
        metrics.declare_plugins(stats)
        asks = [facts for block in self.blocks for facts in block.plan.asked("kept")]
        self.kept = {(facts["block"], facts["key"]): fd for facts, fd in zip(asks, kept, strict=False)}
        self.files = dict(boards or {})
        for name in self.line:
            for block in self.blocks:
                for stanza, config in enumerate(block.configs.get(name, ())):
                    context = self.context(block, name, stanza, stats, segment, block_ids, generation)
                    block.members.append((name, self.create(name, config, context)))
        while self.files:
            os.close(self.files.popitem()[1])  # of plugins that are others on disk than when the plan was made
        program = Program(len(self.listeners), len(self.blocks))
        for index, at in enumerate(self.listeners):
            any_class = any(self.classes[name].any_class
                            for number in at.blocks() for name in self.blocks[number].plan.directives)
            program.add_listener(at.server, at.port, at.address in WILDCARDS, any_class, index, **self._timeouts(at))
        for block in self.blocks:
            members = [plugin for _, plugin in block.members if type(plugin).chain]
            stages: list[Any] = [plugin.compiled() or self.keeping(block, plugin, stats) or plugin
                                 for plugin in members]
            check_first([(type(plugin), stage is plugin or stage.python is not None)
                         for plugin, stage in zip(members, stages, strict=True)])
            zones = [name_from_text(zone) for zone in block.zones]
            labels = block.labels.names if block.labels.kept else None
            program.add_block(block_ids[block.plan.index], zones, stages, labels, **filters(block.members),
                              signs=signed_zones(block.members))
        for index, at in enumerate(self.listeners):
            for zone, numbers in at.routes.items():
                for number in numbers:
                    program.route(index, name_from_text(zone), number)
            if (keys := self.keys(at)) is not None:
                program.verify(index, _table(keys))
        program.finish()
        return program

    def keeping(self, block: Block, plugin: Plugin, stats: Stats) -> CompiledStage | None:
        """The stage that gives a plugin's answers again, if it says what they depend on. SetupError."""
        if plugin.depends is None or not KEEPING:
            return None
        from ._kept import stage

        bits, prefixes, codes, labels = kept_by(block, plugin, plugin.depends)
        try:
            made = stage(plugin, self.shelf_for(plugin.name, stats), bits, prefixes, codes, labels, plugin.board)
        except ValueError as error:
            raise SetupError(plugin.name, str(error)) from None
        plugin.covered = bits
        plugin.log.addFilter(metrics.RECORDER)
        return made

    def create(self, name: str, config: Any, context: BlockContext) -> Plugin:
        """An instance. Raises ConfigError."""
        plugin = self.classes[name](config, context)
        if not 0 < plugin.deadline <= DEADLINE_MOST:
            raise SetupError(name, f"a deadline has more than 0 and at most {DEADLINE_MOST} seconds")
        if self.classes[name].publishes(config):
            # Where nobody gave files, as in a test, this process is the whole server.
            fd = self.files.pop(_board(context.index, name, context.stanza), None)
            plugin.board = Board(make(context.generation) if fd is None else fd)
        return plugin

    def context(self, block: Block, name: str, stanza: int, stats: Stats, segment: Segment | None,
                block_ids: list[int], generation: int) -> BlockContext:
        """What an instance may know of its block."""
        chain = tuple(other for other in block.plan.directives if self.classes[other].chain
                      for _ in block.configs[other])
        number = block.plan.index
        return BlockContext(
            index=number,
            block_id=block_ids[number],
            zones=block.zones,
            keys=block.source.zones,
            servers=tuple(at.server for at in self.listeners),
            listeners=tuple(i for i, at in enumerate(self.listeners) if number in at.blocks()),
            chain=chain,
            stats=stats,
            segment=segment,
            view=block.plan.view,
            generation=generation,
            settings=_settings(block.source, self.classes),
            position=chain.index(name) + stanza if self.classes[name].chain else None,
            stanza=stanza,
            members=block.members,
            labels=block.labels,
            root=block.plan.root,
            common=self.common.setdefault(name, {}),
            fresh=self.fresh or generation == 1,
            kept={key: fd for (index, key), fd in self.kept.items() if index == number},
            shelf=functools.partial(self.shelf_for, name, stats) if KEEPING else None,
        )

    def _timeouts(self, at: Listener) -> dict[str, Any]:
        """Those of a listener: of several blocks on it the last that says something counts, for each timeout."""
        found: dict[str, Any] = {}
        for block in self.blocks:
            if block.plan.index in at.blocks():
                found.update(block.plan.timeouts)
        return found

    def keys(self, at: Listener) -> dict[str, bytes] | None:
        """The TSIG keys of all blocks on a listener, the last block's for a name that several have; None: nobody looks
        at signatures."""
        sources = [plugin for number in sorted(at.blocks()) for _, plugin in self.blocks[number].members
                   if isinstance(plugin, KeySource)]
        return {name: secret for source in sources for name, secret in source.keys().items()} if sources else None
    def shelf_for(self, name: str, stats: Stats) -> Shelf:
        """The shelf of kept answers, which is made for the first plugin that wants one. SetupError."""
        if self.shelf is None:
            from ._kept import Shelf

            try:
                self.shelf = Shelf(stats, SHELF_ENTRIES)
            except (OSError, MemoryError) as error:
                raise SetupError(name, f"no memory for kept answers: {error}") from None
        return self.shelf

    def observer(self) -> Observer | None:
        """The first instance that can tell more than counters do."""
        return next((plugin for _, plugin in self.members() if isinstance(plugin, Observer)), None)

    # ---- life

    def members(self) -> list[tuple[str, Plugin]]:
        """All instances with their names: by directive in order of the chain, then by block."""
        return [(name, plugin) for name in self.line for block in self.blocks
                for own, plugin in block.members if own == name]

    async def start_server(self, keeper: Keeper) -> None:
        """Runs the hooks of the keeper; what had started is stopped when one fails."""
        loop = asyncio.get_running_loop()

        def start(plugin: Plugin) -> Any:
            publish = _publisher(plugin.board, loop) if plugin.board is not None else None
            return plugin.start_server(Channel(keeper.log, keeper.fatal, publish))

        await self._start(start, self.stop_server)

    async def stop_server(self) -> None:
        """Runs the keeper's hooks for the end, the last started first."""
        await self._stop(lambda plugin: plugin.stop_server())

    async def start_worker(self, engine: Engine, stats: Stats, row: int,
                           fatal: Callable[[str], None] | None = None) -> None:
        """Joins a worker's Python thread to its engine and runs the workers' hooks. `row` is the hot thread's. `fatal`
        ends the server: a panic does at a listener with `debug`."""
        servers = tuple(at.server for at in self.listeners)
        bare = {number for number, at in enumerate(self.listeners)
                if any("debug" in self.blocks[block].plan.directives for block in at.blocks())}

        def panicked(listener: int, text: str) -> bool:
            if fatal is None or listener not in bare:
                return False
            fatal(text)
            return True

        engine.bridge.start(asyncio.get_running_loop(), stats, row + 1, _log, servers, panicked if bare else None,
                            metrics.RECORDER)
        self._bridge = engine.bridge
        await self._start(lambda plugin: plugin.start_worker(), self.stop_worker)

    async def stop_worker(self) -> None:
        """Runs the workers' hooks for the end and lets go of the engine."""
        self._bridge.stop()
        await self._bridge.join()
        await self._stop(lambda plugin: plugin.stop_worker())

    async def event(self, name: str) -> None:
        """Tells every plugin of an event, a first start's as two; all hear of it, then the first failure is raised."""
        events = (Event.FIRST_STARTUP, Event.STARTUP) if name == Event.FIRST_STARTUP else (Event(name),)
        failures = []
        for event, (own, plugin) in itertools.product(events, self.members()):
            try:
                await _finished(plugin.on_event(event))
            except Exception as error:
                failures.append((own, error))
        if failures:
            own, first = failures[0]
            raise FastdnsError(f"plugin/{own}: {first}") from first

    async def _start(self, hook: Callable[[Plugin], Any], undo: Callable[[], Awaitable[None]]) -> None:
        self.started = []
        for name, plugin in self.members():
            try:
                await _finished(hook(plugin))
            except FastdnsError:
                await undo()
                raise
            except Exception as error:
                await undo()
                raise FastdnsError(f"plugin/{name}: {type(error).__name__}: {error}") from error
            self.started.append((name, plugin))

    async def _stop(self, hook: Callable[[Plugin], Any]) -> None:
        while self.started:
            name, plugin = self.started.pop()
            try:
                await _finished(hook(plugin))
            except Exception:
                logging.getLogger(f"plugin/{name}").exception("cannot stop")


def _board(block: int, name: str, stanza: int) -> str:
    return f"{block}.{name}.{stanza}"


def _publisher(board: Board, loop: asyncio.AbstractEventLoop) -> Callable[[bytes | Packs], int]:
    """`board.publish` for any thread of the keeper; what was replaced is given back later."""

    def retire(version: int) -> None:
        # What cannot be given back now is so at the next publication.
        with contextlib.suppress(OSError):
            board.retire(version)

    def publish(data: bytes | Packs) -> int:
        version = board.publish(data)
        loop.call_soon_threadsafe(loop.call_later, GRACE_SECONDS, retire, version)
        return version

    return publish


async def _finished(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


def _log(level: int, text: str) -> None:
    logging.getLogger().log(LOG_LEVELS[level], "%s", text)


class _Judge:
    """A block's filter where the bridge expects a stage: labels are collected first, for those who read them."""

    eager = True
    board = None
    deadline = 1.0

    def __init__(self, name: str, plugin: RouteFilter, members: list[tuple[str, Plugin]]) -> None:
        self.name = name
        self.plugin = plugin
        self.block = getattr(plugin, "block", None)
        self.collectors = [member for _, member in members if isinstance(member, MetadataCollector)]

    async def serve_dns(self, query: Query, _: Any) -> Any:
        """0: the query enters. What is raised is a panic: the client gets SERVFAIL, and no other block the query."""
        for collector in self.collectors:
            collector.collect(query)
        return Rcode(0 if self.plugin.passes(query) else 1)


def filters(members: list[tuple[str, Plugin]]) -> dict[str, Any]:
    """What the program is told of the filter among a block's instances, if there is one."""
    for name, plugin in members:
        if isinstance(plugin, RouteFilter):
            judge = _Judge(name, plugin, members) if any(why for _, why in plugin.judges()) else None
            return {"filter": plugin.filter(), "python_filter": judge}
    return {}


def _table(keys: dict[str, bytes]) -> KeyTable:
    from ._tsig import KeyTable
    from ._wire import name_from_text

    try:
        return KeyTable({name_from_text(name): secret for name, secret in keys.items()})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def signed_zones(members: list[tuple[str, Plugin]]) -> list[bytes] | None:
    """What the program is told of the block's KeySource, if it has one."""
    from ._wire import name_from_text

    for _, plugin in members:
        if isinstance(plugin, KeySource):
            return [name_from_text(zone) for zone in plugin.signed_zones()]
    return None


def kept_by(block: Block, plugin: Plugin, depends: Iterable[Fact]) -> Key:
    """By what a plugin's answers are kept. SetupError."""
    if not type(plugin).eager:
        raise SetupError(plugin.name, "only the answers of an eager plugin can be kept")
    try:
        return key_of(depends, block.labels)
    except ValueError as error:
        raise SetupError(plugin.name, str(error)) from None


def check_first(stages: Sequence[tuple[type[Plugin], bool]]) -> None:
    """SetupError where a stage that may cross into Python stands before a plugin that bears none there. `stages`:
    the class of each, and whether it may."""
    python = ""
    for plugin, crosses in stages:
        if python and plugin.first_in_c:
            raise SetupError(plugin.name, f"cannot work behind '{python}', which runs in Python in this block")
        python = python or (plugin.name if crosses else "")


def _settings(block: ServerBlock, classes: dict[str, type[Plugin]]) -> str:
    """A digest that two blocks share exactly when their keys and the directives that take part in answering are the
    same, wherever they stand: another number of sockets must not empty a cache."""
    words = {name: [(token.text, token.line - tokens[0].line) for token in tokens]
             for name, tokens in sorted(block.tokens.items()) if name not in classes or classes[name].chain}
    return hashlib.sha256(json.dumps([block.keys, words]).encode()).hexdigest()
