# SPDX-License-Identifier: Apache-2.0
"""Which blocks of rules run compiled, and their rows for the compiled half.

Strategy: all rules of a block or none, because each sees what the ones before left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .edns import OptionRule
from .rules import CnameRule, NameRule, NumberRule, ReplyRule
from .undo import Ttl

if TYPE_CHECKING:
    from ._rewrite import Row

TEXT_MAX = 1021  # characters of the longest name


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
    if getattr(rule, "match", "") == "regex":
        return "a regular expression"
    if isinstance(rule, NameRule):
        if rule.answers:
            return "'answer' with a regular expression"
        return "a name longer than a name can be" if max(len(rule.old), len(rule.new)) > TEXT_MAX else ""
    if isinstance(rule, OptionRule):
        if rule.revert:
            return "'revert'"
        if rule.variable:
            return f"the placeholder {rule.variable}"
        return "the client's subnet" if rule.kind == "subnet" and rule.action != "unset" else ""
    return ""


def rows(rules: Sequence[Any]) -> list[Row]:
    """Rules for which `reason` is empty."""
    return [_row(rule) for rule in rules]


def _row(rule: Any) -> Row:
    from ._rewrite import ACTIONS, KINDS, MATCHES

    if isinstance(rule, NameRule):
        back = rule.auto or rule.match == "exact"
        texts = rule.old.encode(), rule.new.encode()
        return KINDS["name"], MATCHES[rule.match], 0, rule.stop, back, 0, 0, *texts
    if isinstance(rule, NumberRule):
        return KINDS[rule.field], 0, 0, rule.stop, False, rule.old, rule.new, b"", b""
    if isinstance(rule, OptionRule):
        return KINDS["edns0"], 0, ACTIONS[rule.action], rule.stop, False, rule.code, 0, rule.data, b""
    assert isinstance(rule, ReplyRule)
    kind = KINDS["ttl" if isinstance(rule.undo, Ttl) else "rcode"]
    return kind, MATCHES[rule.match], 0, rule.stop, False, *rule.undo, rule.name.encode(), b""
