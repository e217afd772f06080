# SPDX-License-Identifier: Apache-2.0
"""header: sets and clears header flags of queries and replies."""

from .handler import Header

__all__ = ["Header"]
