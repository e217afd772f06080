# SPDX-License-Identifier: Apache-2.0
"""The metrics of rrl. `class` is queries, misses or errors; `action` what became of a query over the limit."""

from fastdns.plugin import Counter

CLASSES = ("queries", "misses", "errors")
ACTIONS = ("dropped", "truncated", "refused", "reported")
REASONS = ("allow", "cookie")

LIMITED = Counter("fastdns_rrl_limited_total", "Queries over a limit.", ("server", "view", "class", "action"))
EXEMPT = Counter("fastdns_rrl_exempt_total", "Queries that no limit of queries concerns.", ("server", "view", "reason"))
EVICTIONS = Counter("fastdns_rrl_evictions_total", "Networks that gave their bucket, not full yet, to another.")
CONTENDED = Counter("fastdns_rrl_contended_total", "Queries let through because others kept changing their bucket.")
