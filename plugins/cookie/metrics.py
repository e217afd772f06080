# SPDX-License-Identifier: Apache-2.0
"""The metrics of cookie. `result` is what a query's cookie was; queries without one are not counted."""

from fastdns.plugin import Counter

RESULTS = ("client", "good", "renewed", "bad", "malformed")

QUERIES = Counter("fastdns_cookie_queries_total", "Queries with a cookie.", ("server", "view", "result"))
BADCOOKIE = Counter("fastdns_cookie_badcookie_total", "Replies with BADCOOKIE.", ("server", "view"))
