# SPDX-License-Identifier: Apache-2.0
"""The live line of a run: which round, how far, queries per second, lost.

Strategy: only for a person who watches. It goes to standard error, and only when both standard output and standard
error are terminals; into a pipe or a file nothing is written but the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from .errors import BenchError, extra


@dataclass
class Now:
    """What has been counted since the round began."""

    seconds: float
    completed: int
    lost: int
    qps: float


class Progress(Protocol):
    """Told of every stage of a run, and several times a second how far it is."""

    def stage(self, words: str, seconds: float) -> None:
        """A stage of so many seconds begins; 0: nobody knows how many."""

    def update(self, now: Now) -> None:
        """The stage's counts so far."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Silent:
    """No progress."""

    def stage(self, words: str, seconds: float) -> None:
        """Nothing to show."""

    def update(self, now: Now) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to undo."""


class Live:
    """A bar on a terminal, by rich."""

    def __init__(self, file: TextIO) -> None:
        """Raises BenchError when rich is missing."""
        columns = extra("rich.progress")
        console = extra("rich.console").Console(file=file)
        self._bar: Any = columns.Progress(
            columns.TextColumn("{task.description}"),
            columns.BarColumn(bar_width=24),
            columns.TextColumn("{task.fields[shown]}"),
            columns.TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task: Any = None
        self._bar.start()

    def stage(self, words: str, seconds: float) -> None:
        """Replaces the bar by a fresh one."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(words, total=seconds or None, shown="")

    def update(self, now: Now) -> None:
        """Moves the bar."""
        lost = f"  [red]{now.lost:,} lost[/red]" if now.lost else ""
        shown = f"{now.qps:>11,.0f} q/s  {now.completed:,} answers{lost}"
        self._bar.update(self._task, completed=now.seconds, shown=shown)

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.stop()


def progress(out: TextIO, err: TextIO, wanted: bool = True) -> Progress:
    """The live line where somebody watches; otherwise none."""
    if not (wanted and out.isatty() and err.isatty()):
        return Silent()
    try:
        return Live(err)
    except BenchError as error:
        err.write(f"no live progress: {error}\n")
        return Silent()
