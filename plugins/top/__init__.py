# SPDX-License-Identifier: Apache-2.0
"""top: which clients and names are asked for most, for `fastdns top`."""

from .handler import Top

__all__ = ["Top"]
