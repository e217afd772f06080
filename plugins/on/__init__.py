# SPDX-License-Identifier: Apache-2.0
"""on: runs commands when the server starts and ends."""

from .handler import On

__all__ = ["On"]
