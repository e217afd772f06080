# SPDX-License-Identifier: Apache-2.0
"""The metrics of tsig. `result` is what became of a query; one that has no signature and needs none is not counted."""

from fastdns.plugin import Counter

RESULTS = ("verified", "unsigned", "badkey", "badsig", "badtime", "badtrunc")

QUERIES = Counter(
    "fastdns_tsig_queries_total", "Queries that are signed, or should have been.", ("server", "view", "result")
)
