# SPDX-License-Identifier: Apache-2.0
"""The metrics of hosts. They say something once the file was read."""

from fastdns.plugin import Gauge

ENTRIES = Gauge("coredns_hosts_entries", "Addresses and reverse entries, of the file and of the Corefile.",
                ("hostsfile",))
RELOADED = Gauge("coredns_hosts_reload_timestamp_seconds", "Time of the last change of the file that was read last.")
