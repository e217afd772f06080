# SPDX-License-Identifier: Apache-2.0
"""What the bench says when it cannot go on, with which exit status, and the way to its heavy libraries.

Strategy: both commands end by `outcome`, so one status means the same for both. `extra` is the only door to rich,
plotext, hdrhistogram and matplotlib: they load when their output is asked for, and who has not installed them is told
the one command that does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import TextIO

from ..errors import FastdnsError
from . import ending

FINE, REGRESSION, FAILED, INTERRUPTED = 0, 1, 2, 130


class BenchError(FastdnsError):
    """The bench cannot do what was asked; the text says what and why."""


class UsageError(FastdnsError):
    """Words that cannot be meant; one sentence."""


def outcome(command: str, interrupted: str, err: TextIO, run: Callable[[], int]) -> int:
    """The exit status of a command's run; what ended it is said in one line, `interrupted` behind that word."""
    try:
        with ending.by_signals():
            return run()
    except UsageError as error:
        err.write(f"{command}: {error}\n{command} --help lists the options\n")
    except FastdnsError as error:
        err.write(f"{command}: {error}\n")
    except KeyboardInterrupt:
        err.write(f"{command}: interrupted{interrupted}\n")
        return INTERRUPTED
    return FAILED


def extra(module: str) -> ModuleType:
    """A module of the extra `fastdns[bench]`. Raises BenchError when it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BenchError(f'this needs {error.name}: pip install "fastdns[bench]"') from None
