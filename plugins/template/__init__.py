# SPDX-License-Identifier: Apache-2.0
"""template: answers made from a pattern."""

from .handler import Template

__all__ = ["Template"]
