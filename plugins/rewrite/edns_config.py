# SPDX-License-Identifier: Apache-2.0
"""The grammar of the edns0 rules, and numbers as Go writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastdns.corefile.units import quote

from .edns import ACTIONS, ECS, NSID, VARIABLES, OptionRule

GO_INTEGER = re.compile(
    r"(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)\Z"
)


class Refused(ValueError):
    """A rule that is wrong; the text is CoreDNS's."""


def literal(text: str, bits: int = 16) -> int:
    """An unsigned number in any of Go's forms."""
    if not GO_INTEGER.match(text):
        raise Refused(f"strconv.ParseUint: parsing {quote(text)}: invalid syntax")
    plain = text.replace("_", "")
    number = int(plain, 8 if re.match(r"0[0-7]", plain) else 0)
    if number >= 1 << bits:
        raise Refused(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return number


def data_octets(text: str) -> bytes:
    """Hexadecimal behind `0x`, else the text itself."""
    if not text.startswith("0x"):
        return text.encode("utf-8", "surrogateescape")
    for char in text[2:]:
        if char not in "0123456789abcdefABCDEF":
            byte = char.encode("utf-8", "surrogateescape")[0]
            shown = f" '{chr(byte)}'" if chr(byte).isprintable() else ""
            raise Refused(f"encoding/hex: invalid byte: U+{byte:04X}{shown}")
    if len(text) % 2:
        raise Refused("encoding/hex: odd length hex string")
    return bytes.fromhex(text[2:])


def prefix(text: str, most: int, family: str) -> int:
    """A prefix length."""
    bits = literal(text)
    if bits > most:
        raise Refused(f"invalid {family} bit mask length {bits}")
    return bits


def is_variable(word: str) -> bool:
    """Whether a word in braces is a placeholder or a metadata label."""
    return word in VARIABLES or 2 <= word.find("/") < len(word) - 2


def edns0_rule(stop: bool, words: Sequence[str]) -> OptionRule:
    """`local|nsid|subnet ACTION ...`."""
    if len(words) < 2:
        raise Refused("too few arguments for an EDNS0 rule")
    kind, action = words[0].lower(), words[1].lower()
    if action not in ACTIONS:
        raise Refused(f"invalid action: {quote(action)}")
    if action == "unset":
        return unset_rule(stop, kind, words)
    revert = words[-1] == "revert"
    if revert:
        words = words[:-1]
    if kind == "local":
        if len(words) != 4:
            raise Refused("EDNS0 local rules require three or four args")
        code, value = literal(words[2]), words[3]
        if value.startswith("{") and value.endswith("}"):
            if not is_variable(value):
                raise Refused(f"unsupported variable name {quote(value)}")
            return OptionRule(stop, kind, action, code, variable=value, revert=revert)
        return OptionRule(stop, kind, action, code, data_octets(value), revert=revert)
    if kind == "nsid":
        if len(words) != 2:
            raise Refused("EDNS0 NSID rules can accept no more than one arg")
        return OptionRule(stop, kind, action, NSID, revert=revert)
    if kind == "subnet":
        if len(words) != 4:
            raise Refused("EDNS0 subnet rules require three or four args")
        bits = prefix(words[2], 32, "IPv4"), prefix(words[3], 128, "IPv6")
        return OptionRule(stop, kind, action, ECS, bits=bits, revert=revert)
    raise Refused(f"invalid rule type {quote(kind)}")


def unset_rule(stop: bool, kind: str, words: Sequence[str]) -> OptionRule:
    """`local unset CODE`, `nsid unset`, `subnet unset`."""
    if kind not in ("local", "nsid", "subnet"):
        raise Refused(f"invalid rule type {quote(kind)}")
    if len(words) != (3 if kind == "local" else 2):
        raise Refused(f"{kind} unset action requires exactly {'two arguments' if kind == 'local' else 'one argument'}")
    code = literal(words[2]) if kind == "local" else NSID if kind == "nsid" else ECS
    return OptionRule(stop, kind, "unset", code)
