# SPDX-License-Identifier: Apache-2.0
"""The metrics of `action quarantine`. `zone` is that of the block."""

from fastdns.plugin import Counter

QUARANTINES = Counter(
    "fastdns_loop_quarantines_total", "Upstreams that were found to send queries back.", ("zone", "to"))
RELEASES = Counter(
    "fastdns_loop_releases_total", "Upstreams in quarantine that were found to send queries back no more.",
    ("zone", "to"))
