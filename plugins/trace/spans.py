# SPDX-License-Identifier: Apache-2.0
"""A finished trace of the compiled half, as the two formats need it.

Strategy: the compiled half keeps numbers; names, texts and the ids of the inner spans are made here, by the Python
thread, when a trace is on its way out.
"""

from __future__ import annotations

import ipaddress
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdns._log import rcode_name, type_name
from fastdns._wire import name_to_text

if TYPE_CHECKING:
    from ._trace import Found

PROTOS = ("udp", "tcp")
TOP = "servedns"
CONNECT = "connect"


@dataclass
class Inner:
    """A span within that of the query. Times are nanoseconds; `parent` is None for a child of the query's own."""

    id: int
    parent: Inner | None
    name: str
    begin_ns: int
    duration_ns: int
    peer: str | None


@dataclass
class Query:
    """A traced query: the span `servedns` and what is in it."""

    id: int
    high: int
    begin_ns: int
    duration_ns: int
    tags: dict[str, str]
    error: str
    inner: list[Inner]

    @property
    def trace_id(self) -> str:
        """As it is written: 16 digits, or 32."""
        return f"{self.high:016x}{self.id:016x}" if self.high else f"{self.id:016x}"


def read(found: Found, chain: tuple[str, ...]) -> Query:
    """One trace. `chain` are the block's plugins."""
    (real, begin, end, number, high, name, qtype, proto, family, client, rcode, error, _lost, spans) = found
    tags = {
        "name": name_to_text(name) if name else ".",
        "type": type_name(qtype),
        "rcode": rcode_name(rcode),
        "proto": PROTOS[proto],
        "remote": str(ipaddress.IPv4Address(client) if family == 1 else ipaddress.IPv6Address(client)),
    }
    inner: list[Inner] = []
    for position, parent, span_begin, span_end, peer in spans:
        # A span that nobody ended has ended with the query.
        length = max(0, min(span_end or end, end) - span_begin)
        inner.append(Inner(random.getrandbits(63) | 1, inner[parent] if parent >= 0 else None,
                           CONNECT if peer is not None else chain[position], real + span_begin - begin, length, peer))
    return Query(number, high, real, end - begin, tags, error.decode("utf-8", "replace"), inner)
