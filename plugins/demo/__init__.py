# SPDX-License-Identifier: Apache-2.0
"""demo: another address for clients inside than for clients outside. The worked example of a plugin."""

from .handler import Demo

__all__ = ["Demo"]
