# SPDX-License-Identifier: Apache-2.0
"""The option table of a plugin's README, from the rows that its parser uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .rows import Arg, Option
from .types import Duration
from .units import format_duration

if TYPE_CHECKING:
    from .options import Directive


def markdown_table(directive: Directive) -> str:
    """The README's table of `directive`: option, default, bounds, sentence; one row per option."""
    lines = ["| option | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for option in directive.options:
        initial = option.initial()
        if option.parse is None and not option.row:
            default, bounds = "off", ""
        else:
            default = ", ".join(_shown(option, key, value) for key, value in initial.items())
            bounds = "; ".join(_bounds(option.row))
        cells = (f"`{option.syntax()}`", default or "–", bounds or "–", option.help or "–")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _bounds(row: Sequence[Arg]) -> Iterator[str]:
    for arg in row:
        text = arg.type.bounds()
        if text:
            yield text if len(row) == 1 else f"{arg.show or arg.key.upper()} {text}"


def _shown(option: Option, key: str, value: Any) -> str:
    kind = next((arg.type for arg in option.row if arg.key == key), None)
    if value is None or value in ((), ""):
        return "–"
    if value is False:
        return "off"
    if isinstance(kind, Duration) or isinstance(value, float):
        return format_duration(value)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
