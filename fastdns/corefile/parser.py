# SPDX-License-Identifier: Apache-2.0
"""Tokens to server blocks: keys, directives, snippets, imports, environment.

Strategy: one cursor over a gap buffer (tokens behind it, tokens before it in reverse), so that an import is spliced in
at the cost of what it brings, however large the rest is. Text is replaced from the environment when a token
is taken into a block. What may grow by itself (snippets that import each other, files that import themselves,
variables that name themselves) has a limit. The first mistake ends the parse, as in CoreDNS.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..errors import CorefileError
from .dispenser import Dispenser
from .globs import BadPattern, glob
from .lexer import Token, tokenize

MAX_SNIPPETS = 10_000
MAX_FILES = 100_000
# Ours: nothing that a person wrote comes near, and 1e6 tokens are some 100 MB.
MAX_TOKENS = 1_000_000
MAX_FILE_OCTETS = 64 << 20
MAX_REPLACEMENTS = 1_000
MAX_REPLACED = 1 << 20


@dataclass
class RawBlock:
    """One server block as written: its keys, and each directive's tokens with all occurrences in a row.

    The first token of an occurrence is the directive's name. Directives stand in order of first appearance.
    """

    keys: list[str] = field(default_factory=list)
    tokens: dict[str, list[Token]] = field(default_factory=dict)


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
    return _Parser(filename, tokenize(body), known, not_built, os.environ if environ is None else environ).parse_all()


class _Parser:
    def __init__(
        self,
        filename: str,
        tokens: list[Token],
        known: Collection[str] | None,
        not_built: Collection[str],
        environ: Mapping[str, str],
    ) -> None:
        self.filename = filename
        self.known = known
        self.not_built = not_built
        self.environ = environ
        self.before: list[Token] = []  # read, the last one is current
        self.after = tokens[::-1]  # to come, the next one is last
        self.past = False  # an import brought nothing and nothing follows: there is no current token
        self.eof = False
        self.block = RawBlock()
        self.result = Parsed()
        self.snippets: dict[str, list[Token]] = {}
        self.snippet_expansions = 0
        self.file_expansions = 0

    # The cursor.

    @property
    def token(self) -> Token:
        return Token("") if self.past or not self.before else self.before[-1]

    @property
    def val(self) -> str:
        return self.token.text

    def next(self) -> bool:
        if not self.after:
            return False
        self.before.append(self.after.pop())
        self.past = False
        return True

    def back(self) -> None:
        if self.past:
            self.past = False
        else:
            self.after.append(self.before.pop())

    def next_arg(self) -> bool:
        if self.past or not self.after:
            return False
        here, there = self.before[-1], self.after[-1]
        if here.file != there.file or here.line + here.text.count("\n") != there.line:
            return False
        return self.next()

    def is_new_line(self) -> bool:
        if len(self.before) < 2:
            return True
        if self.past:
            return False
        last, here = self.before[-2], self.before[-1]
        return last.file != here.file or last.line + last.text.count("\n") < here.line

    # Errors, worded by the dispenser.

    def _at(self) -> Dispenser:
        d = Dispenser(self.filename, [self.token] if self.before and not self.past else [])
        d.next()
        return d

    def err(self, message: str) -> CorefileError:
        return self._at().err(message)

    # The grammar.

    def parse_all(self) -> Parsed:
        while self.next():
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
        return self.result

    def addresses(self) -> None:
        expecting = False
        while True:
            key = self.replace_env(self.val)
            if key == "import" and self.is_new_line():
                self.do_import()
                continue
            if key == "{":
                if expecting:
                    raise self.err(f"Expected another address but had '{key}' - check for extra comma")
                return
            if key:
                expecting = key.endswith(",")
                self.block.keys.append(key[:-1] if expecting else key)
            if not self.next():
                if expecting:
                    raise self._at().eof_err()
                self.eof = True
                return
            if not expecting and self.is_new_line():
                return

    def snippet_name(self) -> str | None:
        keys = self.block.keys
        if len(keys) == 1 and keys[0].startswith("(") and keys[0].endswith(")"):
            return keys[0][1:-1]
        return None

    def define_snippet(self, name: str) -> None:
        if name in self.snippets:
            raise self.err(f"redeclaration of previously declared snippet {name}")
        if self.val != "{":
            raise self._at().syntax_err("{")
        depth = 1
        body: list[Token] = []
        while self.next():
            if self.val == "}":
                depth -= 1
                if depth == 0:
                    break
            elif self.val == "{":
                depth += 1
            body.append(self.token)
        if depth:
            raise self._at().syntax_err("}")
        for last, here, there in zip([None, *body], body, body[1:], strict=False):
            starts = last is None or last.file != here.file or last.line != here.line
            if here.text == "import" and starts and self.replace_env(there.text) == name:
                raise self.err(f"maximum snippet import depth ({MAX_SNIPPETS}) exceeded")
        self.snippets[name] = body

    def block_contents(self) -> None:
        braces = self.val == "{"
        if not braces:
            self.back()
        self.directives()
        if braces and self.val != "}":
            raise self._at().syntax_err("}")

    def directives(self) -> None:
        while self.next():
            if self.val == "}":
                return
            if self.val == "import":
                self.do_import()
                self.back()
            else:
                self.directive()

    def directive(self) -> None:
        name = self.replace_env(self.val)
        if self.known is not None and name not in self.known:
            if name in self.not_built:
                raise self.err(f"directive '{name}' is not built yet")
            raise self.err(f"Unknown directive '{name}'")
        tokens = self.block.tokens.setdefault(name, [])
        tokens.append(self.token)
        depth = 0
        while self.next():
            if self.val == "{":
                depth += 1
            elif depth == 0 and self.is_new_line():
                self.back()
                break
            elif self.val == "}":
                if depth == 0:
                    raise self.err("Unexpected '}' because no matching opening brace")
                depth -= 1
            elif self.val == "import" and self.is_new_line():
                self.do_import()
                self.back()
                continue
            # The replaced text stays in the buffer: line breaks in it count for what follows.
            self.before[-1] = self.token._replace(text=self.replace_env(self.val))
            tokens.append(self.token)
        if depth:
            raise self._at().eof_err()

    # Imports.

    def do_import(self) -> None:
        """Replace `import PATTERN` by what it names; the cursor ends on the first token of it."""
        if not self.next_arg():
            raise self._at().arg_err()
        pattern = self.replace_env(self.val)
        if not pattern:
            raise self.err("Import requires a non-empty filepath")
        if self.next_arg():
            raise self.err("Import takes only one argument (glob pattern or file)")
        if pattern in self.snippets:
            if self.snippet_expansions >= MAX_SNIPPETS:
                raise self.err(f"maximum snippet import depth ({MAX_SNIPPETS}) exceeded")
            self.snippet_expansions += 1
            tokens = self.snippets[pattern]
        else:
            if self.file_expansions >= MAX_FILES:
                # CoreDNS names the limit of snippets here as well.
                raise self.err(f"maximum file import depth ({MAX_SNIPPETS}) exceeded")
            self.file_expansions += 1
            tokens = self.import_files(pattern)
        if len(self.before) + len(self.after) + len(tokens) > MAX_TOKENS:
            raise self.err(f"imports expand to more than {MAX_TOKENS} tokens")
        del self.before[-2:]
        self.after.extend(reversed(tokens))
        if not self.next():
            self.past = True

    def import_files(self, pattern: str) -> list[Token]:
        base = os.path.dirname(os.path.abspath(self.token.file or self.filename))
        path = pattern if os.path.isabs(pattern) else os.path.normpath(os.path.join(base, pattern))
        if path.count("*") > 1 or path.count("?") > 1 or ("[" in path and "]" in path):
            raise self.err(f"Glob pattern may only contain one wildcard (*), but has others: {path}")
        try:
            matches = glob(path)
        except BadPattern as error:
            raise self.err(f"Failed to use import pattern {pattern}: {error}") from None
        if not matches:
            if not set(path) & set("*?[]"):
                raise self.err(f"File to import not found: {pattern}")
            self.result.warnings.append(f"No files matching import glob pattern: {pattern}")
        tokens: list[Token] = []
        for match in matches:
            tokens.extend(self.import_file(match))
        return tokens

    def import_file(self, path: str) -> list[Token]:
        if os.path.isdir(path):
            raise self.err(f"Could not import {path}: is a directory")
        try:
            with open(path, "rb") as file:
                body = file.read(MAX_FILE_OCTETS + 1)
        except OSError as error:
            cause = os.strerror(error.errno or 0).lower()
            raise self.err(f"Could not import {path}: open {path}: {cause}") from None
        if len(body) > MAX_FILE_OCTETS:
            raise self.err(f"Could not import {path}: more than {MAX_FILE_OCTETS} octets")
        absolute = os.path.abspath(path)
        if absolute not in self.result.files:
            self.result.files.append(absolute)
        return tokenize(body, absolute)

    # Environment.

    def replace_env(self, text: str) -> str:
        """`text` with `{%NAME%}`, then `{$NAME}`, replaced; what is not set gives nothing."""
        if "{%" not in text and "{$" not in text:
            return text
        return self._replace_form(self._replace_form(text, "{%", "%}"), "{$", "}")

    def _replace_form(self, text: str, opening: str, closing: str) -> str:
        for _ in range(MAX_REPLACEMENTS):
            start = text.find(opening)
            end = text.find(closing, start)
            if start < 0 or end <= start + len(opening):
                return text
            name = text[start + len(opening) : end]
            text = text.replace(opening + name + closing, self.environ.get(name, ""))
            if len(text) > MAX_REPLACED:
                break
        raise self.err("environment variables expand without end")
