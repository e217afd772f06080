# SPDX-License-Identifier: Apache-2.0
"""All mistakes of one directive of one block: its plugin's own parser, asked again without what it refused.

Strategy: a plugin's `parse` stops at its first mistake, and may be anybody's code. So the mistake is noted, the
smallest piece that holds it is taken out (the option's line, else the word, else all arguments, else the occurrence)
and the parser runs again: every round has fewer tokens. What only follows from a piece that was taken out is not
noted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..corefile import Dispenser, ServerBlock, Token
from ..corefile.rows import Arg
from ..errors import ConfigError, SetupError
from ..plugin import Directive, Option, Plugin
from .findings import NOTE, Findings, words
from .hints import ARGUMENTS, hints_for
from .pieces import Occurrence, occurrences, option_row

TOKENS_MOST = 3_000_000
"""So many tokens are read for one directive in all rounds together: a text full of mistakes ends as well."""
PREFIX_LEAST = 6
WORD, ALL = 1, 2
"""What the first line of an occurrence has lost: words of a list, all its arguments."""


@dataclass
class Read:
    """What was read of a directive: the configurations of what is left, and whether something was taken out."""

    configs: list[Any] = field(default_factory=list)
    failed: bool = False


class Grammar:
    """Reads one directive of a block; `findings` takes what is wrong."""

    def __init__(self, plugin: type[Plugin], block: ServerBlock, name: str, findings: Findings) -> None:
        self.plugin = plugin
        self.block = block
        self.name = name
        self.findings = findings
        self.tokens = list(block.tokens[name])
        self.touched: dict[tuple[str, int, int], int] = {}
        self.shortened: set[tuple[str, int, int]] = set()

    def read(self) -> Read:
        """Everything that can be said about the directive."""
        result = Read()
        left = TOKENS_MOST
        while self.tokens:
            if left < 0:
                text = f"this is not looked at to its end: too many mistakes in '{self.name}'"
                self.findings.at(NOTE, self.tokens[0], text)
                break
            left -= len(self.tokens)
            try:
                result.configs = self.plugin.parse(self.dispenser())
                break
            except ConfigError as error:
                result.failed = True
                self._refused(error)
            except Exception as error:
                # A stranger's parser: its defect is the answer to this directive, and to no other.
                result.failed = True
                text = f"its parser failed: {type(error).__name__}: {error}"
                self.findings.refuse(SetupError(self.name, text), self.tokens[0])
                break
        return result

    def dispenser(self, tokens: Sequence[Token] | None = None) -> Dispenser:
        """A fresh cursor over what is left."""
        chosen = self.tokens if tokens is None else tokens
        return Dispenser(self.block.filename, chosen, self.block.keys, self.name)

    # One mistake.

    def _refused(self, error: ConfigError) -> None:
        at = self._locate(error)
        one = next(one for one in occurrences(self.tokens) if one.start <= at < one.end)
        first = self.tokens[one.start]
        key = (first.file, first.line, first.column)
        touched = self.touched.get(key, 0)
        row = option_row(self.tokens, one, at)
        at = self._aim(error, at, *(row or self._head(one)), one)
        token = self.tokens[at]
        message = words(error)
        told = row is not None or not (touched or key in self.shortened or self._follows(message)) or (
            touched != ALL and at > one.start and _begins(message, token.text) and ARGUMENTS not in message)
        if told:
            # A brace that the reader made up has no place of its own.
            shown = token if token.column else first
            self.findings.refuse(error, shown, hints_for(self.plugin, self.tokens, one.start, row, at, message))
        if row is not None:
            self.shortened.add(key)
            self._take_option(row, at, told)
        else:
            self.touched[key] = self._take_from_head(one, at, touched, "not built yet" in message)

    def _follows(self, message: str) -> bool:
        """Whether too little is left because of what was taken out, maybe of another occurrence: where all are read as
        one, there is too little but once."""
        directive: Directive | None = getattr(self.plugin, "directive", None)
        before = bool(self.shortened or self.touched)
        return before and directive is not None and directive.whole and ARGUMENTS in message

    def _locate(self, error: ConfigError) -> int:
        """The index of the token that an error stands at; 0 where it does not say."""
        same_line = -1
        for at, token in enumerate(self.tokens):
            if (token.file or self.block.filename) == error.file and token.line == error.line:
                if token.column == error.column:
                    return at
                same_line = at if same_line < 0 else same_line
        return max(same_line, 0)

    def _head(self, one: Occurrence) -> tuple[int, int]:
        """[start, end) of the directive's name and its arguments."""
        end = one.start + 1
        while end < one.end and self.tokens[end].text != "{":
            end += 1
        return one.start, end

    def _aim(self, error: ConfigError, at: int, start: int, end: int, one: Occurrence) -> int:
        """The index to point at. A parser that reads a whole line first stands at its end when it refuses a word: the
        word that the message quotes is meant. What concerns the whole occurrence is said at its closing brace."""
        text = words(error)
        if start <= at < end and _quotes(text, self.tokens[at].text):
            return at
        for i in range(start + 1, end):
            if len(self.tokens[i].text) > 1 and _quotes(text, self.tokens[i].text):
                return i
        for i in range(start + 1, end):
            # What was completed before it was refused: `tls://9.9.9.9` in a message about `tls://9.9.9.9:853`.
            if len(self.tokens[i].text) >= PREFIX_LEAST and _begins(text, self.tokens[i].text):
                return i
        directive: Directive | None = getattr(self.plugin, "directive", None)
        names = {option.name for option in directive.options} if directive is not None else set()
        if start > one.start and names and self.tokens[start].text not in names:
            # An option that nobody knows, refused after its words were read.
            return start
        return one.start if self.tokens[at].text in "{}" and not _quotes(text, self.tokens[at].text) else at

    def _take_option(self, row: tuple[int, int], at: int, told: bool) -> None:
        """Take a word out of a list of them, else the option's line."""
        start, end = row
        option = next((one for one in self._options() if one.name == self.tokens[start].text), None)
        args = option.row if option is not None and option.parse is None else ()
        if start < at < end and end - start > 2 and _in_list(args, at - start - 1):
            del self.tokens[at]
            return
        if told and start < at:
            self._other_words(args, start, at, end)
        del self.tokens[start:end]
        if [token.text for token in self.tokens[start - 1 : start + 1]] == ["{", "}"]:
            # Some refuse a block that is there and empty.
            del self.tokens[start - 1 : start + 1]

    def _options(self) -> Sequence[Option]:
        directive: Directive | None = getattr(self.plugin, "directive", None)
        return directive.options if directive is not None and directive.parse_one is None else ()

    def _other_words(self, args: Sequence[Arg], start: int, at: int, end: int) -> None:
        """The words behind the refused one, each by the type of its place."""
        if any(arg.probe for arg in args):
            return
        for place in range(at - start, min(len(args), end - start - 1)):
            token, arg = self.tokens[start + 1 + place], args[place]
            d = self.dispenser([token])
            d.next()
            try:
                arg.type.read(token.text, d)
            except ConfigError as error:
                self.findings.refuse(SetupError(self.name, error), token)

    def _take_from_head(self, one: Occurrence, at: int, touched: int, later: bool) -> int:
        """Take a word out of a list of them, else all arguments, else the occurrence; returns how much it has lost.
        The options of a way that is not built yet (`later`) are not judged by those of another one."""
        start, end = self._head(one)
        directive: Directive | None = getattr(self.plugin, "directive", None)
        args = directive.args if directive is not None and directive.parse_one is None else ()
        if touched <= WORD and start < at < end and end - start > 2 and _in_list(args, at - start - 1):
            del self.tokens[at]
            return WORD
        if later:
            del self.tokens[one.start : one.end]
            return ALL
        if touched <= WORD and end > start + 1:
            if not touched and at > start:
                self._other_words(args, start, at, end)
            del self.tokens[start + 1 : end]
            return ALL
        self._options_alone(one, end)
        del self.tokens[one.start : one.end]
        return ALL

    def _options_alone(self, one: Occurrence, head: int) -> None:
        """The options of an occurrence whose line cannot be read at all, one by one, where the grammar is rows."""
        table: dict[str, Option] = {option.name: option for option in self._options()}
        if not table:
            return
        at = head + 1
        while at < one.end and (row := option_row(self.tokens, one, at)) is not None:
            piece = self.tokens[row[0] : row[1]]
            d = self.dispenser(piece)
            d.next()
            try:
                if d.val in table:
                    table[d.val].read(d)
                else:
                    raise SetupError(self.name, d.err(f"unknown property '{d.val}'"))
            except ConfigError as error:
                cause = error if isinstance(error, SetupError) else SetupError(self.name, error)
                index = next((i for i in range(*row) if self.tokens[i].column == error.column
                              and self.tokens[i].line == error.line), row[0])
                hints = hints_for(self.plugin, self.tokens, one.start, row, index, words(error))
                shown = self.tokens[index] if self.tokens[index].column else self.tokens[row[0]]
                self.findings.refuse(cause, shown, hints)
            at = row[1]


def _in_list(args: Sequence[Arg], place: int) -> bool:
    """Whether the word at a place belongs to an argument that takes any number of words."""
    first = next((i for i, arg in enumerate(args) if arg.rest), None)
    return first is not None and place >= first and not any(arg.probe for arg in args)


def _begins(message: str, word: str) -> bool:
    """Whether a word of a message begins so."""
    return re.search(rf"(?<![\w.:/-]){re.escape(word)}", message) is not None


def _quotes(message: str, word: str) -> bool:
    """Whether a message names a word as a word of its own."""
    return bool(word) and re.search(rf"(?<![\w.:/-]){re.escape(word)}(?![\w:/-]|\.\w)", message) is not None
