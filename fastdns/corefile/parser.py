# SPDX-License-Identifier: Apache-2.0
"""Tokens to server blocks: keys, directives, snippets, imports, environment.

Strategy: one pass with a cursor into which imports are spliced. Text is replaced from the environment when a token is
taken into a block, so a snippet sees the variables at each use. What may grow by itself (snippets that import
each other, files that import themselves) has a limit. The first mistake ends the parse, as in CoreDNS.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .cursor import Cursor
from .environment import replace_env
from .lexer import Token, tokenize
from .paths import BadPatternError, absolute, beside, glob, is_directory, is_pipe, os_cause

MAX_SNIPPETS = 10_000
MAX_FILES = 100_000
# Ours: nothing that a person wrote comes near, and 1e6 tokens are some 100 MB.
MAX_TOKENS = 1_000_000
MAX_FILE_OCTETS = 8 << 20


@dataclass
class RawBlock:
    """One server block as written: its keys, and each directive's tokens with all occurrences in a row.

    The first token of an occurrence is the directive's name. Directives stand in order of first appearance.
    `places` are the tokens of the keys as written, one each; they are no part of the hash.
    """

    keys: list[str] = field(default_factory=list)
    tokens: dict[str, list[Token]] = field(default_factory=dict)
    places: list[Token] = field(default_factory=list, compare=False)


@dataclass
class Parsed:
    """What a text says: its `blocks`, the `files` it imported (absolute names), and `warnings` to log."""

    blocks: list[RawBlock] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def parse(
    filename: str,
    body: str | bytes,
    known: Collection[str] | None = None,
    not_built: Collection[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Parsed:
    """Parse a Corefile's text; `filename` names it in errors and is the base of relative imports.

    `known` are the directives that may be used (None: any), `not_built` those that are refused by name.
    Raises CorefileError at the first mistake.
    """
    return Parser(filename, tokenize(body), known, not_built, os.environ if environ is None else environ).parse_all()


class Parser:
    """The grammar as methods, each of which starts and ends at a known token: `fastdns check` goes on behind a mistake
    by wrapping them."""

    def __init__(
        self,
        filename: str,
        tokens: list[Token],
        known: Collection[str] | None,
        not_built: Collection[str],
        environ: Mapping[str, str],
    ) -> None:
        self.known = known
        self.not_built = not_built
        self.environ = environ
        self.cursor = Cursor(filename, tokens)
        self.eof = False
        self.block = RawBlock()
        self.result = Parsed()
        self.files: dict[str, None] = {}
        self.snippets: dict[str, list[Token]] = {}
        self.snippet_expansions = 0
        self.file_expansions = 0

    # The grammar.

    def parse_all(self) -> Parsed:
        while self.cursor.next():
            self.block = RawBlock()
            self.addresses()
            if not self.eof:
                name = self.snippet_name()
                if name is None:
                    self.block_contents()
                else:
                    self.define_snippet(name)
                    continue
            if self.block.keys:
                self.result.blocks.append(self.block)
        self.result.files.extend(self.files)
        return self.result

    def addresses(self) -> None:
        expecting = False
        while True:
            key = self.replace_env(self.cursor.val)
            if key == "import" and self.cursor.is_new_line():
                self.do_import()
                continue
            if key == "{":
                if expecting:
                    raise self.cursor.err(f"Expected another address but had '{key}' - check for extra comma")
                return
            if key:
                expecting = key.endswith(",")
                self.block.keys.append(key[:-1] if expecting else key)
                self.block.places.append(self.cursor.token)
            if not self.cursor.next():
                if expecting:
                    raise self.cursor.eof_err()
                self.eof = True
                return
            if not expecting and self.cursor.is_new_line():
                return

    def snippet_name(self) -> str | None:
        keys = self.block.keys
        if len(keys) == 1 and keys[0].startswith("(") and keys[0].endswith(")"):
            return keys[0][1:-1]
        return None

    def define_snippet(self, name: str) -> None:
        if name in self.snippets:
            raise self.cursor.err(f"redeclaration of previously declared snippet {name}")
        if self.cursor.val != "{":
            raise self.cursor.syntax_err("{")
        depth = 1
        body: list[Token] = []
        while self.cursor.next():
            if self.cursor.val == "}":
                depth -= 1
                if depth == 0:
                    break
            elif self.cursor.val == "{":
                depth += 1
            body.append(self.cursor.token)
        if depth:
            raise self.cursor.syntax_err("}")
        for last, here, there in zip([None, *body], body, body[1:], strict=False):
            starts = last is None or last.file != here.file or last.line != here.line
            if here.text == "import" and starts and self.replace_env(there.text) == name:
                raise self.cursor.err(f"maximum snippet import depth ({MAX_SNIPPETS}) exceeded")
        self.snippets[name] = body

    def block_contents(self) -> None:
        braces = self.cursor.val == "{"
        if not braces:
            self.cursor.back()
        self.directives()
        if braces and self.cursor.val != "}":
            raise self.cursor.syntax_err("}")

    def directives(self) -> None:
        while self.cursor.next():
            if self.cursor.val == "}":
                return
            if self.cursor.val == "import":
                self.do_import()
                self.cursor.back()
            else:
                self.directive()

    def directive(self) -> None:
        name = self.replace_env(self.cursor.val)
        if self.known is not None and name not in self.known:
            if name in self.not_built:
                raise self.cursor.err(f"directive '{name}' is not built yet")
            raise self.cursor.err(f"Unknown directive '{name}'")
        tokens = self.block.tokens.setdefault(name, [])
        tokens.append(self.cursor.token)
        depth = 0
        while self.cursor.next():
            if self.cursor.val == "{":
                depth += 1
            elif depth == 0 and self.cursor.is_new_line():
                self.cursor.back()
                break
            elif self.cursor.val == "}":
                if depth == 0:
                    raise self.cursor.err("Unexpected '}' because no matching opening brace")
                depth -= 1
            elif self.cursor.val == "import" and self.cursor.is_new_line():
                self.do_import()
                self.cursor.back()
                continue
            tokens.append(self.cursor.rewrite(self.replace_env(self.cursor.val)))
        if depth:
            raise self.cursor.eof_err()

    # Imports.

    def do_import(self) -> None:
        """Replace `import PATTERN` by what it names; the cursor ends on the first token of it."""
        if not self.cursor.next_arg():
            raise self.cursor.arg_err()
        pattern = self.replace_env(self.cursor.val)
        if not pattern:
            raise self.cursor.err("Import requires a non-empty filepath")
        if self.cursor.next_arg():
            raise self.cursor.err("Import takes only one argument (glob pattern or file)")
        if pattern in self.snippets:
            tokens = self.use_snippet(pattern)
        else:
            if self.file_expansions >= MAX_FILES:
                # CoreDNS names the limit of snippets here as well.
                raise self.cursor.err(f"maximum file import depth ({MAX_SNIPPETS}) exceeded")
            self.file_expansions += 1
            tokens = self.import_files(pattern)
        self.bound(len(self.cursor) + len(tokens))
        self.cursor.splice(tokens)

    def use_snippet(self, name: str) -> list[Token]:
        """The tokens of a snippet that is imported."""
        if self.snippet_expansions >= MAX_SNIPPETS:
            raise self.cursor.err(f"maximum snippet import depth ({MAX_SNIPPETS}) exceeded")
        self.snippet_expansions += 1
        return self.snippets[name]

    def bound(self, tokens: int) -> None:
        if tokens > MAX_TOKENS:
            raise self.cursor.err(f"imports expand to more than {MAX_TOKENS} tokens")

    def import_files(self, pattern: str) -> list[Token]:
        path = beside(pattern, self.cursor.file)
        if path.count("*") > 1 or path.count("?") > 1 or ("[" in path and "]" in path):
            raise self.cursor.err(f"Glob pattern may only contain one wildcard (*), but has others: {path}")
        try:
            matches = glob(path)
        except BadPatternError as error:
            raise self.cursor.err(f"Failed to use import pattern {pattern}: {error}") from None
        if not matches:
            if not set(path) & set("*?[]"):
                raise self.cursor.err(f"File to import not found: {pattern}")
            self.result.warnings.append(f"No files matching import glob pattern: {pattern}")
        tokens: list[Token] = []
        for match in matches:
            tokens.extend(self.import_file(match))
            self.bound(len(tokens))
        return tokens

    def import_file(self, path: str) -> list[Token]:
        if is_directory(path):
            raise self.cursor.err(f"Could not import {path}: is a directory")
        if is_pipe(path):
            # Nobody may come to write it, and every later reload would wait behind this one.
            raise self.cursor.err(f"Could not import {path}: is a pipe")
        try:
            with open(path, "rb") as file:
                body = file.read(MAX_FILE_OCTETS + 1)
        except OSError as error:
            raise self.cursor.err(f"Could not import {path}: open {path}: {os_cause(error)}") from None
        if len(body) > MAX_FILE_OCTETS:
            raise self.cursor.err(f"Could not import {path}: more than {MAX_FILE_OCTETS} octets")
        name = absolute(path)
        self.files[name] = None
        return self.tokens_of(body, name)

    def tokens_of(self, body: bytes, name: str) -> list[Token]:
        """The tokens of an imported file."""
        return tokenize(body, name)

    def replace_env(self, text: str) -> str:
        try:
            return replace_env(text, self.environ)
        except ValueError as error:
            raise self.cursor.err(str(error)) from None
