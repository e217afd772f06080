# SPDX-License-Identifier: Apache-2.0
"""minimal: leaves out of answers what nobody asked for."""

from .handler import Minimal

__all__ = ["Minimal"]
