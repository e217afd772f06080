# SPDX-License-Identifier: Apache-2.0
"""loop: finds out whether queries that are forwarded come back."""

from .handler import Loop

__all__ = ["Loop"]
