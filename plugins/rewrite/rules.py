# SPDX-License-Identifier: Apache-2.0
"""The rules of rewrite as the Corefile gives them: plain values that pickle.

Strategy: a rule is a row; what it does to a query is its `apply`, given a Draft of the query and what was prepared for
it at set-up (expressions are compiled once, in `prepare`). `apply` returns None where the rule does not match, else
what has to be done to the reply, in CoreDNS's order; the caller does these in the reverse order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .draft import Draft
from .names import finder, mapper, remapper, substituter, suffix_mapper
from .undo import Code, Owners, Target, Ttl, Undo, Values

Applied = tuple[Undo, ...] | None
Ready = Callable[[Draft], Applied]

DONE: tuple[Undo, ...] = ()


class Answer(NamedTuple):
    """`answer name|value FROM TO`: `kind` says which."""

    kind: str
    pattern: str
    to: str

    def undo(self) -> Undo:
        """What it does to a reply."""
        change = substituter(self.pattern, self.to)
        return Owners(change) if self.kind == "name" else Values(change)


class NameRule(NamedTuple):
    """Asks for another name. `auto`: names in the reply are mapped back."""

    stop: bool
    match: str
    old: str
    new: str
    auto: bool
    answers: tuple[Answer, ...]

    @property
    def needs(self) -> frozenset[str]:
        """What of the query decides."""
        return frozenset({"name"})

    def matches(self, name: str) -> bool:
        """Whether it is for a name."""
        return finder(self.match, self.old)(name)

    def prepare(self) -> Ready:
        """The rule, ready to be applied."""
        rename = mapper(self.match, self.old, self.new)
        fixed = tuple(answer.undo() for answer in self.answers)
        if self.match == "suffix" and self.auto:
            back = suffix_mapper(self.new, self.old)
            fixed = (Owners(back), Values(back), *fixed)
        remap = self.match == "exact" or (self.auto and self.match != "suffix")

        def apply(draft: Draft) -> Applied:
            before = draft.name
            after = rename(before)
            if after is None:
                return None
            draft.rename(after)
            if not remap:
                return fixed
            back = remapper(after, before)
            return (Owners(back), Values(back), *fixed)

        return apply


class NumberRule(NamedTuple):
    """Asks for another type or class (`field`)."""

    stop: bool
    field: str
    old: int
    new: int

    @property
    def needs(self) -> frozenset[str]:
        """What of the query decides."""
        return frozenset({self.field})

    def prepare(self) -> Ready:
        """The rule, ready to be applied."""
        attribute = "qtype" if self.field == "type" else "qclass"

        def apply(draft: Draft) -> Applied:
            if getattr(draft, attribute) != self.old:
                return None
            setattr(draft, attribute, self.new)
            return DONE

        return apply


class ReplyRule(NamedTuple):
    """Changes TTLs or the response code in replies for a name."""

    stop: bool
    match: str
    name: str
    undo: Ttl | Code

    @property
    def needs(self) -> frozenset[str]:
        """What of the query decides."""
        return frozenset({"name"})

    def matches(self, name: str) -> bool:
        """Whether it is for a name."""
        return finder(self.match, self.name)(name)

    def prepare(self) -> Ready:
        """The rule, ready to be applied."""
        found, undo = finder(self.match, self.name), (self.undo,)
        return lambda draft: undo if found(draft.name) else None


class CnameRule(NamedTuple):
    """Changes the target of a CNAME in the reply. It counts as matched by every query, as in CoreDNS."""

    stop: bool
    match: str
    old: str
    new: str

    @property
    def needs(self) -> frozenset[str]:
        """What of the query decides: nothing."""
        return frozenset()

    def prepare(self) -> Ready:
        """The rule, ready to be applied."""
        if not (self.old and self.new):
            return lambda draft: None
        undo = (Target(mapper(self.match, self.old, self.new)),)
        return lambda draft: undo


class Rules(NamedTuple):
    """The rules of a block in the order of their lines. `line`: where the first one stands."""

    rules: tuple[Any, ...]
    file: str
    line: int
