# SPDX-License-Identifier: Apache-2.0
"""Spans as Zipkin's API takes them (POST /api/v2/spans): a JSON list, shaped as CoreDNS's library shapes it."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from .spans import TOP, Query

TAGS = "coredns.io/"
HEADERS = (("Content-Type", "application/json"), ("b3", "0"))  # the collector shall not trace this


def local(service: str, server: str) -> dict[str, Any]:
    """This end of a span. `server` is the label of the block's first listener: `dns://127.0.0.1:53`."""
    found: dict[str, Any] = {"serviceName": service.lower()}
    host, _, port = server.partition("://")[2].rpartition(":")
    host = host.strip("[]")
    if host:
        address = ipaddress.ip_address(host.partition("%")[0])
        found["ipv4" if address.version == 4 else "ipv6"] = str(address)
        found["port"] = int(port)
    return found


def microseconds(duration_ns: int) -> int:
    """A duration; what is shorter than one is one."""
    return max(1, round(duration_ns / 1000))


def spans(query: Query, at: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans of a traced query, in the order in which they end."""
    trace = query.trace_id
    out: list[dict[str, Any]] = []
    for one in sorted(query.inner, key=lambda inner: inner.begin_ns, reverse=True):
        span: dict[str, Any] = {
            "timestamp": one.begin_ns // 1000,
            "duration": microseconds(one.duration_ns),
            "traceId": trace,
            "id": f"{one.id:016x}",
            "parentId": f"{one.parent.id if one.parent is not None else query.id:016x}",
            "name": one.name.lower(),
            "localEndpoint": at,
        }
        if one.peer is not None:
            span["tags"] = {"peer.address": one.peer}
        out.append(span)
    top: dict[str, Any] = {
        "timestamp": query.begin_ns // 1000,
        "duration": microseconds(query.duration_ns),
        "traceId": trace,
        "id": f"{query.id:016x}",
        "name": TOP,
        "kind": "SERVER",
        "localEndpoint": at,
        "tags": {TAGS + name: value for name, value in sorted(query.tags.items())},
    }
    if query.error:
        moment = (query.begin_ns + query.duration_ns) // 1000
        top["tags"]["error"] = "true"
        top["annotations"] = [{"timestamp": moment, "value": "event:error"},
                              {"timestamp": moment, "value": f"error.object:{query.error}"}]
    out.append(top)
    return out


def encode(batch: list[dict[str, Any]]) -> bytes:
    """The body of a request."""
    return json.dumps(batch, separators=(",", ":")).encode()
