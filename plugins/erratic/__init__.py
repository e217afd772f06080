# SPDX-License-Identifier: Apache-2.0
"""erratic: answers badly, to test what depends on answers."""

from .handler import Erratic

__all__ = ["Erratic"]
