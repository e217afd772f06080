# SPDX-License-Identifier: Apache-2.0
"""Traces as Datadog's agent takes them (/v0.4/traces): a list of traces, each a list of spans, in MessagePack.

Strategy: a trace has one span, as CoreDNS's has: its plugins know of Zipkin's spans only. MessagePack is written by
hand, because a handful of its types is all that is needed.
"""

from __future__ import annotations

import os
import platform
import struct
from typing import Any

import fastdns

from .spans import TOP, Query

TAGS = "coredns.io@"
PATH = "/v0.4/traces"
Trace = list[dict[str, Any]]


def pack(value: Any) -> bytes:
    """MessagePack of dictionaries, lists, texts, whole numbers and floats. TypeError."""
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else struct.pack("!BH", 0xDE, len(value))
        return head + b"".join(pack(key) + pack(item) for key, item in value.items())
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else struct.pack("!BI", 0xDD, len(value))
        return head + b"".join(pack(item) for item in value)
    if isinstance(value, str):
        octets = value.encode("utf-8", "replace")
        small = len(octets) < 32
        return (bytes([0xA0 | len(octets)]) if small else struct.pack("!BI", 0xDB, len(octets))) + octets
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        return struct.pack("!BQ", 0xCF, value) if value > 0 else struct.pack("!Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack("!Bd", 0xCB, value)
    raise TypeError(f"{type(value).__name__} in MessagePack")


def trace(query: Query, service: str, rate: float) -> Trace:
    """The trace of a query. `rate`: the share of traces that are to be analyzed."""
    meta = {
        "dns": "true",
        "language": "python",
        "_dd.p.dm": "-1",
        "_dd.p.tid": f"{query.high:016x}",
        **{TAGS + name: value for name, value in query.tags.items()},
    }
    metrics = {"_dd.top_level": 1.0, "_sampling_priority_v1": 1.0, "process_id": float(os.getpid())}
    if rate > 0:
        metrics["_dd1.sr.eausr"] = rate
    if query.error:
        meta |= {"error.message": query.error, "error.type": "dns_error"}
    return [{
        "name": TOP,
        "service": service,
        "resource": TOP,
        "type": "",
        "start": query.begin_ns,
        "duration": query.duration_ns,
        "meta": meta,
        "metrics": metrics,
        "span_id": query.id,
        "trace_id": query.id,
        "parent_id": 0,
        "error": 1 if query.error else 0,
    }]


def headers(batch: list[Trace]) -> tuple[tuple[str, str], ...]:
    """The fields of a request's head."""
    return (
        ("Content-Type", "application/msgpack"),
        ("Datadog-Meta-Lang", "python"),
        ("Datadog-Meta-Lang-Version", platform.python_version()),
        ("Datadog-Meta-Tracer-Version", f"fastdns-{fastdns.__version__}"),
        ("X-Datadog-Trace-Count", str(len(batch))),
    )
