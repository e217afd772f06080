# SPDX-License-Identifier: Apache-2.0
"""multisocket: how many sockets, and so how many workers, a listener has."""

from .handler import Multisocket

__all__ = ["Multisocket"]
