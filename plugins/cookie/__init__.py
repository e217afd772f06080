# SPDX-License-Identifier: Apache-2.0
"""cookie: DNS cookies, which prove that a client is where its address says."""

from .handler import Cookie

__all__ = ["Cookie"]
