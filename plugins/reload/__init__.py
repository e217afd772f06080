# SPDX-License-Identifier: Apache-2.0
"""reload: watches the Corefile and reloads it when it changes."""

from .handler import Reload

__all__ = ["Reload"]
