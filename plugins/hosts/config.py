# SPDX-License-Identifier: Apache-2.0
"""The grammar of hosts.

Strategy: rows for the options; but a line whose first word is none of them is a line of a hosts file, as long as no
`fallthrough` stands before it, so the walk over the lines is our own.
"""

from collections.abc import Mapping
from typing import Any

from fastdns.corefile.names import fallthrough_zones, origins
from fastdns.corefile.types import Duration, Int, Located
from fastdns.plugin import Directive, Dispenser, Option, Settings

FILE = "/etc/hosts"
TTL = 3600
TTL_MOST = 65535
RELOAD = 5.0

SECONDS = Int(1, TTL_MOST, below=Located("ttl provided is invalid"), bad=Located("ttl needs a number of second"))
INTERVAL = Duration(
    0,
    below=Located("invalid negative duration for reload '{text}'"),
    bad=Located("invalid duration for reload '{text}'"),
)


def ttl(d: Dispenser) -> Mapping[str, Any]:
    """`ttl SECONDS`; further words are passed over."""
    words = d.remaining_args()
    if not words:
        raise d.err("ttl needs a time in second")
    return {"ttl": SECONDS.read(words[0], d)}


def reload(d: Dispenser) -> Mapping[str, Any]:
    """`reload DURATION`."""
    words = d.remaining_args()
    if len(words) != 1:
        raise d.err("reload needs a duration (zero seconds to disable)")
    return {"reload": INTERVAL.read(words[0], d)}


def no_reverse(d: Dispenser) -> Mapping[str, Any]:
    """`no_reverse`. A word behind it is a line of its own to CoreDNS."""
    return {"no_reverse": True}


def fallthrough(d: Dispenser) -> Mapping[str, Any]:
    """`fallthrough [ZONES...]`: the last line counts."""
    return {"fallthrough": tuple(fallthrough_zones(d.remaining_args()))}


OPTIONS = (
    Option("ttl", parse=ttl, defaults={"ttl": TTL}, usage="ttl SECONDS",
           help="TTL of the records (3600), 1 to 65535."),
    Option("no_reverse", parse=no_reverse, defaults={"no_reverse": False},
           help="No PTR records are made of the entries."),
    Option("reload", parse=reload, defaults={"reload": RELOAD}, usage="reload DURATION",
           help="How often FILE is looked at (5s) and, if its time or size changed, read again; 0: never."),
    Option("fallthrough", parse=fallthrough, defaults={"fallthrough": ()}, usage="fallthrough [ZONES...]",
           help="Unknown names in ZONES (all) go to the next plugin. Behind it no INLINE line may stand."),
    Option("fallthrough_unsupported",
           help="Types other than A, AAAA and PTR go to the next plugin, where `fallthrough` lets them."),
)


def occurrence(d: Dispenser) -> Settings:
    """`hosts [FILE [ZONES...]] { ... }`."""
    file, line, column = d.file, d.line, d.token.column
    args = d.remaining_args()
    values: dict[str, Any] = {"path": args[0] if args else None, "zones": tuple(origins(args[1:], d.keys)),
                              "column": column}
    table = {option.name: option for option in OPTIONS}
    for option in OPTIONS:
        values.update(option.initial())
    inline: list[str] = []
    given: list[str] = []
    while d.next_block():
        if d.val in table:
            given.append(d.val)
            values.update(table[d.val].read(d))
        elif values["fallthrough"]:
            raise d.err(f"unknown property '{d.val}'")
        else:
            inline.append(" ".join([d.val, *d.remaining_args()]))
    if values["fallthrough_unsupported"] and not values["fallthrough"]:
        raise d.err("fallthrough_unsupported requires fallthrough")
    values["inline"] = tuple(inline)
    return Settings(values, given, file, line)


HOSTS = Directive(
    "hosts",
    options=OPTIONS,
    once=True,
    parse_one=occurrence,
    usage="hosts [FILE [ZONES...]]",
    help="Answers from a hosts file.",
)
