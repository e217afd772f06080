# SPDX-License-Identifier: Apache-2.0
"""Options as rows: from one table come the parser, the error texts and the README's table.

    CHAOS = Directive(
        "chaos",
        args=(Arg("version", Text(), optional=True), Arg("authors", Text(), rest=True, optional=True)),
        options=(
            Option("ttl", Int(0, 65535), default=60, help="Seconds that clients may keep an answer."),
            Option("quiet", help="Answer without logging."),             # no type: a flag
            Option("success", args=(
                Arg("success_capacity", Int(), default=9984), Arg("success_ttl", Int(1), default=3600, optional=True))),
        ),
        once=True,
    )
    settings = CHAOS.parse(dispenser)          # one Settings per occurrence

Strategy: every argument has a key of its own, so a Settings is one flat, picklable mapping (rows.py, settings.py).
Odd grammars get the dispenser: `Option(parse=...)` returns a dict of keys, `Directive(parse_one=...)` whatever
the plugin wants for one occurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, SetupError
from . import names
from .dispenser import Dispenser
from .rows import BLOCK_ZONES, Arg, Option, Surplus, nested, read_args, zones_arg
from .settings import Settings
from .types import ARGERR, Located, Wording, complain

ONCE = "this plugin can only be used once per Server Block"
UNKNOWN_PROPERTY = Located("unknown property '{text}'")
UNKNOWN_OPTION = Located("unknown option: {text}")


@dataclass(frozen=True)
class Directive:
    """The grammar of one directive: its arguments, then the options in its block.

    `once`: a second occurrence in a server block is an error. `block`: whether braces are allowed.
    `unknown` words the error for an option that is not in the table. `check(settings, d)` looks at
    one finished occurrence (raise `d.fail(...)`) and may return changed Settings. `parse_one(d)` replaces all of it
    for an odd grammar: it is called at each occurrence, the current token is the directive's name. `usage` is then the
    line as a README shows it. `whole`: what it is called at first reads all occurrences of the block as one.
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
    usage: str = ""
    whole: bool = False

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
            if d.val not in table:
                raise complain(d, self.unknown, text=d.val)
            option = table[d.val]
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
        return self.usage or " ".join([self.name, *nested(self.args)])


__all__ = [
    "ARGERR",
    "BLOCK_ZONES",
    "ONCE",
    "UNKNOWN_OPTION",
    "UNKNOWN_PROPERTY",
    "Arg",
    "Directive",
    "Located",
    "Option",
    "Settings",
    "Surplus",
    "read_args",
    "zones_arg",
]
