# SPDX-License-Identifier: Apache-2.0
"""log: a line for each query."""

from .handler import Log

__all__ = ["Log"]
