# SPDX-License-Identifier: Apache-2.0
"""loadbalance: shuffles address and MX records of replies."""

from .handler import Loadbalance

__all__ = ["Loadbalance"]
