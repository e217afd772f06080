# SPDX-License-Identifier: Apache-2.0
"""ready: says over HTTP whether all plugins are ready to answer."""

from .handler import Ready

__all__ = ["Ready"]
