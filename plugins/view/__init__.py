# SPDX-License-Identifier: Apache-2.0
"""view: a block for some queries only, by expressions about them."""

from .handler import View

__all__ = ["View"]
