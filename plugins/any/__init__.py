# SPDX-License-Identifier: Apache-2.0
"""any: answers queries of type ANY shortly (RFC 8482)."""

from .handler import Any

__all__ = ["Any"]
