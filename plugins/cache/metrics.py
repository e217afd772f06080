# SPDX-License-Identifier: Apache-2.0
"""The metrics of cache: CoreDNS's but for the entries, which are counted at a scrape, and three of the shared
segment."""

from fastdns.plugin import Counter

PLAIN = ("server", "zones", "view")
TYPED = ("server", "type", "zones", "view")

REQUESTS = Counter("coredns_cache_requests_total", "Queries that were looked up.", PLAIN)
HITS = Counter("coredns_cache_hits_total", "Look-ups that found an entry.", TYPED)
MISSES = Counter("coredns_cache_misses_total", "Look-ups that found none.", PLAIN)
PREFETCH = Counter("coredns_cache_prefetch_total", "Refreshes in the background.", PLAIN)
DROPS = Counter("coredns_cache_drops_total", "Replies not stored because their question was not the query's.", PLAIN)
SERVED_STALE = Counter("coredns_cache_served_stale_total", "Queries answered with an expired entry.", PLAIN)
EVICTIONS = Counter("coredns_cache_evictions_total", "Entries that gave way to others.", TYPED)

TORN = Counter("fastdns_cache_torn_total", "Entries refused because they were overtaken or damaged while read.")
PROMOTED = Counter("fastdns_cache_promoted_total", "Entries copied to the head of the main ring after a hit.")
LOST = Counter("fastdns_cache_lost_total", "Replies not stored because a newer one was there, or no room.")
SNAPSHOTS = Counter("fastdns_cache_snapshots_total", "Snapshots by what became of them.", ("result",))
