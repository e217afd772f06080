# SPDX-License-Identifier: Apache-2.0
"""The metrics of top: two counters of its own work, and the gauges of `metrics`, which are made at each scrape."""

from fastdns.plugin import Counter, Gauge

LOOKED = Counter("fastdns_top_counted_total", "Queries that top counted one by one.")
EVICTIONS = Counter("fastdns_top_evictions_total", "Counters of top that went from one client or name to another.")

RATES = {
    "clients": Gauge("fastdns_top_client_queries_per_second", "Queries of the busiest clients.", ("client",)),
    "names": Gauge("fastdns_top_name_queries_per_second", "Queries for the names asked for most.", ("name",)),
    "suffixes": Gauge(
        "fastdns_top_nxdomain_queries_per_second", "Queries for names below a suffix that do not exist.", ("suffix",)
    ),
}
