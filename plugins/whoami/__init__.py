# SPDX-License-Identifier: Apache-2.0
"""whoami: tells a client the address and port that its query came from."""

from .handler import Whoami

__all__ = ["Whoami"]
