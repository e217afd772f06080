# SPDX-License-Identifier: Apache-2.0
"""The order of the chain: CoreDNS's directives as one table, and where everyone else's plugins go.

A block's chain has nothing to do with the order of its lines: plugins run in the order of this table, whatever a
Corefile writes first. `chain` takes part in answering queries, `side` configures the server or works in the
background. What stands before `cache` sees every query, what stands behind it sees misses only.

Strategy: the table names all directives of CoreDNS, built here or not, because a known name that is not built yet is
another mistake than an unknown one, and among them our own (OURS). A plugin that is not in the table says `before=` or
`after=` which other it runs; it is placed next to that one, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from .errors import ConfigError

Kind = Literal["chain", "side"]


class Row(NamedTuple):
    """A directive, whether it takes part in answering, and what it is for."""

    name: str
    kind: Kind
    purpose: str


ORDER: tuple[Row, ...] = (
    Row("root", "side", "base directory of relative paths"),
    Row("metadata", "chain", "collects labels for each query"),
    Row("geoip", "chain", "looks clients up in a database of places"),
    Row("cancel", "chain", "deadline of a query"),
    Row("proxyproto", "side", "PROXY protocol on listeners"),
    Row("quic", "side", "limits of DNS over QUIC"),
    Row("grpc_server", "side", "limits of DNS over gRPC"),
    Row("https", "side", "limits of DNS over HTTPS"),
    Row("https3", "side", "limits of DNS over HTTP/3"),
    Row("timeouts", "side", "timeouts of connections"),
    Row("multisocket", "side", "several sockets for each listener"),
    Row("reload", "side", "watches the Corefile"),
    Row("nsid", "chain", "puts the server's identity into replies"),
    Row("bufsize", "chain", "bounds the size that a client advertises"),
    Row("bind", "side", "addresses to listen on"),
    Row("debug", "side", "debug log"),
    Row("trace", "chain", "tracing"),
    Row("ready", "side", "HTTP /ready"),
    Row("health", "side", "HTTP /health"),
    Row("pprof", "side", "profiling over HTTP"),
    Row("shed", "chain", "sheds load"),
    Row("top", "chain", "busiest clients and names"),
    Row("prometheus", "chain", "metrics"),
    Row("errors", "chain", "logs what failed"),
    Row("log", "chain", "logs queries"),
    Row("dnstap", "chain", "dnstap messages"),
    Row("cookie", "chain", "DNS cookies"),
    Row("local", "chain", "names of the local host"),
    Row("dns64", "chain", "IPv6 addresses made of IPv4 addresses"),
    Row("any", "chain", "a short answer to type ANY"),
    Row("chaos", "chain", "version.bind and its like"),
    Row("loadbalance", "chain", "order of the records of a reply"),
    Row("tsig", "chain", "verifies and signs"),
    Row("rewrite", "chain", "rewrites queries and replies"),
    Row("autopath", "chain", "search path on the server's side"),
    Row("acl", "chain", "who may ask what"),
    Row("rrl", "chain", "limits for each client network"),
    Row("cache", "chain", "keeps answers"),
    Row("header", "chain", "sets and clears flags"),
    Row("dnssec", "chain", "signs on the fly"),
    Row("tls", "side", "certificates"),
    Row("minimal", "chain", "drops what need not be in a reply"),
    Row("template", "chain", "answers made from a pattern"),
    Row("transfer", "chain", "zone transfers to others"),
    Row("hosts", "chain", "a hosts file"),
    Row("route53", "chain", "zones kept at AWS"),
    Row("azure", "chain", "zones kept at Azure"),
    Row("clouddns", "chain", "zones kept at Google"),
    Row("k8s_external", "chain", "external names of a cluster's services"),
    Row("kubernetes", "chain", "names of a cluster"),
    Row("file", "chain", "a zone file"),
    Row("auto", "chain", "a directory of zone files"),
    Row("secondary", "chain", "zones transferred from a primary"),
    Row("etcd", "chain", "names kept in etcd"),
    Row("loop", "chain", "finds forwarding loops"),
    Row("forward", "chain", "asks other servers"),
    Row("grpc", "chain", "asks other servers over gRPC"),
    Row("erratic", "chain", "answers badly, for tests"),
    Row("whoami", "chain", "tells clients who they are"),
    Row("on", "side", "runs commands on events"),
    Row("sign", "side", "signs zone files"),
    Row("view", "chain", "blocks for some queries only"),
    Row("nomad", "chain", "services of Nomad"),
)
OURS = frozenset({"cookie", "rrl", "top"})
"""Rows that CoreDNS does not have; the others are in its order."""
NAMES: tuple[str, ...] = tuple(row.name for row in ORDER)
KINDS: dict[str, Kind] = {row.name: row.kind for row in ORDER}
PLACES: dict[str, int] = {name: place for place, name in enumerate(NAMES)}


class Place(NamedTuple):
    """Where a plugin that is not in the table wants to stand: one of the two names a directive."""

    before: str = ""
    after: str = ""


def arrange(names: Sequence[str], places: Mapping[str, Place]) -> list[str]:
    """`names` in the order in which they run.

    `places` says where names outside the table stand; a neighbour may be such a name too. Two plugins with the
    same neighbour stand in alphabetical order. Raises ConfigError for a name without a place, for a place next to
    an unknown plugin, and for two that wait for each other.
    """
    line = list(NAMES)
    waiting = sorted(name for name in places if name not in PLACES)
    for name in names:
        if name not in PLACES and name not in places:
            raise ConfigError(f"plugin '{name}' has no place in the chain")
    while waiting:
        placed = [name for name in waiting if _insert(line, name, places[name])]
        if not placed:
            raise ConfigError(f"plugin '{waiting[0]}' has no place in the chain: {_complaint(places[waiting[0]])}")
        waiting = [name for name in waiting if name not in placed]
    wanted = set(names)
    return [name for name in line if name in wanted]


def _insert(line: list[str], name: str, place: Place) -> bool:
    neighbour = place.before or place.after
    if neighbour not in line or bool(place.before) == bool(place.after):
        return False
    at = line.index(neighbour) + bool(place.after)
    while place.after and at < len(line) and line[at] not in PLACES and line[at] < name:
        at += 1
    line.insert(at, name)
    return True


def _complaint(place: Place) -> str:
    if bool(place.before) == bool(place.after):
        return "it must say either before= or after= which plugin it runs"
    return f"there is no plugin '{place.before or place.after}' to stand next to"
