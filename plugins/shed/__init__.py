# SPDX-License-Identifier: Apache-2.0
"""shed: what becomes of queries and replies when a UDP socket takes no more."""

from .handler import Shed

__all__ = ["Shed"]
