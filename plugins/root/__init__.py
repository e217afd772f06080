# SPDX-License-Identifier: Apache-2.0
"""root: where relative paths of the block begin."""

from .handler import Root

__all__ = ["Root"]
