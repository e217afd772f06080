# SPDX-License-Identifier: Apache-2.0
"""bufsize: lowers the buffer size that clients offer."""

from .handler import Bufsize

__all__ = ["Bufsize"]
