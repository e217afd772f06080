# SPDX-License-Identifier: Apache-2.0
"""errors: a line for each query that failed."""

from .handler import Errors

__all__ = ["Errors"]
