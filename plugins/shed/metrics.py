# SPDX-License-Identifier: Apache-2.0
"""The metric of shed. `reason` is query or response."""

from fastdns.plugin import Counter

DROPPED = Counter(
    "coredns_shed_dropped_total", "Counter of queries and responses dropped, per server, by reason.",
    ("server", "reason"))
