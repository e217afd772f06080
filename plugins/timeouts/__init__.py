# SPDX-License-Identifier: Apache-2.0
"""timeouts: how long the server waits for its TCP clients."""

from .handler import Timeouts

__all__ = ["Timeouts"]
