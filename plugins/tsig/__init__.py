# SPDX-License-Identifier: Apache-2.0
"""tsig: verifies signed queries, signs the replies to them, and refuses what should have been signed."""

from .handler import Tsig

__all__ = ["Tsig"]
