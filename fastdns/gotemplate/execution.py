# SPDX-License-Identifier: Apache-2.0
"""An execution: what it may cost, where its output goes, and how it looks into values.

Strategy: a state counts what may be run more often than it is written: rounds of loops and templates by the actions in
them, calls by the length of their arguments. Fields and methods are found in the tables of values.py, with Go's words
for what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .functions import FunctionError
from .values import MISSING, Struct, Unsigned, sorted_keys, text_of, type_name

STEPS_MAX = 1000  # of one query; each is less than a microsecond or two
OUTPUT_MAX = 16_384

Value = Callable[["State", Any], Any]
Action = Callable[["State", Any], str | None]


class ExecError(Exception):
    """An execution failed; the text is Go's."""


class Budget:
    """What all templates of one query may cost together."""

    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS_MAX) -> None:
        self.left = steps


class State:
    """One execution: its output, its variables, its budget."""

    __slots__ = ("budget", "depth", "out", "room", "vars")

    def __init__(self, budget: Budget, size: int, data: Any) -> None:
        self.budget = budget
        self.out: list[str] = []
        self.room = OUTPUT_MAX
        self.depth = 0
        self.vars: list[Any] = [MISSING] * size
        self.vars[0] = data

    def spend(self, steps: int) -> None:
        """Counts. Raises FunctionError when the budget is used up."""
        self.budget.left -= steps
        if self.budget.left < 0:
            raise FunctionError("the template costs more than a query may")

    def write(self, text: str) -> None:
        """Adds to the output."""
        self.room -= len(text)
        if self.room < 0:
            raise FunctionError("the output is too long")
        self.out.append(text)


def bounded(value: Any) -> Any:
    """What a call made, if it is no endless text."""
    if type(value) is str and len(value) > OUTPUT_MAX:
        raise FunctionError("a text is too long")
    return value


def field(value: Any, name: str, fail: Callable[[object], ExecError], boxed: bool = False) -> Any:
    """A field, a method's result or a map's value. `boxed`: it came out of a map of anything, which errors show."""
    if isinstance(value, Struct):
        attribute = value.fields.get(name)
        if attribute is not None:
            return getattr(value, attribute)
        if name in value.methods:
            return method(value, name, [], fail)
    elif isinstance(value, dict):
        return value.get(name, MISSING)
    elif value is MISSING:
        return MISSING
    elif value is None:
        raise fail(f"nil pointer evaluating interface {{}}.{name}")
    raise fail(f"can't evaluate field {name} in type {'interface {}' if boxed else type_name(value)}")


def method(value: Any, name: str, arguments: Sequence[Callable[[], Any]], fail: Callable[[object], ExecError]) -> Any:
    """A method with its arguments, all of them strings, computed once it is known that there is one."""
    function = value.methods.get(name) if isinstance(value, Struct) else None
    if function is None:
        if value is MISSING:
            return MISSING
        if isinstance(value, dict):
            raise fail(f"{name} is not a method but has arguments")
        if isinstance(value, Struct) and name in value.fields:
            raise fail(f"{name} has arguments but cannot be invoked as function")
        raise fail(f"can't evaluate field {name} in type {type_name(value)}")
    if len(arguments) != len(function.fixed):
        raise fail(f"wrong number of args for {name}: want {len(function.fixed)} got {len(arguments)}")
    return function.call(value, *[get() for get in arguments])


def rounds(value: Any, pair: bool) -> Any:
    """Pairs of key and value that range goes through."""
    if isinstance(value, int) and not isinstance(value, bool):
        if pair:
            raise FunctionError(f"can't use {int(value)} to iterate over more than one variable")
        kind = type(value)
        return ((MISSING, kind(n)) for n in range(value)) if isinstance(value, Unsigned) else (
            (MISSING, n) for n in range(value))
    if isinstance(value, list):
        return enumerate(value)
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted_keys(value)]
    if value is MISSING or value is None:
        return ()
    raise FunctionError(f"range can't iterate over {text_of(value)}")
