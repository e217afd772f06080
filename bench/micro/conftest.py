# SPDX-License-Identifier: Apache-2.0
"""How a micro benchmark is run: a loop in compiled code, a few rounds of it, and the time of one repetition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

ROUNDS = 7


@pytest.fixture
def repeated(benchmark: Any) -> Callable[..., Any]:
    """`repeated(function, *args, items=n, unit="query")`: times calls of a function that does `items` of something.

    The times shown are those of a call; extra_info holds nanoseconds per item, of the fastest round. `before` runs
    ahead of each round, outside the time. Returns what the function returned last.
    """

    def run(
        function: Callable[..., Any],
        *args: Any,
        items: int,
        unit: str,
        before: Callable[[], object] | None = None,
        **options: Any,
    ) -> Any:
        def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
            if before is not None:
                before()
            return args, options

        result = benchmark.pedantic(function, setup=setup, rounds=ROUNDS, warmup_rounds=1)
        if benchmark.stats is not None:
            benchmark.extra_info[f"nanoseconds per {unit}"] = round(benchmark.stats.stats.min / items * 1e9, 1)
        return result

    return run
