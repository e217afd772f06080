# SPDX-License-Identifier: Apache-2.0
"""health: says over HTTP whether the server answers queries."""

from .handler import Health

__all__ = ["Health"]
