# SPDX-License-Identifier: Apache-2.0
"""The grammar of tsig.

Strategy: lines are kept as they were written, in order, because the same option may stand on several; what they come
to is worked out once all are read. Files are opened at the set-up, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastdns.corefile.rows import zones_arg
from fastdns.corefile.types import Located, Zone
from fastdns.corefile.units import quote
from fastdns.plugin import Arg, ConfigError, Directive, Dispenser, Option, Settings

from .keys import key_name, secret_octets

OPCODES = {"QUERY": 0, "IQUERY": 1, "STATUS": 2, "NOTIFY": 4, "UPDATE": 5}
ALL, NONE = "all", "none"


class Key(NamedTuple):
    """A `secret` line."""

    name: str
    secret: bytes
    place: tuple[str, int]

    def __repr__(self) -> str:
        return f"Key({self.name!r})"


class File(NamedTuple):
    """A `secrets` line."""

    path: str
    place: tuple[str, int]


class Required(NamedTuple):
    """What must be signed: everything, or these numbers."""

    all: bool = False
    numbers: frozenset[int] = frozenset()


def secret(d: Dispenser) -> Mapping[str, Any]:
    """`secret NAME KEY`."""
    words = d.remaining_args()
    if len(words) != 2:
        raise d.arg_err()
    try:
        name = key_name(words[0])
        return {"secret": (Key(name, secret_octets(name, words[1]), (d.file, d.line)),)}
    except ValueError as error:
        raise d.err(str(error)) from None


def secrets(d: Dispenser) -> Mapping[str, Any]:
    """`secrets FILE`."""
    words = d.remaining_args()
    if len(words) != 1:
        raise d.arg_err()
    return {"secrets": (File(words[0], (d.file, d.line)),)}


def required(d: Dispenser, numbers: Mapping[str, int], what: str) -> tuple[Required]:
    """The words of one line: `all` and `none` count in the first place only, where others behind them do not."""
    words = d.remaining_args()
    if not words:
        raise d.arg_err()
    if words[0] in (ALL, NONE):
        return (Required(words[0] == ALL),)
    for word in words:
        if word not in numbers:
            raise d.err(f"unknown {what} '{word}'")
    return (Required(False, frozenset(numbers[word] for word in words)),)


def require(d: Dispenser) -> Mapping[str, Any]:
    """`require QTYPE...|all|none`."""
    from fastdns._log import TYPES

    names = {name: number for number, name in TYPES.items()}
    return {"require": required(d, names, "query type")}


def require_opcode(d: Dispenser) -> Mapping[str, Any]:
    """`require_opcode OPCODE...|all|none`."""
    return {"require_opcode": required(d, OPCODES, "opcode")}


def together(lines: tuple[Required, ...]) -> Required:
    """What several lines come to, as in CoreDNS: `all` stays, of the others the last one counts."""
    return Required(any(line.all for line in lines), lines[-1].numbers if lines else frozenset())


def check(settings: Settings, d: Dispenser) -> Settings:
    """Each key once; the lines of `require` and `require_opcode` together."""
    seen: set[str] = set()
    for key in settings["secret"]:
        if key.name in seen:
            raise ConfigError(f"key {quote(key.name)} redefined", *key.place)
        seen.add(key.name)
    return settings.replace(
        require=together(settings["require"]), require_opcode=together(settings["require_opcode"])
    )


ZONES = zones_arg(show="ZONE")

TSIG = Directive(
    "tsig",
    args=(Arg(ZONES.key, Zone(bad=Located("invalid zone '{text}'")), default=ZONES.default, optional=True, rest=True,
              show="ZONE"),),
    options=(
        Option("secret", parse=secret, defaults={"secret": ()}, repeat="join", usage="secret NAME KEY",
               help="A key: its name, and its secret in base 64, 1 to 1,024 octets. As often as there are keys."),
        Option("secrets", parse=secrets, defaults={"secrets": ()}, repeat="join", usage="secrets FILE",
               help="A file with `key` statements as in named.conf, at most 1 MiB."),
        Option("require", parse=require, defaults={"require": ()}, repeat="join", usage="require QTYPE...|all|none",
               help="Types that are REFUSED unless the query is signed. Unset: none."),
        Option("require_opcode", parse=require_opcode, defaults={"require_opcode": ()}, repeat="join",
               usage="require_opcode OPCODE...|all|none",
               help="Opcodes that are: QUERY, IQUERY, STATUS, NOTIFY, UPDATE. Unset: none."),
        Option("whole_mac",
               help="A MAC that the client has cut short (RFC 8945 5.2.2.1) is NOTAUTH with BADTRUNC."),
    ),
    once=True,
    check=check,
    help="Verifies signed queries and signs the replies (TSIG).",
)

__all__ = ["OPCODES", "TSIG", "File", "Key", "Required"]
