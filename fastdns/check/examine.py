# SPDX-License-Identifier: Apache-2.0
"""A whole Corefile examined: text, keys, directives, listeners, and plugins set up with nothing done.

Strategy: the server's steps in its order, each over what the ones before left. Listeners are judged only among blocks
whose place is known, and plugins are set up only when nothing was wrong, because what follows from a mistake helps
nobody.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .. import chain, order, registry
from ..corefile import ServerBlock, Source, Token, ZoneKey, builtin
from ..corefile.blocks import inspect_key
from ..corefile.parser import RawBlock
from ..corefile.source import load_source
from ..errors import ConfigError, KeysError
from ..listeners import Block, complaints, gates
from ..plugin import BlockPlan, Plugin
from . import doors, warn
from .dry import Dry, set_up
from .findings import Findings
from .grammar import Grammar
from .guard import SideEffect, nothing_happens
from .recovery import PLACING, Recovering, parse


@dataclass
class Examined:
    """A Corefile and what was found. `generation` and `dry`: if it has no mistakes; `files`: what it imports."""

    source: Source
    findings: Findings
    generation: chain.Generation | None = None
    dry: Dry | None = None
    files: list[str] = field(default_factory=list)
    blocks: list[ServerBlock] = field(default_factory=list)
    snippets: dict[str, Token] = field(default_factory=dict)


def examine(source: Source, port: int = 53, environ: Mapping[str, str] | None = None) -> Examined:
    """Everything that can be said about a Corefile; `port` is the default port of `dns://`. Raises nothing for what is
    wrong with it."""
    seen = Examined(source, Findings(source.filename))
    with nothing_happens() as tried:
        try:
            _Examination(seen, port, os.environ if environ is None else environ).run()
        except SideEffect as effect:
            # A parser that is not pure; what it would have done was not done.
            seen.findings.at("note", Token("", "", 0, 0), f"reading stopped: a plugin {effect}")
            seen.generation = None
    warn.swallowed(tried, seen.findings)
    return seen


class _Examination:
    def __init__(self, seen: Examined, port: int, environ: Mapping[str, str]) -> None:
        self.seen = seen
        self.port = port
        self.environ = environ
        self.findings = seen.findings
        self.classes: dict[str, type[Plugin]] = {}
        self.unplaced: set[int] = set()

    def run(self) -> None:
        source = self.seen.source
        parser = Recovering(
            source.filename, source.body, chain.known(), chain.not_built(), self.environ, self.findings)
        raw = parse(parser)
        self.seen.files = parser.result.files
        self.seen.snippets = parser.defined
        if not raw and not self.findings.count("error"):
            self.findings.warn(Token("", "", 1, 1), "no server block: the built-in Corefile is served instead",
                               f"it is: .:{self.port} {{ whoami; log }}")
            raw_source = replace(builtin(self.port), filename=source.filename)
            served = list(load_source(raw_source, chain.known(), chain.not_built(), self.port).blocks)
        else:
            served = [self._block(index, block) for index, block in enumerate(raw)]
            self.unplaced.update(i for i, block in enumerate(raw) if any(block is one for one in parser.unplaced))
        self.seen.blocks = served
        warn.keys(served, self.findings)
        line = self._line(served)
        blocks = self._configure(served, line)
        self._listeners(blocks)
        if (error := gates(blocks)) is not None:
            self.findings.refuse(error, None)
        if self.findings.count("error"):
            return
        generation = chain.Generation(line, self.classes, blocks)
        self.seen.generation = generation
        self.seen.dry = set_up(generation, self.findings)
        doors.judge(generation, self.findings)
        warn.generation(generation, self.findings)

    def _block(self, index: int, raw: RawBlock) -> ServerBlock:
        """The block with the keys that can be read; the root zone stands for none."""
        filename = self.seen.source.filename
        zones: list[ZoneKey] = []
        places: list[Token] = []
        for key, token in zip(raw.keys, raw.places, strict=True):
            try:
                found = inspect_key(filename, key, token, self.port)
            except KeysError as error:
                hint = "a blank stands in front of the brace" if key.endswith("{") else ""
                self.findings.refuse(error, token, [hint])
                continue
            zones += found
            places += [token] * len(found)
        if not zones:
            self.unplaced.add(index)
            zones, places = [ZoneKey("dns", ".", self.port)], [raw.places[0]]
        tokens = {name: tuple(tokens) for name, tokens in raw.tokens.items()}
        return ServerBlock(index, filename, tuple(zones), tokens, tuple(places))

    def _line(self, blocks: list[ServerBlock]) -> list[str]:
        """All directives that can be loaded, in order of the chain."""
        first: dict[str, Token] = {}
        for block in blocks:
            for name, tokens in block.tokens.items():
                first.setdefault(name, tokens[0])
        for name, token in first.items():
            try:
                self.classes[name] = registry.load(name)
            except ConfigError as error:
                self.findings.refuse(error, token)
        names = list(self.classes)
        while True:
            places = {name: registry.place(name) for name in names if name not in order.PLACES}
            try:
                return order.arrange(names, places)
            except ConfigError as error:
                lost = next((name for name in places if f"'{name}'" in str(error)), next(iter(places)))
                self.findings.refuse(error, first[lost])
                names.remove(lost)

    def _configure(self, served: list[ServerBlock], line: list[str]) -> list[Block]:
        blocks = []
        for source in served:
            own = tuple(name for name in line if name in source.tokens)
            blocks.append(Block(source, BlockPlan(source.index, source.zones, own)))
        for name in line:
            for block in blocks:
                if name in block.source.tokens:
                    self._configure_one(name, block)
        return blocks

    def _configure_one(self, name: str, block: Block) -> None:
        plugin, tokens = self.classes[name], block.source.tokens[name]
        read = Grammar(plugin, block.source, name, self.findings).read()
        block.configs[name] = read.configs
        if read.failed and name in PLACING:
            self.unplaced.add(block.source.index)
        for config in read.configs:
            try:
                plugin.plan(config, block.plan)
            except ConfigError as error:
                written = getattr(config, "line", 0)
                token = next((token for token in tokens if token.line == written), tokens[0])
                self.findings.refuse(error, None if error.line else token)
        if not read.failed:
            warn.directive(plugin, block, name, self.findings)

    def _listeners(self, blocks: list[Block]) -> None:
        placed = [block for block in blocks if block.source.index not in self.unplaced]
        for block, key, error in complaints(placed):
            # A key that stands twice in one block is refused for its second place.
            at = [token for zone, token in zip(block.source.zones, block.source.places, strict=True) if zone == key]
            token = at[-1] if at else Token("")
            self.findings.refuse(error, token, warn.other_claims(key, block, token, placed))
