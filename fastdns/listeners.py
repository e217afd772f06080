# SPDX-License-Identifier: Apache-2.0
"""Server blocks, the listeners by which they are reached, and what forbids that they are served together.

Strategy: a block listens where its keys and its `bind` say. Blocks that share an address share a listener, which routes
by zone; a zone has several blocks only where filters (`view`) choose between them. What contradicts itself is found
before anything is opened, each mistake with the block and the key that it is about: a start reports the first,
`fastdns check` all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .corefile import Claims, ListenKey, ServerBlock, ZoneKey
from .corefile.addresses import DNS, join_host_port
from .errors import ConfigError, KeysError, SetupError
from .labels import Labels
from .plugin import BlockPlan, Plugin

ESSENTIAL = ("health", "pprof")
"""Services over HTTP whose address must open, or the server does not start; of others the start logs it and goes on."""


@dataclass
class Block:
    """A server block: its directives in order of the chain, their configurations, and then their instances."""

    source: ServerBlock
    plan: BlockPlan
    configs: dict[str, list[Any]] = field(default_factory=dict)
    members: list[tuple[str, Plugin]] = field(default_factory=list)
    labels: Labels = field(init=False)

    def __post_init__(self) -> None:
        self.labels = Labels("metadata" in self.plan.directives)

    @property
    def zones(self) -> tuple[str, ...]:
        """The zones of the block, each once."""
        return tuple(dict.fromkeys(key.zone for key in self.source.zones))

    def addresses(self) -> list[str]:
        """Where the block listens, each address as often as it is written; one empty text for all of the host's."""
        return [""] if self.plan.listen is None else self.plan.listen

    def listen_keys(self) -> Iterator[ListenKey]:
        """Every key of the block on every address."""
        for key in self.source.zones:
            for address in self.addresses():
                yield ListenKey(key, address)


@dataclass
class Listener:
    """A listen address of the server, and for each zone the blocks that are reached by it: one, unless some are
    filtered, in order of the Corefile."""

    scheme: str
    address: str
    port: int
    sockets: int
    steer: str
    routes: dict[str, list[int]] = field(default_factory=dict)

    def blocks(self) -> set[int]:
        """Those that are reached by it."""
        return {number for numbers in self.routes.values() for number in numbers}

    @property
    def server(self) -> str:
        """The label of metrics and logs: `dns://:53`, `dns://[::1]:53`."""
        return f"{self.scheme}://{join_host_port(self.address, self.port)}"


def listeners_of(blocks: list[Block]) -> list[Listener]:
    """Listen addresses in order of first mention. The first block of an address decides about its sockets."""
    for _, _, error in complaints(blocks):
        raise error
    found: dict[tuple[str, str, int], Listener] = {}
    for block in blocks:
        for key in block.listen_keys():
            at = (key.key.scheme, key.address, key.key.port)
            listener = found.setdefault(at, Listener(*at, block.plan.sockets, block.plan.steer))
            numbers = listener.routes.setdefault(key.key.zone, [])
            if block.plan.index not in numbers:
                numbers.append(block.plan.index)
    return list(found.values())


def complaints(blocks: list[Block]) -> Iterator[tuple[Block, ZoneKey, KeysError]]:
    """What cannot be served, as (block, key, error); the first is the one that a start reports."""
    for block in blocks:
        if not block.addresses():
            key = block.source.zones[0]
            yield block, key, KeysError(f"cannot serve {key} - no address is left to bind to")
    wanted = [(block, at) for block in blocks for at in block.listen_keys()]
    for block, at in wanted:
        if at.key.scheme != DNS:
            yield block, at.key, KeysError(f"cannot serve {at} - scheme '{at.key.scheme}' is not built yet")
    claims = Claims()
    for block, at in wanted:
        try:
            claims.add(at, block.plan.filtered)
        except KeysError as error:
            yield block, at.key, error


def gates(blocks: list[Block]) -> ConfigError | None:
    """What is wrong where one address is asked for over HTTP, with TLS by one line and without or by other files by
    another: there is one socket, and nobody should find his numbers open because of the order of the blocks."""
    seen: dict[str, dict[str, Any]] = {}
    for block in blocks:
        for facts in block.plan.asked("http"):
            first = seen.setdefault(facts["address"], facts)
            if first.get("tls", "") == facts.get("tls", ""):
                continue
            file, line = next(one["at"] for one in (facts, first) if "at" in one)
            said = " and ".join(map(_asked, (first, facts)))
            return SetupError("prometheus", ConfigError(f"{facts['address']} is asked for twice: {said}", file, line))
    return None


def _asked(facts: dict[str, Any]) -> str:
    way = f"with tls {facts['tls']}" if facts.get("tls") else "without tls"
    return "prometheus {} ({}:{})".format(way, *facts["at"]) if "at" in facts else f"{facts['service']} {way}"
