# SPDX-License-Identifier: Apache-2.0
"""Options as rows: from one table come the parser, the error texts and the README's table.

    CHAOS = Directive(
        "chaos",
        args=(Arg("version", Text(), default="fastdns", optional=True), Arg("authors", Text(), rest=True, optional=True)),
        options=(
            Option("ttl", Int(0, 65535), default=60, help="Seconds that clients may keep an answer."),
            Option("quiet", help="Answer without logging."),             # no type: a flag
            Option("success", args=(
                Arg("success_capacity", Int(), default=9984), Arg("success_ttl", Int(1), default=3600, optional=True))),
        ),
        once=True,
    )
    settings = CHAOS.parse(dispenser)          # one Settings per occurrence

Strategy: every argument has a key of its own, so a Settings is one flat, picklable mapping. Plugins of CoreDNS
read a line in two ways, which shows in their errors: word by word, leaving what they do not want to be taken
for the next option, or the whole line first, counting. `surplus` says which of them a row copies.
Odd grammars get the dispenser: `Option(parse=...)` returns a dict of keys, `Directive(parse=...)` a Settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigError, SetupError
from . import names
from .dispenser import Dispenser
from .types import ARGERR, Located, Type, Wording, Zone, complain

ONCE = "this plugin can only be used once per Server Block"
UNKNOWN_PROPERTY = Located("unknown property '{text}'")
UNKNOWN_OPTION = Located("unknown option: {text}")

# line: the whole line is read, a word too many is refused naming the last word (CoreDNS's RemainingArgs);
# word: read word by word, the first word too many is refused; leave: it is taken for the next option;
# ignore: it is dropped without complaint, as CoreDNS does in places.
Surplus = Literal["line", "word", "leave", "ignore"]

class Settings(Mapping[str, Any]):
    """What one occurrence of a directive says: a read-only mapping whose keys are attributes as well.

    `given` holds the names of the options that were written; `line` and `file` are the occurrence's.
    """

    __slots__ = ("_values", "file", "given", "line")

    def __init__(
        self, values: Mapping[str, Any], given: Sequence[str] = (), file: str = "", line: int = 0
    ) -> None:
        self._values = dict(values)
        self.given = frozenset(given)
        self.file = file
        self.line = line

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._values[key]
        except KeyError:
            raise AttributeError(key) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (self._values, tuple(sorted(self.given)), self.file, self.line)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values and self.given == other.given

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Settings({self._values!r})"

    def replace(self, **changes: Any) -> Settings:
        """A copy with some values changed."""
        return Settings({**self._values, **changes}, tuple(self.given), self.file, self.line)


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


def zones_arg(key: str = "zones", show: str = "ZONES") -> Arg:
    """The usual `[ZONES...]`: where none is written, the zones of the server block."""
    return Arg(key, Zone(), default=BLOCK_ZONES, optional=True, rest=True, show=show)


BLOCK_ZONES: Any = "the server block's zones"


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
        return self.usage or " ".join([self.name, *_nested(self.row)])


def _nested(row: Sequence[Arg]) -> list[str]:
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
        elif arg.probe and not _is_a(arg.type, d):
            d.rewind(before)
        else:
            values[arg.key] = arg.type.read(d.val, d)
    if surplus == "word" and d.next_arg():
        raise d.arg_err()
    return values


def _is_a(kind: Type, d: Dispenser) -> bool:
    try:
        type(kind)().read(d.val, d)
    except ConfigError:
        return False
    return True


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


@dataclass(frozen=True)
class Directive:
    """The grammar of one directive: its arguments, then the options in its block.

    `once`: a second occurrence in a server block is an error. `block`: whether braces are allowed.
    `unknown` words the error for an option that is not in the table. `check(settings, d)` looks at
    one finished occurrence (raise `d.fail(...)`) and may return changed Settings. `parse(d)` replaces all of it
    for an odd grammar: it is called at each occurrence, the current token is the directive's name.
    """

    name: str
    args: tuple[Arg, ...] = ()
    options: tuple[Option, ...] = ()
    help: str = ""
    once: bool = False
    block: bool | None = None
    unknown: Wording = UNKNOWN_PROPERTY
    surplus: Surplus = "line"
    check: Callable[[Settings, Dispenser], Settings | None] | None = None
    parse_one: Callable[[Dispenser], Any] | None = None

    def parse(self, d: Dispenser) -> list[Any]:
        """One Settings per occurrence, in order. Raises SetupError, worded as CoreDNS words it."""
        found: list[Any] = []
        d.reset()
        try:
            while d.next():
                if self.once and found:
                    raise d.fail(ONCE)
                found.append(self.parse_one(d) if self.parse_one is not None else self._occurrence(d))
        except SetupError:
            raise
        except ConfigError as cause:
            raise SetupError(self.name, cause) from None
        return found

    def _occurrence(self, d: Dispenser) -> Settings:
        file, line = d.file, d.line
        values: dict[str, Any] = {}
        for option in self.options:
            values.update(option.initial())
        for arg in self.args:
            values[arg.key] = tuple(names.origins((), d.keys)) if arg.default is BLOCK_ZONES else arg.fallback
        values.update(read_args(self.args, d, self.surplus))
        given: list[str] = []
        table = {option.name: option for option in self.options}
        if not (self.options if self.block is None else self.block):
            self._refuse_block(d)
        while d.next_block():
            option = table.get(d.val)
            if option is None:
                raise complain(d, self.unknown, text=d.val)
            if option.repeat == "once" and option.name in given:
                raise complain(d, option.once_text, text=d.val)
            again = option.repeat == "join" and option.name in given
            given.append(option.name)
            for key, value in option.read(d).items():
                values[key] = values[key] + value if again else value
        settings = Settings(values, given, file, line)
        if self.check is not None:
            settings = self.check(settings, d) or settings
        return settings

    def _refuse_block(self, d: Dispenser) -> None:
        before = d.mark()
        if d.next_arg():
            if d.val == "{":
                raise d.arg_err()
            d.rewind(before)

    def syntax(self) -> str:
        """The directive's line as a README shows it."""
        return " ".join([self.name, *_nested(self.args)])


def markdown_table(directive: Directive) -> str:
    """The README's table of `directive`: option, default, bounds, sentence; one row per option."""
    lines = ["| option | default | bounds | meaning |", "| --- | --- | --- | --- |"]
    for option in directive.options:
        initial = option.initial()
        if option.parse is None and not option.row:
            default, bounds = "off", ""
        else:
            default = ", ".join(_shown(option, key, value) for key, value in initial.items())
            bounds = "; ".join(_bounds(option.row))
        cells = (f"`{option.syntax()}`", default or "–", bounds or "–", option.help or "–")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _bounds(row: Sequence[Arg]) -> Iterator[str]:
    for arg in row:
        text = arg.type.bounds()
        if text:
            yield text if len(row) == 1 else f"{arg.show or arg.key.upper()} {text}"


def _shown(option: Option, key: str, value: Any) -> str:
    from .types import Duration
    from .units import format_duration

    kind = next((arg.type for arg in option.row if arg.key == key), None)
    if value is None or value == () or value == "":
        return "–"
    if value is False:
        return "off"
    if isinstance(kind, Duration) or isinstance(value, float):
        return format_duration(value)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


__all__ = ["ARGERR", "BLOCK_ZONES", "ONCE", "UNKNOWN_OPTION", "UNKNOWN_PROPERTY", "Arg", "Directive", "Located",
           "Option", "Settings", "Surplus", "markdown_table", "read_args", "zones_arg"]  # fmt: skip
