# SPDX-License-Identifier: Apache-2.0
"""rrl: limits how many queries, misses and errors the clients of one network may cause."""

from .handler import Rrl

__all__ = ["Rrl"]
