# SPDX-License-Identifier: Apache-2.0
"""What the bench says when it cannot go on, and the way to its heavy libraries.

Strategy: `extra` is the only door to rich, plotext, hdrhistogram and matplotlib: they load when their output is asked
for, and who has not installed them is told the one command that does.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ..errors import FastdnsError


class BenchError(FastdnsError):
    """The bench cannot do what was asked; the text says what and why."""


def extra(module: str) -> ModuleType:
    """A module of the extra `fastdns[bench]`. Raises BenchError when it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BenchError(f'this needs {error.name}: pip install "fastdns[bench]"') from None
