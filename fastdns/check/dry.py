# SPDX-License-Identifier: Apache-2.0
"""Plugins set up as the server does it, into memory of our own, so that their set-up can be asked and nothing runs.

Strategy: set-up is what a server does before it forks. Here its counters and cache are private memory, and the guard
stands before everything else: a plugin whose set-up must ask the network is noted as not set up, and the others go
on.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import chain, facts, metrics
from ..corefile import Token
from ..errors import ConfigError, SetupError
from ..listeners import Block
from ..plugin import Plugin
from .findings import NOTE, Findings
from .guard import SideEffect

if TYPE_CHECKING:
    from fastdns._cache import Segment

COMPILED, PYTHON, SIDE = "compiled", "Python", "side"
SLOTS = 1 << 19
CHATTY = logging.WARNING


@dataclass
class Stage:
    """One instance: its directive, which occurrence it is, its place, where it `runs`, and why not in compiled code.

    `kept`: by what its answers are kept, where compiled code gives them again, or what else is.
    `plugin` is None where it could not be set up here; `runs` is then what its class promises.
    """

    name: str
    stanza: int
    token: Token
    runs: str
    why: str = ""
    kept: str = ""
    plugin: Plugin | None = None
    config: Any = None


@dataclass
class Dry:
    """The stages of each block, in order of the chain, by the block's index."""

    stages: dict[int, list[Stage]] = field(default_factory=dict)


class _Remarks(logging.Handler):
    """What plugins log while they are set up becomes warnings at their directive."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(CHATTY)
        self.findings = findings
        self.token = Token("")

    def emit(self, record: logging.LogRecord) -> None:
        self.findings.warn(self.token, f"{record.name}: {record.getMessage()}")


def set_up(generation: chain.Generation, findings: Findings) -> Dry:
    """Sets every instance up; what a set-up refuses is a mistake of the Corefile."""
    from .._stats import Stats

    stats = Stats.create(4, SLOTS)
    metrics.attach(stats, 2)
    metrics.declare(stats)
    metrics.declare_plugins(stats)
    ids = list(range(1, len(generation.blocks) + 1))
    segment = _segment(generation, ids, findings)
    dry = Dry({block.plan.index: [] for block in generation.blocks})
    remarks, root = _Remarks(findings), logging.getLogger()
    before = threads()
    root.addHandler(remarks)
    try:
        for name in generation.line:
            for block in generation.blocks:
                for stanza, config in enumerate(block.configs.get(name, ())):
                    remarks.token = token = occurrence(block, name, config, stanza)
                    context = generation.context(block, name, stanza, stats, segment, ids, 1)
                    stage = Stage(name, stanza, token, _promise(generation.classes[name]), config=config)
                    dry.stages[block.plan.index].append(stage)
                    stage.plugin = _create(generation, stage, context, findings)
                    if stage.plugin is not None:
                        block.members.append((name, stage.plugin))
        for block in generation.blocks:
            stages = dry.stages[block.plan.index]
            for stage in stages:
                remarks.token = stage.token
                _place(stage, findings)
                if stage.runs == PYTHON and (plugin := stage.plugin) is not None and plugin.depends is not None:
                    with _noted(stage, findings):
                        chain.kept_by(block, plugin, plugin.depends)
            _first(stages, generation, findings)
        if (left := threads() - before) > 0:
            text = f"set-up left {left} threads running: a plugin or a library started them before the fork"
            findings.refuse(ConfigError(text), generation.blocks[0].source.places[0])
    finally:
        root.removeHandler(remarks)
        # Mapped memory needs no descriptor, and nobody else is given it: many Corefiles may be checked in one go.
        for shared in (stats, segment):
            if shared is not None:
                os.close(shared.fd)
    return dry


def threads() -> int:
    """Threads of this process; a server that has more than one after the set-up does not start."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def occurrence(block: Block, name: str, config: Any, stanza: int) -> Token:
    """The token at which a configuration was written, as well as it is known."""
    tokens = block.source.tokens[name]
    written = getattr(config, "line", 0)
    heads = [token for token in tokens if token.text == name]
    return next((token for token in heads if written and token.line == written),
                heads[stanza] if len(heads) == len(block.configs[name]) else tokens[0])


def _segment(generation: chain.Generation, ids: list[int], findings: Findings) -> Segment | None:
    asked = generation.plan()["cache"]
    if not asked:
        return None
    from .._cache import Segment

    tables = [(ids[ask["block"]], ask["success"], ask["denial"], 0) for ask in asked]
    try:
        # The sizes are judged as they are written; the memory for them is not taken.
        Segment.size_for(tables)
        return Segment.create([(number, min(good, 1024), min(bad, 1024), rows) for number, good, bad, rows in tables])
    except (ValueError, OSError, MemoryError) as error:
        block = generation.blocks[asked[0]["block"]].source
        findings.refuse(ConfigError(f"the shared cache cannot be made: {error}"), block.places[0])
        return None


def _promise(plugin: type[Plugin]) -> str:
    if not plugin.chain:
        return SIDE
    return PYTHON if plugin.compiled is Plugin.compiled else COMPILED


@contextlib.contextmanager
def _noted(stage: Stage, findings: Findings) -> Iterator[None]:
    """What a set-up raises becomes a finding."""
    try:
        yield
    except SideEffect as effect:
        findings.at(NOTE, stage.token, f"plugin/{stage.name}: not set up here: its set-up {effect}")
    except ConfigError as error:
        findings.refuse(error, None if error.line else stage.token)
    except Exception as error:
        findings.refuse(SetupError(stage.name, f"{type(error).__name__}: {error}"), stage.token)


def _create(generation: chain.Generation, stage: Stage, context: Any, findings: Findings) -> Plugin | None:
    made = None
    with _noted(stage, findings):
        made = generation.create(stage.name, stage.config, context)
    return made


def _first(stages: list[Stage], generation: chain.Generation, findings: Findings) -> None:
    """What bears no Python before it, as the server judges it once it knows where each stage runs."""
    answering = [stage for stage in stages if stage.runs != SIDE]
    try:
        chain.check_first([(generation.classes[stage.name], stage.runs == PYTHON or bool(stage.kept))
                           for stage in answering])
    except SetupError as error:
        findings.refuse(error, next(stage.token for stage in answering if stage.name == error.plugin))


def _place(stage: Stage, findings: Findings) -> None:
    """Find out where a stage runs, by asking its instance for its compiled half."""
    plugin = stage.plugin
    if stage.runs == SIDE:
        return
    if plugin is not None and plugin.depends is not None:
        with _noted(stage, findings):
            stage.kept = f"its answers are kept by {facts.shown(plugin.depends)}"
    if stage.runs == PYTHON:
        stage.why = f"'{stage.name}' has no compiled half"
        return
    if plugin is None:
        stage.why = "not set up here; its class has a compiled half"
        return
    with _noted(stage, findings):
        half = plugin.compiled()
        if half is not None and half.python is not None:
            stage.kept = "what it decides about a name is kept"
        if half is None:
            told = f": {plugin.why_python}" if plugin.why_python else ""
            stage.runs, stage.why = PYTHON, f"'{stage.name}' has no compiled half for what it is told here{told}"
