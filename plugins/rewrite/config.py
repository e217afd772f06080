# SPDX-License-Identifier: Apache-2.0
"""The grammar of rewrite: words to rules, with CoreDNS's errors.

Strategy: a rule's words stand on its line, or are gathered from its block; so a rule is a list of words, and each field
has a function that reads its own.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from fastdns._log import RCODES, TYPES
from fastdns.corefile.regexes import compile_regex
from fastdns.corefile.units import parse_uint, quote
from fastdns.plugin import Directive, Dispenser

from .edns_config import Refused, edns0_rule
from .names import MATCHES
from .rules import Answer, CnameRule, NameRule, NumberRule, ReplyRule
from .undo import Code, Ttl

REGEX_MAX = 10_000
CLASSES = {"IN": 1, "CS": 2, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
RCODE_NUMBERS = {**{name: number for number, name in RCODES.items()}, "NOTIMPL": 4}
RCODE_MAX = 23
TTL_MAX = 2_147_483_647
PLAIN = re.compile(r"[A-Za-z0-9_.\-]*\Z")
SUPPORTED = "supports only exact, prefix, suffix, substring, and regex name matching"


def fqdn(name: str) -> str:
    """A name in lower case with its final dot (CoreDNS gives one to whatever the rule matches)."""
    escaped = len(name) - len(name[:-1].rstrip("\\")) - 1 if name.endswith(".") else 1
    return (name if escaped % 2 == 0 else f"{name}.").lower()


def expression(text: str, complaint: str) -> Any:
    """A compiled expression; `complaint` is said of a wrong one, `{cause}` being Go's text."""
    try:
        return compile_regex(text)
    except ValueError as error:
        cause = str(error)
        # Without RE2 the rule may be right: its own text says what to install.
        raise Refused(complaint.format(cause=cause) if "error parsing" in cause else cause) from None


def checked(pattern: str, to: str) -> str:
    """An expression and a template that uses no more groups than it has. CoreDNS counts them, whatever their
    numbers."""
    size = len(pattern.encode())
    if size > REGEX_MAX:
        raise Refused(f"regex pattern too long: {size} > {REGEX_MAX}")
    used = sum(f"{{{number}}}" in to for number in range(101))
    # An ordinary name is an expression without groups, and needs no RE2 to know it.
    groups = 0
    if not PLAIN.match(pattern):
        groups = expression(pattern, f"invalid regex matching pattern: {escaped(pattern)}").groups
    if used > groups:
        raise Refused(f"the rewrite regex pattern ({to}) uses more subexpressions than its corresponding matching "
                      f"regex pattern ({pattern})")
    return pattern


def escaped(text: str) -> str:
    """A text for `str.format`."""
    return text.replace("{", "{{").replace("}", "}}")


# ---- names


def name_rule(stop: bool, words: Sequence[str]) -> NameRule:
    """`[MATCH] FROM TO [answer ...]`."""
    if len(words) < 2:
        raise Refused("too few arguments for a name rule")
    match = words[0].lower() if len(words) > 2 else "exact"
    old, new = words[1:3] if len(words) > 2 else words
    if match != "regex":
        old = fqdn(old)
    auto, answers = answer_rules(match, words[3:]) if len(words) > 3 else (False, ())
    if match == "exact":
        # CoreDNS reads the two the other way round here, and refuses what is no expression.
        checked(fqdn(new), old)
    elif match == "regex":
        checked(old, new)
    elif match not in MATCHES:
        raise Refused(f"name rule {SUPPORTED}, received: {match}")
    return NameRule(stop, match, old, fqdn(new), auto, answers)


def answer_rules(match: str, words: Sequence[str]) -> tuple[bool, tuple[Answer, ...]]:
    """`answer auto`, `answer name|value FROM TO`, several; behind the first one the word `answer` may be left out."""
    if len(words) < 2:
        raise Refused(f"invalid arguments for {match} rule")
    if words[0] != "answer":
        raise Refused(f"exceeded the number of arguments for a non-answer rule argument for {match} rule")
    auto, found, at = False, [], 0
    while at < len(words):
        if words[at] == "answer":
            at += 1
        if at == len(words):
            raise Refused(f"type missing for answer rule for {match} rule")
        kind = words[at]
        at += 1
        if kind == "auto":
            auto = True
            continue
        if kind not in ("name", "value"):
            raise Refused(f"invalid type {quote(kind)} for answer rule for {match} rule")
        if len(words) - at < 2:
            raise Refused(f"{kind} answer rule for {match} rule: 2 arguments required")
        try:
            found.append(Answer(kind, checked(words[at], words[at + 1]), fqdn(words[at + 1])))
        except Refused as error:
            raise Refused(f"{kind} answer rule for {match} rule: {error}") from None
        at += 2
    if auto and any(answer.kind == "name" for answer in found):
        # CoreDNS's own spelling, because people search for it.
        raise Refused("auto name answer rule cannot be combined with explicit name anwer rules")
    return auto, tuple(found)


# ---- numbers


def number_rule(field: str, stop: bool, words: Sequence[str]) -> NumberRule:
    """`FROM TO` of type or class."""
    if len(words) != 2:
        raise Refused(f"{field} rules must have exactly two arguments")
    table = TYPE_NUMBERS if field == "type" else CLASSES
    for word in words:
        if word.upper() not in table:
            raise Refused(f"invalid {field} {quote(word.upper())}")
    return NumberRule(stop, field, table[words[0].upper()], table[words[1].upper()])


def seconds(text: str) -> tuple[int, int]:
    """`N`, `MIN-MAX`, `MIN-` or `-MAX`."""
    parts = text.split("-")
    try:
        if len(parts) == 1:
            low = high = parse_uint(text, 32)
        else:
            first, last = parts
            low = parse_uint(first, 32) if first else 0
            high = parse_uint(last, 32) if last else TTL_MAX
    except ValueError:
        low, high = 1, 0
    if text == "-" or low > high:
        raise Refused(f"invalid TTL '{text}' for a ttl rule")
    return low, high


def matched(field: str, words: Sequence[str], values: int) -> tuple[str, str]:
    """`[MATCH] NAME` before so many values: how to match, and what."""
    if len(words) == values + 1:
        return "exact", fqdn(words[0])
    if len(words) > values + 2:
        raise Refused(f"many few arguments for a {field} rule")
    match, name = words[0].lower(), words[1]
    if match not in MATCHES:
        raise Refused(f"{field} rule {SUPPORTED}")
    if match != "regex":
        return match, fqdn(name)
    size = len(name.encode())
    if size > REGEX_MAX:
        raise Refused(f"regex pattern too long in a {field} rule: {size} > {REGEX_MAX}")
    expression(name, f"invalid regex pattern in a {field} rule: {escaped(name)}")
    return match, name


def ttl_rule(stop: bool, words: Sequence[str]) -> ReplyRule:
    """`[MATCH] NAME SECONDS`."""
    if len(words) < 2:
        raise Refused(f"too few ({len(words)}) arguments for a ttl rule")
    low, high = seconds(words[-1] if len(words) < 4 else "")
    match, name = matched("ttl", words, 1)
    return ReplyRule(stop, match, name, Ttl(low, high))


def rcode(text: str, what: str) -> int:
    """A response code by number or name."""
    with contextlib.suppress(ValueError):
        if (number := parse_uint(text, 32)) <= RCODE_MAX:
            return number
    if text.upper() not in RCODE_NUMBERS:
        raise Refused(f"invalid {what} RCODE '{text}' for a rcode rule")
    return RCODE_NUMBERS[text.upper()]


def rcode_rule(stop: bool, words: Sequence[str]) -> ReplyRule:
    """`[MATCH] NAME FROM TO`."""
    if len(words) < 3:
        raise Refused(f"too few ({len(words)}) arguments for a rcode rule")
    old, new = words[-2:] if len(words) < 5 else ("", "")
    before, after = rcode(old, "matching"), rcode(new, "replacement")
    match, name = matched("rcode", words, 2)
    return ReplyRule(stop, match, name, Code(before, after))


# ---- cname


def lowered(pattern: str) -> str:
    """An expression in lower case, as CoreDNS has it; what stands behind a backslash keeps its meaning."""
    return re.sub(r"\\.|[^\\]+", lambda part: part[0] if part[0].startswith("\\") else part[0].lower(), pattern)


def cname_rule(stop: bool, words: Sequence[str]) -> CnameRule:
    """`[MATCH] FROM TO`."""
    if len(words) not in (2, 3):
        raise Refused(f"too few ({len(words)}) arguments for a cname rule")
    match = words[0].lower() if len(words) == 3 else "exact"
    if match not in MATCHES:
        raise Refused(f"unknown cname rewrite type: {match}")
    old, new = words[-2], words[-1].lower()
    if match == "exact":
        old, new = fqdn(old), fqdn(new)
    elif match == "regex":
        old = lowered(old)
        size = len(old.encode())
        if size > REGEX_MAX:
            raise Refused(f"regex pattern too long in a cname rule: {size} > {REGEX_MAX}")
        expression(old, "invalid cname rewrite regex pattern: {cause}")
    else:
        old = old.lower()
    return CnameRule(stop, match, old, new)


# ---- the line


def rule(words: Sequence[str]) -> Any:
    """A rule of its words."""
    if not words:
        raise Refused("no rule type specified for rewrite")
    mode = words[0].lower()
    if mode in ("continue", "stop"):
        if len(words) < 2:
            raise Refused(f"{mode} rule must begin with a rule type")
        field, rest = words[1].lower(), words[2:]
    else:
        field, rest = mode, words[1:]
    stop = mode != "continue"
    if field == "answer":
        raise Refused("response rewrites must begin with a name rule")
    if field in ("type", "class"):
        return number_rule(field, stop, rest)
    readers = {"name": name_rule, "edns0": edns0_rule, "ttl": ttl_rule, "cname": cname_rule, "rcode": rcode_rule}
    if field not in readers:
        raise Refused(f"invalid rule type {quote(words[0])}")
    return readers[field](stop, rest)


def occurrence(d: Dispenser) -> Any:
    """One rule, from its line or, where that has fewer than two words, from its block too."""
    words = d.remaining_args()
    if len(words) < 2:
        while d.next_block():
            words.append(d.val)
    try:
        return rule(words)
    except Refused as error:
        raise d.fail(str(error)) from None


REWRITE = Directive(
    "rewrite", parse_one=occurrence, usage="rewrite [continue|stop] FIELD ...",
    help="Changes queries, and their replies back.",
)
