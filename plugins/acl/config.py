# SPDX-License-Identifier: Apache-2.0
"""The grammar of acl: each directive is a rule, each line in its braces a policy.

Strategy: a policy's line is words in sections that may come in any order and more than once, so it is read by hand;
what it means is kept as plain values, which tables.py turns into something that is quick to search.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastdns.corefile import names
from fastdns.corefile.units import quote
from fastdns.plugin import Directive, Dispenser, Option

ACTIONS = ("allow", "block", "filter", "drop")
SECTIONS = ("type", "net")
ANYTHING = "*"
WIDTHS = {4: 32, 6: 128}
USAGE = "[type QTYPE...] [net SOURCE...]"


@dataclass(frozen=True)
class Policy:
    """One line. `types`: numbers of types, None all of them. `networks`: (IP version, first, last address as numbers),
    None every client."""

    action: str
    types: frozenset[int] | None = None
    networks: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True)
class Rule:
    """One directive: its policies, and the zones that it is about."""

    zones: tuple[str, ...]
    policies: tuple[Policy, ...]


def read_types(words: list[str], d: Dispenser) -> frozenset[int] | None:
    """The types of one section; None as soon as one of the words means all."""
    from fastdns._log import TYPES

    numbers = {name: number for number, name in TYPES.items()}
    found = set()
    for word in words:
        if word == ANYTHING:
            return None
        if word not in numbers:
            raise d.err(f"unexpected token {quote(word)}; expect legal QTYPE")
        found.add(numbers[word])
    # Type 0 is CoreDNS's sign for all types, and has a name.
    return None if 0 in found else frozenset(found)


def read_networks(words: list[str], d: Dispenser) -> tuple[tuple[int, int, int], ...] | None:
    """The networks of one section; None as soon as one of the words means every client."""
    found = []
    for word in words:
        if word == ANYTHING:
            return None
        text = word if "/" in word else f"{word}/{128 if ':' in word else 32}"
        network = names.parse_cidr(text)
        if network is None:
            raise d.err(f"illegal CIDR notation {quote(text)}")
        found.append((network.version, int(network.network_address), int(network.broadcast_address)))
    return tuple(found)


def read_policy(d: Dispenser) -> Policy:
    """One line; the current token is the action. Raises CorefileError in CoreDNS's words."""
    action = d.val.lower()
    if action not in ACTIONS:
        raise d.err(f"unexpected token {quote(d.val)}; expect 'allow', 'block', 'filter' or 'drop'")
    words = d.remaining_args()
    types: frozenset[int] | None = frozenset()
    networks: tuple[tuple[int, int, int], ...] | None = ()
    seen = set()
    while words:
        section = words[0].lower()
        if section not in SECTIONS:
            raise d.err(f"unexpected token {quote(words[0])}; expect 'type | net'")
        end = next((i for i in range(1, len(words)) if words[i].lower() in SECTIONS), len(words))
        if end == 1:
            raise d.err(f"no token specified in {quote(section)} section")
        seen.add(section)
        if section == "type":
            more = read_types(words[1:end], d)
            types = None if types is None or more is None else types | more
        else:
            further = read_networks(words[1:end], d)
            networks = None if networks is None or further is None else networks + further
        words = words[end:]
    return Policy(action, types if "type" in seen else None, networks if "net" in seen else None)


def read_rule(d: Dispenser) -> Rule:
    """One directive; the current token is its name."""
    zones = tuple(names.origins(d.remaining_args(), d.keys))
    policies = []
    while d.next_block():
        policies.append(read_policy(d))
    return Rule(zones, tuple(policies))


HELP = {
    "allow": "Lets the query pass; no further rule is looked at.",
    "block": "Answers REFUSED, with the extended error 15 (Blocked).",
    "filter": "Answers NOERROR without records, with the extended error 17 (Filtered).",
    "drop": "Sends no answer.",
}

ACL = Directive(
    "acl",
    usage="acl [ZONES...]",
    options=tuple(Option(action, usage=f"{action} {USAGE}", help=HELP[action]) for action in ACTIONS),
    parse_one=read_rule,
    help="Says who may ask what.",
)

__all__ = ["ACL", "ACTIONS", "WIDTHS", "Policy", "Rule"]
