# SPDX-License-Identifier: Apache-2.0
"""The metrics of dnstap; `to` is a line's socket."""

from fastdns.plugin import Counter, Gauge

SENT = Counter("fastdns_dnstap_messages_total", "Messages that collectors were given, by the line's socket.", ("to",))
DROPPED = Counter(
    "fastdns_dnstap_dropped_total",
    "Messages that no collector was given: the ring of a worker was full (ring), or what waits for a collector was "
    "(queue), there was no connection (down), or it broke (broken).",
    ("to", "reason"),
)
CONNECTIONS = Gauge("fastdns_dnstap_connections", "Collectors that are connected, by the line's socket.", ("to",))
DAMAGED = Counter("fastdns_dnstap_damaged_total", "Records in the shared rings that made no sense.")
