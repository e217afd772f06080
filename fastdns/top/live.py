# SPDX-License-Identifier: Apache-2.0
"""The live view, by rich, which is imported here and nowhere else of `fastdns top`.

Strategy: tables of `tables.py`, as many side by side as there is room for, on the alternate screen, drawn anew for each
set of figures; texts go in as texts, never as markup. What does not fit in height is cut off.
"""

from __future__ import annotations

import importlib
import os
import signal
from types import ModuleType, TracebackType
from typing import Any, NoReturn, Self, TextIO

from ..ctl_talk import plain
from ..errors import FastdnsError
from . import tables

CELL_MOST = 48  # characters of a name before it is cut
GAP = 4  # columns between two tables


class NoRichError(FastdnsError):
    """rich is not installed."""


def rich(module: str) -> ModuleType:
    """A module of rich. NoRichError."""
    try:
        return importlib.import_module(f"rich.{module}")
    except ModuleNotFoundError as error:
        hint = 'pip install "fastdns[top]"; --once needs nothing'
        raise NoRichError(f"the live view needs {error.name}: {hint}") from None


def draws(out: TextIO) -> bool:
    """Whether a live view can be shown there; a terminal that cannot move its cursor would show nothing at all."""
    return out.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


class View:
    """Shows figures on a terminal until the block ends; SIGTERM ends it too, so the terminal is given back.
    NoRichError."""

    def __init__(self, out: TextIO, count: int) -> None:
        self.console: Any = rich("console").Console(file=out)
        self.live: Any = rich("live").Live(console=self.console, screen=True, auto_refresh=False)
        self.count = count

    def __enter__(self) -> Self:
        self.before = signal.signal(signal.SIGTERM, _terminated)
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.live.stop()
        signal.signal(signal.SIGTERM, self.before)

    def show(self, figures: tables.Figures) -> None:
        """Replaces what is shown."""
        self.live.update(self.render(figures), refresh=True)

    def render(self, figures: tables.Figures) -> Any:
        """The figures as something that rich prints."""
        text = rich("text").Text
        lines: list[Any] = [text(tables.headline(figures), style="bold")]
        lines += [text(plain(note), style="yellow") for note in figures["notes"]]
        for row in self._rows([self._table(table) for table in tables.tables(figures, self.count)]):
            grid = rich("table").Table.grid(padding=(0, GAP, 0, 0))
            grid.add_row(*row)
            lines += ["", grid]
        return rich("console").Group(*lines)

    def _rows(self, made: list[Any]) -> list[list[Any]]:
        # As many side by side as there is room for.
        rows: list[list[Any]] = []
        room = 0
        for one in made:
            width = self.console.measure(one).maximum + GAP
            if not rows or width > room:
                rows.append([])
                room = self.console.width + GAP
            rows[-1].append(one)
            room -= width
        return rows

    @staticmethod
    def _table(table: tables.Table) -> Any:
        text = rich("text").Text
        made = rich("table").Table(title=text(table.title), title_justify="left", box=None, pad_edge=False,
                                   header_style="dim")
        for i, name in enumerate(table.head):
            side = "left" if i < table.left else "right"
            made.add_column(text(name), justify=side, no_wrap=True, overflow="ellipsis", max_width=CELL_MOST)
        for row in table.rows:
            made.add_row(*(text(cell) for cell in row))
        return made
