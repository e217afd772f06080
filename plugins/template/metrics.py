# SPDX-License-Identifier: Apache-2.0
"""The metrics of template. `section` is answer, additional or authority; `template` the text of what failed."""

from fastdns.plugin import Counter

MATCH = ("server", "zone", "view", "class", "type")
FAILURE = (*MATCH, "section", "template")

MATCHES = Counter("coredns_template_matches_total", "Queries that a template matched.", MATCH)
TEMPLATE_FAILURES = Counter(
    "coredns_template_template_failures_total", "Records that failed while their template was executed.", FAILURE
)
RR_FAILURES = Counter(
    "coredns_template_rr_failures_total", "Records whose text, made by a template, is none.", FAILURE
)
