# SPDX-License-Identifier: Apache-2.0
"""local: answers for localhost and its reverse zones, so that no other server is asked."""

from .handler import Local

__all__ = ["Local"]
