# SPDX-License-Identifier: Apache-2.0
"""Puts a number of sockets, and a way to steer, into a Corefile, and changes nothing else in it.

Strategy: edit the octets of single tokens, then parse the result and compare: every block must say what it said, except
that the blocks of the listener say the new `multisocket`. An edit that cannot be shown to be right is refused with the
place that a person has to change. The file is replaced in one step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..corefile.lexer import Token
from ..corefile.parser import RawBlock, parse
from ..corefile.paths import os_cause
from ..errors import ConfigError
from .errors import BenchError
from .tune_outline import Place, Text, outline

NAME, STEER, FLOW = "multisocket", "steer", "flow"
STEP = "    "


def edit(filename: str, body: bytes, blocks: Collection[int], sockets: int, steer: str = FLOW,
         environ: Mapping[str, str] | None = None) -> bytes:
    """`body` with `multisocket sockets` in the server blocks of these indices; steered unless it is by flow and nothing
    says otherwise. Raises BenchError where that cannot be done without changing anything else."""
    environ = os.environ if environ is None else environ
    before = parse(filename, body, environ=environ).blocks
    result, inserted = body, set(blocks)
    for index in sorted(blocks):
        tokens = before[index].tokens.get(NAME)
        if tokens:
            inserted.discard(index)
            # An edit moves what follows on its line, and a snippet may have changed already: look again.
            result = _change(filename, result, index, sockets, steer, environ)
    for index in sorted(inserted):
        result = _insert(filename, result, index, sockets, steer, environ)
    _compare(filename, before, parse(filename, result, environ=environ).blocks, blocks, sockets, steer)
    return result


def words(tokens: Sequence[Token]) -> list[str]:
    """The words of a directive's tokens."""
    return [token.text for token in tokens]


def steering(tokens: Sequence[Token]) -> str:
    """How a multisocket directive steers."""
    said = words(tokens)
    return said[said.index(STEER) + 1] if STEER in said[:-1] else FLOW


def _change(filename: str, body: bytes, index: int, sockets: int, steer: str, environ: Mapping[str, str]) -> bytes:
    """Change the directive that stands there."""
    tokens = parse(filename, body, environ=environ).blocks[index].tokens[NAME]
    for token in tokens:
        if token.file:
            raise BenchError(f"{token.file}:{token.line} - this {NAME} is imported; write `{NAME} {sockets}` there")
    text = Text(body)
    places = [text.find(token) for token in tokens]
    for place, token in zip(places, tokens, strict=True):
        if place.token.text != token.text:
            raise BenchError(f"{filename}:{token.line} - {place.token.text} comes from the environment; "
                             f"let it stand for {token_for(token, tokens, sockets, steer)}")
    edits: list[tuple[int, int, str]] = []
    number = places[1] if len(tokens) > 1 and tokens[1].text != "{" else None
    last = number or places[0]
    if number is not None:
        edits.append((number.start, number.end, str(sockets)))
    else:
        edits.append((last.end, last.end, f" {sockets}"))
    said = words(tokens)
    if STEER in said:
        at = places[len(said) - said[::-1].index(STEER)]
        edits.append((at.start, at.end, steer))
    elif steer != FLOW:
        edits += _block(text, last, steer)
    return apply(text, edits)


def token_for(token: Token, tokens: Sequence[Token], sockets: int, steer: str) -> str:
    """What has to stand in the place of one of a directive's tokens."""
    at = list(tokens).index(token)
    if at == 0:
        return NAME
    return str(sockets) if at == 1 else steer


def _block(text: Text, last: Place, steer: str) -> list[tuple[int, int, str]]:
    """A block behind the word `last`: its brace before a comment on the line, the rest below the line."""
    indent, newline, end = text.indent(last.start), text.newline(last.start), text.line_end(last.end)
    if end and text.text[end - 1] == "\r":
        end -= 1
    step = "\t" if indent.endswith("\t") else STEP
    return [(last.end, last.end, " {"), (end, end, f"{newline}{indent}{step}{STEER} {steer}{newline}{indent}}}")]


def apply(text: Text, edits: Sequence[tuple[int, int, str]]) -> bytes:
    """The text with (start, end, replacement) applied; two at one place in their order."""
    result, at = "", 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        result += text.text[at:start] + new
        at = end
    return (result + text.text[at:]).encode("utf-8", "surrogateescape")


def _insert(filename: str, body: bytes, index: int, sockets: int, steer: str, environ: Mapping[str, str]) -> bytes:
    """Give the block a directive. Which block of the file it is, is found by trying."""
    before = parse(filename, body, environ=environ).blocks
    text = Text(body)
    for block in outline(text, environ):
        line = block.opens or block.last_key
        inline = block.first is not None and block.first.token.line == line.token.line
        if block.first is not None and (not inline or block.opens is None):
            indent = text.indent(block.first.start)
        else:
            indent = text.indent(line.start) + (STEP if block.opens else "")
        if block.first is not None and block.first.token.text == "}":
            indent = text.indent(line.start) + STEP
        newline = text.newline(line.start)
        step = "\t" if indent.endswith("\t") else STEP
        own = f"{NAME} {sockets}"
        if steer != FLOW:
            own += f" {{{newline}{indent}{step}{STEER} {steer}{newline}{indent}}}"
        if inline:
            # Something follows the brace on its line: that moves to a line of its own.
            result = apply(text, [(line.end, line.end, f" {own}{newline}{indent}")])
        else:
            end = text.line_end(line.end)
            if end and text.text[end - 1] == "\r":
                end -= 1
            result = apply(text, [(end, end, f"{newline}{indent}{own}")])
        with suppress(ConfigError):
            after = parse(filename, result, environ=environ).blocks
            if len(after) == len(before) and NAME in after[index].tokens:
                return result
    keys = " ".join(before[index].keys)
    raise BenchError(f"{filename}: the block of {keys} does not stand in this file; write `{NAME} {sockets}` into it")


def _compare(filename: str, before: Sequence[RawBlock], after: Sequence[RawBlock], blocks: Collection[int],
             sockets: int, steer: str) -> None:
    """BenchError unless the blocks say the new thing and everything else what it said."""
    if len(before) != len(after):
        raise BenchError(f"{filename}: the edit would change the number of server blocks")
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        others = [{name: words(tokens) for name, tokens in block.tokens.items() if name != NAME}
                  for block in (old, new)]
        keys = " ".join(old.keys)
        if old.keys != new.keys or others[0] != others[1]:
            raise BenchError(f"{filename}: the edit would change more than {NAME} in the block of {keys}")
        if index in blocks:
            tokens = new.tokens[NAME]
            if words(tokens)[1:2] != [str(sockets)] or steering(tokens) != steer:
                raise BenchError(f"{filename}: the edit would not reach the block of {keys}")
        elif words(old.tokens.get(NAME, ())) != words(new.tokens.get(NAME, ())):
            raise BenchError(f"{filename}: this {NAME} stands in a snippet that the block of {keys} imports too, "
                             "and that one listens elsewhere; give each block a line of its own")


def replace(path: str, old: bytes, new: bytes) -> None:
    """Put `new` in the place of the file, in one step, with its mode and owner; a link's target is replaced, not the
    link. BenchError where that fails or the file no longer says `old`."""
    target = Path(os.path.realpath(path))
    name = ""
    try:
        facts = target.stat()
        fd, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with open(fd, "wb") as file:
            file.write(new)
            os.fchmod(fd, facts.st_mode & 0o7777)
            if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, facts.st_uid, facts.st_gid)
                # Changing the owner clears set-id bits.
                os.fchmod(fd, facts.st_mode & 0o7777)
            file.flush()
            os.fsync(fd)
        if target.read_bytes() != old:
            raise BenchError(f"{path} changed meanwhile; it was left alone")
        Path(name).replace(target)
        name = ""
    except OSError as error:
        raise BenchError(f"cannot write {path}: {os_cause(error)}") from None
    finally:
        if name:
            Path(name).unlink(missing_ok=True)
    with suppress(OSError):
        # The rename is durable when its directory is.
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
