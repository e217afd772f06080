# SPDX-License-Identifier: Apache-2.0
"""fastdns: a DNS server that takes CoreDNS's Corefile. Importing it imports nothing else."""

__version__ = "0.1.0"
