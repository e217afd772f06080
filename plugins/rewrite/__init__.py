# SPDX-License-Identifier: Apache-2.0
"""rewrite: asks something else than the client did, and answers as if it had not."""

from .handler import Rewrite

__all__ = ["Rewrite"]
