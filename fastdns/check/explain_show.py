# SPDX-License-Identifier: Apache-2.0
"""What explain found, as aligned text.

Strategy: every table has its columns as wide as their widest cell; words of a Corefile are made safe for a terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .show import Paint, safe, width


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows as lines, columns two blanks apart; the last column is not filled up."""
    if not rows:
        return []
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(width(row[i]) for row in cells if i < len(row)) for i in range(max(map(len, cells)))]
    return [
        indent + "  ".join(cell + " " * (widths[i] - width(cell)) for i, cell in enumerate(row)).rstrip()
        for row in cells
    ]


def text(facts: dict[str, Any], paint: Paint) -> str:
    """Listeners and blocks; the ways of a question where one was asked, which then is all that is shown."""
    lines = _ways(facts, paint) if "question" in facts else [*_listeners(facts, paint), *_blocks(facts, paint)]
    return "\n".join(lines) + "\n"


def _listeners(facts: dict[str, Any], paint: Paint) -> Iterator[str]:
    yield paint("place", "Listeners")
    rows = []
    for at in facts["listeners"]:
        sockets = str(at["sockets"]) if at["said"] else "one a worker"
        head = [at["server"], f"sockets: {sockets}, steer: {at['steer']}"]
        for route in at["zones"]:
            rows.append([*head, route["zone"], f"block {route['block']}"])
            head = ["", ""]
    yield from table(rows)


def _blocks(facts: dict[str, Any], paint: Paint) -> Iterator[str]:
    for block in facts["blocks"]:
        yield ""
        view = f", view {block['view']}" if block["view"] else ""
        yield paint("place", safe(f"Block {block['number']}")) + safe(
            f"  {block['file']}:{block['line']}  {' '.join(block['keys'])}{view}")
        yield from table([[each["expression"], each["runs"], each["why"]] for each in block["filter"]], "  if ")
        yield from table([*_numbered(block["stages"], block["file"]), *_side(block["side"], block["file"])])
        yield f"  fast path: {safe(block['fast_path']['why'])}"


def _where(stage: dict[str, Any], file: str) -> str:
    return f"line {stage['line']}" if stage["file"] == file else f"{stage['file']}:{stage['line']}"


def _numbered(stages: Sequence[dict[str, Any]], file: str) -> list[list[str]]:
    return [[f"{n:2}", stage["directive"], _where(stage, file), stage["runs"],
             "; ".join(text for text in (stage["why"], stage["kept"]) if text)]
            for n, stage in enumerate(stages, 1)]


def _side(stages: Sequence[dict[str, Any]], file: str) -> list[list[str]]:
    return [[" -", stage["directive"], _where(stage, file), "side"] for stage in stages]


def _ways(facts: dict[str, Any], paint: Paint) -> Iterator[str]:
    asked = facts["question"]
    client = f" from {asked['client']}" if asked["client"] else ""
    yield paint("place", safe(f"{asked['name']} {asked['class']} {asked['type']}{client}"))
    blocks = {block["number"]: block for block in facts["blocks"]}
    for way in facts["ways"]:
        yield ""
        block = blocks.get(way["block"])
        if block is None:
            yield from table([[way["server"], way["result"]]])
            continue
        said = f"; {way['result']}" if way["result"] else ""
        yield safe(f"  {way['server']}  zone {way['zone']}, block {way['block']} "
                   f"({block['file']}:{block['line']}){said}")
        rows = []
        for row, stage in zip(_numbered(way["stages"], block["file"]), way["stages"], strict=True):
            rows.append(row if stage["concerned"] else [*row[:4], "passes it on: not for this name"])
        yield from table(rows, "    ")
        if way["stages"]:
            yield f"    fast path: {safe(way['fast_path']['why'])}"
