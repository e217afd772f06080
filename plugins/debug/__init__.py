# SPDX-License-Identifier: Apache-2.0
"""debug: log lines of level DEBUG, and a server that ends where a plugin panics."""

from .handler import Debug

__all__ = ["Debug"]
