# SPDX-License-Identifier: Apache-2.0
"""chaos: says version, authors and host name in class CH."""

from .handler import Chaos

__all__ = ["Chaos"]
