# SPDX-License-Identifier: Apache-2.0
"""A stanza that is ready to answer.

Strategy: one object for each `template` of the block, made at set-up. A regular expression is searched in the name in
lower case; the one that is not written (`.*`) matches every name and is not searched at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastdns.corefile.names import under
from fastdns.corefile.regexes import compile_regex, searcher
from fastdns.expression import Expression, compile_expression, environment
from fastdns.gotemplate import Template
from fastdns.plugin import ANY, CLASS_ANY, Query, Reply
from fastdns.rrtext import Record, parse_record

from .config import TEMPLATE_FUNCTIONS, Stanza, environment_types
from .data import Data

EVERYTHING = ".*"
WHOLE = {"0": 0}
EDE_SIZE = 4096
OPT, EDE, DO = 41, 15, 0x8000


class Pattern(NamedTuple):
    """A regular expression: its text, its search, and the names of its groups."""

    text: str
    search: Callable[[str], tuple[str, ...] | None]
    names: dict[str, int]


class RecordText(NamedTuple):
    """A record: its template, and the record itself where it is the same for every query."""

    template: Template
    record: Record | None


class Env(Mapping[str, Any]):
    """What an expression may use of a query: the variables before it, `group`, and what every query has."""

    __slots__ = ("own", "rest")

    def __init__(self, query: Query, group: Callable[[Any], str]) -> None:
        self.own: dict[str, Any] = {"group": group}
        self.rest: Mapping[str, Any] = environment(query)

    def __getitem__(self, name: str) -> Any:
        return self.own[name] if name in self.own else self.rest[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.rest

    def __len__(self) -> int:
        return len(self.own) + len(self.rest)


def longest(name: str, zones: Sequence[str]) -> str | None:
    """The first of `zones` (the longest first) that a name lies in."""
    for zone in zones:
        if under(name, zone):
            return zone
    return None


def pattern(text: str) -> Pattern:
    """A compiled expression."""
    compiled = compile_regex(text)
    names = {str(at): at for at in range(compiled.groups + 1)} | dict(compiled.groupindex)
    return Pattern(text, searcher(compiled), names)


def record_text(section: str, text: str) -> RecordText:
    """A compiled record."""
    template = Template(section, text, TEMPLATE_FUNCTIONS, Data)
    record = None
    if template.constant is not None:
        try:
            record = parse_record(template.constant)
        except ValueError:
            record = None  # refused for each query, as CoreDNS does
    return RecordText(template, record)


class Ready:
    """One stanza, compiled."""

    def __init__(self, stanza: Stanza) -> None:
        self.stanza = stanza
        self.qclass, self.qtype, self.rcode = stanza.qclass, stanza.qtype, stanza.rcode
        self.zones = sorted(stanza.zones, key=len, reverse=True)
        self.patterns = [pattern(text) for text in stanza.regexes]
        self.records = {section: [record_text(section, text) for text in getattr(stanza, section)]
                        for section in ("answer", "additional", "authority")}
        self.variables: list[tuple[str, Expression]] = [
            (name, compile_expression(text, environment_types(stanza.variables[:at])))
            for at, (name, text) in enumerate(stanza.variables)
        ]
        self.conditions = [compile_expression(text, environment_types(stanza.variables[:known]))
                           for text, known in stanza.conditions]
        self.ederror = stanza.ederror

    def asks(self, qclass: int, qtype: int) -> bool:
        """Whether it is for such a question."""
        return (self.qclass in (CLASS_ANY, qclass) or qclass == CLASS_ANY) and (
            self.qtype in (ANY, qtype) or qtype == ANY)

    def falls(self, name: str) -> bool:
        """Whether what it does not match goes on."""
        return any(under(name, zone) for zone in self.stanza.fall)

    def match(self, query: Query, name: str, zone: str) -> Data | None:
        """What its templates see, None where nothing matches. Raises ExpressionError."""
        qclass = self.qclass if query.qclass == CLASS_ANY else query.qclass
        qtype = self.qtype if query.type == ANY else query.type
        if not self.patterns:
            data = Data(query, name, zone, EVERYTHING, WHOLE, (name,), qclass, qtype)
        else:
            for text, search, names in self.patterns:
                groups = search(name)
                if groups is not None:
                    data = Data(query, name, zone, text, names, groups, qclass, qtype)
                    break
            else:
                return None
        if (self.variables or self.conditions) and not self.holds(query, data):
            return None
        return data

    def holds(self, query: Query, data: Data) -> bool:
        """Computes the variables; whether all conditions are true."""

        def group(key: Any) -> str:
            if isinstance(key, bool) or not isinstance(key, int | str):
                return ""
            return data.group_text(str(key)) or ""

        env = Env(query, group)
        for name, expression in self.variables:
            env.own[name] = data.var[name] = expression.evaluate(env)
        return all(condition.evaluate(env) is True for condition in self.conditions)

    def with_error(self, reply: Reply) -> Reply:
        """The reply with the extended error in an OPT record of its own."""
        assert self.ederror is not None
        code, text = self.ederror
        data = code.to_bytes(2, "big") + text.encode("utf-8", "surrogateescape")
        option = EDE.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data
        ttl = (self.rcode >> 4) << 24 | DO
        wire = bytearray(reply.wire)
        wire[10:12] = (int.from_bytes(wire[10:12], "big") + 1).to_bytes(2, "big")
        wire += b"\0" + OPT.to_bytes(2, "big") + EDE_SIZE.to_bytes(2, "big") + ttl.to_bytes(4, "big")
        wire += len(option).to_bytes(2, "big") + option
        return Reply(wire)
