# SPDX-License-Identifier: Apache-2.0
"""The grammar of template, and what one stanza says.

Strategy: a stanza is read word by word as CoreDNS reads it, so that errors come in its order and words; templates,
expressions and regular expressions are compiled here to be refused where they stand, and once more where they are used,
because a configuration is plain values. The rows below are the manual's table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fastdns.corefile.names import fallthrough_zones, origins
from fastdns.corefile.options import zones_arg
from fastdns.corefile.regexes import compile_regex, fanout
from fastdns.corefile.types import Text
from fastdns.corefile.units import parse_uint, quote
from fastdns.expression import ANY as ANY_TYPE
from fastdns.expression import BUILTINS, FUNCTIONS, ExpressionError, Type, compile_expression, function
from fastdns.expression import STRING as STRING_TYPE
from fastdns.expression.nodes import Name
from fastdns.expression.parser import Parser
from fastdns.gotemplate import Function, Template, TemplateError, parse_int
from fastdns.plugin import Arg, ConfigError, Directive, Dispenser, Option
from fastdns.rrtext import CLASSES, TYPE_NUMBERS

REGEX_MAX = 10_000
FANOUT_MAX = 32_768
NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
RCODES = {
    "NOERROR": 0, "FORMERR": 1, "SERVFAIL": 2, "NXDOMAIN": 3, "NOTIMP": 4, "REFUSED": 5, "YXDOMAIN": 6, "YXRRSET": 7,
    "NXRRSET": 8, "NOTAUTH": 9, "NOTZONE": 10, "DSOTYPENI": 11, "BADSIG": 16, "BADKEY": 17, "BADTIME": 18,
    "BADMODE": 19, "BADNAME": 20, "BADALG": 21, "BADTRUNC": 22, "BADCOOKIE": 23,
}  # fmt: skip
TYPES = {("None" if text == "NONE" else "Reserved" if text == "RESERVED" else text): number
         for text, number in TYPE_NUMBERS.items()}  # the names in CoreDNS's letters
TEMPLATE_FUNCTIONS = {"parseInt": Function(parse_int, ("string", "int", "int"))}
OF_THE_PLUGIN: dict[str, Type] = {**FUNCTIONS, "group": function((ANY_TYPE,), STRING_TYPE)}


@dataclass
class Stanza:
    """One `template`. Texts are as written; `fall`: the zones of `fallthrough`, none where it is not written."""

    qclass: int
    qtype: int
    zones: tuple[str, ...]
    regexes: list[str] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    additional: list[str] = field(default_factory=list)
    authority: list[str] = field(default_factory=list)
    variables: list[tuple[str, str]] = field(default_factory=list)
    conditions: list[tuple[str, int]] = field(default_factory=list)
    rcode: int = 0
    ederror: tuple[int, str] | None = None
    fall: tuple[str, ...] = ()


def environment_types(variables: list[tuple[str, str]]) -> dict[str, Type]:
    """The types of what an expression may name, where these variables were declared before it."""
    types = dict(OF_THE_PLUGIN)
    for name, text in variables:
        types[name] = compile_expression(text, types).result
    return types


def occurrence(d: Dispenser) -> Stanza:
    """One stanza."""
    stanza = Stanza(_number(d, CLASSES, "invalid query class"), _number(d, TYPES, "invalid RR class"), ())
    stanza.zones = tuple(origins(d.remaining_args(), d.keys))
    while d.next_block():
        read = READERS.get(d.val)
        if read is None:
            raise d.arg_err()
        read(stanza, d)
    return stanza


def _number(d: Dispenser, table: dict[str, int], wrong: str) -> int:
    if not d.next_arg():
        raise d.arg_err()
    if d.val not in table:
        raise d.err(f"{wrong} {d.val}")
    return table[d.val]


def _words(d: Dispenser, least: int = 1) -> list[str]:
    words = d.remaining_args()
    if len(words) < least:
        raise d.arg_err()
    return words


def _match(stanza: Stanza, d: Dispenser) -> None:
    for text in _words(d):
        octets = len(text.encode("utf-8", "surrogateescape"))
        if octets > REGEX_MAX:
            raise d.err(f"regex pattern too long: {octets} > {REGEX_MAX}")
        try:
            states = fanout(compile_regex(text))
        except ValueError as error:
            raise d.err(f"could not parse regex: {text}, {error}") from None
        if states > FANOUT_MAX:
            raise d.err(f"regex takes too long for some names: {text}")
        stanza.regexes.append(text)


def _records(section: str, end: str) -> Callable[[Stanza, Dispenser], None]:
    def read(stanza: Stanza, d: Dispenser) -> None:
        start = d.mark()
        words = _words(d)
        last, last_at = d.val, d.mark()
        for number, text in enumerate(words, 1):
            try:
                Template(section, text, TEMPLATE_FUNCTIONS)
            except TemplateError as error:
                # CoreDNS names the last word of the line; where the mistake stands is kept beside the text.
                raise _placed(d, start + number, last_at, f"could not compile template: {last}, {error}{end}",
                              error) from None
            getattr(stanza, section).append(text)

    return read


def _placed(d: Dispenser, at: int, last: int, message: str, error: TemplateError) -> ConfigError:
    d.rewind(at)
    token = d.token
    d.rewind(last)
    found = d.err(message)
    if error.line == 1:
        # The column of the word's first character; where it is quoted, its text begins one later.
        found.column = token.column + error.column - 1
    return found


def _variable(stanza: Stanza, d: Dispenser) -> None:
    words = _words(d, 2)
    name, text = words[0], " ".join(words[1:])
    if not name or not NAME.issuperset(name) or name[0].isdecimal():
        raise d.err(f"invalid variable name {quote(name)}")
    types = environment_types(stanza.variables)
    if name in types or name in BUILTINS or not _is_name(name):
        raise d.err(f"variable name {quote(name)} is reserved")
    try:
        compile_expression(text, types)
    except ExpressionError as error:
        raise d.err(f"could not compile expression: {name}, {error}") from None
    stanza.variables.append((name, text))


def _is_name(text: str) -> bool:
    """Whether a word is a name in an expression, and no word of the language."""
    try:
        return isinstance(Parser(text, BUILTINS, frozenset()).parse(), Name)
    except ExpressionError:
        return False


def _condition(stanza: Stanza, d: Dispenser) -> None:
    text = " ".join(_words(d))
    try:
        compile_expression(text, environment_types(stanza.variables))
    except ExpressionError as error:
        raise d.err(f"could not compile expression: {error}") from None
    stanza.conditions.append((text, len(stanza.variables)))


def _rcode(stanza: Stanza, d: Dispenser) -> None:
    stanza.rcode = _number(d, RCODES, "unknown rcode")


def _ederror(stanza: Stanza, d: Dispenser) -> None:
    words = d.remaining_args()
    if len(words) not in (1, 2):
        raise d.arg_err()
    try:
        code = parse_uint(words[0], 16)
    except ValueError as error:
        raise d.err(f"error parsing extended DNS error code {d.val}, {error}\n") from None
    stanza.ederror = code, words[1] if len(words) == 2 else ""


def _fallthrough(stanza: Stanza, d: Dispenser) -> None:
    stanza.fall = tuple(fallthrough_zones(d.remaining_args()))


def _upstream(stanza: Stanza, d: Dispenser) -> None:
    d.remaining_args()


READERS: dict[str, Callable[[Stanza, Dispenser], None]] = {
    "match": _match,
    "answer": _records("answer", ""),
    "additional": _records("additional", "\n"),
    "authority": _records("authority", "\n"),
    "var": _variable,
    "expr": _condition,
    "rcode": _rcode,
    "ederror": _ederror,
    "fallthrough": _fallthrough,
    "upstream": _upstream,
}

TEMPLATE = Directive(
    "template",
    args=(
        Arg("class", Text(), show="CLASS"),
        Arg("type", Text(), show="TYPE"),
        zones_arg(show="ZONE"),
    ),
    options=(
        Option("match", Text(), rest=True, show="REGEX",
               help="Expressions (RE2) on the name in lower case; the first one that matches counts (`.*`)."),
        Option("answer", Text(), rest=True, show="RR",
               help="Records of the answer, each the text that a Go template makes."),
        Option("additional", Text(), rest=True, show="RR", help="Records of the additional section."),
        Option("authority", Text(), rest=True, show="RR", help="Records of the authority section."),
        Option("var", args=(Arg("name", Text(), show="NAME"), Arg("value", Text(), rest=True, show="EXPRESSION")),
               help="Computes `.Var.NAME` for each query; expressions behind it may use NAME."),
        Option("expr", Text(), rest=True, show="EXPRESSION", help="A condition that has to be true for a match."),
        Option("rcode", Text(), "NOERROR", show="CODE", help="The response code, by its name in capitals."),
        Option("ederror", args=(Arg("code", Text(), show="CODE"), Arg("text", Text(), optional=True, show="TEXT")),
               help="An extended DNS error (RFC 8914) in the reply: 0 to 65535, and why."),
        Option("fallthrough", Text(), rest=True, optional=True, show="ZONES",
               help="What matches no expression goes to the next template, for names below ZONES (all)."),
        Option("upstream", Text(), rest=True, optional=True, show="WORDS",
               help="Accepted for old configurations, and without effect: look-ups always go to this server."),
    ),
    parse_one=occurrence,
    help="Answers what a pattern matches with records made from templates.",
)
