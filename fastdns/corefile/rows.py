# SPDX-License-Identifier: Apache-2.0
"""Arguments and options as rows, and how a line is read by them.

Strategy: a line is read left to right into the keys of its arguments. CoreDNS's plugins read in two ways, which
shows in their errors: word by word, leaving what they do not want, or the whole line first, counting.
`surplus` says which of them a row copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .dispenser import Dispenser
from .types import Type, Wording, Zone

# line: the whole line is read, a word too many is refused naming the last word (CoreDNS's RemainingArgs);
# word: read word by word, the first word too many is refused; leave: it is taken for the next option;
# ignore: it is dropped without complaint, as CoreDNS does in places.
Surplus = Literal["line", "word", "leave", "ignore"]

BLOCK_ZONES: Any = "the server block's zones"


@dataclass(frozen=True)
class Arg:
    """One positional argument, stored under `key`.

    `default` is the value where nothing is written. On a line that is written the word is required unless
    `optional`; an optional word left out leaves the value as it was. `rest` takes every further word into
    a tuple (at least one unless `optional`). `probe` skips an optional argument whose word is not of its type:
    `cache [TTL] [ZONES...]`. `show` is its name in the README (default: KEY in capitals).
    """

    key: str
    type: Type
    default: Any = None
    optional: bool = False
    rest: bool = False
    probe: bool = False
    show: str = ""

    @property
    def required(self) -> bool:
        """True if a word must be written."""
        return not (self.optional or self.probe)

    @property
    def fallback(self) -> Any:
        """The value where nothing is written."""
        return () if self.rest and self.default is None else self.default

    def usage(self) -> str:
        """`TTL`, `[TTL]`, `ZONES...`."""
        word = (self.show or self.key.upper()) + ("..." if self.rest else "")
        return word if self.required else f"[{word}]"


def first_alone(d: Dispenser) -> None:
    """The lines of a directive without arguments of which CoreDNS reads the first one only."""
    if d.next_arg():
        raise d.arg_err()
    while d.next():
        continue


def zones_arg(key: str = "zones", show: str = "ZONES") -> Arg:
    """The usual `[ZONES...]`: where none is written, the zones of the server block."""
    return Arg(key, Zone(), default=BLOCK_ZONES, optional=True, rest=True, show=show)


@dataclass(frozen=True)
class Option:
    """One option in a directive's block.

    `type` and `default` describe an option with one argument stored under `key` (default: the name); `args`
    several. Neither: a flag, False unless written. `rest` makes the one argument a list of at least one word.
    `repeat`: of several lines the last wins, or only one is allowed (`once_text`), or the lists of a `rest`
    argument are joined. `parse(d)` reads an odd line itself: the current token is the option's name; it returns
    the keys it sets; `defaults` lists these with the values they have where nothing is written.
    """

    name: str
    type: Type | None = None
    default: Any = None
    help: str = ""
    args: tuple[Arg, ...] = ()
    key: str = ""
    optional: bool = False
    rest: bool = False
    surplus: Surplus = "line"
    repeat: Literal["last", "once", "join"] = "last"
    once_text: Wording = "{text} can only be specified once"
    parse: Callable[[Dispenser], Mapping[str, Any]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    usage: str = ""
    show: str = ""

    @property
    def row(self) -> tuple[Arg, ...]:
        """The positional arguments."""
        if self.args or self.type is None:
            return self.args
        return (Arg(self.key or self.name, self.type, self.default, self.optional, self.rest, show=self.show),)

    def initial(self) -> dict[str, Any]:
        """Values where the option is not written."""
        if self.parse is not None:
            return dict(self.defaults)
        if not self.row:
            return {self.key or self.name: False}
        return {arg.key: arg.fallback for arg in self.row}

    def read(self, d: Dispenser) -> Mapping[str, Any]:
        """Values of one line; the current token of `d` is the option's name."""
        if self.parse is not None:
            return self.parse(d)
        if not self.row:
            read_args((), d, self.surplus)
            return {self.key or self.name: True}
        return read_args(self.row, d, self.surplus)

    def syntax(self) -> str:
        """The line as a README shows it."""
        return self.usage or " ".join([self.name, *nested(self.row)])


def nested(row: Sequence[Arg]) -> list[str]:
    """`A [B [C]]`: an optional word can only be written behind the ones before it."""
    words = [arg.usage() for arg in row]
    tail = ""
    for arg, word in zip(reversed(row), reversed(words), strict=True):
        if arg.required or arg.probe or arg.rest:
            tail = f"{word} {tail}".rstrip()
        else:
            tail = f"{word[:-1]} {tail}".rstrip() + "]"
    return [tail] if tail else []


def read_args(row: Sequence[Arg], d: Dispenser, surplus: Surplus = "line") -> dict[str, Any]:
    """Read the words behind the current token of `d` into the keys of `row`."""
    if surplus in ("word", "leave"):
        return _read_words(row, d, surplus)
    start = d.mark()
    words = d.remaining_args()
    least = sum(1 for arg in row if arg.required)
    most = None if any(arg.rest for arg in row) or surplus == "ignore" else len(row)
    if len(words) < least or (most is not None and len(words) > most):
        raise d.arg_err()
    end = d.mark()
    d.rewind(start)
    values = _read_words(row, d, "leave")
    d.rewind(end)
    return values


def _read_words(row: Sequence[Arg], d: Dispenser, surplus: Surplus) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for arg in row:
        if arg.rest:
            values.update(_read_rest(arg, d))
            continue
        before = d.mark()
        # Where a word must come, an opening brace is read as that word, as CoreDNS does.
        if not d.next_arg() or (d.val == "{" and not arg.required):
            d.rewind(before)
            if arg.required:
                raise d.arg_err()
        elif arg.probe and not arg.type.fits(d.val):
            d.rewind(before)
        else:
            values[arg.key] = arg.type.read(d.val, d)
    if surplus == "word" and d.next_arg():
        raise d.arg_err()
    return values


def _read_rest(arg: Arg, d: Dispenser) -> dict[str, Any]:
    if not d.peek_args():
        if arg.required:
            raise d.arg_err()
        return {}
    found: list[Any] = []
    for _ in d.peek_args():
        d.next_arg()
        value = arg.type.read(d.val, d)
        if isinstance(value, list):
            found.extend(value)
        else:
            found.append(value)
    return {arg.key: tuple(found)}
