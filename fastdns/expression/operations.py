# SPDX-License-Identifier: Apache-2.0
"""The operators by name.

Strategy: a table of functions of two values, so that the evaluator binds each operator once. What they do is in
`values`; here are those that work on texts, for which nil has nothing and is nowhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..corefile.regexes import compile_regex
from . import functions
from .values import arithmetic, compare, contains, equal, modulo, power, to_int


@functools.lru_cache(256)
def regex(text: str) -> Any:
    """A regular expression that was not known before."""
    return compile_regex(text)


def matched(search: Any, value: Any) -> bool:
    """`matches`; nil matches nothing."""
    if value is None:
        return False
    return search(value if type(value) is bytes else functions.argument(value, str, "string")) is not None


def texts(how: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    """An operator of two texts; nil has nothing and is nowhere."""

    def run(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        return how(functions.argument(left, str, "string"), functions.argument(right, str, "string"))

    return run


def span(start: Any, end: Any) -> list[int]:
    """`..`, paid for by the caller."""
    return list(range(to_int(start), to_int(end) + 1))


def matches(value: Any, pattern: Any) -> bool:
    """`matches` with a pattern that was not known before."""
    if value is None or pattern is None:
        return False
    return matched(regex(functions.argument(pattern, str, "string")).search, value)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": equal, "!=": lambda left, right: not equal(left, right), "in": contains, "%": modulo, "**": power,
    "^": power, "..": span, "matches": matches,
    **{name: functools.partial(compare, name) for name in ("<", ">", "<=", ">=")},
    **{name: functools.partial(arithmetic, name) for name in "+-*/"},
    "contains": texts(lambda left, right: right in left), "startsWith": texts(str.startswith),
    "endsWith": texts(str.endswith),
}  # fmt: skip
# What costs nothing worth counting where both types are known.
SIMPLE = {name: OPERATIONS[name] for name in (
    "contains", "startsWith", "endsWith", "<", ">", "<=", ">=", "%", "-", "*", "/")}
