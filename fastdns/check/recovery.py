# SPDX-License-Identifier: Apache-2.0
"""The Corefile's parser that goes on: behind a mistake it resumes at the next directive, block or import.

Strategy: every production of the server's parser is tried as it is; when it refuses, the mistake is noted and what
belongs to it is stepped over, as if it were not there. Only places where a person would go on reading are resumed at,
so that one slip is one finding: a block whose brace is missing ends where the next one begins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from ..corefile import Token, tokenize
from ..corefile.parser import Parser, RawBlock
from ..errors import CorefileError
from .findings import Findings
from .near import did_you_mean, nearest

PLACING = ("bind", "view")
"""Directives that say what reaches a block: while one of them is wrong, the block's listeners are not judged."""
VARIABLE = re.compile(r"\{\$([^}]+)\}|\{%(.+?)%\}")
KEY_LIKE = re.compile(r"[.:/(]")


class Recovering(Parser):
    """`findings` takes what is wrong; `result` and the blocks' tokens hold what is left; `unplaced` are the blocks that
    lost what may say who reaches them."""

    def __init__(
        self,
        filename: str,
        body: str | bytes,
        known: Collection[str],
        not_built: Collection[str],
        environ: Mapping[str, str] | None,
        findings: Findings,
    ) -> None:
        self.quotes: list[Token] = []
        tokens = tokenize(body, opened=self.quotes)
        super().__init__(filename, tokens, known, not_built, os.environ if environ is None else environ)
        self.findings = findings
        self.opened = Token("")
        self.closed = False
        self.cut = False  # the present block was ended where its brace is missing
        self.defined: dict[str, Token] = {}
        self.used: set[str] = set()
        self.unplaced: list[RawBlock] = []
        self._words: frozenset[str] = frozenset()

    def note(self, error: CorefileError, *hints: str) -> None:
        """Keep a mistake."""
        self.findings.refuse(error, hints=hints)

    def finish(self) -> None:
        """What can be said once everything was read."""
        for token in self.quotes:
            self.findings.warn(token, "this quote is never closed: all that follows is one word")
        for name, token in self.defined.items():
            if name not in self.used:
                self.findings.warn(token, f"snippet '{name}' is never imported")

    # The grammar.

    def addresses(self) -> None:
        try:
            super().addresses()
        except CorefileError as error:
            # Either a comma in front of the brace, where the cursor stands, or at the end of the text.
            self.note(error, "a comma is followed by one more key")
            self.eof = self.cursor.val != "{"
        self.opened = self.cursor.token

    def define_snippet(self, name: str) -> None:
        head = self.block.places[0]
        start = self.cursor.val
        try:
            super().define_snippet(name)
        except CorefileError as error:
            if start != "{":
                self.note(error, f"a snippet's body stands in braces: ({name}) {{")
                self.cursor.back()
                return
            if name in self.snippets:
                first = self.defined[name]
                self.findings.refuse(error, head, [f"the first one is in line {first.line}"])
                self._skip_braces()
            else:
                text = f"the snippet that is opened in line {head.line} is not closed"
                self.note(error, text if error.message.startswith("Unexpected token") else "")
                self.snippets[name] = []
                self.used.add(name)  # what would import it may be what it swallowed
        self.defined.setdefault(name, head)

    def block_contents(self) -> None:
        self.cut = self.closed = False
        opened = self.opened
        try:
            super().block_contents()
        except CorefileError as error:
            if not self.cut:
                self.note(error, f"the block that is opened in line {opened.line} is not closed")
            return
        if opened.text == "{" and not self.closed and not self.cut:
            # The text ends with somebody else's brace, which the server takes for the block's.
            self.findings.warn(opened, "this block is never closed: a '}' is missing")

    def directives(self) -> None:
        while self.cursor.next():
            if self.cursor.val == "}":
                self.closed = True
                return
            if self.cursor.val == "import":
                self.do_import()
                self.cursor.back()
            elif self._next_block_begins():
                self.cursor.back()
                self.cut = True
                return
            else:
                self.directive()

    def _next_block_begins(self) -> bool:
        """Whether the line at the cursor is no directive but a key with its brace: the brace before it is missing."""
        here = self.cursor.token
        if not (here.column == 1 and KEY_LIKE.search(here.text)) or here.text in self.known_words():
            return False
        steps = 0
        while self.cursor.next_arg():
            steps += 1
        opens = self.cursor.val == "{"
        for _ in range(steps):
            self.cursor.back()
        if not opens or self.opened.text != "{":
            return False
        error = self.cursor.err(f"Unknown directive '{here.text}'")
        self.note(error, f"the block that is opened in line {self.opened.line} is not closed before this line")
        return True

    def known_words(self) -> Collection[str]:
        """All directives, built or not."""
        if not self._words:
            self._words = frozenset((*(self.known or ()), *self.not_built))
        return self._words

    def directive(self) -> None:
        name, first = self.cursor.val, self.cursor.token
        try:
            super().directive()
        except CorefileError as error:
            if error.message.startswith("Unexpected '}'"):
                self.note(error, "the closing brace stands on a line of its own")
                self.cursor.back()
                return
            unknown = error.message.startswith("Unknown directive")
            hint = did_you_mean(name, self.known_words()) if unknown else ""
            if error.message == "Unexpected EOF":
                hint = f"the brace that '{name}' opens in line {first.line} is not closed"
                self._close_braces(self.replace_env(name))
                self.cut = True
            elif unknown or error.message.endswith("not built yet"):
                if name in PLACING or nearest(name, self.known_words()) in PLACING:
                    self.unplaced.append(self.block)
                self._skip_directive()
            self.note(error, hint)

    def _close_braces(self, name: str) -> None:
        """Close the braces that the text left open, so that the directive can be read. They have no column."""
        tokens = self.block.tokens[name]
        last = tokens[-1]
        for step in range(sum((token.text == "{") - (token.text == "}") for token in tokens)):
            tokens.append(Token("}", last.file, last.line + last.text.count("\n") + 1 + step, 0))

    def _skip_directive(self) -> None:
        """Step over a directive that was refused by name; the cursor ends on its last token."""
        depth = 0
        while self.cursor.next():
            if self.cursor.val == "{":
                depth += 1
            elif depth == 0 and (self.cursor.is_new_line() or self.cursor.val == "}"):
                self.cursor.back()
                return
            elif self.cursor.val == "}":
                depth -= 1

    def _skip_braces(self) -> None:
        depth = 1
        while depth and self.cursor.next():
            depth += (self.cursor.val == "{") - (self.cursor.val == "}")

    # Imports and the environment.

    def do_import(self) -> None:
        start, head = self.cursor.place, self.cursor.token
        before = len(self.result.warnings)
        try:
            super().do_import()
            for text in self.result.warnings[before:]:
                self.findings.warn(head, text)
        except CorefileError as error:
            hint = ""
            if error.message.startswith("File to import not found"):
                hint = did_you_mean(error.message.rpartition(": ")[2], self.snippets)
            self.note(error, hint)
            self.unplaced.append(self.block)
            while self.cursor.next_arg():
                continue
            self.cursor.splice((), self.cursor.place - start + 1)

    def tokens_of(self, body: bytes, name: str) -> list[Token]:
        return tokenize(body, name, self.quotes)

    def use_snippet(self, name: str) -> list[Token]:
        self.used.add(name)
        return super().use_snippet(name)

    def replace_env(self, text: str) -> str:
        for match in VARIABLE.finditer(text):
            name = match[1] or match[2]
            if name not in self.environ:
                said = f"environment variable '{name}' is not set: it stands for nothing"
                self.findings.warn(self.cursor.token, said)
        try:
            return super().replace_env(text)
        except CorefileError as error:
            self.note(error)
            return text


def parse(parser: Recovering) -> list[RawBlock]:
    """All blocks that can be made out."""
    blocks = parser.parse_all().blocks
    parser.finish()
    return blocks
