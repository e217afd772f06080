# SPDX-License-Identifier: Apache-2.0
"""What is no mistake and still not meant: blocks that nothing reaches, words that change nothing.

Strategy: a warning is given only for what has no effect or another than it looks like; taste is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from .. import chain
from ..corefile import ServerBlock, Token, ZoneKey
from ..corefile.names import under
from ..corefile.options import Directive
from ..corefile.rows import BLOCK_ZONES
from ..listeners import Block
from ..order import NAMES
from ..plugin import Plugin
from .findings import NOTE, Findings
from .guard import SideEffect
from .pieces import occurrences, option_row


def keys(blocks: Iterable[ServerBlock], findings: Findings) -> None:
    """Keys that look like something else: what stands behind a brace too many is read as keys of a next block."""
    for block in blocks:
        for token in dict.fromkeys(block.places):
            if token.text == "}":
                findings.warn(token, "'}' is read as the key of a server block", "is it one brace too many?")
            elif token.text in NAMES:
                findings.warn(token, f"'{token.text}' is a directive, read here as the key of a server block",
                              "is a block before it closed too early?")


def other_claims(key: ZoneKey, own: Block, token: Token, blocks: Iterable[Block]) -> list[str]:
    """Where else a key is served: the hint of "already defined"."""
    for block in blocks:
        for zone, place in zip(block.source.zones, block.source.places, strict=True):
            if zone == key and place != token:
                where = f"line {place.line}" + (f" of {place.file}" if place.file else "")
                return [f"the same zone and port are served by the block in {where}"]
    return []


def directive(plugin: type[Plugin], block: Block, name: str, findings: Findings) -> None:
    """Words of a directive that change nothing."""
    tokens = block.source.tokens[name]
    rows: Directive | None = getattr(plugin, "directive", None)
    if rows is None:
        return
    last_wins = {option.name for option in rows.options if option.repeat == "last" and option.row}
    for one in occurrences(tokens):
        seen: dict[str, Token] = {}
        at = one.start + 1
        while at < one.end:
            row = option_row(tokens, one, at)
            if row is None:
                at += 1
                continue
            head = tokens[row[0]]
            if head.text in last_wins and head.text in seen:
                findings.warn(seen[head.text], f"'{head.text}' is said again in line {head.line}, and that counts")
            seen[head.text] = head
            at = row[1]
    if any(arg.default is BLOCK_ZONES for arg in rows.args):
        _zones(block, name, findings)


def _zones(block: Block, name: str, findings: Findings) -> None:
    """A directive for zones of which no name reaches its block."""
    for config in block.configs[name]:
        zones = config.get("zones", ()) if isinstance(config, Mapping) else ()
        for zone in zones:
            if any(under(zone, own) or under(own, zone) for own in block.zones):
                continue
            tokens = [token for token in block.source.tokens[name] if token.line == getattr(config, "line", 0)]
            token = next((token for token in tokens if token.text.lower().rstrip(".") == zone.rstrip(".")),
                         tokens[0] if tokens else block.source.tokens[name][0])
            findings.warn(token, f"'{name}' is for {zone}, and no such name reaches this block",
                          f"the block serves {', '.join(block.zones)}")


def generation(served: chain.Generation, findings: Findings) -> None:
    """Blocks that no query reaches, and blocks that answer nothing."""
    owners: dict[tuple[str, str, int, str], list[Block]] = {}
    for block in served.blocks:
        for at in block.listen_keys():
            owners.setdefault((at.key.scheme, at.address, at.key.port, at.key.zone), []).append(block)
    for (_, _, port, zone), claimed in owners.items():
        for before, block in pairwise(claimed):
            if not before.plan.filtered and before is not block:
                places = [token for key, token in zip(block.source.zones, block.source.places, strict=True)
                          if key.zone == zone and key.port == port]
                findings.warn(places[0], f"no query reaches this block for {zone}",
                              f"the block in line {before.source.places[0].line} comes first and takes all of them")
    for block in served.blocks:
        if not any(served.classes[name].chain for name in block.plan.directives):
            findings.warn(block.source.places[0] if block.source.places else Token("", "", 1, 1),
                          "no directive of this block answers: every query is REFUSED")


def swallowed(tried: Iterable[SideEffect], findings: Findings) -> None:
    """Side effects that somebody's code caught: said once each, unless a note says it at its directive."""
    told = " ".join(one.message for one in findings.found.values() if one.level == NOTE)
    for text in dict.fromkeys(map(str, tried)):
        if text not in told:
            findings.at(NOTE, Token("", "", 0, 0), f"something {text} while this was checked; it was refused")


__all__ = ["directive", "generation", "keys", "other_claims", "swallowed"]
