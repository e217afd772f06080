# SPDX-License-Identifier: Apache-2.0
"""What a Corefile comes to: listeners, blocks, stages in order, where each runs; and the way of one question.

Strategy: the generation of the check is asked, and the way of a question is looked up in the server's own compiled
router, so what is shown is what the server does. The result is plain values: text and JSON show the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from .. import chain
from .._chain import Program
from .._wire import name_from_text, name_lower
from ..corefile.names import fqdn
from ..listeners import Block, Listener
from ..plugin import RouteFilter
from .dry import COMPILED, PYTHON, SIDE, Stage
from .examine import Examined

IN = 1
KEEPER = "cache"
"""The directive behind which only what is not kept is asked."""


def explain(seen: Examined) -> dict[str, Any]:
    """The whole configuration; `seen` has no mistakes."""
    served = seen.generation
    assert served is not None
    return {
        "file": seen.source.filename,
        "imports": list(seen.files),
        "listeners": [_listener(at, served) for at in served.listeners],
        "blocks": [_block(seen, block) for block in served.blocks],
    }


def _listener(at: Listener, served: chain.Generation) -> dict[str, Any]:
    return {
        "server": at.server,
        "sockets": "as many as usable CPUs" if at.sockets < 0 else at.sockets or 1,
        "said": at.sockets != 0,
        "steer": at.steer,
        "zones": [{"zone": zone, "block": number + 1} for zone, numbers in at.routes.items() for number in numbers],
    }


def _place(seen: Examined, token: Any) -> dict[str, Any]:
    return {"file": token.file or seen.source.filename, "line": token.line}


def _stage(seen: Examined, stage: Stage) -> dict[str, Any]:
    return {"directive": stage.name, **_place(seen, stage.token), "runs": stage.runs, "why": stage.why,
            "kept": stage.kept}


def _block(seen: Examined, block: Block) -> dict[str, Any]:
    assert seen.dry is not None and seen.generation is not None
    stages = seen.dry.stages[block.plan.index]
    token = block.source.places[0] if block.source.places else None
    number = block.plan.index
    return {
        "number": number + 1,
        "file": (token.file if token else "") or seen.source.filename,
        "line": token.line if token else 0,
        "keys": list(block.source.keys),
        "zones": list(block.zones),
        "view": block.plan.view,
        "filter": [{"expression": text, "runs": PYTHON if why else COMPILED, "why": why}
                   for stage in stages for text, why in judges(stage)],
        "servers": [at.server for at in seen.generation.listeners if number in at.blocks()],
        "stages": [_stage(seen, stage) for stage in stages if stage.runs != SIDE],
        "side": [_stage(seen, stage) for stage in stages if stage.runs == SIDE],
        "fast_path": fast_path([stage for stage in stages if stage.runs != SIDE]),
    }


def judges(stage: Stage) -> list[tuple[str, str]]:
    """What a filter asks of a query, and why Python has to answer it."""
    plugin = stage.plugin
    if plugin is None:
        return []
    return plugin.judges() if isinstance(plugin, RouteFilter) else []


def fast_path(stages: Sequence[Stage]) -> dict[str, Any]:
    """Whether a query stays in compiled code, and what takes it out: `leaves` is the first such stage, or the filter
    that is asked before all of them."""
    outside = [stage for stage in stages if stage.runs == PYTHON or stage.kept]
    for stage in stages:
        if any(why for _, why in judges(stage)):
            also = f"; so does {', '.join(other.name for other in outside)}" if outside else ""
            return {"whole": False, "leaves": stage.name,
                    "why": f"'{stage.name}' has an expression for Python: every query that may enter crosses into "
                           f"Python and back first{also}"}
    if not stages:
        return {"whole": True, "leaves": None, "why": "no directive takes part in answering: every query is REFUSED"}
    if not outside:
        return {"whole": True, "leaves": None, "why": "every query stays in compiled code"}
    first = outside[0]
    kept = any(stage.name == KEEPER and stage.runs == COMPILED for stage in stages[: stages.index(first)])
    which = f"what '{KEEPER}' does not answer" if kept else "every query that comes so far"
    others = [stage.name for stage in outside[1:]]
    also = f"; so does {', '.join(others)}" if others else ""
    why = "; ".join(part for part in (first.why or f"'{first.name}' asks Python", first.kept) if part)
    once = " the first time" if first.kept else ""
    return {"whole": False, "leaves": first.name, "why": f"{why}: {which} crosses into Python and back{once}{also}"}


# ---- one question


class Question:
    """What is asked: `name` in lower case with final dot, numbers of type and class, the client's address ("" any)."""

    def __init__(self, name: str, qtype: int, qclass: int = IN, client: str = "") -> None:
        self.name = fqdn(name).lower()
        self.wire = name_lower(name_from_text(self.name))
        self.qtype = qtype
        self.qclass = qclass
        self.client = ipaddress.ip_address(client) if client else None


def ways(seen: Examined, question: Question, servers: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The way of a question at each listener (`servers`: at those alone)."""
    served = seen.generation
    assert served is not None
    program = router(served)
    return [way for index, at in enumerate(served.listeners) if not servers or at.server in servers
            for way in _ways(seen, served, program, index, question)]


def router(served: chain.Generation) -> Program:
    """The server's router, without stages."""
    program = Program(len(served.listeners), len(served.blocks))
    for index, at in enumerate(served.listeners):
        program.add_listener(at.server, at.port, at.address in chain.WILDCARDS, False, index)
    for block in served.blocks:
        # What a filter says is not asked; that there is one is enough.
        program.add_block(block.plan.index + 1, [name_from_text(zone) for zone in block.zones], [],
                          python_filter=_FILTER if block.plan.filtered else None)
    for index, at in enumerate(served.listeners):
        for zone, numbers in at.routes.items():
            for number in numbers:
                program.route(index, name_from_text(zone), number)
    program.finish()
    return program


def _ways(seen: Examined, served: chain.Generation, program: Program, index: int,
          question: Question) -> list[dict[str, Any]]:
    """One way, or more where filters decide: the first block whose filter lets the query pass has it."""
    at = served.listeners[index]
    nowhere = {"server": at.server, "zone": "", "block": 0, "stages": [], "result": ""}
    if refusal := unreachable(at.address, question):
        return [{**nowhere, "result": refusal}]
    names = {name for number in at.blocks() for name in served.blocks[number].plan.directives}
    if question.qclass != IN and not any(served.classes[name].any_class for name in names):
        return [{**nowhere, "result": "REFUSED: no directive of this listener's blocks answers other classes than IN"}]
    found = [_way(seen, served, at.server, number, zone, question)
             for number, zone in program.candidates(index, question.wire, question.qtype)]
    if not found:
        return [{**nowhere, "result": "REFUSED: no zone of this listener holds the name"}]
    if served.blocks[found[-1]["block"] - 1].plan.filtered:
        found.append({**nowhere, "result": "REFUSED: if no view takes the query"})
    return found


class _Filter:
    """Stands for any filter."""

    name = "view"


_FILTER = _Filter()


def _way(seen: Examined, served: chain.Generation, server: str, number: int, zone: int,
         question: Question) -> dict[str, Any]:
    """The way through one block."""
    assert seen.dry is not None
    block = served.blocks[number]
    crossed = [stage for stage in seen.dry.stages[number] if stage.runs != SIDE]
    way: dict[str, Any] = {"server": server, "zone": block.zones[zone], "block": number + 1, "result": ""}
    way["stages"] = [{**_stage(seen, stage), "concerned": concerned(served, stage, question)} for stage in crossed]
    way["fast_path"] = fast_path(crossed)
    if block.plan.filtered:
        way["result"] = f"only where the view '{block.plan.view}' takes the query"
    elif not crossed:
        way["result"] = "REFUSED: the block has no directive that answers"
    return way


def concerned(served: chain.Generation, stage: Stage, question: Question) -> bool:
    """Whether a stage may do more than pass the question on."""
    return served.classes[stage.name].concerns(stage.config, question.name)


def unreachable(address: str, question: Question) -> str:
    """Why a client cannot reach a listen address, "" if it can."""
    if question.client is None or not address or address in chain.WILDCARDS:
        return ""
    here = ipaddress.ip_address(address.partition("%")[0])
    if here.version != question.client.version:
        return f"not reached: the client has IPv{question.client.version}, the listener IPv{here.version}"
    if here.is_loopback and not question.client.is_loopback:
        return "not reached: the listener is the host's own, the client is not"
    return ""
