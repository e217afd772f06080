# SPDX-License-Identifier: Apache-2.0
"""Which blocks of rules run compiled, and their rows for the compiled half.

Strategy: all rules of a block or none, because each sees what the ones before left. What an expression makes of a name
depends on the name alone: Python says it once (`Recipes`), and the compiled half keeps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .edns import OptionRule
from .names import finder, mapper
from .rules import CnameRule, NameRule, NumberRule, ReplyRule
from .undo import Ttl

if TYPE_CHECKING:
    from ._rewrite import Row

TEXT_MAX = 1021  # characters of the longest name
HEAD = 12  # octets before the first item: an entry of a shelf has so many at least
RECIPE_MAX = 1024


def reason(rules: Sequence[Any]) -> str:
    """Why these rules need Python; empty where they do not."""
    from ._rewrite import ADDED, RENAMES, RULES

    for rule in rules:
        if why := _of(rule):
            return why
    if len(rules) > RULES:
        return f"a block with more than {RULES} rules"
    if sum(isinstance(rule, NameRule) and not rule.stop for rule in rules) >= RENAMES:
        return f"{RENAMES} or more name rules that say 'continue'"
    if sum(4 + len(rule.data) for rule in rules if isinstance(rule, OptionRule)) > ADDED:
        return f"EDNS options of more than {ADDED} octets"
    return ""


def _of(rule: Any) -> str:
    if isinstance(rule, CnameRule):
        return "'cname' looks its target up"
    if isinstance(rule, NameRule):
        if rule.answers:
            return "'answer' with a regular expression"
        if rule.match == "regex":
            return ""
        return "a name longer than a name can be" if max(len(rule.old), len(rule.new)) > TEXT_MAX else ""
    if isinstance(rule, OptionRule):
        if rule.revert:
            return "'revert'"
        if rule.variable:
            return f"the placeholder {rule.variable}"
        return "the client's subnet" if rule.kind == "subnet" and rule.action != "unset" else ""
    return ""


def by_expression(rules: Sequence[Any]) -> bool:
    """Whether one of the rules is for names that match an expression."""
    return any(getattr(rule, "match", "") == "regex" for rule in rules)


class Recipes:
    """What the expressions of compiled rules make of a name: an item for each of these rules in their order, up to the
    first that ends the way: 0 where it does not match, else 1 + the octets of the new name, which follow. 16 bits each.
    """

    def __init__(self, rules: Sequence[Any]) -> None:
        self.rules = [(rule, finder(rule.match, rule.name) if not isinstance(rule, NameRule) else
                       mapper(rule.match, rule.old, rule.new))
                      for rule in rules if isinstance(rule, NameRule | ReplyRule)]

    def of(self, name: str) -> bytes | None:
        """The recipe of a name in lower case; None: it is too long to be kept, or one of its names is no text."""
        parts = [b"\0" * HEAD]
        for rule, ask in self.rules:
            after = ask(name)
            matched = after is not None and after is not False
            try:
                new = after.encode() if isinstance(after, str) else b""
            except UnicodeEncodeError:
                return None
            if rule.match == "regex":
                parts.append((1 + len(new) if matched else 0).to_bytes(2, "big") + new)
            if len(new) > TEXT_MAX:
                return None
            if matched and rule.stop:
                break
            name = after if isinstance(after, str) else name
        recipe = b"".join(parts)
        return recipe if len(recipe) <= RECIPE_MAX else None


def rows(rules: Sequence[Any]) -> list[Row]:
    """Rules for which `reason` is empty."""
    return [_row(rule) for rule in rules]


def _row(rule: Any) -> Row:
    from ._rewrite import ACTIONS, KINDS, MATCHES

    if isinstance(rule, NameRule):
        back = rule.auto or rule.match == "exact"
        texts = (b"", b"") if rule.match == "regex" else (rule.old.encode(), rule.new.encode())
        return KINDS["name"], MATCHES[rule.match], 0, rule.stop, back, 0, 0, *texts
    if isinstance(rule, NumberRule):
        return KINDS[rule.field], 0, 0, rule.stop, False, rule.old, rule.new, b"", b""
    if isinstance(rule, OptionRule):
        return KINDS["edns0"], 0, ACTIONS[rule.action], rule.stop, False, rule.code, 0, rule.data, b""
    assert isinstance(rule, ReplyRule)
    kind = KINDS["ttl" if isinstance(rule.undo, Ttl) else "rcode"]
    text = b"" if rule.match == "regex" else rule.name.encode()
    return kind, MATCHES[rule.match], 0, rule.stop, False, *rule.undo, text, b""
