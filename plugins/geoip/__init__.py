# SPDX-License-Identifier: Apache-2.0
"""geoip: says where clients are, by a database of places."""

from .handler import Geoip

__all__ = ["Geoip"]
