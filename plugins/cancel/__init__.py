# SPDX-License-Identifier: Apache-2.0
"""cancel: gives each query a time after which no more is tried for it."""

from .handler import Cancel

__all__ = ["Cancel"]
