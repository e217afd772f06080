# SPDX-License-Identifier: Apache-2.0
"""prometheus: counts queries and serves all metrics over HTTP."""

from .handler import Prometheus

__all__ = ["Prometheus"]
