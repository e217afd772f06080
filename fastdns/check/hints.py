# SPDX-License-Identifier: Apache-2.0
"""What may help beside a mistake: the word that was meant, how the line is written, the unit that is missing.

Strategy: everything comes out of the rows by which the plugin reads its lines; a plugin with a grammar of its own gets
only what its message says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..corefile import Token
from ..corefile.rows import Arg
from ..corefile.types import Choice, Duration
from ..order import NAMES
from ..plugin import Directive, Option, Plugin
from .near import did_you_mean

ARGUMENTS = "Wrong argument count"
BARE_WORDS = re.compile(r"[a-z_][a-z0-9_]*")


def hints_for(
    plugin: type[Plugin], tokens: Sequence[Token], start: int, row: tuple[int, int] | None, at: int, message: str
) -> list[str]:
    """Sentences about the mistake at `tokens[at]`: its occurrence begins at `start`, its option's line is `row`."""
    directive: Directive | None = getattr(plugin, "directive", None)
    if directive is None:
        return []
    table = {option.name: option for option in directive.options}
    word = tokens[at].text
    if row is not None and at == row[0] and word not in table:
        return list(_unknown_option(directive, tokens[start], table, tokens[at]))
    if "not built yet" in message or (at == start and ARGUMENTS not in message):
        return []
    option = table.get(tokens[row[0]].text) if row is not None else None
    return list(_about_words(directive, option, word, message))


def _unknown_option(directive: Directive, head: Token, table: dict[str, Option], here: Token) -> Iterator[str]:
    word = here.text
    if word in NAMES and here.column <= head.column:
        yield f"'{word}' is a directive: is the brace that '{directive.name}' opens in line {head.line} closed?"
    elif guess := did_you_mean(word, table):
        yield guess
    elif table:
        yield f"'{directive.name}' knows: {', '.join(sorted(table))}"
    else:
        yield f"'{directive.name}' has no options"


def _about_words(directive: Directive, option: Option | None, word: str, message: str) -> Iterator[str]:
    row: Sequence[Arg] = directive.args if option is None else option.row
    line = directive.syntax() if option is None else option.syntax()
    if ARGUMENTS in message or "Unexpected token '{'" in message:
        yield f"the line is written: {line}"
        return
    if "missing unit in duration" in message or (
        "invalid duration" in message and word.isdigit()
    ):
        yield f"a duration has a unit: {word}s, {word}m, {word}h"
        return
    choices = [known for arg in row if isinstance(arg.type, Choice) for known in arg.type.words]
    if choices and word not in choices:
        yield did_you_mean(word, choices) or f"one of: {', '.join(choices)}"
        return
    if option is not None and option.usage:
        yield did_you_mean(word, words_of(option)) or f"the line is written: {line}"
        return
    bounds = [f"{arg.show or arg.key.upper()}: {arg.type.bounds()}" for arg in row if arg.type.bounds()]
    if bounds and any(isinstance(arg.type, Duration) or arg.type.bounds() for arg in row):
        yield f"the line is written: {line} ({'; '.join(bounds)})"


def words_of(option: Option) -> list[str]:
    """The fixed words of an option whose line is read by code, as its usage shows them."""
    return [word for word in BARE_WORDS.findall(option.usage) if word != option.name]
