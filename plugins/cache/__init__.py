# SPDX-License-Identifier: Apache-2.0
"""cache: keeps answers, for all workers at once."""

from .handler import Cache

__all__ = ["Cache"]
