# SPDX-License-Identifier: Apache-2.0
"""Another client, whose questions are not measured but have to be answered meanwhile.

Strategy: a second generator in a thread of this process; both leave the interpreter alone while they run.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from fastdns.bench._load import Load
from fastdns.bench.tally import Tally

MOST_SECONDS = 600.0
TICK_SECONDS = 0.05


class Flooding:
    """A flood for as long as a `with` block lasts; the block begins `lead` seconds after it. `answered` grows
    meanwhile, late by a tick at most. An error of the generator is raised at the end of the block."""

    def __init__(self, load: Load | None, lead: float = 0.0) -> None:
        self.answered = 0
        self._load = load
        self._lead = lead
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        if self._load is not None:
            self._thread.start()
            time.sleep(self._lead)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._load is not None:
            self._thread.join()
            self._load.close()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        assert self._load is not None
        try:
            self._load.run(MOST_SECONDS, self._tick, TICK_SECONDS)
        except (OSError, ValueError, RuntimeError) as error:
            self._error = error

    def _tick(self, tally: Tally) -> bool:
        self.answered = tally.completed
        return not self._ending.is_set()
