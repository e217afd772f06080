# SPDX-License-Identifier: Apache-2.0
"""dns64: makes IPv6 addresses out of IPv4 ones, for clients behind NAT64 (RFC 6147)."""

from .handler import Dns64

__all__ = ["Dns64"]
