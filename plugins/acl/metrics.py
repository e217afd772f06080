# SPDX-License-Identifier: Apache-2.0
"""The metrics of acl. `zone` is the zone of the rule that decided."""

from fastdns.plugin import Counter

BY_ZONE = ("server", "zone", "view")

ALLOWED = Counter("coredns_acl_allowed_requests_total", "Queries that passed.", ("server", "view"))
BLOCKED = Counter("coredns_acl_blocked_requests_total", "Queries answered REFUSED.", BY_ZONE)
FILTERED = Counter("coredns_acl_filtered_requests_total", "Queries answered without records.", BY_ZONE)
DROPPED = Counter("coredns_acl_dropped_requests_total", "Queries without an answer.", BY_ZONE)
