# SPDX-License-Identifier: Apache-2.0
"""The metrics of forward, with CoreDNS's names, and the words that its processes share."""

from fastdns._forward import EVENTS, RCODES
from fastdns._log import RCODES as RCODE_NAMES
from fastdns._stats import OVERFLOW_LABEL, Stats
from fastdns.metrics import Counter, Gauge, Histogram
from fastdns.upstream_numbers import number

PROXY = "forward"
PROTOS = ("udp", "tcp")
RCODE_LABELS = (*(RCODE_NAMES.get(n, str(n)) for n in range(RCODES - 1)), OVERFLOW_LABEL)

DURATION = Histogram(
    "coredns_proxy_request_duration_seconds", "Time of an upstream's answer.", ("proxy_name", "to", "rcode")
)
FAILURES = Counter("coredns_proxy_healthcheck_failures_total", "Failed health checks.", ("proxy_name", "to"))
HITS = Counter(
    "coredns_proxy_conn_cache_hits_total", "Questions sent through what was open.", ("proxy_name", "to", "proto")
)
MISSES = Counter(
    "coredns_proxy_conn_cache_misses_total", "Questions that opened something first.", ("proxy_name", "to", "proto")
)
BROKEN = Counter("coredns_forward_healthcheck_broken_total", "Queries for which all upstreams were unhealthy.")
REJECTS = Counter("coredns_forward_max_concurrent_rejects_total", "Queries rejected because too many were in flight.")
CONCURRENT = Gauge("fastdns_forward_concurrent", "Queries in flight under max_concurrent.", ("block", "stanza"))
EVENT = Counter("fastdns_forward_events_total", "What happened on the way to upstreams and back.", ("event",))


def upstream_slots(stats: Stats, block: int, stanza: int, to: str) -> dict[str, object]:
    """The slots of one upstream, series by its label, words by its place in the configuration; and its number."""
    labels = (("block", str(block)), ("stanza", str(stanza)), ("to", to))
    return {
        "number": number(stats, to),
        "fails": stats.intern("forward_fails", labels, "word"),
        "drained": stats.intern("forward_drained", (("to", to),), "word"),
        "looped": stats.intern("forward_looped", labels, "word"),
        "check": stats.intern("forward_check", labels, "word"),
        "warm": stats.intern("forward_warm", labels, "word"),
        "duration": DURATION.grid(stats, (PROXY, to), (("rcode", RCODE_LABELS),)),
        "hits": [HITS.slot(PROXY, to, proto, stats=stats) for proto in PROTOS],
        "misses": [MISSES.slot(PROXY, to, proto, stats=stats) for proto in PROTOS],
    }


def stanza_slots(stats: Stats, block: int, stanza: int, limited: bool) -> dict[str, int]:
    """The slots of one stanza."""
    labels = (("block", str(block)), ("stanza", str(stanza)))
    return {
        "broken": BROKEN.slot(stats=stats),
        "rejects": REJECTS.slot(stats=stats),
        "concurrent": CONCURRENT.slot(str(block), str(stanza), stats=stats) if limited else 0,
        "robin": stats.intern("forward_robin", labels, "word"),
        "events": EVENT.grid(stats, (), (("event", EVENTS),)),
    }
